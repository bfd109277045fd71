"""Covering: the distance of the point of the sphere furthest from all directions."""

import jax
import jax.numpy as jnp

from sphax._checks import check_flag, is_number
from sphax._compiled import compiled
from sphax._masking import log_mean_exp
from sphax._numerics import widen
from sphax.energy._uniformity._poles import (
    as_descent,
    as_sets_and_poles,
    at_best_pole,
)
from sphax.sphere import direction, inner_products


def covering(
    points: jax.typing.ArrayLike,
    poles: jax.typing.ArrayLike,
    *,
    sharpness: jax.typing.ArrayLike | None = 10.0,
    half_space: bool = False,
    steps: int = 10,
    learning_rate: jax.typing.ArrayLike = 0.01,
    momentum: jax.typing.ArrayLike = 0.9,
    where: jax.typing.ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Squared distance of the place furthest from all points, to be minimized (MHC).

    .. math::
        \max_{\|v\| = 1} \min_i \|v - \hat x_i\|^2

    Minimizing it covers the sphere with the smallest balls around the points;
    :math:`v` is the pole. The minimum is smoothed to
    :math:`-\frac1b \log \operatorname{mean}_i e^{-b \|v - \hat x_i\|^2}`, which is too
    large by at most :math:`\log n / b`. Poles are updated in each call, and given back
    in the next step, as in :func:`polarization`. In the authors' code, the learning
    rate of 0.1 is multiplied by the weight of the energy in the loss, 0.01 in hidden
    layers (in half space) and 0.1 in the last: the default is that of the last.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        poles: Where to start, floating, ``[..., k, d]``, k of 1 or more; in the first
            step random (:func:`sphax.sphere.sample_uniform`). A zero pole stays zero.
        sharpness: :math:`b`, positive, a scalar; None for the minimum itself, which
            moves a pole away from one point at a time.
        half_space: Whether the mirror images of the points count too.
        steps: Steps of ascent, not negative; 0 leaves the poles where they are.
        learning_rate: Learning rate of the poles, positive, a scalar.
        momentum: Momentum of the poles, in ``[0, 1)``, a scalar.
        where: Boolean mask or weights of the points, ``[..., n]``; weights count with a
            ``sharpness`` only. Points of weight zero are zeroed before anything else: a
            NaN in them reaches nothing.

    Returns:
        The energy, ``[...]``, in float32 at least, with the gradient of the points at
        fixed poles; 0, with zero gradient, when no point is left. The new poles have
        the shape and dtype of ``poles``, are unit vectors, and have no gradient. The
        energy is smooth but for the choice among poles and, without ``sharpness``,
        among points. A zero point is at a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` or ``poles`` are not floating.
        ValueError: If shapes do not fit, or a hyperparameter given as a number is out
            of range.

    Example:
        >>> points = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> poles = jnp.array([[0.8, 0.6]])
        >>> energy, poles = sx.energy.covering(points, poles, steps=100)
        >>> print(energy)  # at a right angle to both
        2.000

    References:
        Liu et al., `Learning with Hyperspherical Uniformity
        <https://arxiv.org/abs/2103.01649>`_, AISTATS 2021 (MHC); constants of the
        authors' code.
    """
    if sharpness is not None:
        if is_number(sharpness, "sharpness") and not sharpness > 0:
            raise ValueError(f"sharpness must be positive or None, got {sharpness}.")
        sharpness = jnp.asarray(sharpness)
    check_flag("half_space", half_space)
    sets = as_sets_and_poles(points, poles, where)
    descent = as_descent(steps, learning_rate, momentum)
    return _covering(*sets, sharpness, descent, half_space=half_space)


@compiled("half_space")
def _covering(points, where, poles, sharpness, descent, *, half_space):
    def nearness(poles, rows, weights):
        cosines = inner_products(poles, direction(widen(rows)), precision="highest")
        sides = [cosines, -cosines] if half_space else [cosines]
        gaps = 2.0 - 2.0 * jnp.concatenate(sides, axis=1)
        weights = jnp.tile(weights, len(sides)).astype(gaps.dtype)
        weights = jnp.broadcast_to(weights, gaps.shape)
        if sharpness is None:
            return -jnp.min(
                jnp.where(weights != 0.0, gaps, jnp.inf), 1, initial=jnp.inf
            )
        scale = jnp.asarray(sharpness, gaps.dtype)
        return log_mean_exp(-scale * gaps, weights) / scale

    return at_best_pole(nearness, points, where, poles, descent)
