"""Convolution and dense layer with their inner product taken apart."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._numerics import widen
from sphax.layers._common import (
    COLUMNS_INIT,
    check_features,
    check_sizes,
    promote,
    window_of,
    window_sizes,
)
from sphax.layers._operators import Decoupled, Radius
from sphax.operators import (
    Angular,
    Magnitude,
    decoupled_conv,
    decoupled_dense,
    patch_norms,
)
from sphax.operators._decoupled import Emit
from sphax.operators._padding import PaddingLike
from sphax.sphere import length


class DecoupledConv(Decoupled):
    r"""Convolution :math:`h(\|w\|, \|x\|)\, g(\theta)` (DCNet).

    Made and called as :class:`flax.nnx.Conv`, but without a bias unless one is asked
    for: the published networks have none. See :func:`sphax.operators.decoupled_conv`.

    Every hyperparameter of ``magnitude`` and ``angular`` is a variable of the layer by
    its own name, such as ``layer.rho``: a :class:`Hyperparameter`, or, if named in
    ``learn``, an ``nnx.Param`` with an entry for each filter. A layer can say what the
    radius means:

    - ``radius="fixed"``: ``rho`` is the radius;
    - ``"mean"``: it is in units of :math:`\mu`, the mean norm of the patches;
    - ``"learned"``: in units of :math:`(r^2 + 10^{-4})\mu`, r learned for each filter
      from 1 on, the published form (``layer.radius_root``).

    :math:`\mu` is that of the batch, with its gradient, as in batch normalisation, and
    moves ``layer.mean_norm``, an ``nnx.BatchStat``; after ``model.eval()``, or with
    ``use_running_average=True``, that takes its place. With groups, each has its own.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: As in :func:`sphax.operators.decoupled_conv`.
        magnitude: Function of the lengths, such as ``sx.operators.Tanh()``.
        angular: Function of the angle, such as ``sx.operators.Cosine()``.
        radius: ``"fixed"``, ``"mean"`` or ``"learned"``.
        learn: Names of the hyperparameters to train, from the values given on.
        momentum: Of the running mean.
        padding: As there.
        input_dilation: As there.
        kernel_dilation: As there.
        feature_group_count: As there.
        use_bias: Whether to add a bias.
        dtype: Of the computation; by default that of inputs and kernel together.
        param_dtype: Of the parameters.
        precision: As there.
        kernel_init: Initializer of the kernel; by default Gaussian of variance
            1 / fan-in, whose directions are uniform.
        bias_init: Initializer of the bias.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: If a function is none; from a call, if its inputs are not floating.
        ValueError: If a size or an option is out of range; from a call, if its inputs
            have other channels.

    Example:
        >>> tanh, cosine = sx.operators.Tanh(), sx.operators.Cosine()
        >>> options = dict(magnitude=tanh, angular=cosine, radius="learned")
        >>> conv = sx.layers.DecoupledConv(3, 8, (3, 3), **options, rngs=nnx.Rngs(0))
        >>> conv(jnp.ones((5, 9, 9, 3))).shape
        (5, 9, 9, 8)
        >>> list(nnx.state(conv, nnx.Param))
        ['kernel', 'radius_root']

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018,
        and the authors' code.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        magnitude: Magnitude,
        angular: Angular,
        radius: Radius = "fixed",
        learn: Sequence[str] = (),
        momentum: float = 0.999,
        padding: PaddingLike = "SAME",
        input_dilation: int | Sequence[int] = 1,
        kernel_dilation: int | Sequence[int] = 1,
        feature_group_count: int = 1,
        use_bias: bool = False,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        window = window_of(kernel_size)
        check_sizes(
            "DecoupledConv",
            in_features=in_features,
            out_features=out_features,
            feature_group_count=feature_group_count,
            **window_sizes(window),
        )
        if in_features % feature_group_count or out_features % feature_group_count:
            raise ValueError(
                "DecoupledConv: feature_group_count must divide in_features and"
                f" out_features, got {feature_group_count} for {in_features} and"
                f" {out_features}."
            )
        super().__init__(
            (*window, in_features // feature_group_count, out_features),
            feature_group_count,
            magnitude=magnitude,
            angular=angular,
            radius=radius,
            learn=learn,
            momentum=momentum,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=kernel_init,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.in_features = in_features
        self.kernel_size = window
        self.strides, self.padding = strides, padding
        self.input_dilation, self.kernel_dilation = input_dilation, kernel_dilation

    def __call__(
        self,
        inputs: jax.Array,
        *,
        emit: Emit = "output",
        use_running_average: bool | None = None,
    ) -> jax.Array:
        """Maps ``[..., *space, in_features]`` to ``[..., *space, out_features]``.

        Args:
            inputs: Floating.
            emit: ``"output"``; ``"magnitude"`` or ``"angle"`` for one factor of it,
                without the bias.
            use_running_average: Mode of the mean norm, for this call.
        """
        check_features("inputs", inputs, self.in_features)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        window: dict[str, Any] = dict(
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.groups,
        )
        # The norms that the convolution forms as well: under jit, once.
        magnitude, angular = self._functions(
            lambda: patch_norms(inputs, self.kernel_size, **window), use_running_average
        )
        outputs = decoupled_conv(
            inputs,
            kernel,
            magnitude=magnitude,
            angular=angular,
            emit=emit,
            precision=self.precision,
            **window,
        )
        return self._with_bias(outputs, emit)


class DecoupledLinear(Decoupled):
    r"""Dense layer :math:`h(\|w\|, \|x\|)\, g(\theta)`.

    Made and called as :class:`flax.nnx.Linear`, but without a bias unless one is asked
    for. Hyperparameters and radius are as in :class:`DecoupledConv`.

    Args:
        in_features: Size of the last input axis.
        out_features: Number of output neurons.
        magnitude: As in :class:`DecoupledConv`, like all that follow.
        angular: See there.
        radius: See there; the mean is over the norms of the inputs.
        learn: See there.
        momentum: See there.
        use_bias: See there.
        dtype: See there.
        param_dtype: See there.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.
        kernel_init: Initializer of the kernel, ``[in_features, out_features]``.
        bias_init: Initializer of the bias.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: As :class:`DecoupledConv`.
        ValueError: As :class:`DecoupledConv`.

    Example:
        >>> ball, linear = sx.operators.Ball(rho=10.0), sx.operators.LinearAngle()
        >>> options = dict(magnitude=ball, angular=linear, rngs=nnx.Rngs(0))
        >>> layer = sx.layers.DecoupledLinear(2, 2, **options)
        >>> layer.kernel[...] = jnp.array([[2.0, 0.0], [0.0, -1.0]])
        >>> layer(jnp.array([[3.0, 4.0]]))
        Array([[ 0.20483, -0.29517]], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        magnitude: Magnitude,
        angular: Angular,
        radius: Radius = "fixed",
        learn: Sequence[str] = (),
        momentum: float = 0.999,
        use_bias: bool = False,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
        rngs: nnx.Rngs,
    ):
        check_sizes(
            "DecoupledLinear", in_features=in_features, out_features=out_features
        )
        super().__init__(
            (in_features, out_features),
            1,
            magnitude=magnitude,
            angular=angular,
            radius=radius,
            learn=learn,
            momentum=momentum,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=kernel_init,
            bias_init=bias_init,
            rngs=rngs,
        )
        self.in_features = in_features

    def __call__(
        self,
        inputs: jax.Array,
        *,
        emit: Emit = "output",
        use_running_average: bool | None = None,
    ) -> jax.Array:
        """Maps ``[..., in_features]`` to ``[..., out_features]``.

        Arguments are those of :class:`DecoupledConv`.
        """
        check_features("inputs", inputs, self.in_features)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        magnitude, angular = self._functions(
            lambda: length(widen(inputs))[..., None], use_running_average
        )
        outputs = decoupled_dense(
            inputs,
            kernel,
            magnitude=magnitude,
            angular=angular,
            emit=emit,
            precision=self.precision,
        )
        return self._with_bias(outputs, emit)
