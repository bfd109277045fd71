"""Layers from words: one residual or plain unit, and what runs a list of layers."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers import PReLU
from sphax.networks._common import batch_norm
from sphax.networks._designs import Units


def run(
    layers: Iterable[Callable[..., jax.Array]],
    x: jax.Array,
    use_running_average: bool | None,
) -> jax.Array:
    """``x`` through ``layers``; those that differ in training are told the mode."""
    for layer in layers:
        if isinstance(layer, nnx.BatchNorm):
            # It answers in the dtype of its statistics.
            normed = layer(x, use_running_average=use_running_average)
            x = normed.astype(x.dtype)
        elif hasattr(layer, "use_running_average"):
            # An operator with a running statistic of its own, such as a mean norm.
            x = layer(x, use_running_average=use_running_average)
        elif isinstance(layer, nnx.Dropout):
            x = layer(x, deterministic=use_running_average)
        else:
            x = layer(x)
    return x


class Unit(nnx.Module):
    """One unit of ``units``: ``after(branch(x) + shortcut(x))``.

    Args:
        in_features: Channels of its input.
        units: What it is one of.
        stride: 1 in all units but the first.
        conv: Constructor of its convolutions.
        options: ``dtype``, ``param_dtype`` and ``rngs``.
    """

    def __init__(
        self,
        in_features: int,
        units: Units,
        stride: int,
        conv: Callable[..., Any],
        **options: Any,
    ):
        before, plus, after = (part.split() for part in units.layers.partition("+"))
        self.is_residual = bool(plus)
        self.branch = _branch(before, in_features, units, stride, conv, options)
        # No layers are the identity.
        self.shortcut = nnx.List(
            _reshaping(in_features, units, stride, options) if plus else []
        )
        self.after = nnx.List(_pointwise(w, units.features, options) for w in after)

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        """Maps ``[..., h, w, in]`` to ``[..., ceil(h / s), ceil(w / s), out]``."""
        y = run(self.branch, x, use_running_average)
        if self.is_residual:
            y = y + run(self.shortcut, x, use_running_average)
        return run(self.after, y, use_running_average)


class Padding(nnx.Module):
    """Every ``stride``-th position, with zeros for ``extra`` further channels."""

    def __init__(self, stride: int, extra: int):
        self.stride = stride
        self.extra = extra

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[..., h, w, c]`` to ``[..., ceil(h / s), ceil(w / s), c + extra]``."""
        x = x[..., :: self.stride, :: self.stride, :]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.extra)])


class ReLU(nnx.Module):
    """Rectifier, as a module, since a list of layers holds modules."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[...]`` to the same shape."""
        return nnx.relu(x)


def _branch(
    words: list[str],
    in_features: int,
    units: Units,
    stride: int,
    conv: Callable[..., Any],
    options: dict[str, Any],
) -> nnx.List:
    """The layers before the ``+``."""
    layers, channels, convolutions = [], in_features, 0
    for word in words:
        if word == "conv":
            here = stride if convolutions == units.stride_at else 1
            side = units.kernel_size
            layers.append(_convolution(conv, channels, units, side, here, options))
            channels, convolutions = units.features, convolutions + 1
        else:
            layers.append(_pointwise(word, channels, options))
    return nnx.List(layers)


def _reshaping(
    in_features: int, units: Units, stride: int, options: dict[str, Any]
) -> list[nnx.Module]:
    """The layers that give a shortcut the shape of its branch."""
    extra = units.features - in_features
    if stride == 1 and extra == 0:
        return []
    if units.shortcut == "padding":
        if extra < 0:
            raise ValueError(
                f"Units: shortcut 'padding' cannot take {in_features} channels to"
                f" {units.features}; 'projection' can."
            )
        return [Padding(stride, extra)]
    # Never by the operator: as in the authors' code of SphereNet and DCNet.
    projection = _convolution(nnx.Conv, in_features, units, 1, stride, options)
    return [projection, _pointwise("norm", units.features, options)]


def _convolution(
    conv: Callable[..., Any],
    in_features: int,
    units: Units,
    side: int,
    stride: int,
    options: dict[str, Any],
) -> Any:
    return conv(
        in_features,
        units.features,
        kernel_size=(side, side),
        strides=(stride, stride),
        # Not "SAME", which pads an even map on one side only if the stride is 2.
        padding=((side // 2, side // 2),) * 2,
        use_bias=units.use_bias,
        kernel_init=units.kernel_init,
        **options,
    )


def _pointwise(word: str, features: int, options: dict[str, Any]) -> nnx.Module:
    """A layer that is not a convolution."""
    if word == "norm":
        return batch_norm(features, options["param_dtype"], options["rngs"])
    return PReLU(features, **options) if word == "prelu" else ReLU()
