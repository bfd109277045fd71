"""Errors for argument names of other libraries that give the name in sphax."""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Arguments of losses in other libraries.
OF_LOSSES = {
    "temperature": "give scale, its inverse: scale=1 / temperature",
    "tau": "give scale, its inverse: scale=1 / tau",
    "s": "it is called scale",
    "m": "it is called margin",
    "reduction": "the loss is the mean over the examples that where keeps",
    "size_average": "the loss is the mean over the examples that where keeps",
    "weight": "weights of examples are given as where",
    "mask": "masks and weights of examples are given as where",
    "sample_weight": "weights of examples are given as where",
    "ignore_index": "mask such examples: where=labels != ignore_index",
    "weights": "the vectors of classes are called prototypes",
}

# Arguments of margins in other libraries.
OF_MARGINS = {
    "s": "the scale is given to the loss: losses.margin_softmax(..., scale=64.0)",
    "scale": "the scale is given to the loss: losses.margin_softmax(..., scale=64.0)",
    "m": "it is called margin, here in radians or as a cosine, never in degrees",
    "easy_margin": 'give beyond="easy"',
    "num_classes": "prototypes are given to the loss; layers.MarginHead holds them",
    "embedding_size": "prototypes are given to the loss; layers.MarginHead holds them",
    "in_features": "prototypes are given to the loss; layers.MarginHead holds them",
    "out_features": "prototypes are given to the loss; layers.MarginHead holds them",
    "t_alpha": "it is called rate",
    "lambda_g": "it is called weight",
    "std": "it is called deviation",
    "plus": "give ranked=True",
}


def explain_names(names: Mapping[str, str], **more: str) -> Callable[[F], F]:
    """Decorator whose function explains argument names of other libraries.

    A keyword in ``names`` that is not an argument of the function raises a `TypeError`
    with its explanation. Any other unknown keyword raises Python's usual error.
    """
    explained = {**names, **more}

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters
        called = function.__qualname__.removesuffix(".__init__")

        def checked(*args, **kwargs):
            for name in kwargs:
                if name in explained and name not in parameters:
                    raise TypeError(
                        f"{called} has no argument {name}: {explained[name]}."
                    )
            return function(*args, **kwargs)

        # With the globals of the function's module, which doctest compares.
        made: Any = types.FunctionType(
            checked.__code__, function.__globals__, closure=checked.__closure__
        )
        functools.update_wrapper(made, function)
        return made

    return decorate
