"""CosFace (AM-Softmax): a margin subtracted from the cosine."""

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register, store_real
from sphax.margins._margin import Margin


@register
class CosFace(Margin):
    r"""Additive cosine margin: :math:`\psi(\theta) = \cos\theta - m` (CosFace).

    Its gradient is the plain cosine's: smooth everywhere, the safest of the margins.
    CosFace trains with scale 64, AM-Softmax with 30.

    Args:
        margin: :math:`m`, a cosine, in ``[0, 2)``.

    Raises:
        ValueError: If ``margin``, given as a number, is out of range.

    Example:
        >>> sx.margins.CosFace(margin=0.35)(jnp.array([0.0, jnp.pi]))
        Array([ 0.65, -1.35], dtype=float32)

    References:
        Wang et al., `CosFace <https://arxiv.org/abs/1801.09414>`_, CVPR 2018, Eq. 4;
        Wang et al., `AM-Softmax <https://arxiv.org/abs/1801.05599>`_, 2018.
    """

    margin: float | jax.Array = 0.35

    def __post_init__(self):
        store_real(self, "margin", 0.0, 2.0)

    def __call__(self, angle: jax.Array) -> jax.Array:
        return jnp.cos(angle) - self.margin
