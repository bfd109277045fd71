"""MagFace: a margin that grows with the embedding's length."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import POSITIVE, register, static, store_real
from sphax.margins._arcface import BEYOND, ArcFace, Beyond, combined_psi
from sphax.margins._margin import Margin, Target


@register
class MagFace(Margin):
    r"""ArcFace with a margin that grows with the embedding's length (MagFace).

    With :math:`a = \operatorname{clip}(\|x\|, l_a, u_a)`,

    .. math::
        \psi(\theta) = \cos(\theta + m(a)), \qquad
        m(a) = l_m + (u_m - l_m) \frac{a - l_a}{u_a - l_a},

    and :math:`\lambda_g\, (a / u_a^2 + 1 / a)` is added to the loss of every example.
    The gradient flows through :math:`m(a)`; the length has none outside of
    :math:`[l_a, u_a]`. A length that minimizes the loss exists for
    :math:`\lambda_g \ge s K u_a^2 l_a^2 / (u_a^2 - l_a^2)`, :math:`K` the slope of
    :math:`m`: 22.6 with the defaults and scale 64.

    Args:
        lower_norm: :math:`l_a`, positive.
        upper_norm: :math:`u_a`, above it.
        lower_margin: :math:`l_m` in radians, in ``[0, pi)``.
        upper_margin: :math:`u_m` in radians, in ``[0, pi)``.
        weight: :math:`\lambda_g`, not negative.
        beyond: One of the five of :class:`ArcFace`; the authors' code has ``"easy"``.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``beyond`` is out of
            range.

    Example:
        >>> target = sx.margins.Target(
        ...     jnp.zeros(3), jnp.array([5.0, 60.0, 200.0]), jnp.full(3, True)
        ... )
        >>> print(sx.margins.MagFace().for_batch(target).margin)
        [0.45 0.625 0.8]

    References:
        Meng et al., `MagFace <https://arxiv.org/abs/2103.06627>`_, CVPR 2021, Eqs. 3
        and 5.
    """

    lower_norm: float | jax.Array = 10.0
    upper_norm: float | jax.Array = 110.0
    lower_margin: float | jax.Array = 0.45
    upper_margin: float | jax.Array = 0.8
    weight: float | jax.Array = 35.0
    beyond: Beyond = static(default="continuous")

    def __post_init__(self):
        store_real(self, "lower_norm", POSITIVE)
        is_number = isinstance(self.lower_norm, float)
        above = math.nextafter(self.lower_norm, math.inf) if is_number else 0.0
        store_real(self, "upper_norm", above)
        store_real(self, "lower_margin", 0.0, math.pi)
        store_real(self, "upper_margin", 0.0, math.pi)
        store_real(self, "weight", 0.0)
        check_choice("MagFace: beyond", self.beyond, BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """The margin of the shortest embeddings."""
        return combined_psi(angle, 1.0, self.lower_margin, 0.0, self.beyond)

    def for_batch(self, target: Target, key: jax.Array | None = None) -> ArcFace:
        share = (self._clipped(target.norm) - self.lower_norm) / (
            self.upper_norm - self.lower_norm
        )
        span = self.upper_margin - self.lower_margin
        return ArcFace(margin=self.lower_margin + span * share, beyond=self.beyond)

    def penalty(self, target: Target) -> jax.Array:
        norm = self._clipped(target.norm)
        return self.weight * (norm / self.upper_norm**2 + 1.0 / norm)

    def _clipped(self, norm: jax.Array) -> jax.Array:
        return jnp.clip(norm, self.lower_norm, self.upper_norm)
