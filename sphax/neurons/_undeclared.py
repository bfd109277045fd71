"""Leaves that nothing declares: read by name and rank, or refused."""

from collections.abc import Mapping
from typing import NamedTuple

from sphax._paths import listed
from sphax.neurons._dimensions import Axes, NeuronDimensions, fitting_axes

# Attention says so in any part of a path, or by the name of a projection.
_ATTENTION = ("attention", "attn")
_PROJECTIONS = ("query", "key", "value", "q", "k", "v", "qkv", "kv")

# What a kernel could be, with the declaration to copy.
_READINGS_OF_RANK_THREE = {
    "query, key or value of attention, [in, heads, head_dim]": "batch_axis=1",
    "the same, but all heads together": "index_axis=(1, 2)",
    "output of attention, [heads, head_dim, out]": "",
    "convolution over one axis, [window, in, out]": "",
    "stack of dense layers, [layers, in, out]": "batch_axis=0",
}
_READINGS_OF_HIGHER_RANKS = {
    "stack of queries, keys or values, [..., in, heads, head_dim]": "vector_axis=-3",
    "stack of outputs of attention, [..., heads, head_dim, out]": (
        "vector_axis=(-3, -2)"
    ),
    "stack of dense layers, [..., in, out]": "vector_axis=-2",
    "stack of convolutions, [layers, *window, in, out]": "batch_axis=0",
    "convolution, [*window, in, out]": "",
}


class Refusal(NamedTuple):
    """The shape of a leaf that could hold neurons in several ways."""

    shape: tuple[int, ...]


def undeclared(name: str, shape: tuple[int, ...]) -> Axes | Refusal | None:
    """The axes of a leaf by its name and rank; None if it holds no neurons."""
    own, ndim = name.rpartition("/")[2], len(shape)
    if ndim < 2 or is_shift_or_scale(name):
        return None
    if own == "prototypes" and ndim <= 3:  # [classes, features], or with centers
        index = tuple(range(ndim - 1))
        return fitting_axes(NeuronDimensions(index_axis=index), ndim)
    if ndim > 2 and _says_attention(name):
        return Refusal(shape)
    if own != "kernel":
        return None
    if ndim in (2, 4, 5):
        return fitting_axes(NeuronDimensions(), ndim)
    return Refusal(shape)


def is_shift_or_scale(name: str) -> bool:
    """Whether a leaf is a bias or a scale: no neurons, whatever its rank."""
    own = name.rpartition("/")[2].lower()
    return "bias" in own or own == "scale"


def refusal_of(refused: Mapping[str, Refusal]) -> str:
    """The error for leaves that must be declared."""
    name, (shape,) = next(iter(refused.items()))
    others = [other for other in refused if other != name]
    readings = _READINGS_OF_RANK_THREE if len(shape) == 3 else _READINGS_OF_HIGHER_RANKS
    lines = "".join(
        f'\n  {reading}: neurons={{"{name}": sx.neurons.NeuronDimensions({axes})}}'
        for reading, axes in readings.items()
    )
    more = f" The same holds for {listed(others)}." if others else ""
    return (
        f"neurons must declare {name or 'a single leaf'} of shape {shape}, which could"
        f" be any of:{lines}\nsx.neurons.of(model) declares all leaves of a Flax model;"
        f' {{"{name}": "a reason"}} in the place of a declaration leaves one out.{more}'
    )


def _says_attention(name: str) -> bool:
    parts = name.lower().split("/")
    return any(
        part.removesuffix("_proj") in _PROJECTIONS
        or any(word in part for word in _ATTENTION)
        for part in parts
    )
