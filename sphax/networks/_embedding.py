"""The layers between the last map of a backbone and its embedding."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from sphax._checks import check_choice
from sphax.networks._common import HE_INIT, batch_norm
from sphax.networks._designs import CAFFE_INIT
from sphax.networks._units import run

_WORDS = ("mean", "conv", "linear", "norm", "unscaled_norm", "dropout")


class Embedding(nnx.Module):
    """The layers of an embedding.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        sentence: Their words, first to last.
        features: Dimension that ``conv`` or ``linear`` has, None without either.
        conv: Constructor of a convolution over the whole map.
        dropout_rate: Of the layer ``dropout``.
        options: ``dtype``, ``param_dtype`` and ``rngs``.
    """

    def __init__(
        self,
        map_shape: tuple[int, ...],
        sentence: str,
        features: int | None,
        conv: Callable[..., Any],
        dropout_rate: float,
        **options: Any,
    ):
        _check(sentence, features, dropout_rate)
        self.features = map_shape[-1] if features is None else features
        layers, shape = [], map_shape
        for word in sentence.split():
            layers += _layers(word, shape, self.features, conv, dropout_rate, options)
            shape = _shape_after(word, shape, self.features)
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        return run(self.layers, x, use_running_average)


class Mean(nnx.Module):
    """Mean of a map over its positions."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[..., h, w, c]`` to ``[..., c]``."""
        return x.mean((-3, -2))


class Flatten(nnx.Module):
    """The last ``ndim`` axes as one."""

    def __init__(self, ndim: int):
        self.ndim = ndim

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[..., *shape]`` to ``[..., prod(shape)]``."""
        return x.reshape(*x.shape[: -self.ndim], -1)


def _layers(
    word: str,
    shape: tuple[int, ...],
    features: int,
    conv: Callable[..., Any],
    dropout_rate: float,
    options: dict[str, Any],
) -> list[Any]:
    """What a word stands for, after layers that give ``[..., *shape]``."""
    if word == "mean":
        return [Mean()]
    if word == "conv":
        whole = conv(
            shape[-1],
            features,
            kernel_size=shape[:2],
            strides=(1, 1),
            padding=((0, 0), (0, 0)),
            use_bias=False,
            kernel_init=HE_INIT,
            **options,
        )
        return [whole, Flatten(3)]
    if word == "linear":
        size = math.prod(shape)
        linear = nnx.Linear(size, features, kernel_init=CAFFE_INIT, **options)
        return [Flatten(len(shape)), linear]
    if word == "dropout":
        # Without the key that it would hold as state for nothing.
        return [nnx.Dropout(dropout_rate, rngs=options["rngs"])] if dropout_rate else []
    is_scaled = word == "norm"
    args = shape[-1], options["param_dtype"], options["rngs"]
    return [batch_norm(*args, use_scale=is_scaled)]


def _shape_after(word: str, shape: tuple[int, ...], features: int) -> tuple[int, ...]:
    if word == "mean":
        return shape[-1:]
    return (features,) if word in ("conv", "linear") else shape


def _check(sentence: str, features: int | None, dropout_rate: float) -> None:
    """Raises unless the sentence turns a map into a vector of so many features."""
    words = sentence.split()
    for word in words:
        check_choice("Backbone: words of embedding", word, _WORDS)
    sizing = [word for word in words if word in ("mean", "conv", "linear")]
    if sizing not in (["mean"], ["conv"], ["linear"], ["mean", "linear"]):
        raise ValueError(
            "Backbone: embedding must turn the last map into a vector by 'mean',"
            f" 'conv', 'linear' or 'mean linear', got {sentence!r}."
        )
    if (sizing == ["mean"]) != (features is None):
        raise ValueError(
            "Backbone: features is the size of the 'conv' or 'linear' of embedding, and"
            f" None where neither is, got {features!r} for {sentence!r}."
        )
    if not 0.0 <= dropout_rate < 1.0 or (dropout_rate and "dropout" not in words):
        raise ValueError(
            "Backbone: dropout_rate must be in [0, 1), and 0 where embedding has no"
            f" 'dropout', got {dropout_rate!r} for {sentence!r}."
        )
