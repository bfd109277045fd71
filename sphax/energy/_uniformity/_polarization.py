"""Polarization: minus the potential of directions where it is weakest."""

import jax
import jax.numpy as jnp

from sphax._checks import check_flag, is_number
from sphax._compiled import compiled
from sphax._numerics import divide, widen
from sphax.energy._hyperspherical import split_power
from sphax.energy._pairs._riesz import pair_energies
from sphax.energy._uniformity._poles import (
    as_descent,
    as_sets_and_poles,
    at_best_pole,
)
from sphax.sphere import direction


def polarization(
    points: jax.typing.ArrayLike,
    poles: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 2.0,
    half_space: bool = False,
    steps: int = 10,
    learning_rate: jax.typing.ArrayLike = 0.1,
    momentum: jax.typing.ArrayLike = 0.9,
    where: jax.typing.ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Minus the least potential of the points, to be minimized (MHP).

    .. math::
        -\min_{\|v\| = 1} \operatorname{mean}_i \|v - \hat x_i\|^{-s}

    Minimizing it raises the potential where it is weakest, at the pole :math:`v`. Each
    pole descends alone, by gradient steps with momentum on the sphere, and the best of
    them counts. Return the new poles from a training step and give them back in the
    next one; as an optax transform, :class:`sphax.optim.StatefulPenalty` keeps them.
    The authors' code has one pole per layer, keeps its momentum between calls, and
    multiplies the potential, hence the learning rate, by the weight that it has in the
    loss, 1 in hidden layers (in half space) and 10 in the last.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        poles: Where to start, floating, ``[..., k, d]``, k of 1 or more; in the first
            step random (:func:`sphax.sphere.sample_uniform`). A zero pole stays zero.
        power: :math:`s` of :func:`hyperspherical_energy`, positive.
        half_space: Whether the mirror images of the points count too.
        steps: Steps of descent, not negative; 0 leaves the poles where they are.
        learning_rate: Learning rate of the poles, positive, a scalar.
        momentum: Momentum of the poles, in ``[0, 1)``, a scalar.
        where: Boolean mask or weights of the points, ``[..., n]``. Points of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        The energy, ``[...]``, in float32 at least, with the gradient of the points at
        fixed poles; 0, with zero gradient, when no point is left. The new poles have
        the shape and dtype of ``poles``, are unit vectors, and have no gradient. A pole
        that coincides with a point has a large and finite potential, and leaves it at a
        random angle. A zero point is at a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` or ``poles`` are not floating.
        ValueError: If shapes do not fit, or a hyperparameter given as a number is out
            of range.

    Example:
        >>> points, poles = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> energy, poles = sx.energy.polarization(points, poles, steps=100)
        >>> print(energy)  # of the antipode, 1 / 4
        -0.2500

    References:
        Liu et al., `Learning with Hyperspherical Uniformity
        <https://arxiv.org/abs/2103.01649>`_, AISTATS 2021 (MHP); authors' code.
    """
    if is_number(power, "power") and not power > 0:
        raise ValueError(f"power must be positive, got {power}.")
    check_flag("half_space", half_space)
    fixed_power, array_power = split_power(power)
    sets = as_sets_and_poles(points, poles, where)
    descent = as_descent(steps, learning_rate, momentum)
    return _polarization(
        *sets, array_power, descent, fixed_power=fixed_power, half_space=half_space
    )


@compiled("fixed_power", "half_space")
def _polarization(points, where, poles, power, descent, *, fixed_power, half_space):
    power = power if fixed_power is None else fixed_power

    def potential(poles, rows, weights):
        weights = jnp.broadcast_to(weights, (len(poles), len(rows)))
        energies = pair_energies(
            power,
            poles,
            direction(widen(rows)),
            weights != 0,
            is_geodesic=False,
            half_space=half_space,
        )
        weights = weights.astype(energies.dtype)
        return divide(jnp.sum(weights * energies, 1), jnp.sum(weights, 1))

    return at_best_pole(potential, points, where, poles, descent)
