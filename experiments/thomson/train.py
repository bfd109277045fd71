"""Minimizes the energy of charges on the sphere from random starts."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import sphax as sx
from experiments.common.runs import Run, Work, pack
from experiments.thomson.config import Config, lowest_known

# Relative difference up to which two energies are of one minimum. Starts end within
# 1e-12 of it; the published energies have nine decimals.
SAME = 1e-9


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Finds the least energy of one number of charges, in float64.

    Returns:
        What :func:`compare` says, and the best ``points``.
    """
    config: Config = runs[0].config
    n = config.largest
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(config.seed), n)
        found = sx.energy.minimize_energy(key, n, 3, restarts=config.restarts)
        energies = np.asarray(found.energies) * n * (n - 1) / 2
    work.report(1, {})
    points = pack(found.points, np.float32)
    return [{**compare(energies, lowest_known()[n]), "points": points}]


def compare(energies: np.ndarray, known: float) -> dict[str, Any]:
    """Compares where the starts ended with the lowest known energy.

    Args:
        energies: Of each start, ``[starts]``, summed over pairs.
        known: The lowest published one.

    Returns:
        ``energy``: the lowest. ``reached``: how many starts ended at the known energy
        or below. ``minima``: how many energies differ.
    """
    ordered = np.sort(energies)
    is_new = np.diff(ordered) > SAME * ordered[1:]
    return {
        "energy": float(ordered[0]),
        "reached": int(np.sum(ordered <= known * (1.0 + SAME))),
        "minima": int(1 + np.sum(is_new)),
    }
