"""Angular functions g: what an operator makes of the angle."""

import abc
import math

import jax
import jax.numpy as jnp

from sphax._hyperparameters import POSITIVE, register, store_real
from sphax.sphere import arcsin


class Angular(abc.ABC):
    r"""Base of the angular functions :math:`g(\theta)`, which fall from 1 to -1.

    They are 0 at a right angle, where what has no direction is put. A subclass is a
    frozen dataclass, registered as a pytree as a :class:`Magnitude` is. Its
    hyperparameters are leaves: scalars, or arrays with an entry for each filter.

    Example:
        >>> angles = jnp.array([0.0, jnp.pi / 2, jnp.pi])
        >>> sx.operators.LinearAngle()(angles)
        Array([ 1., 0., -1.], dtype=float32)
    """

    @abc.abstractmethod
    def __call__(self, angle: jax.Array) -> jax.Array:
        """The function of an angle in radians, in ``[0, pi]``, elementwise."""

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """The function of the angle that has this cosine, elementwise.

        Args:
            cosine: Floating; may leave [-1, 1] by rounding.
            resolution: Squared sine below which the gradient of the angle is zero, if
                an angle is needed.
        """
        return self(math.pi / 2 - arcsin(cosine, resolution))

    def extended(self, angle: jax.Array) -> jax.Array:
        r"""Goes on falling beyond :math:`\pi`, for multiples of an angle.

        Here: by 2 in every further :math:`\pi`, in copies of the piece on
        :math:`[0, \pi]`.
        """
        piece = jnp.floor(angle / math.pi)
        return self(angle - math.pi * piece) - 2.0 * piece


@register
class LinearAngle(Angular):
    r"""Linear in the angle: :math:`g(\theta) = 1 - 2\theta / \pi`.

    Equally steep everywhere: a filter close to its patch still feels the angle, where
    the cosine is flat.

    Example:
        >>> sx.operators.LinearAngle()(jnp.array([0.0, jnp.pi / 4, jnp.pi]))
        Array([ 1. , 0.5, -1. ], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Section 2.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Angular`."""
        # This way round it is exactly 0 at a right angle.
        return (math.pi / 2 - angle) * (2.0 / math.pi)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """See :class:`Angular`; what the angle is short of a right one, without it."""
        return (2.0 / math.pi) * arcsin(cosine, resolution)

    def extended(self, angle: jax.Array) -> jax.Array:
        """See :class:`Angular`; the line itself."""
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
        """See :class:`Angular`."""
        return jnp.cos(angle)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """See :class:`Angular`."""
        return cosine


@register
class Sigmoid(Angular):
    r"""Sigmoid of the angle, steep where it is right, with a width of k.

    .. math::
        g(\theta) = \frac{1 + e^{-q}}{1 - e^{-q}} \cdot
        \frac{1 - e^{\theta / k - q}}{1 + e^{\theta / k - q}}
        = \frac{\tanh((\pi / 2 - \theta) / 2k)}{\tanh(\pi / 4k)}, \qquad
        q = \frac{\pi}{2k}.

    A large k gives :class:`LinearAngle`, a small one the sign of the cosine, with next
    to no gradient away from the right angle.

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
        """See :class:`Angular`."""
        top = jnp.tanh(math.pi / (4.0 * self.k))
        return jnp.tanh((math.pi / 2 - angle) / (2.0 * self.k)) / top

    def extended(self, angle: jax.Array) -> jax.Array:
        """See :class:`Angular`; the formula itself, which levels off."""
        return self(angle)


@register
class SquareCosine(Angular):
    r"""The square of the cosine with its sign: :math:`g = |\cos\theta| \cos\theta`.

    Flat at the right angle, so that what a filter does not know is left alone. The
    authors train it without batch normalisation.

    Example:
        >>> sx.operators.SquareCosine()(jnp.array([0.0, jnp.pi / 3, jnp.pi]))
        Array([ 1. , 0.25, -1. ], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Angular`."""
        return self.of_cosine(jnp.cos(angle), 0.0)

    def of_cosine(self, cosine: jax.Array, resolution: float) -> jax.Array:
        """See :class:`Angular`."""
        return jnp.abs(cosine) * cosine
