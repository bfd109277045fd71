"""Units of networks: a convolution with what follows it, and three residual ones."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_choice, check_sizes
from sphax.layers import PReLU
from sphax.networks._layers import HE_INIT, BatchNorm, Conv, apply_conv

Activation = Literal["relu", "prelu"]
Shortcut = Literal["projection", "padding"]


class ConvUnit(nnx.Module):
    """Convolution, batch normalization and activation.

    Like every unit, it is made by a :class:`Stage` as ``unit(in_features, features,
    stride, conv=..., dtype=..., param_dtype=..., rngs=...)``; its options are bound by
    :func:`functools.partial`.

    Args:
        in_features: Channels of the inputs.
        features: Number of filters.
        stride: Of the convolution.
        kernel_size: Side of the square window, odd; the padding of
            ``kernel_size // 2`` keeps the size of the map at stride 1.
        use_norm: Whether batch normalization follows.
        activation: ``"prelu"``, with one slope per channel, ``"relu"``, or None.
        use_bias: Whether the convolution has a bias.
        kernel_init: Initializer of the convolution; by default Gaussian with variance
            2 / fan_in.
        conv: Constructor of the convolution, called as :class:`flax.nnx.Conv` is.
        dtype: Of the computation; by default that of inputs and parameters together.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Raises:
        ValueError: If a size is not positive, ``kernel_size`` is even, or
            ``activation`` unknown.

    Example:
        >>> unit = sx.networks.ConvUnit(3, 8, stride=2, rngs=nnx.Rngs(0))
        >>> unit(jnp.ones((5, 7, 7, 3))).shape
        (5, 4, 4, 8)
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int = 1,
        *,
        kernel_size: int = 3,
        use_norm: bool = True,
        activation: Activation | None = "prelu",
        use_bias: bool = False,
        kernel_init: nnx.Initializer = HE_INIT,
        conv: Conv = nnx.Conv,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes(
            type(self).__name__,
            in_features=in_features,
            features=features,
            stride=stride,
            kernel_size=kernel_size,
        )
        if kernel_size % 2 == 0:
            raise ValueError(
                f"{type(self).__name__}: kernel_size must be odd, for a padding of"
                f" kernel_size // 2 to keep the size of the map, got {kernel_size}."
            )
        check_choice("activation", activation, ("relu", "prelu", None))
        around = (kernel_size // 2, kernel_size // 2)
        self.conv = conv(
            in_features,
            features,
            kernel_size=(kernel_size, kernel_size),
            strides=(stride, stride),
            # Not "SAME", which pads an even map on one side only if the stride is 2.
            padding=(around, around),
            use_bias=use_bias,
            kernel_init=kernel_init,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norm = (
            BatchNorm(features, param_dtype=param_dtype, rngs=rngs)
            if use_norm
            else None
        )
        if activation == "prelu":
            self.activation = PReLU(features, dtype=dtype, param_dtype=param_dtype)
        else:
            self.activation = nnx.relu if activation == "relu" else _identity

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., h, w, in]`` to ``[..., ceil(h / s), ceil(w / s), features]``."""
        x = apply_conv(self.conv, x, use_running_average)
        if self.norm is not None:
            x = self.norm(x, use_running_average)
        return self.activation(x)


class ResidualUnit(nnx.Module):
    """The residual unit of ResNet: two convolutions and a shortcut around them.

    Convolution, batch normalization, activation, convolution and batch normalization;
    then the shortcut is added, and a rectifier follows.

    Args:
        in_features: Channels of the inputs.
        features: Filters of each convolution.
        stride: Of the first convolution.
        activation: Between the convolutions, ``"relu"`` or ``"prelu"``.
        rectify: Whether a rectifier follows the sum; DCNet's modified ResNet has none.
        shortcut: The shortcut where the shapes differ: ``"projection"``, a plain
            convolution of 1 x 1 and batch normalization (option B of the paper), or
            ``"padding"``, every ``stride``-th position with zeros for the further
            channels (option A). Elsewhere it is the identity.
        **options: Further options of both convolutions: ``kernel_size``, ``use_bias``,
            ``kernel_init``, ``conv``, ``dtype``, ``param_dtype`` and ``rngs``, as in
            :class:`ConvUnit`.

    Raises:
        ValueError: If a size or an option is out of range, or padding would have to
            drop channels.

    Example:
        >>> unit = sx.networks.ResidualUnit(3, 8, stride=2, rngs=nnx.Rngs(0))
        >>> unit(jnp.ones((5, 7, 7, 3))).shape
        (5, 4, 4, 8)

    References:
        He et al., `Deep Residual Learning for Image Recognition
        <https://arxiv.org/abs/1512.03385>`_, CVPR 2016, Sec. 3.3 and 4.1.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int = 1,
        *,
        activation: Activation = "relu",
        rectify: bool = True,
        shortcut: Shortcut = "projection",
        **options: Any,
    ):
        self.first = ConvUnit(
            in_features, features, stride, activation=activation, **options
        )
        self.second = ConvUnit(features, features, activation=None, **options)
        self.shortcut = _shortcut(shortcut, in_features, features, stride, options)
        self.rectify = rectify

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., h, w, in]`` to ``[..., ceil(h / s), ceil(w / s), features]``."""
        y = self.second(self.first(x, use_running_average), use_running_average)
        y = y + self.shortcut(x, use_running_average)
        return nnx.relu(y) if self.rectify else y


class SphereFaceUnit(nnx.Module):
    """The residual unit of SphereFace: twice convolution and PReLU, then the shortcut.

    It has no normalization. Weights of 0.01 let it start near the identity, which keeps
    the map from growing with the depth.

    Args:
        in_features: Channels of the inputs.
        features: Filters of each convolution.
        stride: Of the first convolution.
        shortcut: The shortcut where the shapes differ, as in :class:`ResidualUnit`.
        kernel_init: Initializer of all its convolutions.
        **options: Further options of both convolutions, as in :class:`ResidualUnit`.

    Raises:
        ValueError: If a size or an option is out of range, or padding would have to
            drop channels.

    Example:
        >>> unit = sx.networks.SphereFaceUnit(8, 8, rngs=nnx.Rngs(0))
        >>> unit(jnp.ones((5, 7, 7, 8))).shape
        (5, 7, 7, 8)

    References:
        Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017,
        Table 2, and the authors' code.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int = 1,
        *,
        shortcut: Shortcut = "projection",
        kernel_init: nnx.Initializer = nnx.initializers.normal(0.01),
        **options: Any,
    ):
        options = dict(use_norm=False, kernel_init=kernel_init, **options)
        self.first = ConvUnit(in_features, features, stride, **options)
        self.second = ConvUnit(features, features, **options)
        options["use_norm"] = True
        self.shortcut = _shortcut(shortcut, in_features, features, stride, options)

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., h, w, in]`` to ``[..., ceil(h / s), ceil(w / s), features]``."""
        y = self.second(self.first(x, use_running_average), use_running_average)
        return y + self.shortcut(x, use_running_average)


class ImprovedResidualUnit(nnx.Module):
    """The improved residual unit of ArcFace's networks (IResNet).

    Batch normalization, convolution, batch normalization, PReLU, convolution and batch
    normalization; then the shortcut is added. The second convolution has the stride.

    Args:
        in_features: Channels of the inputs.
        features: Filters of each convolution.
        stride: Of the second convolution.
        shortcut: The shortcut where the shapes differ, as in :class:`ResidualUnit`.
        kernel_init: Initializer of all its convolutions.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.
        **options: Further options of both convolutions, as in :class:`ResidualUnit`.

    Raises:
        ValueError: If a size or an option is out of range, or padding would have to
            drop channels.

    Example:
        >>> unit = sx.networks.ImprovedResidualUnit(3, 8, stride=2, rngs=nnx.Rngs(0))
        >>> unit(jnp.ones((5, 7, 7, 3))).shape
        (5, 4, 4, 8)

    References:
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Sec. 3.1,
        and insightface's ``arcface_torch``.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int = 1,
        *,
        shortcut: Shortcut = "projection",
        kernel_init: nnx.Initializer = nnx.initializers.normal(0.1),
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        options |= dict(kernel_init=kernel_init, param_dtype=param_dtype, rngs=rngs)
        self.norm = BatchNorm(in_features, param_dtype=param_dtype, rngs=rngs)
        self.first = ConvUnit(in_features, features, **options)
        self.second = ConvUnit(features, features, stride, activation=None, **options)
        self.shortcut = _shortcut(shortcut, in_features, features, stride, options)

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps ``[..., h, w, in]`` to ``[..., ceil(h / s), ceil(w / s), features]``."""
        y = self.first(self.norm(x, use_running_average), use_running_average)
        y = self.second(y, use_running_average)
        return y + self.shortcut(x, use_running_average)


def _shortcut(
    kind: Shortcut,
    in_features: int,
    features: int,
    stride: int,
    options: dict[str, Any],
) -> Any:
    """The inputs of a unit, given the shape of its outputs."""
    check_choice("shortcut", kind, ("projection", "padding"))
    if stride == 1 and in_features == features:
        return _identity
    if kind == "projection":
        # Never by the operator: as in the authors' code of SphereNet and DCNet.
        plain: dict[str, Any] = options | dict(conv=nnx.Conv, kernel_size=1)
        return ConvUnit(in_features, features, stride, activation=None, **plain)
    if features < in_features:
        raise ValueError(
            f"shortcut 'padding' cannot take {in_features} channels to {features};"
            " 'projection' can."
        )
    return _Padding(stride, features - in_features)


class _Padding(nnx.Module):
    """Every ``stride``-th position, with zeros for ``extra`` further channels."""

    def __init__(self, stride: int, extra: int):
        self.stride = stride
        self.extra = extra

    def __call__(self, x: jax.Array, use_running_average: bool | None) -> jax.Array:
        del use_running_average
        x = x[..., :: self.stride, :: self.stride, :]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.extra)])


def _identity(x: jax.Array, use_running_average: bool | None = None) -> jax.Array:
    del use_running_average
    return x
