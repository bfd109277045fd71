"""Unbounded magnitude functions: LinearConv, SegConv, LogConv, MixConv, SphereNorm."""

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register
from sphax.operators._magnitude import Magnitude


@register
class Linear(Magnitude):
    r"""Proportional to the length: :math:`h(r) = \alpha r` (LinearConv).

    Unbounded. With :class:`Cosine` it is the plain convolution, by filters of unit
    length unless ``weighted``.

    Args:
        alpha: :math:`\alpha`, not negative.
        weighted: How the filter's length counts; ``"linear"`` equals ``"nonlinear"``.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Linear(alpha=0.5)(jnp.array([0.0, 3.0]))
        Array([0. , 1.5], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    alpha: float | jax.Array = 1.0

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * length


@register
class Segmented(Magnitude):
    r"""Two slopes that meet at a radius (SegConv).

    .. math:: h(r) = \alpha \min(r, \rho) + \beta \max(r - \rho, 0)

    Between :class:`Ball` (:math:`\alpha = 1 / \rho`, :math:`\beta = 0`) and
    :class:`Linear` (:math:`\alpha = \beta`). Unbounded unless :math:`\beta = 0`.

    Args:
        rho: Radius :math:`\rho`, positive.
        alpha: Slope :math:`\alpha` within the radius, not negative.
        beta: Slope :math:`\beta` beyond it, not negative.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Segmented(rho=2.0)(jnp.array([1.0, 2.0, 4.0]))
        Array([1., 2., 3.], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    rho: float | jax.Array = 1.0
    alpha: float | jax.Array = 1.0
    beta: float | jax.Array = 0.5

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        within = jnp.minimum(length, self.rho)
        return self.alpha * within + self.beta * (length - within)


@register
class Log(Magnitude):
    r"""Logarithmic: :math:`h(r) = \alpha \log(1 + r)` (LogConv).

    Unbounded, but the lengths of long patches hardly differ.

    Args:
        alpha: :math:`\alpha`, not negative.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Log()(jnp.array([0.0, 1.0]))
        Array([0.   , 0.6931], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    alpha: float | jax.Array = 1.0

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * jnp.log1p(length)


@register
class Mix(Magnitude):
    r"""Linear plus logarithmic: :math:`h(r) = \alpha r + \beta \log(1 + r)` (MixConv).

    Unbounded; steeper for short patches than for long ones, without an edge.

    Args:
        alpha: :math:`\alpha`, not negative.
        beta: :math:`\beta`, not negative.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Mix()(jnp.array([0.0, 1.0]))
        Array([0.   , 1.3466], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    alpha: float | jax.Array = 1.0
    beta: float | jax.Array = 0.5

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * length + self.beta * jnp.log1p(length)


@register
class Power(Magnitude):
    r"""A power of the length: :math:`h(r) = \alpha (r / \rho)^t` (SphereNorm).

    From :class:`Sphere` at :math:`t = 0` to :class:`Linear` at :math:`t = 1`. Between
    them it is unbounded, and its slope grows without bound towards zero.

    Args:
        rho: Radius :math:`\rho`, positive, at which the exponent has no effect.
        alpha: :math:`\alpha`, not negative.
        exponent: :math:`t`, not negative; above 1 it is steeper than the convolution.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Power(rho=4.0)(jnp.array([0.0, 1.0, 4.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """

    rho: float | jax.Array = 1.0
    alpha: float | jax.Array = 1.0
    exponent: float | jax.Array = 0.5

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h; at zero length 0 for every exponent, with zero gradient."""
        is_zero = length == 0.0
        ratio = jnp.where(is_zero, 1.0, length) / self.rho
        return jnp.where(is_zero, 0.0, self.alpha * ratio**self.exponent)
