"""Plain and residual backbones, from images to embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.layers._common import check_sizes
from sphax.networks._common import check_images, check_input_shape
from sphax.networks._designs import Units
from sphax.networks._embedding import Embedding
from sphax.networks._units import Unit


class Backbone(nnx.Module):
    r"""Network from images to embeddings, by a design and an operator.

    Stages of :class:`Units`, then the layers that embed. What kind of convolution the
    network is made of is ``conv``: a plain one gives the baseline, a hyperspherical one
    a SphereNet, a decoupled one a DCNet. Only the 1 x 1 projections of shortcuts stay
    plain, and so do linear layers. The classifier is not part of it: see
    :class:`sphax.layers.MarginHead`, with ``network.features`` for its size.

    Published designs are in ``sx.networks.BACKBONES``:

    - ``"vgg9"``: VGG-9 for CIFAR, the baseline of SphereNet's code; with another
      ``conv``, SphereNet-9, and DCNet-9 (ours: DCNet's code has no plain network).
    - ``"resnet20"``, ``"resnet32"``: of He et al., for CIFAR; ``"resnet18"``, ImageNet.
    - ``"sphereresnet32"``: SphereResNet-32 for CIFAR, of SphereNet's code.
    - ``"dcnet_resnet32"``: for CIFAR-100, and ``"dcnet_resnet18"``, the modified
      ResNet-18 for ImageNet, both of DCNet's code.
    - ``"sphereface20"``, ``"sphereface64"``: of SphereFace, for faces of 112 x 96.
    - ``"iresnet50"``, ``"iresnet100"``: of ArcFace as in insightface, for faces of
      112 x 112.

    Published are the layers, their sizes and strides, and how convolutions start. Ours,
    in all of them: batch normalisation with running statistics at 0.9 (0.999 in the
    code of SphereNet and DCNet) and epsilon 1e-5 (there 1e-3); slopes of PReLU from
    0.25 (0 in DCNet's); a strided convolution pads an even map on both sides, where
    TensorFlow pads one; linear layers start as in Caffe, uniform of variance
    1 / fan_in.

    An embedding that is a ``"mean"`` after a rectifier has no negative coordinates, so
    that no two are more than a right angle apart; the design with ``embedding="mean
    linear"`` and ``features`` lifts that.

    Batch normalisation has the modes of nnx, as in :class:`ConvNet`: made in training
    mode, ``network.eval()`` turns to the running statistics, and the argument
    ``use_running_average`` of a call goes before both. It also turns dropout off. A
    ``conv`` whose layer has an attribute ``use_running_average`` is called with it.

    Args:
        input_shape: ``(height, width, channels)`` of an image. Maps are reduced
            rounding up (25, 13, 7), so that no size is too small.
        stages: :class:`Units`, first to last.
        embedding: Sentence of the layers that turn the last map into the embedding.
            ``mean`` over the map; ``conv``, the operator with one window over all of
            it, without bias; ``linear`` of all its entries (after ``mean``, of the
            channels), with bias; ``norm`` and ``unscaled_norm``, batch normalisation
            with and without a learned scale; ``dropout``.
        features: Dimension of the embedding if it has a ``conv`` or ``linear``, else
            None: ``mean`` keeps the channels of the last stage.
        conv: Constructor of a convolution, called as :class:`flax.nnx.Conv` is:
            ``conv(in_features, out_features, kernel_size=(k, k), strides=(s, s),
            padding=((p, p), (p, p)), use_bias=..., kernel_init=..., dtype=...,
            param_dtype=..., rngs=...)``.
        dropout_rate: Of ``dropout``; insightface trains with 0 in PyTorch and had 0.4
            in MXNet. Positive, the network holds a key as state, which each call in
            training moves: keep it with the batch statistics from step to step.
        dtype: Of the computation; by default that of images and parameters together.
            Statistics are float32 at least.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``, and ``dropout`` for a positive rate.

    Attributes:
        features: Dimension of the embedding.

    Raises:
        TypeError: From a call, if ``images`` is not floating.
        ValueError: If a size is not positive, ``stages`` is empty, ``embedding`` is not
            such a sentence, or ``features`` or ``dropout_rate`` does not go with it;
            from a call, if ``images`` does not end in ``input_shape``.

    Example:
        >>> design = sx.networks.BACKBONES["resnet20"]._replace(input_shape=(9, 9, 1))
        >>> network = nnx.eval_shape(
        ...     lambda: sx.networks.Backbone(*design, conv=nnx.Conv, rngs=nnx.Rngs(0))
        ... )
        >>> network.features
        64

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NIPS 2017; Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_,
        CVPR 2018; Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR
        2017, Table 2; He et al., `Deep Residual Learning
        <https://arxiv.org/abs/1512.03385>`_, CVPR 2016; Deng et al., `ArcFace
        <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Sec. 3.1.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        stages: Sequence[Units],
        embedding: str,
        features: int | None = None,
        *,
        conv: Callable[..., Any] = nnx.Conv,
        dropout_rate: float = 0.0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.input_shape = check_input_shape("Backbone", input_shape)
        self.dtype = dtype
        _check(stages, features)
        options: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        map_shape = self.input_shape
        blocks = []
        for units in stages:
            blocks.append(_Block(map_shape[-1], units, conv, **options))
            map_shape = _shape_after(units, map_shape)
        self.stages = nnx.List(blocks)
        self.embedding = Embedding(
            map_shape, embedding, features, conv, dropout_rate, **options
        )
        self.features = self.embedding.features

    def __call__(
        self, images: jax.typing.ArrayLike, *, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps images ``[..., height, width, channels]`` to ``[..., features]``.

        Args:
            images: Floating. Training statistics are over all of the leading axes.
            use_running_average: Mode of what differs in training, for this call.
        """
        x = jnp.asarray(images)
        check_images(x, self.input_shape)
        # Also for what has no dtype of its own, such as a shortcut from the images.
        x = x if self.dtype is None else x.astype(self.dtype)
        for stage in self.stages:
            x = stage(x, use_running_average)
        return self.embedding(x, use_running_average)


class _Block(nnx.Module):
    """The units of one stage and its pooling."""

    def __init__(
        self, in_features: int, units: Units, conv: Callable[..., Any], **options: Any
    ):
        self.units = nnx.List(
            Unit(
                units.features if i else in_features,
                units,
                1 if i else units.stride,
                conv,
                **options,
            )
            for i in range(units.repeats)
        )
        self.pool = units.pool

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        for unit in self.units:
            x = unit(x, use_running_average)
        if self.pool is None:
            return x
        return nnx.max_pool(x, (self.pool, self.pool), (2, 2), padding="SAME")


def _shape_after(units: Units, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of the map after a stage."""
    reduction = units.stride * (1 if units.pool is None else 2)
    # Rounding up twice is rounding up once by the product.
    height, width = (-(-side // reduction) for side in shape[:2])
    return height, width, units.features


def _check(stages: Sequence[Units], features: int | None) -> None:
    """Raises unless there are stages and, where given, features."""
    if not stages:
        raise ValueError("Backbone: stages must have at least one Units, got none.")
    if features is not None:
        check_sizes("Backbone", features=features)
