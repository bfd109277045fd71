"""Plain convolutional networks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers import PReLU
from sphax.layers._common import check_sizes
from sphax.networks._architectures import Stage
from sphax.networks._common import (
    HE_INIT,
    batch_norm,
    check_images,
    check_input_shape,
)
from sphax.networks._units import run


class ConvNet(nnx.Module):
    r"""Convolutional network from images to embeddings (L-Softmax's networks).

    Stages of convolution (without a bias), batch normalisation and PReLU, with max
    pooling in between; then one linear layer and batch normalisation, whose output is
    the embedding: without it, the published learning rate of 0.1 diverges. The map
    keeps its size in a convolution of stride 1, and is halved, rounded up, by the
    pooling (28, 14, 7, 4). All weights start Gaussian with variance 2 / fan_in.

    The networks of the paper are in ``sx.networks.TABLE_2_1``, by the names
    ``"mnist_2d"`` (with the two features of the figure), ``"mnist"``, ``"cifar10"``,
    ``"cifar100"`` and ``"lfw"``: ``ConvNet(*TABLE_2_1["cifar10"], rngs=rngs)``, or with
    another size, ``ConvNet((64, 64, 3), TABLE_2_1["cifar10"].stages, 2, rngs=rngs)``.

    Batch normalisation has the modes of nnx. A network is made in training mode, where
    a call takes the statistics of its batch and moves the running ones, at 0.9.
    ``network.eval()`` turns to the running ones, ``network.train()`` turns back, and
    the argument ``use_running_average`` of a call goes before both; a ``conv`` whose
    layer has an attribute of that name is called with it. Statistics are float32 at
    least, whatever ``dtype`` is.

    Args:
        input_shape: ``(height, width, channels)`` of an image.
        stages: Stages, first to last, each a :class:`Stage`.
        features: Dimension of the embedding.
        conv: Constructor of a convolution, called as :class:`flax.nnx.Conv` is:
            ``conv(in_features, out_features, kernel_size=(k, k), strides=(s, s),
            padding=((p, p), (p, p)), use_bias=False, kernel_init=..., dtype=...,
            param_dtype=..., rngs=...)``. What it returns maps ``[..., h, w, in]`` to
            ``[..., ceil(h / s), ceil(w / s), out]``.
        dtype: Of the computation; by default that of images and parameters together.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Attributes:
        features: Dimension of the embedding.

    Raises:
        TypeError: From a call, if ``images`` is not floating.
        ValueError: If a size is not positive or ``input_shape`` too small for the
            pooling; from a call, if ``images`` does not end in ``input_shape``.

    Example:
        >>> stages = [sx.networks.Stage(8, convolutions=2)]
        >>> network = sx.networks.ConvNet((7, 7, 1), stages, 2, rngs=nnx.Rngs(0))
        >>> network(jnp.zeros((5, 7, 7, 1))).shape
        (5, 2)

    References:
        Liu et al., `Large-Margin Softmax Loss <https://arxiv.org/abs/1612.02295>`_,
        ICML 2016, Table 1; He et al., `Delving Deep into Rectifiers
        <https://arxiv.org/abs/1502.01852>`_, ICCV 2015.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        stages: Sequence[Stage],
        features: int,
        *,
        conv: Callable[..., Any] = nnx.Conv,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        map_sizes = _map_sizes(input_shape, stages)
        check_sizes("ConvNet", features=features)
        options: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.input_shape = tuple(input_shape)
        self.features = features
        channels = (input_shape[-1], *(stage.features for stage in stages))
        self.stages = nnx.List(
            _Convolutions(in_features, stage, conv, **options)
            for in_features, stage in zip(channels, stages, strict=False)
        )
        self.linear = nnx.Linear(
            math.prod(map_sizes[-1]) * channels[-1],
            features,
            use_bias=False,
            kernel_init=HE_INIT,
            **options,
        )
        self.norm = batch_norm(features, param_dtype, rngs)

    def __call__(
        self, images: jax.Array, *, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps images ``[..., height, width, channels]`` to ``[..., features]``.

        Args:
            images: Floating. Training statistics are over all of the leading axes.
            use_running_average: Mode of what differs in training, for this call.
        """
        check_images(images, self.input_shape)
        x = images
        for stage in self.stages:
            x = stage(x, use_running_average)
        embeddings = self.linear(x.reshape(*images.shape[:-3], -1))
        normed = self.norm(embeddings, use_running_average=use_running_average)
        return normed.astype(embeddings.dtype)


class _Convolutions(nnx.Module):
    """The convolutions of one stage, each with what follows it."""

    def __init__(
        self, in_features: int, stage: Stage, conv: Callable[..., Any], **options: Any
    ):
        self.units = nnx.List(
            _Unit(
                stage.features if i else in_features,
                stage,
                1 if i else stage.stride,
                conv,
                **options,
            )
            for i in range(stage.convolutions)
        )
        self.pool = stage.pool

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        for unit in self.units:
            x = unit(x, use_running_average)
        # "SAME" pads below and right, so that the last window of an odd map is partial:
        # the rounding up of Caffe, in which these networks were written.
        return nnx.max_pool(x, (2, 2), (2, 2), padding="SAME") if self.pool else x


class _Unit(nnx.Module):
    """Convolution, batch normalisation, PReLU."""

    def __init__(
        self,
        in_features: int,
        stage: Stage,
        stride: int,
        conv: Callable[..., Any],
        *,
        dtype: jax.typing.DTypeLike | None,
        param_dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ):
        side, around = stage.kernel_size, stage.kernel_size // 2
        self.conv = conv(
            in_features,
            stage.features,
            kernel_size=(side, side),
            strides=(stride, stride),
            # Not "SAME", which pads an even map on one side only if the stride is 2.
            padding=((around, around), (around, around)),
            use_bias=False,
            kernel_init=HE_INIT,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norm = batch_norm(stage.features, param_dtype, rngs)
        self.activation = PReLU(stage.features, dtype=dtype, param_dtype=param_dtype)

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        return run((self.conv, self.norm, self.activation), x, use_running_average)


def _map_sizes(
    input_shape: Sequence[int], stages: Sequence[Stage]
) -> list[tuple[int, int]]:
    """Height and width of the map after each stage."""
    height, width, _ = check_input_shape("ConvNet", input_shape)
    if not stages:
        raise ValueError("ConvNet: stages must have at least one Stage, got none.")
    sizes = []
    for i, stage in enumerate(stages):
        height, width = _ceil_div(stage.stride, height, width)
        if stage.pool:
            if min(height, width) < 2:
                raise ValueError(
                    f"ConvNet: input_shape {tuple(input_shape)} is too small: the map"
                    f" is {height} x {width} when stage {i} is to pool it; give larger"
                    " images, or that stage pool=False."
                )
            height, width = _ceil_div(2, height, width)
        sizes.append((height, width))
    return sizes


def _ceil_div(divisor: int, height: int, width: int) -> tuple[int, int]:
    return -(-height // divisor), -(-width // divisor)
