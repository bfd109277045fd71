"""The last layers of a network, from its last map to the embedding."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_sizes
from sphax.networks._layers import (
    CAFFE_INIT,
    HE_INIT,
    TORCH_INIT,
    BatchNorm,
    Conv,
    apply_conv,
    torch_bias_init,
)


class MeanEmbedding(nnx.Module):
    """Mean of the last map over its positions; with ``features``, then a linear layer.

    Like every embedding, it is made by :class:`Backbone` as ``embedding(map_shape,
    features, conv=..., dtype=..., param_dtype=..., rngs=...)``. After a rectifier the
    mean has no negative coordinates, so that no two embeddings are more than a right
    angle apart; a linear layer lifts that.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        features: Dimension of the embedding; None for the channels of the map, without
            a linear layer.
        conv: Not used, since there is no convolution.
        **options: ``dtype``, ``param_dtype`` and ``rngs`` of the linear layer.

    Example:
        >>> embedding = sx.networks.MeanEmbedding((2, 2, 8), rngs=nnx.Rngs(0))
        >>> embedding(jnp.ones((5, 2, 2, 8))).shape
        (5, 8)
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        features: int | None = None,
        *,
        conv: Conv = nnx.Conv,
        **options: Any,
    ):
        del conv
        self.features = map_shape[-1] if features is None else features
        self.linear = (
            None
            if features is None
            else nnx.Linear(map_shape[-1], features, kernel_init=CAFFE_INIT, **options)
        )

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        del use_running_average
        mean = x.mean((-3, -2))
        return mean if self.linear is None else self.linear(mean)


class ConvEmbedding(nnx.Module):
    """A convolution by the operator whose window is the last map, without bias.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        features: Dimension of the embedding.
        conv: Constructor of the convolution, called as :class:`flax.nnx.Conv` is.
        **options: ``dtype``, ``param_dtype`` and ``rngs`` of the convolution.

    Raises:
        ValueError: If ``features`` is not a positive integer.

    Example:
        >>> embedding = sx.networks.ConvEmbedding((2, 2, 8), 4, rngs=nnx.Rngs(0))
        >>> embedding(jnp.ones((5, 2, 2, 8))).shape
        (5, 4)
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        features: int,
        *,
        conv: Conv = nnx.Conv,
        **options: Any,
    ):
        check_sizes("ConvEmbedding", features=features)
        self.features = features
        self.conv = conv(
            map_shape[-1],
            features,
            kernel_size=map_shape[:2],
            strides=(1, 1),
            padding=((0, 0), (0, 0)),
            use_bias=False,
            kernel_init=HE_INIT,
            **options,
        )

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        x = apply_conv(self.conv, x, use_running_average)
        return x.reshape(*x.shape[:-3], -1)


class LinearEmbedding(nnx.Module):
    """A linear layer of all entries of the last map, with bias.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        features: Dimension of the embedding.
        conv: Not used, since there is no convolution.
        **options: ``dtype``, ``param_dtype`` and ``rngs`` of the linear layer.

    Raises:
        ValueError: If ``features`` is not a positive integer.

    Example:
        >>> embedding = sx.networks.LinearEmbedding((2, 2, 8), 4, rngs=nnx.Rngs(0))
        >>> embedding(jnp.ones((5, 2, 2, 8))).shape
        (5, 4)
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        features: int,
        *,
        conv: Conv = nnx.Conv,
        **options: Any,
    ):
        del conv
        check_sizes("LinearEmbedding", features=features)
        self.features = features
        self.linear = nnx.Linear(
            math.prod(map_shape), features, kernel_init=CAFFE_INIT, **options
        )

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        del use_running_average
        return self.linear(x.reshape(*x.shape[:-3], -1))


class NormalizedEmbedding(nnx.Module):
    """A linear layer of the last map and batch normalization (L-Softmax).

    Without the normalization, the published learning rate of 0.1 diverges. The linear
    layer starts Gaussian with variance 2 / fan_in.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        features: Dimension of the embedding.
        use_bias: Whether the linear layer has a bias, which the normalization cancels
            in training; opensphere's networks have it.
        conv: Not used, since there is no convolution.
        dtype: Of the computation; by default that of inputs and parameters together.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Raises:
        ValueError: If ``features`` is not a positive integer.

    Example:
        >>> embedding = sx.networks.NormalizedEmbedding((2, 2, 8), 4, rngs=nnx.Rngs(0))
        >>> embedding(jnp.ones((5, 2, 2, 8))).shape
        (5, 4)
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        features: int,
        *,
        use_bias: bool = False,
        conv: Conv = nnx.Conv,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        del conv
        check_sizes("NormalizedEmbedding", features=features)
        self.features = features
        self.linear = nnx.Linear(
            math.prod(map_shape),
            features,
            use_bias=use_bias,
            # The 2 makes up for the PReLU before the layer.
            kernel_init=HE_INIT,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(features, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        x = self.linear(x.reshape(*x.shape[:-3], -1))
        return self.norm(x, use_running_average)


class FaceEmbedding(nnx.Module):
    """The last layers of ArcFace's networks, as insightface has them.

    Batch normalization, dropout, a linear layer of all entries of the map, and batch
    normalization, without a scale by default. The linear layer starts as PyTorch's
    default. It and what follows are computed in float32 at least, so that the
    embeddings are float32 where ``dtype`` is a half precision.

    Args:
        map_shape: ``(height, width, channels)`` of the last map.
        features: Dimension of the embedding.
        dropout_rate: In [0, 1); insightface trains with 0 in PyTorch and had 0.4 in
            MXNet. If positive, the network holds a key as state, which moves with each
            call in training: keep it with the batch statistics from step to step.
        use_scale: Whether the last normalization has a scale; opensphere's has.
        use_bias: Whether the last normalization has a bias; AdaFace's has none.
        conv: Not used, since there is no convolution.
        dtype: Not used, since the inputs come in the dtype of the layers before.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``, and ``dropout`` for a positive rate.

    Raises:
        ValueError: If ``features`` is not a positive integer, or ``dropout_rate`` out
            of range.

    Example:
        >>> embedding = sx.networks.FaceEmbedding((2, 2, 8), 4, rngs=nnx.Rngs(0))
        >>> embedding(jnp.ones((5, 2, 2, 8))).shape
        (5, 4)

    References:
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Sec. 3.1.
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        features: int,
        *,
        dropout_rate: float = 0.0,
        use_scale: bool = False,
        use_bias: bool = True,
        conv: Conv = nnx.Conv,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        del conv, dtype
        check_sizes("FaceEmbedding", features=features)
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError(
                f"FaceEmbedding: dropout_rate must be in [0, 1), got {dropout_rate!r}."
            )
        self.features = features
        self.first_norm = BatchNorm(map_shape[-1], param_dtype=param_dtype, rngs=rngs)
        # At a rate of 0 it would hold a key as state without need.
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs) if dropout_rate else None
        fan_in = math.prod(map_shape)
        self.linear = nnx.Linear(
            fan_in,
            features,
            kernel_init=TORCH_INIT,
            bias_init=torch_bias_init(fan_in),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.last_norm = BatchNorm(
            features,
            param_dtype=param_dtype,
            rngs=rngs,
            use_scale=use_scale,
            use_bias=use_bias,
        )

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        x = self.first_norm(x, use_running_average)
        if self.dropout is not None:
            x = self.dropout(x, deterministic=use_running_average)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = self.linear(x.reshape(*x.shape[:-3], -1))
        return self.last_norm(x, use_running_average)
