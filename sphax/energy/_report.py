"""How well the neurons of every kernel are spread, beside what is possible."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from sphax.energy._bounds import closest_angle_bound, energy_lower_bound
from sphax.energy._expectations import expected_energy
from sphax.energy._hyperspherical import Distance, hyperspherical_energy
from sphax.energy._of_params import AT_LEAST
from sphax.energy._pair_angles import pair_angles
from sphax.neurons import Neurons, find, select

_ENERGY = "energy", "random", "at least"
_HEADER = "", "n", "d", *_ENERGY, "closest", "at most", "coherence", "at least"


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """The neurons of one kernel: numbers of Python, angles in radians.

    ``sets`` of neurons (1, or the number of heads and the like), ``n`` of ``d``
    dimensions in each; their ``energy``, a mean over sets, with the ``expected_energy``
    of random directions and the ``energy_bound`` that none falls below; the
    ``closest_angle`` of a pair, which no directions can have above
    ``closest_angle_bound`` (Rankin, Levenshtein); the ``coherence``, the largest
    absolute cosine, which none can have below ``coherence_bound`` (Welch, Levenshtein);
    and the number of pairs with angles in each of 180 equal parts of ``[0, pi]``, the
    ``histogram``.

    Example:
        >>> report = sx.energy.energy_report({"kernel": jnp.eye(3)}, power=2.0)
        >>> report.kernels["kernel"].energy
        0.5
    """

    sets: int
    n: int
    d: int
    energy: float
    expected_energy: float
    energy_bound: float
    closest_angle: float
    closest_angle_bound: float
    coherence: float
    coherence_bound: float
    histogram: np.ndarray


@dataclasses.dataclass(frozen=True)
class EnergyReport:
    """The kernels of a pytree, by path, and which energy was taken; prints as a table.

    Example:
        >>> octahedron = jnp.hstack([jnp.eye(3), -jnp.eye(3)])
        >>> print(sx.energy.energy_report({"kernel": octahedron}))
        energy: power 1, euclidean, full space
                n  d   energy  random  at least  closest  at most  coherence  at least
        kernel  6  3  0.66569  1.0000   0.66569    90.0°    90.0°     1.0000    0.4472
    """

    kernels: dict[str, KernelReport]
    power: float
    distance: Distance
    half_space: bool

    def __str__(self) -> str:
        """The table; angles in degrees."""
        space = "half space" if self.half_space else "full space"
        title = f"energy: power {self.power:g}, {self.distance}, {space}"
        rows = [_HEADER, *(_cells(*named) for named in self.kernels.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        return "\n".join([title, *lines])


def energy_report(
    params: Any,
    *,
    power: float = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    neurons: Neurons = None,
) -> EnergyReport:
    """Energies of all kernels beside random directions, bounds and closest pairs.

    On the host and for concrete parameters, not to be traced. It takes the cosines of
    all pairs in float64, without an array of them all.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        power: :math:`s`, 0 or more; see :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether the energy counts mirror images; all else does not.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves
            with a single neuron, or neurons of one dimension, are left out.

    Returns:
        The report. A zero neuron is at a right angle to all.

    Raises:
        TypeError: If ``neurons`` is not made of `NeuronDimensions`.
        ValueError: If there are no neurons or declared axes do not fit, ``distance`` is
            unknown, ``power`` negative, or a neuron not finite.

    Example:
        >>> params = {"dense": {"kernel": jnp.eye(3, 4), "bias": jnp.zeros(4)}}
        >>> kernel = sx.energy.energy_report(params).kernels["dense/kernel"]
        >>> kernel.n, kernel.d, kernel.closest_angle  # a zero neuron
        (4, 3, 1.5708)
    """
    found = find(params, neurons, at_least=AT_LEAST)
    kernels = {
        name: _report(name, found[name].rows(leaf), power, distance, half_space)
        for name, leaf in select(params, found).items()
    }
    return EnergyReport(kernels, power, distance, half_space)


def _report(name, sets, power, distance, half_space) -> KernelReport:
    _, n, d = sets.shape
    if not np.all(np.isfinite(sets)):
        raise ValueError(f"params must be finite, got NaN or infinity in {name}.")
    energies = _energies(sets, power=power, distance=distance, half_space=half_space)
    angles = pair_angles(np.asarray(sets, np.float64))
    return KernelReport(
        sets=len(sets),
        n=n,
        d=d,
        energy=float(np.mean(energies)),
        expected_energy=expected_energy(d, power=power, distance=distance),
        energy_bound=energy_lower_bound(
            n, d, power=power, distance=distance, half_space=half_space
        ),
        closest_angle=angles.closest,
        closest_angle_bound=closest_angle_bound(n, d),
        coherence=angles.coherence,
        coherence_bound=math.cos(closest_angle_bound(n, d, half_space=True)),
        histogram=angles.histogram,
    )


# Host code: what is fixed for a kernel is compiled once for all reports on it.
_energies = jax.jit(
    hyperspherical_energy, static_argnames=("power", "distance", "half_space")
)


def _cells(name: str, kernel: KernelReport) -> tuple[str, ...]:
    energies = kernel.energy, kernel.expected_energy, kernel.energy_bound
    angles = kernel.closest_angle, kernel.closest_angle_bound
    cosines = kernel.coherence, kernel.coherence_bound
    return (
        name,
        str(kernel.n),
        str(kernel.d),
        *(f"{energy:#.5g}" for energy in energies),
        *(f"{math.degrees(angle):.1f}°" for angle in angles),
        *(f"{cosine:.4f}" for cosine in cosines),
    )
