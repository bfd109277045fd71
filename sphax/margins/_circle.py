"""The margin of Circle loss: every cosine is weighted by its distance from its goal."""

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register, store_real
from sphax.margins._margin import Margin, expand_last


@register
class Circle(Margin):
    r"""Circle loss with prototypes: every cosine at its own pace (Circle).

    .. math::
        \psi(\theta) = [1 + m - c]_+ (c - 1 + m), \qquad
        \eta(c_j) = [c_j + m]_+ (c_j - m), \qquad c = \cos\theta,

    where the weights :math:`[\cdot]_+` have no gradient, as in the paper. Use it with
    ``normalize="both"`` and ``scale=256`` (the paper's for faces): the cosines cannot
    run away from a large scale, since their goals are 1 and 0. For pairs of examples:
    :func:`sphax.losses.circle`.

    Args:
        margin: :math:`m`, a cosine, in ``[0, 1]``.

    Raises:
        ValueError: If ``margin``, given as a number, is out of range.

    Example:
        >>> circle = sx.margins.Circle(margin=0.25)
        >>> circle(jnp.array([0.0, jnp.pi / 2]))
        Array([ 0.0625, -0.9375], dtype=float32)
        >>> circle.negatives(jnp.array([[0.5, -0.5]]), jnp.array([0.0]))
        Array([[ 0.1875, -0.    ]], dtype=float32)

    References:
        Sun et al., `Circle Loss <https://arxiv.org/abs/2002.10857>`_, CVPR 2020, Eqs. 6
        to 9.
    """

    modifies_negatives = True

    margin: float | jax.Array = 0.25

    def __post_init__(self):
        store_real(self, "margin", 0.0, 1.0, is_closed=True)

    def __call__(self, angle: jax.Array) -> jax.Array:
        cosine = jnp.cos(angle)
        weight = jax.lax.stop_gradient(jnp.maximum(1.0 + self.margin - cosine, 0.0))
        return weight * (cosine - 1.0 + self.margin)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        margin = expand_last(self.margin)
        weights = jax.lax.stop_gradient(jnp.maximum(cosines + margin, 0.0))
        return weights * (cosines - margin)
