"""Li-ArcFace: an additive margin on logits that are linear in the angle."""

import math

import jax

from sphax._hyperparameters import register, store_real
from sphax.margins._margin import Margin, arccos


@register
class LiArcFace(Margin):
    r"""Additive margin on logits that are linear in the angle (Li-ArcFace).

    .. math::
        \psi(\theta) = 1 - \frac{2(\theta + m)}{\pi}, \qquad
        \eta(\theta_j) = 1 - \frac{2 \theta_j}{\pi}.

    Decreasing on all of :math:`[0, \pi]` without a guard. The other classes' angles are
    taken from their cosines; their gradient is zero within 3e-4 (float32) of 0 and
    :math:`\pi`.

    Args:
        margin: :math:`m` in radians, in ``[0, pi)``.

    Raises:
        ValueError: If ``margin``, given as a number, is out of range.

    Example:
        >>> sx.margins.LiArcFace(margin=0.45)(jnp.array([0.0, jnp.pi]))
        Array([ 0.7135211, -1.286479 ], dtype=float32)

    References:
        Li et al., `AirFace <https://arxiv.org/abs/1907.12256>`_, 2019.
    """

    modifies_negatives = True

    margin: float | jax.Array = 0.45

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi)

    def __call__(self, angle: jax.Array) -> jax.Array:
        return 1.0 - 2.0 * (angle + self.margin) / math.pi

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        return 1.0 - 2.0 * arccos(cosines) / math.pi
