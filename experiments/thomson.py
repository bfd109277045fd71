"""Least energies of charges on the sphere (Thomson problem), against the published.

    python -m experiments.thomson
    python -m experiments.thomson --largest 100

The published energies are the lowest known ones, most of them without proof
(``thomson_energies.txt``). For many charges the mean energy of a pair tends to 1 as
``1 - 2 c / sqrt(n)``, with a constant ``c`` that is conjectured to be the one of a
hexagonal lattice (Kuijlaars and Saff, Asymptotics for Minimal Discrete Energy on the
Sphere, Transactions of the AMS 350, 1998).
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

import sphax as sx
from experiments import _command_line, _progress, _results, _spheres
from experiments._jobs import Jobs

# c = -3 sqrt(sqrt(3) / (8 pi)) zeta(1/2) L(1/2), L of the Dirichlet character mod 3.
LATTICE = 0.553051293358
# Relative difference up to which two energies are of one minimum. Runs end within
# 1e-12 of it; the published energies have nine decimals.
_SAME = 1e-9
_PICTURED = (4, 6, 8, 12, 24, 32, 72, 100)
_DATA = pathlib.Path(__file__).with_name("thomson_energies.txt")


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
    """Least energies of 2, 3, ... charges on the sphere, from random starts.

    Without arguments: up to 32 charges, three minutes on two cores.
    """

    largest: int = 32
    """Number of charges to go up to, 100 at most."""
    restarts: int = 64
    """Random starts for each number of charges."""
    seed: int = 0
    """Of the starts."""

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.largest <= 100:
            raise ValueError(f"--largest must be in [2, 100], got {self.largest}.")

    @property
    def name(self) -> str:
        """Name of the result files."""
        return "thomson"


def published() -> dict[int, float]:
    """Lowest known energy, the sum over pairs, by the number of charges."""
    numbers, energies = np.loadtxt(_DATA, unpack=True)
    return dict(zip(numbers.astype(int).tolist(), energies.tolist(), strict=True))


def train(config: Config) -> dict[str, Any]:
    """Minimises for every number of charges; writes and returns the results."""
    rows, pictures, known = [], {}, published()
    with Jobs(config, f"thomson-{config.restarts}-{config.seed}", "numbers") as jobs:
        jobs.progress.expect(config.largest - 1)
        for n in range(2, config.largest + 1):
            found = jobs.outcome(
                f"{n} charges", 1, partial(_minimized, config, n, jobs)
            )
            rows.append({"n": n, **compare(np.array(found["energies"]), known[n])})
            if n in _PICTURED:
                pictures[n] = np.array(found["points"])
    results = _results.save(config, {"charges": rows}, jobs.seconds)
    gaps = {row["n"]: scaled_gap(row["n"], row["energy"]) for row in rows}
    _spheres.draw(config.result(".png"), pictures, gaps, 2.0 * LATTICE)
    jobs.clear()
    return results


def _minimized(config: Config, n: int, jobs: Jobs, _: pathlib.Path) -> dict[str, Any]:
    found = minimize(config, n)
    jobs.progress.advance(1)
    return found


def minimize(config: Config, n: int) -> dict[str, Any]:
    """The best points, and where each start ended, summed over pairs."""
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(config.seed), n)
        found = sx.energy.minimize_energy(key, n, 3, restarts=config.restarts)
        energies = np.asarray(found.energies) * n * (n - 1) / 2
    return {
        "points": np.asarray(found.points).tolist(),
        "energies": energies.tolist(),
    }


def compare(energies: np.ndarray, known: float) -> dict[str, Any]:
    """Where starts ended, against the lowest known energy.

    Returns:
        ``energy``: the lowest. ``known``: as given. ``reached``: how many starts ended
        at the known energy or below. ``minima``: how many energies differ.
    """
    ordered = np.sort(energies)
    is_new = np.diff(ordered) > _SAME * ordered[1:]
    return {
        "energy": float(ordered[0]),
        "known": known,
        "reached": int(np.sum(ordered <= known * (1.0 + _SAME))),
        "minima": int(1 + np.sum(is_new)),
    }


def scaled_gap(n: int, energy: float) -> float:
    """``sqrt(n)`` times what the mean energy of a pair falls short of 1."""
    return float(np.sqrt(n) * (1.0 - energy / (n * (n - 1) / 2)))


def table(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the results: one row for each number of charges."""
    starts = results["config"]["restarts"]
    head = ["n", "energy", "lowest known", "difference / known"]
    rows = [[*head, f"of {starts} starts, reached it", "minima found", "gap x √n"]]
    for row in results["charges"]:
        difference = row["energy"] / row["known"] - 1.0
        energies = [f"{row['energy']:.9f}", f"{row['known']:.9f}", f"{difference:.0e}"]
        counts = [str(row["reached"]), str(row["minima"])]
        gap = f"{scaled_gap(row['n'], row['energy']):.4f}"
        rows.append([str(row["n"]), *energies, *counts, gap])
    yield from _progress.markdown(rows)
    charges = results["charges"]
    reached = sum(row["reached"] > 0 for row in charges)
    lower = sum(row["energy"] < row["known"] * (1.0 - _SAME) for row in charges)
    yield ""
    yield (
        f"{reached} of {len(charges)} energies are the lowest known or lower, {lower}"
        " of them by more than rounding."
    )


def main() -> None:
    """Runs from the command line."""
    name = "experiments.thomson"
    _command_line.main(name, lambda: _command_line.parse(name, Config), train, table)


if __name__ == "__main__":
    main()
