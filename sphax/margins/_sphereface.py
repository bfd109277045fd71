"""Margins that multiply the angle: L-Softmax, SphereFace, SphereFace-R."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register, static, store_real
from sphax.margins._margin import Margin, arccos, expand_last


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
        piece = jnp.minimum(jnp.floor(self.m * angle / math.pi), jnp.ceil(self.m) - 1.0)
        sign = 1.0 - 2.0 * jnp.mod(piece, 2.0)
        psi = sign * jnp.cos(self.m * angle) - 2.0 * piece
        return (self.annealing * jnp.cos(angle) + psi) / (1.0 + self.annealing)


def annealing_schedule(
    base: float = 1000.0,
    gamma: float = 0.12,
    power: float = 1.0,
    minimum: float = 5.0,
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    r"""Schedule of the annealing :math:`\lambda` of :class:`SphereFace`.

    .. math::
        \lambda_t = \max(\lambda_{\min}, \mathrm{base}\,(1 + \gamma t)^{-p}),
        \qquad t = \mathrm{step} + 1

    as in the authors' layer, which counts its first step as 1. The defaults are
    SphereFace's; L-Softmax on MNIST has ``gamma=2.5e-5, power=35, minimum=0``.

    Args:
        base: Value to start from, not negative.
        gamma: Rate, not negative.
        power: Exponent :math:`p`, not negative.
        minimum: :math:`\lambda_{\min}`, not negative.

    Returns:
        Function of the step (from 0), a number or an array; float32.

    Raises:
        ValueError: If an argument is negative.

    Example:
        >>> schedule = sx.margins.annealing_schedule()
        >>> margin = sx.margins.SphereFace(m=4, annealing=schedule(0))
        >>> print(margin.annealing, schedule(1_000_000))
        892.857 5.0

    References:
        Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017,
        authors' code.
    """
    settings = {"base": base, "gamma": gamma, "power": power, "minimum": minimum}
    for name, value in settings.items():
        if not value >= 0.0:
            raise ValueError(
                f"annealing_schedule: {name} must not be negative, got {value}."
            )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        count = jnp.asarray(step, jnp.float32) + 1.0
        # (1 + gamma t)^-power: for a small gamma, 1 + gamma t would lose its digits.
        faded = base * jnp.exp(-power * jnp.log1p(gamma * count))
        return jnp.maximum(minimum, faded)

    return schedule


@register
class SphereFaceR(Margin):
    r"""Multiplicative margin without a staircase (SphereFace-R).

    ``version=1`` puts the margin on the target,
    :math:`\psi(\theta) = \cos(\min(m\theta, \pi))`, flat from :math:`\pi/m` on.
    ``version=2`` leaves the target alone and raises the other classes,
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
        check_choice("SphereFaceR: version", self.version, (1, 2))

    def __call__(self, angle: jax.Array) -> jax.Array:
        if self.version == 2:
            return jnp.cos(angle)
        stretched = self.m * angle
        return jnp.where(stretched < math.pi, jnp.cos(stretched), -1.0)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        if self.version == 1:
            return cosines
        return jnp.cos(arccos(cosines) / expand_last(self.m))

    @property
    def modifies_negatives(self) -> bool:
        return self.version == 2
