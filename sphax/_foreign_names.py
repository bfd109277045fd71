"""Errors for argument names of other libraries that give the name in sphax."""

import functools
import inspect
import types
import typing
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
    with its explanation. Any other unknown keyword raises Python's usual error. If the
    function takes a `typing.TypedDict` of keywords, its signature lists them.
    """
    explained = {**names, **more}

    def decorate(function: F) -> F:
        signature = _with_typed_keywords(function)
        parameters = signature.parameters
        has_typed_keywords = signature != inspect.signature(function)
        called = function.__qualname__.removesuffix(".__init__")

        def checked(*args, **kwargs):
            for name in kwargs:
                if name in explained and name not in parameters:
                    raise TypeError(
                        f"{called} has no argument {name}: {explained[name]}."
                    )
                if has_typed_keywords and name not in parameters:
                    raise TypeError(
                        f"{called}() got an unexpected keyword argument {name!r}"
                    )
            return function(*args, **kwargs)

        # With the globals of the function's module, which doctest compares.
        made: Any = types.FunctionType(
            checked.__code__, function.__globals__, closure=checked.__closure__
        )
        functools.update_wrapper(made, function)
        if has_typed_keywords:
            made.__signature__ = signature
        return made

    return decorate


def _with_typed_keywords(function: Callable[..., Any]) -> inspect.Signature:
    """The signature, with the keys of a typed dictionary in the place of it."""
    signature = inspect.signature(function)
    listed = list(signature.parameters.values())
    is_typed = listed and typing.get_origin(listed[-1].annotation) is typing.Unpack
    if not is_typed:
        return signature
    (typed,) = typing.get_args(listed[-1].annotation)
    kind = inspect.Parameter.KEYWORD_ONLY
    given = [
        # A default that is not said, as in stubs.
        inspect.Parameter(name, kind, default=..., annotation=annotation)
        for name, annotation in typing.get_type_hints(typed).items()
    ]
    return signature.replace(parameters=[*listed[:-1], *given])
