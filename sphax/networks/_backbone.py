"""Networks from images to embeddings, made of stages of units."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_count, check_sizes
from sphax.networks._embeddings import NormalizedEmbedding
from sphax.networks._layers import Conv
from sphax.networks._units import ConvUnit


@dataclasses.dataclass(frozen=True)
class Stage:
    """Units of one kind with equally many filters, and the pooling after them.

    Args:
        features: Filters of each convolution.
        repeats: Number of units.
        unit: Constructor of a unit, such as :class:`ConvUnit`, its options bound by
            :func:`functools.partial`, or any constructor that is called in the same
            way: ``unit(in_features, features, stride, conv=..., dtype=...,
            param_dtype=..., rngs=...)``.
        stride: Of the first unit; all others have stride 1.
        pool: Side of the max pooling, of stride 2, that ends the stage; None for no
            pooling.

    Raises:
        TypeError: If ``pool`` is neither an integer nor None.
        ValueError: If a size is not a positive integer.

    Example:
        >>> stage = sx.networks.Stage(64, 3)
        >>> stage.repeats, stage.stride, stage.pool
        (3, 1, 2)
        >>> from functools import partial
        >>> unit = partial(sx.networks.ResidualUnit, shortcut="padding")
        >>> sx.networks.Stage(64, 3, unit=unit, pool=None).features
        64
    """

    features: int
    repeats: int = 1
    _: dataclasses.KW_ONLY
    unit: Callable[..., Any] = ConvUnit
    stride: int = 1
    pool: int | None = 2

    def __post_init__(self):
        check_sizes(
            "Stage", features=self.features, repeats=self.repeats, stride=self.stride
        )
        if self.pool is not None:
            check_count("Stage: pool", self.pool)


class Design(NamedTuple):
    """The positional arguments of :class:`Backbone`: ``Backbone(*design, ...)``.

    Attributes:
        input_shape: ``(height, width, channels)`` of an image.
        stages: Each a :class:`Stage`, first to last.
        features: Dimension of the embedding; see :class:`Backbone`.
        embedding: Constructor of the last layers.

    Example:
        >>> sx.networks.TABLE_2_1["cifar10"]._replace(features=2).features
        2
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]
    features: int | None = None
    embedding: Callable[..., Any] = NormalizedEmbedding


