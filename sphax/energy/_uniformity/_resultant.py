"""The resultant of directions: how far their mean is from the center."""

import jax
import jax.numpy as jnp

from sphax._checks import as_points
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax._numerics import divide, widen
from sphax.energy._uniformity._sets import of_every_set
from sphax.sphere import direction, length


def resultant_length(
    points: jax.typing.ArrayLike, *, where: jax.typing.ArrayLike | None = None
) -> jax.Array:
    r"""Length of the mean direction, :math:`\|\operatorname{mean}_i \hat x_i\|`.

    It is 0 where the directions balance each other, and 1 where they coincide.
    Minimizing it is a relaxed form of :func:`polarization` (relaxed MHP), and a weak
    one: it is 0 for two opposite clusters, and for any set joined with its mirror
    image, so that there is no form in half space. The authors' code has the sum of the
    vectors in place of the mean of directions, which shorter vectors lower as well; its
    weights are 0.01 in hidden layers and 0.1 in the last.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        where: Boolean mask or weights of the points, ``[..., n]``. Points of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        The length, ``[...]``, in float32 at least; 0, with zero gradient, when nothing
        is left or the directions balance. A zero point adds nothing, with zero
        gradient.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> sx.energy.resultant_length(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        Array(0.70711, dtype=float32)

    References:
        Liu et al., `Learning with Hyperspherical Uniformity
        <https://arxiv.org/abs/2103.01649>`_, AISTATS 2021 (relaxed MHP).
    """
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    return _resultant_length(points, where)


@compiled()
def _resultant_length(points, where):
    def energy(rows, weights):
        units = direction(widen(rows))
        weights = weights.astype(units.dtype)
        resultant = jnp.matmul(weights, units, precision="highest")
        return divide(length(resultant), jnp.sum(weights))

    return of_every_set(energy, points, where)
