"""Bounded magnitude functions: SphereConv, BallConv, TanhConv."""

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register
from sphax.operators._magnitude import Magnitude


@register
class Sphere(Magnitude):
    r"""Constant: :math:`h(r) = \alpha` (SphereConv).

    Only the angle counts; brightness and contrast of the input are gone. A patch that
    is nearly zero counts as much as any other, noise included.

    Args:
        alpha: :math:`\alpha`, not negative; batch normalization makes up for it.
        weighted: How the filter's length counts; ``"nonlinear"`` equals ``"none"``.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Sphere(alpha=2.0)(jnp.array([0.0, 5.0]))
        Array([2., 2.], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017.
    """

    alpha: float | jax.Array = 1.0

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * jnp.ones_like(length)


@register
class Ball(Magnitude):
    r"""Linear up to a radius, then constant (BallConv).

    .. math:: h(r) = \alpha \min(r, \rho) / \rho

    Keeps short patches short, which :class:`Sphere` does not. Beyond the radius the
    gradient with respect to the length is zero.

    Args:
        rho: Radius :math:`\rho`, positive.
        alpha: :math:`\alpha`, not negative.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Ball(rho=2.0)(jnp.array([1.0, 2.0, 3.0]))
        Array([0.5, 1. , 1. ], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    rho: float | jax.Array = 1.0
    alpha: float | jax.Array = 1.0

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * jnp.minimum(length, self.rho) / self.rho


@register
class Tanh(Magnitude):
    r"""Smooth and bounded: :math:`h(r) = \alpha \tanh(r / \rho)` (TanhConv).

    :class:`Ball` without the edge. Far beyond the radius the gradient with respect to
    the length vanishes; a network that resists gradient-based attacks may only be
    hiding its gradients there.

    Args:
        rho: Radius :math:`\rho`, positive.
        alpha: :math:`\alpha`, not negative.
        weighted: How the filter's length counts; see :class:`Magnitude`.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``weighted`` is out of
            range.

    Example:
        >>> sx.operators.Tanh(rho=2.0)(jnp.array([0.0, 2.0, 6.0]))
        Array([0.    , 0.7616, 0.9951], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    rho: float | jax.Array = 1.0
    alpha: float | jax.Array = 1.0

    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, elementwise."""
        return self.alpha * jnp.tanh(length / self.rho)
