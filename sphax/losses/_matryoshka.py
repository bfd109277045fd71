"""Matryoshka: a loss of embeddings and of their first features alone."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from sphax._checks import as_array, check_count
from sphax._foreign_names import explain_names
from sphax.losses._core.batch import as_scalar, check_range
from sphax.losses._memory import MemoryBank

# Arguments that are cut wherever they are given by name.
_CUT_BY_NAME = ("references", "queue", "memory")


@explain_names(
    {
        "nesting_list": "it is called sizes",
        "matryoshka_dims": "it is called sizes",
        "relative_importance": "it is called weights",
        "matryoshka_weights": "it is called weights",
    }
)
def matryoshka(
    loss: Callable[..., Any],
    *,
    sizes: Sequence[int],
    weights: Sequence[jax.typing.ArrayLike] | None = None,
    cut: int = 1,
) -> Callable[..., Any]:
    r"""A loss summed over prefixes of the embeddings (Matryoshka).

    .. math:: L = \sum_m c_m\, \ell(x_{1:m}, \ldots)

    The first features of an embedding are then embeddings themselves, for searches
    that can afford no more. A loss of directions normalizes every prefix by itself.
    This is the sum, as published, not the mean: the first features get a gradient from
    every prefix.

    Args:
        loss: A loss of this package, or any function of arrays whose last axis has the
            features; it returns a value, or ``(value, aux)``.
        sizes: Numbers of features :math:`m`, rising; the last one need not be all.
        weights: :math:`c_m`, not negative, one for each size; 1 by default.
        cut: How many of the first positional arguments are cut. 1: the embeddings. 2:
            two towers, or embeddings and prototypes, which makes the prototypes of a
            size the first features of those of all sizes.

    Returns:
        A function of the arguments of ``loss``, with the same values at singular
        points, where the gradient of each prefix is. The arguments named
        ``references``, ``queue`` and ``memory`` are cut too. If ``loss`` returns
        ``(value, aux)``, so does the function, with a tuple of the ``aux`` of all
        sizes.

    Raises:
        TypeError: If ``loss`` is not a function, or a size not an integer; from the
            function, if it gets less than ``cut`` positional arguments.
        ValueError: If sizes do not rise, or weights are negative or not as many; from
            the function, if an argument has less features than the last size.

    Example:
        >>> x, labels = jnp.array([[1.0, 0.0], [0.8, 0.6]]), jnp.array([0, 0])
        >>> loss = sx.losses.matryoshka(sx.losses.contrastive, sizes=(1, 2))
        >>> jax.jit(loss)(x, labels)  # 0 and 0.2: the first features are one direction
        Array(0.2, dtype=float32)

    References:
        Kusupati et al., `Matryoshka Representation Learning
        <https://arxiv.org/abs/2205.13147>`_, NeurIPS 2022, Eq. 1.
    """
    if not callable(loss):
        raise TypeError(
            "loss must be a function, such as losses.nt_xent; give its arguments to"
            f" the function that matryoshka returns. Got {type(loss).__name__}."
        )
    check_count("cut", cut)
    sizes = tuple(sizes)
    for size in sizes:
        check_count("sizes", size)
    if not sizes or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"sizes must be one or more, rising, got {sizes}.")
    if weights is None:
        weights = (1.0,) * len(sizes)
    if len(weights) != len(sizes):
        raise ValueError(
            f"weights must be one for each of the {len(sizes)} sizes, got"
            f" {len(weights)}."
        )
    for weight in weights:
        check_range("weights", weight, 0.0)

    def of_prefixes(*arguments: Any, **options: Any) -> Any:
        if len(arguments) < cut:
            raise TypeError(
                f"matryoshka cuts the first {cut} positional arguments, got"
                f" {len(arguments)}; give them by position, or another cut."
            )

        def of_prefix(size):
            given = [_cut(f"argument {i}", arguments[i], size) for i in range(cut)]
            named = {
                name: _cut(name, options[name], size)
                for name in _CUT_BY_NAME
                if options.get(name) is not None
            }
            return loss(*given, *arguments[cut:], **options | named)

        results = [of_prefix(size) for size in sizes]
        has_aux = isinstance(results[0], tuple)
        values = [result[0] for result in results] if has_aux else results
        total = sum(
            as_scalar("weights", weight, value.dtype) * value
            for weight, value in zip(weights, values, strict=True)
        )
        return (total, tuple(aux for _, aux in results)) if has_aux else total

    return of_prefixes


def _cut(name: str, value: Any, size: int) -> Any:
    """The first features of an array, or of the embeddings of a memory."""
    if isinstance(value, MemoryBank):
        return value._replace(embeddings=_cut(name, value.embeddings, size))
    array = as_array(name, value)
    if array.ndim and array.shape[-1] < size:
        raise ValueError(
            f"sizes must be at most the number of features, got {size} and {name}"
            f" {array.shape}."
        )
    return array[..., :size]
