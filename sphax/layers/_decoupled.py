"""Decoupled convolution and dense layer, whose magnitude and angle are functions."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_choice, check_instance, check_sizes
from sphax._hyperparameters import leaf_names
from sphax._numerics import widen
from sphax.layers._common import (
    COLUMNS_INIT,
    add_bias,
    check_features,
    promote,
    window_of,
    window_sizes,
)
from sphax.operators import (
    Angular,
    Magnitude,
    decoupled_conv,
    decoupled_dense,
    patch_norms,
)
from sphax.sphere import length

Part = Literal["output", "magnitude", "angle"]
Radius = Literal["fixed", "mean", "learned"]

# How Flax's layers multiply, which these do not.
_UNUSED = (
    "conv_general_dilated",
    "dot_general",
    "mask",
    "preferred_element_type",
    "promote_dtype",
)


class Hyperparameter(nnx.Variable[jax.Array]):
    """A variable that holds a hyperparameter of an operator, which nothing trains.

    Example:
        >>> ball, cosine = sx.operators.Ball(rho=2.0), sx.operators.Cosine()
        >>> options = dict(magnitude=ball, angular=cosine, learn=["alpha"])
        >>> layer = sx.layers.DecoupledLinear(3, 8, **options, rngs=nnx.Rngs(0))
        >>> list(nnx.state(layer, sx.layers.Hyperparameter))
        ['rho']
        >>> layer.rho[...] = 3.0
    """


class _Decoupled(nnx.Module):
    """The functions that the decoupled layers add to those of Flax, as variables."""

    kernel: nnx.Param[jax.Array]

    def _add_functions(
        self,
        magnitude: Magnitude,
        angular: Angular,
        radius: Radius,
        learn: Sequence[str],
        momentum: float,
        groups: int = 1,
    ) -> None:
        """Makes a variable of every hyperparameter, by its name, and of the radius."""
        self.radius, self.momentum = radius, float(momentum)
        self.use_running_average = False  # what model.eval() sets
        leaves, self._structure = jax.tree.flatten((magnitude, angular))
        self._names = (*leaf_names(magnitude), *leaf_names(angular))
        if not set(learn) <= set(self._names):
            raise ValueError(
                f"learn must name hyperparameters of the functions, {self._names}, got"
                f" {tuple(learn)}."
            )
        *fan_in, features = self.kernel.shape
        dtype = self.kernel.dtype
        exact = jnp.promote_types(dtype, jnp.float32)
        for name, leaf in zip(self._names, leaves, strict=True):
            if name in learn:
                value = jnp.broadcast_to(jnp.asarray(leaf, dtype), (features,))
                setattr(self, name, nnx.Param(value))
            else:
                setattr(self, name, Hyperparameter(jnp.asarray(leaf, exact)))
        if radius != "fixed":
            # The norm of a patch whose entries have variance 1, until there is a mean.
            start = math.sqrt(math.prod(fan_in))
            self.mean_norm = nnx.BatchStat(jnp.full((groups,), start, exact))
        if radius == "learned":
            self.radius_root = nnx.Param(jnp.ones((features,), dtype))

    def _functions(
        self, norms: Callable[[], jax.Array], use_running_average: bool | None
    ) -> tuple[Magnitude, Angular]:
        """The functions of the present variables, with the radius measured if asked.

        Args:
            norms: Gives the norms of the patches, ``[..., groups]``.
            use_running_average: Mode of the mean norm, for this call.
        """
        leaves = [getattr(self, name)[...] for name in self._names]
        magnitude, angular = jax.tree.unflatten(self._structure, leaves)
        if self.radius == "fixed":
            return magnitude, angular
        if use_running_average is None:
            use_running_average = self.use_running_average
        mean = self.mean_norm[...]
        if not use_running_average:
            batch = norms()
            batch_mean = jnp.mean(batch, axis=range(batch.ndim - 1))
            newest = jax.lax.stop_gradient(batch_mean).astype(mean.dtype)
            self.mean_norm[...] = self.momentum * mean + (1 - self.momentum) * newest
            mean = batch_mean
        # Both small constants are the authors'; the radius divides.
        unit = jnp.repeat(mean + 1e-6, self.kernel.shape[-1] // mean.shape[-1])
        if self.radius == "learned":
            unit = unit * (self.radius_root[...].astype(unit.dtype) ** 2 + 1e-4)
        return dataclasses.replace(magnitude, rho=magnitude.rho * unit), angular


def _check(
    owner: str, magnitude: object, angular: object, radius: Radius, options: dict
) -> None:
    """Raises unless the functions and the options are those of a decoupled layer."""
    for name in _UNUSED:
        if name in options:
            raise TypeError(
                f"{owner}: {name} is not an option, since inputs and kernel are not"
                " multiplied as in the layer of Flax."
            )
    check_instance("magnitude", magnitude, Magnitude, "Tanh()")
    check_instance("angular", angular, Angular, "Cosine()")
    check_choice("radius", radius, ("fixed", "mean", "learned"))
    if radius != "fixed" and "rho" not in leaf_names(magnitude):
        raise ValueError(
            f"radius={radius!r} needs a magnitude with a radius rho, such as Tanh, got"
            f" {type(magnitude).__name__}."
        )


class DecoupledConv(_Decoupled, nnx.Conv):
    r"""Convolution :math:`h(\|w\|, \|x\|)\, g(\theta)` (DCNet).

    A :class:`flax.nnx.Conv` whose inner product is replaced by
    :func:`sphax.operators.decoupled_conv`. It has no bias by default, like the
    published networks.

    Every hyperparameter of ``magnitude`` and ``angular`` is a variable of the layer by
    its name, such as ``layer.rho``: a :class:`Hyperparameter`, or, if named in
    ``learn``, an ``nnx.Param`` with one entry per filter. The layer can also set the
    scale of the radius:

    - ``radius="fixed"``: ``rho`` is the radius;
    - ``"mean"``: ``rho`` is in units of :math:`\mu`, the mean norm of the patches;
    - ``"learned"``: in units of :math:`(r^2 + 10^{-4})\mu`, with r learned for each
      filter starting at 1, the published form (``layer.radius_root``).

    In training, :math:`\mu` is the mean over the batch, with its gradient, as in batch
    normalization, and moves ``layer.mean_norm``, an ``nnx.BatchStat``. After
    ``model.eval()``, or with ``use_running_average=True``, the running mean is used.
    Each group of channels has its mean.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Of the window, for all axes or each.
        magnitude: Function of the lengths, such as ``sx.operators.Tanh()``.
        angular: Function of the angle, such as ``sx.operators.Cosine()``.
        radius: ``"fixed"``, ``"mean"`` or ``"learned"``.
        learn: Names of the hyperparameters to train, starting at their given values.
        momentum: Of the running mean.
        use_bias: Whether to add a bias.
        kernel_init: Initializer of the kernel; by default Gaussian of variance
            1 / fan-in, whose directions are uniform.
        rngs: Key stream; uses ``params``.
        **options: Further options of :class:`flax.nnx.Conv`: ``padding``,
            ``input_dilation``, ``kernel_dilation``, ``feature_group_count``, ``dtype``,
            ``param_dtype``, ``precision``, ``bias_init``, ``kernel_metadata`` and
            ``bias_metadata``.

    Raises:
        TypeError: If ``magnitude`` or ``angular`` is not such a function; from a call,
            if its inputs are not floating.
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
        use_bias: bool = False,
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        groups = options.get("feature_group_count", 1)
        check_sizes(
            "DecoupledConv",
            in_features=in_features,
            out_features=out_features,
            feature_group_count=groups,
            **window_sizes(window_of(kernel_size)),
        )
        if in_features % groups or out_features % groups:
            raise ValueError(
                "DecoupledConv: feature_group_count must divide in_features and"
                f" out_features, got {groups} for {in_features} and {out_features}."
            )
        _check("DecoupledConv", magnitude, angular, radius, options)
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            use_bias=use_bias,
            kernel_init=kernel_init,
            rngs=rngs,
            **options,
        )
        self._add_functions(magnitude, angular, radius, learn, momentum, groups)

    def __call__(
        self,
        inputs: jax.Array,
        *,
        part: Part = "output",
        use_running_average: bool | None = None,
    ) -> jax.Array:
        """Maps ``[..., *space, in_features]`` to ``[..., *space, out_features]``.

        Args:
            inputs: Floating.
            part: ``"output"``; ``"magnitude"`` or ``"angle"`` for one factor of the
                output, without the bias.
            use_running_average: Mode of the mean norm, for this call.
        """
        check_features("inputs", inputs, self.in_features)
        inputs, kernel = promote("inputs", inputs, self.kernel[...], self.dtype)
        window: dict[str, Any] = dict(
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
        )
        # The norms that the convolution forms as well: under jit, once.
        magnitude, angular = self._functions(
            lambda: patch_norms(inputs, self.kernel_shape[:-2], **window),
            use_running_average,
        )
        outputs = decoupled_conv(
            inputs,
            kernel,
            magnitude=magnitude,
            angular=angular,
            part=part,
            precision=self.precision,
            **window,
        )
        return add_bias(outputs, self.bias) if part == "output" else outputs


