"""Margins that multiply the angle: L-Softmax, SphereFace, SphereFace-R."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register, static, store_real
from sphax.margins._margin import Margin, arccos, check_choice, per_row


@register
class SphereFace(Margin):
    r"""Multiplicative angular margin in monotone pieces (L-Softmax, A-Softmax).

    .. math::
        \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \qquad
        k = \min(\lfloor m\theta / \pi \rfloor, \lceil m \rceil - 1),

    mixed with the plain cosine while training starts,
    :math:`(\lambda\cos\theta + \psi(\theta)) / (1 + \lambda)`. With
    ``normalize="none"`` it is L-Softmax, with ``"prototypes"`` A-Softmax. Unlike the
    closed forms in powers of the cosine, it loses no digits for large m.

    For an integer m, psi falls from 1 to 1 - 2m with a continuous slope
    :math:`-m |\sin m\theta|`; for a real one the slope jumps between pieces.

    Args:
        m: Factor of the angle, at least 1; 1 is no margin.
        annealing: :math:`\lambda \ge 0`; see :func:`annealing_schedule`.

    Raises:
        ValueError: If ``m`` or ``annealing``, given as a number, is out of range.

    Example:
        >>> sx.margins.SphereFace(m=4)(jnp.array([0.0, jnp.pi / 4, jnp.pi]))
        Array([ 1., -1., -7.], dtype=float32)

    References:
        Liu et al., `Large-Margin Softmax Loss <https://arxiv.org/abs/1612.02295>`_,
        ICML 2016, Eq. 6; Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_,
        CVPR 2017.
    """

    m: float | jax.Array = 4.0
    annealing: float | jax.Array = 0.0

    def __post_init__(self):
        store_real(self, "m", 1.0)
        store_real(self, "annealing", 0.0)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        piece = jnp.minimum(jnp.floor(self.m * angle / math.pi), jnp.ceil(self.m) - 1.0)
        sign = 1.0 - 2.0 * jnp.mod(piece, 2.0)
        psi = sign * jnp.cos(self.m * angle) - 2.0 * piece
        return (self.annealing * jnp.cos(angle) + psi) / (1.0 + self.annealing)


@register
class SphereFaceR(Margin):
    r"""Multiplicative margin without a staircase (SphereFace-R).

    ``version=1`` puts the margin on the target,
    :math:`\psi(\theta) = \cos(\min(m\theta, \pi))`, flat from :math:`\pi/m` on.
    ``version=2`` leaves the target alone and lifts the other classes,
    :math:`\eta(\theta_j) = \cos(\theta_j / m)`, so that the target's gradient is never
    distorted. The authors train both with ``gradient="detached"``.

    Version 2 takes the other classes' angles from their cosines: within :math:`\pi/m`
    of the end :math:`\theta_j = \pi` the gradient of an exactly opposite prototype is
    zero, and angles below 3e-4 (float32) count as zero.

    Args:
        m: Factor of the angle, at least 1; 1 is no margin.
        version: 1 or 2.

    Raises:
        ValueError: If ``m``, given as a number, or ``version`` is out of range.

    Example:
        >>> angles = jnp.array([0.0, jnp.pi / 4, jnp.pi])
        >>> sx.margins.SphereFaceR(m=2.0)(angles)
        Array([ 1.,  0., -1.], dtype=float32)

    References:
        Liu et al., `SphereFace Revived <https://arxiv.org/abs/2109.05565>`_,
        TPAMI 2022.
    """

    m: float | jax.Array = 1.5
    version: Literal[1, 2] = static(default=1)

    def __post_init__(self):
        store_real(self, "m", 1.0)
        check_choice(self, "version", (1, 2))

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        if self.version == 2:
            return jnp.cos(angle)
        stretched = self.m * angle
        return jnp.where(stretched < math.pi, jnp.cos(stretched), -1.0)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        if self.version == 1:
            return cosines
        return jnp.cos(arccos(cosines) / per_row(self.m))

    @property
    def modifies_negatives(self) -> bool:
        """See :class:`Margin`."""
        return self.version == 2
