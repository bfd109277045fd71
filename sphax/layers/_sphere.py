"""Presets of the decoupled convolution: SphereConv and SphereNorm."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register
from sphax.layers._decoupled import DecoupledConv
from sphax.operators import (
    Angular,
    Cosine,
    LinearAngle,
    Magnitude,
    Power,
    Sigmoid,
    Sphere,
)


@register
class _LearnedSigmoid(Angular):
    """The sigmoid whose width is kept positive, as in the authors' code."""

    k_raw: float | jax.Array = 0.7

    def __call__(self, angle: jax.Array) -> jax.Array:
        return Sigmoid(k=jnp.abs(self.k_raw) + 0.05)(angle)


_OPERATORS = {
    "linear": LinearAngle(),
    "cosine": Cosine(),
    "sigmoid": Sigmoid(k=0.3),
    "learned_sigmoid": _LearnedSigmoid(),
}


class SphereConv(DecoupledConv):
    r"""Convolution of the angle alone: :math:`y = g(\theta)` (SphereNet).

    Neither the scale of the inputs nor that of the filters matters, which conditions
    training well. A patch that is nearly zero counts as much as any other: not for
    inputs whose empty regions are noise. The published networks have batch
    normalization after it.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Of the window, for all axes or each.
        operator: ``"linear"``, ``"cosine"``, ``"sigmoid"`` (of width k = 0.3) or
            ``"learned_sigmoid"`` (:math:`k = |k_0| + 0.05` for each filter, with
            :math:`k_0` learned starting at 0.7: ``layer.k_raw``).
        **options: Further options of :class:`DecoupledConv`.

    Raises:
        TypeError: Under the conditions of :class:`DecoupledConv`.
        ValueError: Likewise; if ``operator`` is not one of the four.

    Example:
        >>> conv = sx.layers.SphereConv(1, 1, (1,), operator="linear", rngs=nnx.Rngs(0))
        >>> conv.kernel[...] = 5.0 * jnp.ones((1, 1, 1))
        >>> conv(jnp.array([[0.1], [0.0], [-7.0]])).T
        Array([[ 1., 0., -1.]], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017; the learned width is in the authors' code.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        operator: Literal["linear", "cosine", "sigmoid", "learned_sigmoid"] = "sigmoid",
        **options: Any,
    ):
        check_choice("operator", operator, tuple(_OPERATORS))
        is_learned = operator == "learned_sigmoid"
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            magnitude=Sphere(),
            angular=_OPERATORS[operator],
            learn=("k_raw",) if is_learned else (),
            **options,
        )


@register
class _Rescaling(Magnitude):
    """A power of the length whose exponent is kept in [0, 1]."""

    rho: float | jax.Array = 1.0
    scale: float | jax.Array = 1.0
    logit: float | jax.Array = 0.0

    def __call__(self, length: jax.Array) -> jax.Array:
        exponent = jax.nn.sigmoid(self.logit)
        return Power(rho=self.rho, alpha=self.scale, exponent=exponent)(length)


class SphereNorm(DecoupledConv):
    r"""SphereConv as a normalization that can be undone (SphereNorm).

    .. math:: y = s\, (\|x\| / \rho)^t\, g(\theta)

    with s and t in [0, 1] learned for each filter: :class:`SphereConv` at
    :math:`t = 0`, and with the cosine the plain convolution at :math:`t = 1` and
    :math:`s = \|w\|\rho`. The authors name SphereNorm without a formula; this one is
    ours. It is unbounded unless t = 0, and may be followed by batch normalization.

    The variables are ``layer.scale``, s, and ``layer.logit``, whose logistic function
    is t.

    Args:
        in_features: Channels of the inputs.
        out_features: Number of filters.
        kernel_size: Window, one to three axes; a number is a window of one axis.
        strides: Of the window, for all axes or each.
        angular: Function g of the angle.
        exponent: Initial t, in ``(0, 1)``.
        radius: ``"fixed"``, ``"mean"`` or ``"learned"``, as in :class:`DecoupledConv`;
            by default :math:`\rho` is the mean norm of the patches.
        **options: Further options of :class:`DecoupledConv`.

    Raises:
        TypeError: Under the conditions of :class:`DecoupledConv`.
        ValueError: Likewise; if ``exponent`` is out of range.

    Example:
        >>> norm = sx.layers.SphereNorm(1, 1, (1,), radius="fixed", rngs=nnx.Rngs(0))
        >>> norm.kernel[...] = 5.0 * jnp.ones((1, 1, 1))
        >>> norm(jnp.array([[4.0], [0.0], [-9.0]])).T
        Array([[ 2., 0., -3.]], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, and the README of the authors' code.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        angular: Angular = Cosine(),
        exponent: float = 0.5,
        radius: Literal["fixed", "mean", "learned"] = "mean",
        **options: Any,
    ):
        if not 0.0 < exponent < 1.0:
            raise ValueError(
                f"SphereNorm: exponent must lie in (0, 1), got {exponent}."
            )
        logit = jnp.log(exponent) - jnp.log1p(-exponent)
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            magnitude=_Rescaling(logit=logit),
            angular=angular,
            radius=radius,
            learn=("scale", "logit"),
            **options,
        )