class Backbone(nnx.Module):
    r"""Network from images to embeddings, by a design and an operator.

    Stages of units, then the layers that give the embedding. ``conv`` is the kind of
    convolution: a plain one gives the baseline, a hyperspherical one a SphereNet, a
    decoupled one a DCNet. Only the 1 x 1 projections of shortcuts stay plain, and so do
    linear layers. The classifier is not part of the network: see
    :class:`sphax.layers.MarginHead`, with ``network.features`` for its size.

    By default the units are convolution, batch normalization and PReLU, with 2 x 2 max
    pooling after each stage, and the embedding is a linear layer and batch
    normalization, as in the networks of L-Softmax, which are in
    ``sx.networks.TABLE_2_1``: ``"mnist_2d"`` (with the two features of the figure),
    ``"mnist"``, ``"cifar10"``, ``"cifar100"`` and ``"lfw"``. Take one by
    ``Backbone(*TABLE_2_1["cifar10"], rngs=rngs)``, or with other sizes by
    ``Backbone((64, 64, 3), TABLE_2_1["cifar10"].stages, 2, rngs=rngs)``.

    Other published designs are in ``sx.networks.BACKBONES``:

    - ``"vgg9"``: VGG-9 for CIFAR, the baseline of SphereNet's code; with another
      ``conv``, SphereNet-9, and DCNet-9 (ours: DCNet's code has no plain network).
    - ``"resnet20"``, ``"resnet32"``: of He et al., for CIFAR; ``"resnet18"``, ImageNet.
    - ``"sphereresnet32"``: SphereResNet-32 for CIFAR, of SphereNet's code.
    - ``"dcnet_resnet32"``: for CIFAR-100, and ``"dcnet_resnet18"``, the modified
      ResNet-18 for ImageNet, both of DCNet's code.
    - ``"sphereface20"``, ``"sphereface64"``: of SphereFace, for faces of 112 x 96.
    - ``"iresnet18"``, ``"iresnet34"``, ``"iresnet50"``, ``"iresnet100"``,
      ``"iresnet200"``: of ArcFace as in insightface, for faces of 112 x 112. The last
      linear layer reads the map row by row, channels last; insightface's reads it
      channel by channel, see :func:`sphax.convert.from_insightface`.

    The layers, their sizes and strides, and the initialization of convolutions are as
    published. These choices are ours in all of them: batch normalization with running
    statistics at 0.9 (0.999 in the code of SphereNet and DCNet) and epsilon 1e-5 (there
    1e-3); slopes of PReLU start at 0.25 (at 0 in DCNet's); a strided convolution pads
    an even map on both sides, where TensorFlow pads one; the linear layers of
    ``BACKBONES`` start as in Caffe, uniform of variance 1 / fan_in, but for those of
    IResNet, which start as in PyTorch.

    Batch normalization has the modes of nnx. A network is made in training mode, where
    a call takes the statistics of its batch and moves the running ones, at 0.9.
    ``network.eval()`` switches to the running ones, ``network.train()`` back, and the
    argument ``use_running_average`` of a call overrides both. The mode also switches
    dropout, and is passed to a ``conv`` whose layer has an attribute
    ``use_running_average``. Statistics are float32 at least, whatever ``dtype`` is.

    Args:
        input_shape: ``(height, width, channels)`` of an image. Maps are reduced
            rounding up (25, 13, 7), so that no size is too small for a stride.
        stages: Each a :class:`Stage`, first to last.
        features: Dimension of the embedding. None only for an embedding that has a
            default, such as the channels of :class:`MeanEmbedding`.
        embedding: Constructor of the layers from the last map to the embedding, such as
            :class:`NormalizedEmbedding`, its options bound by
            :func:`functools.partial`, or any constructor that is called in the same
            way.
        conv: Constructor of a convolution, called as :class:`flax.nnx.Conv` is:
            ``conv(in_features, out_features, kernel_size=(k, k), strides=(s, s),
            padding=((p, p), (p, p)), use_bias=..., kernel_init=..., dtype=...,
            param_dtype=..., rngs=...)``. The layer maps ``[..., h, w, in]`` to
            ``[..., ceil(h / s), ceil(w / s), out]``.
        dtype: Of the computation; by default that of images and parameters together.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Attributes:
        features: Dimension of the embedding.

    Raises:
        TypeError: From a call, if ``images`` is not floating.
        ValueError: If a size is not positive, ``stages`` is empty, ``input_shape`` is
            too small for the pooling, or ``features`` is missing; from a call, if
            ``images`` does not end in ``input_shape``.

    Example:
        >>> stages = [sx.networks.Stage(8, 2)]
        >>> network = sx.networks.Backbone((7, 7, 1), stages, 2, rngs=nnx.Rngs(0))
        >>> network(jnp.zeros((5, 7, 7, 1))).shape
        (5, 2)
        >>> design = sx.networks.BACKBONES["resnet20"]._replace(input_shape=(9, 9, 1))
        >>> network = nnx.eval_shape(
        ...     lambda: sx.networks.Backbone(*design, conv=nnx.Conv, rngs=nnx.Rngs(0))
        ... )
        >>> network.features
        64

    References:
        Liu et al., `Large-Margin Softmax Loss <https://arxiv.org/abs/1612.02295>`_,
        ICML 2016, Table 1; He et al., `Delving Deep into Rectifiers
        <https://arxiv.org/abs/1502.01852>`_, ICCV 2015; Liu et al., `Deep
        Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_, NIPS 2017; Liu et
        al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018; Liu et
        al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017, Table 2; He et
        al., `Deep Residual Learning <https://arxiv.org/abs/1512.03385>`_, CVPR 2016;
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Sec. 3.1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        stages: Sequence[Stage],
        features: int | None = None,
        embedding: Callable[..., Any] = NormalizedEmbedding,
        *,
        conv: Conv = nnx.Conv,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if len(input_shape) != 3:
            raise ValueError(
                "Backbone: input_shape must be (height, width, channels), got"
                f" {tuple(input_shape)}; a batch has no place in it."
            )
        height, width, channels = input_shape
        check_sizes(
            "Backbone: input_shape", height=height, width=width, channels=channels
        )
        if not stages:
            raise ValueError("Backbone: stages must have at least one Stage, got none.")
        if features is not None:
            check_sizes("Backbone", features=features)
        self.input_shape = (height, width, channels)
        self.dtype = dtype
        options: dict[str, Any] = dict(
            conv=conv, dtype=dtype, param_dtype=param_dtype, rngs=rngs
        )
        blocks = []
        for i, stage in enumerate(stages):
            blocks.append(_Stage(channels, stage, options))
            height, width = (-(-side // stage.stride) for side in (height, width))
            if stage.pool is not None:
                if min(height, width) < 2:
                    raise ValueError(
                        f"Backbone: input_shape {self.input_shape} is too small: the"
                        f" map is {height} x {width} when stage {i} is to pool it; give"
                        " larger images, or that stage pool=None."
                    )
                height, width = (-(-side // 2) for side in (height, width))
            channels = stage.features
        self.stages = nnx.List(blocks)
        self.embedding = embedding((height, width, channels), features, **options)
        self.features: int = self.embedding.features

    def __call__(
        self, images: jax.typing.ArrayLike, *, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps images ``[..., height, width, channels]`` to ``[..., features]``.

        Args:
            images: Floating. Training statistics are over all of the leading axes.
            use_running_average: Whether batch normalization uses the running
                statistics and dropout is off, for this call.
        """
        x = jnp.asarray(images)
        check_images(x, self.input_shape)
        # Also for layers without a dtype, such as a shortcut from the images.
        x = x if self.dtype is None else x.astype(self.dtype)
        for stage in self.stages:
            x = stage(x, use_running_average)
        return self.embedding(x, use_running_average)