class DecoupledLinear(_Decoupled, nnx.Linear):
    r"""Dense layer :math:`h(\|w\|, \|x\|)\, g(\theta)`.

    A :class:`flax.nnx.Linear` whose inner product is replaced by
    :func:`sphax.operators.decoupled_dense`. The functions, what is learned of them and
    the radius are as in :class:`DecoupledConv`, with inputs in the place of patches.

    Args:
        in_features: Size of the last input axis.
        out_features: Number of output neurons.
        magnitude: Function of the lengths, such as ``sx.operators.Tanh()``.
        angular: Function of the angle, such as ``sx.operators.Cosine()``.
        radius: ``"fixed"``, ``"mean"`` or ``"learned"``.
        learn: Names of the hyperparameters to train, starting at their given values.
        momentum: Of the running mean.
        use_bias: Whether to add a bias.
        kernel_init: Initializer of the kernel, ``[in_features, out_features]``.
        rngs: Key stream; uses ``params``.
        **options: Further options of :class:`flax.nnx.Linear`: ``dtype``,
            ``param_dtype``, ``precision``, ``bias_init``, ``kernel_metadata`` and
            ``bias_metadata``.

    Raises:
        TypeError: If ``magnitude`` or ``angular`` is not such a function; from a call,
            if its inputs are not floating.
        ValueError: If a size or an option is out of range; from a call, if the last
            axis of its inputs has another size.

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
        kernel_init: nnx.Initializer = COLUMNS_INIT,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes(
            "DecoupledLinear", in_features=in_features, out_features=out_features
        )
        _check("DecoupledLinear", magnitude, angular, radius, options)
        super().__init__(
            in_features,
            out_features,
            use_bias=use_bias,
            kernel_init=kernel_init,
            rngs=rngs,
            **options,
        )
        self._add_functions(magnitude, angular, radius, learn, momentum)

    def __call__(
        self,
        inputs: jax.Array,
        *,
        part: Part = "output",
        use_running_average: bool | None = None,
    ) -> jax.Array:
        """Maps ``[..., in_features]`` to ``[..., out_features]``.

        Args:
            inputs: Floating.
            part: ``"output"``; ``"magnitude"`` or ``"angle"`` for one factor of the
                output, without the bias.
            use_running_average: Mode of the mean norm, for this call.
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
            part=part,
            precision=self.precision,
        )
        return add_bias(outputs, self.bias) if part == "output" else outputs
