"""Directions of minimum energy: the Thomson problem, in any dimension."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_count, check_key, is_number
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.energy._hyperspherical import (
    Distance,
    as_options,
    energy_within_and_gradient,
)
from sphax.energy._thomson._lbfgs_minimizer import minimize
from sphax.sphere import direction, sample_uniform

_RESTARTS = 16
# Pairs of all restarts that run side by side; at least one restart runs.
_PAIRS = 512**2
# Differences of values up to so many epsilons are taken for rounding.
_ROUNDINGS = 8.0


class EnergyMinimum(NamedTuple):
    """The result of :func:`minimize_energy`.

    Attributes:
        points: The best points, unit vectors, ``[n, d]``.
        energy: Their energy, a scalar.
        gradient_norm: Norm of the gradient there, a scalar.
        is_converged: Whether it is within the tolerance, a boolean scalar.
        energies: Final energy of each start, ``[starts]``; ``energy`` is the lowest.

    Example:
        >>> sx.energy.EnergyMinimum._fields
        ('points', 'energy', 'gradient_norm', 'is_converged', 'energies')
    """

    points: jax.Array
    energy: jax.Array
    gradient_norm: jax.Array
    is_converged: jax.Array
    energies: jax.Array


def minimize_energy(
    key: jax.Array | None,
    n: int,
    d: int,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    restarts: int | None = None,
    steps: int = 1000,
    tolerance: jax.typing.ArrayLike | None = None,
    history: int = 10,
    dtype: jax.typing.DTypeLike | None = None,
    initial: jax.typing.ArrayLike | None = None,
) -> EnergyMinimum:
    r"""Directions of minimum hyperspherical energy (Thomson problem).

    .. math::
        \min_{x_1, \dots, x_n \in S^{d - 1}} \frac{1}{n (n - 1)}
        \sum_{i \ne j} f_s(\rho(x_i, x_j))

    with the energy of :func:`hyperspherical_energy`, by limited-memory BFGS from
    several starts. Lengths do not count in the energy, so that rows need no constraint.
    The objective is minus the logarithm of the power mean of the distances,

    .. math::
        \varphi = \frac{1}{s} \log E_s, \qquad \varphi = E_0 \text{ for } s = 0

    which has the same minima and the same scale for all powers. There are many local
    minima (on the sphere in three dimensions, about :math:`0.4\, e^{0.05 n}`). The more
    restarts agree on the best energy, the likelier it is global; there is no guarantee.
    The function is not differentiable in reverse.

    Args:
        key: PRNG key of the random starts; not used with ``initial``.
        n: Number of points, 2 or more.
        d: Dimension that the sphere lies in, 2 or more.
        power: :math:`s`, 0 or more, a scalar.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.
        half_space: Whether a point stands for its mirror image as well, as lines do.
        restarts: Number of uniformly random starts; by default 16. With few points,
            they run side by side.
        steps: Largest number of evaluations of the energy with its gradient for each
            start; all but a few of them move the points.
        tolerance: :math:`\tau`, up to which ``gradient_norm`` counts as converged,
            positive; by default the square root of the epsilon of the energy's dtype,
            1.5e-8 in float64 and 3.5e-4 in float32. If :math:`\lambda` is the smallest
            curvature at the minimum, the energy is then within about
            :math:`\tau^2 / \lambda` of it, which is a few roundings, but points only
            within :math:`\tau / \lambda`: for the best spread that float32 can hold,
            compute in float64.
        history: Steps that the Hessian is approximated from; each keeps two arrays of
            the size of the points.
        dtype: Floating dtype of the points; by default that of ``initial``, or else
            JAX's, float32 unless x64 is enabled. Half precision is computed in float32.
        initial: Starts in the place of random ones, floating, ``[n, d]`` or
            ``[starts, n, d]``; their lengths do not count. Coincident points do not
            repel each other and stay together; zero points stay where they are.

    Returns:
        The best result of all starts, an :class:`EnergyMinimum`; energies in float32 at
        least, and above those of ``initial`` by rounding at most. ``gradient_norm`` is
        the root mean square, over the points, of :math:`n \nabla_{x_i} \varphi`.

    Raises:
        TypeError: If ``dtype`` or ``initial`` is not floating.
        ValueError: If a number is out of range, ``distance`` is unknown, ``initial``
            has another shape, or ``restarts`` comes with it.

    Example:
        >>> with jax.enable_x64(True):
        ...     best = sx.energy.minimize_energy(jax.random.key(0), 12, 3, restarts=1)
        >>> 66 * float(best.energy)  # the icosahedron's, summed over 66 pairs
        49.165253058

    References:
        Thomson, On the Structure of the Atom, Philosophical Magazine 7, 1904.
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018.
    """
    check_count("n", n, 2)
    check_count("d", d, 2)
    check_count("steps", steps, 1, may_be_traced=True)
    check_count("history", history, 1)
    if (
        tolerance is not None
        and is_number(tolerance, "tolerance")
        and not tolerance > 0
    ):
        raise ValueError(f"tolerance must be positive, got {tolerance}.")
    options, array_power = as_options(power, distance, half_space, None)
    starts = _starts(key, n, d, restarts, dtype, initial)
    if tolerance is None:
        wide = jnp.promote_types(starts.dtype, jnp.float32)
        tolerance = math.sqrt(float(jnp.finfo(wide).eps))
    return _minimize(
        options,
        array_power,
        starts,
        jnp.asarray(tolerance),
        steps,
        history=int(history),
    )


@compiled("options", "history")
def _minimize(options, power, starts, tolerance, steps, *, history):
    n, rows = starts.shape[1], widen(starts)
    epsilon = float(jnp.finfo(rows.dtype).eps)
    exponent = power if options.power is None else options.power
    tolerance = tolerance.astype(rows.dtype)

    def objective(rows):
        energy, gradient = energy_within_and_gradient(options, power, rows)
        value, slope = jax.value_and_grad(_logarithm)(energy, exponent)
        return n * value, n * slope * gradient

    def descend(start):
        end = minimize(
            objective,
            direction(start),
            steps=steps,
            tolerance=math.sqrt(n) * tolerance,
            noise=_ROUNDINGS * epsilon * n,
            history=history,
        )
        energy = _exponential(end.value / n, exponent)
        gradient_norm = jnp.linalg.norm(end.gradient) / math.sqrt(n)
        return direction(end.point).astype(starts.dtype), energy, gradient_norm

    # So many side by side that none of the starts is left over.
    most = max(1, _PAIRS // n**2)
    starts_count = len(rows)
    side_by_side = max(
        k for k in range(1, starts_count + 1) if starts_count % k == 0 and k <= most
    )
    ends = jax.lax.map(descend, rows, batch_size=side_by_side)
    points, energy, norm = jax.tree.map(lambda x: x[jnp.argmin(ends[1])], ends)
    return EnergyMinimum(points, energy, norm, norm <= tolerance, ends[1])


def _logarithm(energy, power):
    """Logarithm of an energy over its power; for power 0 the energy itself."""
    power = jnp.asarray(power, energy.dtype)
    is_log = power == 0.0
    logarithm = jnp.log(jnp.where(is_log, 1.0, energy))
    return jnp.where(is_log, energy, logarithm / jnp.where(is_log, 1.0, power))


def _exponential(value, power):
    """The inverse of :func:`_logarithm`."""
    power = jnp.asarray(power, value.dtype)
    return jnp.where(power == 0.0, value, jnp.exp(power * value))


def _starts(key, n, d, restarts, dtype, initial):
    """The starts, ``[starts, n, d]``."""
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}.")
    if initial is None:
        restarts = _RESTARTS if restarts is None else restarts
        check_count("restarts", restarts, 1)
        check_key(key)
        return sample_uniform(key, (restarts, n, d), dtype or jnp.result_type(float))
    if restarts is not None:
        raise ValueError(
            f"restarts are random starts, and initial takes their place, got {restarts}"
            " with initial: leave one."
        )
    initial = as_floating("initial", initial)
    if initial.ndim not in (2, 3) or initial.shape[-2:] != (n, d) or not initial.size:
        raise ValueError(
            f"initial must be [n, d] = [{n}, {d}], or several such, got shape"
            f" {initial.shape}."
        )
    return initial.reshape(-1, n, d).astype(dtype or initial.dtype)
