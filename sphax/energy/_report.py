"""A report on how well the neurons of every kernel are spread."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sphax._compiled import map_alike
from sphax.energy._hyperspherical import Distance, as_options
from sphax.energy._of_params import AT_LEAST, energy_of_leaf
from sphax.energy._theory._bounds import closest_angle_bound, energy_lower_bound
from sphax.energy._theory._expectations import expected_energy
from sphax.neurons import Neurons, find, select

# Rows whose cosines with all later rows are computed together.
_ROWS = 128
_BINS = 180

_ENERGY = "energy", "random", "at least"
_HEADER = "", "n", "d", *_ENERGY, "closest", "at most", "coherence", "at least"


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """How well the neurons of one kernel are spread; angles in radians.

    Attributes:
        sets: Sets of neurons: 1, or the number of heads and the like.
        n: Neurons in each set.
        d: Dimensions of a neuron.
        energy: Their energy, a mean over sets.
        expected_energy: The mean energy of random directions.
        energy_bound: A lower bound of the energy.
        closest_angle: The angle of the closest pair.
        closest_angle_bound: An upper bound of that (Rankin, Levenshtein).
        coherence: The largest absolute cosine of a pair.
        coherence_bound: A lower bound of that (Welch, Levenshtein).
        histogram: Number of pairs with angles in each of 180 equal parts of
            ``[0, pi]``.

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
    """Reports on all kernels of a pytree, which print as a table.

    Attributes:
        kernels: A :class:`KernelReport` for the path of each kernel.
        power: Power of the energy.
        distance: Its distance.
        half_space: Whether it counts mirror images.

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
    """Compares the neurons of all kernels with random directions and with bounds.

    It runs on the host, on concrete parameters, not under ``jit``. The cosines of all
    pairs are computed in float64, without an array of all of them. Params may be
    sharded over a mesh, of several processes too, which all have to call it.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        power: :math:`s`, 0 or more; see :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether the energy, and nothing else, counts mirror images.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Leaves
            with a single neuron, or neurons of one dimension, are left out.

    Returns:
        The report. A zero neuron is at a right angle to all.

    Raises:
        TypeError: If ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If there are no neurons or declared axes do not fit, ``distance`` is
            unknown, ``power`` negative, or a neuron not finite.

    Example:
        >>> params = {"dense": {"kernel": jnp.eye(3, 4), "bias": jnp.zeros(4)}}
        >>> kernel = sx.energy.energy_report(params).kernels["dense/kernel"]
        >>> kernel.n, kernel.d, kernel.closest_angle  # a zero neuron
        (4, 3, 1.5708)
    """
    options, array_power = as_options(power, distance, half_space, None)
    found = find(params, neurons, at_least=AT_LEAST)
    leaves = select(params, found)
    fixed = {name: (options, axes, "mean") for name, axes in found.items()}
    energies = map_alike(energy_of_leaf, leaves, fixed, array_power)
    kernels = {
        name: _report(
            name,
            found[name].rows(_on_host(leaf)),
            float(energies[name]),
            power,
            distance,
            half_space,
        )
        for name, leaf in leaves.items()
    }
    return EnergyReport(kernels, power, distance, half_space)


def _on_host(leaf: Any) -> Any:
    """All of an array that may be split over devices, also of other processes."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def _report(name, sets, energy, power, distance, half_space) -> KernelReport:
    _, n, d = sets.shape
    sets = sets.astype(np.float64)
    if not np.all(np.isfinite(sets)):
        raise ValueError(f"params must be finite, got NaN or infinity in {name}.")
    closest, coherence, histogram = _pair_angles(sets)
    return KernelReport(
        sets=len(sets),
        n=n,
        d=d,
        energy=energy,
        expected_energy=expected_energy(d, power=power, distance=distance),
        energy_bound=energy_lower_bound(
            n, d, power=power, distance=distance, half_space=half_space
        ),
        closest_angle=closest,
        closest_angle_bound=closest_angle_bound(n, d),
        coherence=coherence,
        coherence_bound=math.cos(closest_angle_bound(n, d, half_space=True)),
        histogram=histogram,
    )


def _pair_angles(sets: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Smallest angle, largest absolute cosine and angles by bins of all pairs.

    In float64, of vectors ``[sets, n, d]``; a zero vector is at a right angle to all.
    """
    closest, coherence, histogram = math.pi, 0.0, np.zeros(_BINS, np.int64)
    for rows in sets:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
        for start in range(0, len(units), _ROWS):
            later = units[start:]
            block = later[:_ROWS]
            first, second = np.triu_indices(len(block), 1, len(later))
            cosines = np.clip(block @ later.T, -1.0, 1.0)[first, second]
            if not cosines.size:
                continue
            counts, _ = np.histogram(np.arccos(cosines), _BINS, (0.0, math.pi))
            histogram += counts
            coherence = max(coherence, float(np.max(np.abs(cosines))))
            nearest = np.argmax(cosines)
            pair = later[first[nearest]], later[second[nearest]]
            closest = min(closest, _angle(*pair))
    return closest, coherence, histogram


def _angle(u: np.ndarray, v: np.ndarray) -> float:
    """Accurate for close directions too, where the cosine has lost its digits."""
    if not (np.any(u) and np.any(v)):
        return math.pi / 2
    return 2.0 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v))


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
