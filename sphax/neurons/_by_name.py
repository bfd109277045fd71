"""Neurons of leaves without a declaration, by the name and the rank of the leaf."""

from collections.abc import Mapping
from typing import Literal

from sphax._paths import listed
from sphax.neurons._dimensions import Axes, NeuronDimensions, fitting_axes

# A leaf belongs to attention if any part of its path contains one of the first, or is
# one of the second, with or without "_proj".
_ATTENTION = ("attention", "attn")
_PROJECTIONS = ("query", "key", "value", "q", "k", "v", "qkv", "kv")

# Possible meanings of an ambiguous kernel, each with its declaration.
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


def axes_by_name(
    name: str, shape: tuple[int, ...]
) -> Axes | Literal["ambiguous"] | None:
    """The axes of a leaf by its name and rank; None if it holds no neurons."""
    last, ndim = name.rpartition("/")[2], len(shape)
    if ndim < 2 or is_shift_or_scale(name):
        return None
    if last == "prototypes" and ndim <= 3:  # [classes, features], or with centers
        index = tuple(range(ndim - 1))
        return fitting_axes(NeuronDimensions(index_axis=index), ndim)
    is_attention = any(
        part.removesuffix("_proj") in _PROJECTIONS
        or any(word in part for word in _ATTENTION)
        for part in name.lower().split("/")
    )
    if ndim > 2 and is_attention:
        return "ambiguous"
    if last != "kernel":
        return None
    if ndim in (2, 4, 5):
        return fitting_axes(NeuronDimensions(), ndim)
    return "ambiguous"


def is_shift_or_scale(name: str) -> bool:
    """Whether a leaf is a bias or a scale, which hold no neurons at any rank."""
    last = name.rpartition("/")[2].lower()
    return "bias" in last or last == "scale"


def ambiguity_message(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Error message for ambiguous leaves, given by name: how to declare them."""
    name, shape = next(iter(shapes.items()))
    others = [other for other in shapes if other != name]
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
