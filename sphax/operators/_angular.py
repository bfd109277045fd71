"""Angular functions g: the factor of a decoupled operator that depends on the angle."""

import abc
import math

import jax
import jax.numpy as jnp

from sphax._hyperparameters import POSITIVE, register, store_real
from sphax.sphere import arcsin


class Angular(abc.ABC):
    r"""Base of the angular functions :math:`g(\theta)`, which fall from 1 to -1.

    They are 0 at :math:`\pi / 2`, the angle assigned to zero vectors. A subclass is a
    frozen dataclass, registered as a pytree like a :class:`Magnitude`. Its
    hyperparameters are leaves: scalars, or arrays with one entry per filter.

    Example:
        >>> angles = jnp.array([0.0, jnp.pi / 2, jnp.pi])
        >>> sx.operators.LinearAngle()(angles)
        Array([ 1., 0., -1.], dtype=float32)
    """

    @abc.abstractmethod
    def __call__(self, angle: jax.Array) -> jax.Array:
        """Evaluates g at angles in radians, in ``[0, pi]``, elementwise."""

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """Evaluates g at the angles of these cosines, elementwise.

        Args:
            cosine: Floating; may leave [-1, 1] by rounding.
            resolution: Squared sine below which the gradient of the angle is zero, if
                an angle is needed.
        """
        return self(math.pi / 2 - arcsin(cosine, resolution))

    def extended(self, angle: jax.Array) -> jax.Array:
        r"""Evaluates g continued beyond :math:`\pi`, for multiples of an angle.

        By default it falls by 2 in every further :math:`\pi`, in copies of the piece on
        :math:`[0, \pi]`.
        """
        piece = jnp.floor(angle / math.pi)
        return self(angle - math.pi * piece) - 2.0 * piece


@register
class LinearAngle(Angular):
    r"""Linear in the angle: :math:`g(\theta) = 1 - 2\theta / \pi`.

    Equally steep everywhere: a filter close to its patch still has a gradient with
    respect to the angle, where the cosine is flat.

    Example:
        >>> sx.operators.LinearAngle()(jnp.array([0.0, jnp.pi / 4, jnp.pi]))
        Array([ 1. , 0.5, -1. ], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Section 2.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        """Evaluates g at angles in radians, elementwise."""
        # This way round it is exactly 0 at a right angle.
        return (math.pi / 2 - angle) * (2.0 / math.pi)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """Evaluates it from the arc sine, without forming the angle."""
        return (2.0 / math.pi) * arcsin(cosine, resolution)

    def extended(self, angle: jax.Array) -> jax.Array:
        """Continues the line."""
        return self(angle)


@register
class Cosine(Angular):
    r"""The cosine, :math:`g(\theta) = \cos\theta`, as in the plain convolution.

    The cheapest: no angle is ever formed.

    Example:
        >>> sx.operators.Cosine()(jnp.array([0.0, jnp.pi / 3, jnp.pi]))
        Array([ 1. , 0.5, -1. ], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Section 2.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        """Evaluates g at angles in radians, elementwise."""
        return jnp.cos(angle)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """Returns the cosine itself."""
        return cosine


@register
class Sigmoid(Angular):
    r"""Sigmoid of the angle, steep at the right angle, with a width of k.

    .. math::
        g(\theta) = \frac{1 + e^{-q}}{1 - e^{-q}} \cdot
        \frac{1 - e^{\theta / k - q}}{1 + e^{\theta / k - q}}
        = \frac{\tanh((\pi / 2 - \theta) / 2k)}{\tanh(\pi / 4k)}, \qquad
        q = \frac{\pi}{2k}.

    A large k gives :class:`LinearAngle`, a small k the sign of the cosine, with next to
    no gradient away from the right angle.

    Args:
        k: Width, positive, in radians; in the published code 0.3, or learned for each
            filter.

    Raises:
        ValueError: If ``k``, given as a number, is out of range.

    Example:
        >>> sx.operators.Sigmoid(k=0.3)(jnp.array([jnp.pi / 3, 2 * jnp.pi / 3]))
        Array([ 0.71024, -0.71024], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Section 2.
    """

    k: float | jax.Array = 0.3

    def __post_init__(self):
        store_real(self, "k", POSITIVE)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """Evaluates g at angles in radians, elementwise."""
        largest = jnp.tanh(math.pi / (4.0 * self.k))
        return jnp.tanh((math.pi / 2 - angle) / (2.0 * self.k)) / largest

    def extended(self, angle: jax.Array) -> jax.Array:
        """Continues the formula, which levels off."""
        return self(angle)


@register
class SquareCosine(Angular):
    r"""The square of the cosine with its sign: :math:`g = |\cos\theta| \cos\theta`.

    Flat at the right angle, so that a patch unrelated to a filter barely moves it. The
    authors train it without batch normalization.

    Example:
        >>> sx.operators.SquareCosine()(jnp.array([0.0, jnp.pi / 3, jnp.pi]))
        Array([ 1. , 0.25, -1. ], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        """Evaluates g at angles in radians, elementwise."""
        return self.of_cosine(jnp.cos(angle), 0.0)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """Evaluates it from the cosine, without forming the angle."""
        return jnp.abs(cosine) * cosine