class _Stage(nnx.Module):
    """The units of a stage and its pooling."""

    def __init__(self, in_features: int, stage: Stage, options: dict[str, Any]):
        self.units = nnx.List(
            stage.unit(
                stage.features if i else in_features,
                stage.features,
                1 if i else stage.stride,
                **options,
            )
            for i in range(stage.repeats)
        )
        self.pool = stage.pool

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        for unit in self.units:
            x = unit(x, use_running_average)
        if self.pool is None:
            return x
        # "SAME" pads below and right, so that the last window of an odd map is partial:
        # the rounding up of Caffe, in which the networks of L-Softmax were written.
        return nnx.max_pool(x, (self.pool, self.pool), (2, 2), padding="SAME")


def check_images(images: jax.Array, shape: tuple[int, ...]) -> None:
    """Raises unless floating images of the shape, with any leading axes."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating, got dtype {images.dtype}; scale them first, for"
            " example by images / 255 - 0.5."
        )
    if images.shape[-3:] != shape:
        hint = ""
        if images.shape[-3:] == (shape[2], *shape[:2]):
            hint = " Channels come last: jnp.moveaxis(images, -3, -1)."
        elif images.shape[-2:] == shape[:2] and shape[2] == 1:
            hint = " The one channel is an axis as well: images[..., None]."
        raise ValueError(
            f"images must be [..., {', '.join(map(str, shape))}], the network's"
            f" input_shape, got shape {images.shape}.{hint}"
        )
