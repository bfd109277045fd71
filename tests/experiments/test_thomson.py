"""The study of charges on the sphere."""

import dataclasses

import mpmath
import numpy as np
import pytest

from experiments.common import store
from experiments.thomson import config, report, train


def test_published_energies_of_the_regular_polyhedra():
    known = config.lowest_known()
    assert sorted(known) == list(range(2, 101))
    near, far = (np.sqrt(2 + sign * 2 / np.sqrt(5)) for sign in (-1, 1))
    exact = {
        2: 1 / 2,
        3: np.sqrt(3),
        4: 6 / np.sqrt(8 / 3),
        6: 12 / np.sqrt(2) + 3 / 2,
        12: 30 / near + 30 / far + 6 / 2,
    }
    for n, energy in exact.items():
        assert known[n] == pytest.approx(energy, abs=1e-9)


def test_constant_of_the_hexagonal_lattice():
    third = mpmath.mpf(1) / 3
    character = (mpmath.zeta(0.5, third) - mpmath.zeta(0.5, 2 * third)) / mpmath.sqrt(3)
    factor = mpmath.sqrt(mpmath.sqrt(3) / (8 * mpmath.pi))
    constant = -3 * factor * mpmath.zeta(0.5) * character
    assert float(constant) == pytest.approx(report.LATTICE, abs=1e-12)


def test_comparison_by_hand():
    energies = np.array([10.5, 10.0, 11.0, 10.0 + 1e-9, 10.5 + 1e-9])
    found = train.compare(energies, known=10.0 + 2e-9)
    assert found == {"energy": 10.0, "reached": 2, "minima": 3}


def test_gap_of_two_charges():
    assert report.scaled_gap(2, 0.5) == pytest.approx(np.sqrt(2) / 2)


def test_edges_of_a_cube_have_no_diagonals():
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T / np.sqrt(3)
    # As precise as points are stored.
    edges = report.hull_edges(cube.astype(np.float32).astype(np.float64))
    assert len(edges) == 12
    np.testing.assert_allclose(
        np.linalg.norm(cube[edges[:, 0]] - cube[edges[:, 1]], axis=1), 2 / np.sqrt(3)
    )


def test_four_charges_are_stored_and_repeat_themselves(tmp_path):
    chosen = config.Config(smallest=4, largest=4, restarts=2, runs=tmp_path)
    (run,) = config.planned(chosen)
    for folder in (tmp_path, tmp_path / "again"):
        store.complete([run], train.train, folder, unit=config.UNIT)
    record = store.load(run, tmp_path / "thomson") or {}
    again = store.load(run, tmp_path / "again/thomson") or {}
    assert record["metrics"] == again["metrics"]
    assert set(record["metrics"]) == {"energy", "reached", "minima", "points"}
    *table, _, verdict, _, caption = report.table(chosen, [(run, record)])
    assert table[0].endswith("| of 2 starts, reached it | minima found | gap x √n |")
    assert table[-1].startswith("| 4 | 3.674234614 | 3.674234614 | ")
    assert verdict.startswith("1 of 1 energies are the lowest known")
    command = "`python -m experiments.thomson --smallest 4 --largest 4`; "
    assert caption.startswith(command)
    report.draw(chosen, [(run, record)], tmp_path)
    assert (tmp_path / "charges-spheres.png").stat().st_size > 10_000


def test_a_run_is_of_one_number_of_charges_whatever_the_others():
    (preset,) = config.presets()
    runs = config.planned(preset)
    assert len({run.digest for run in runs}) == 99
    fewer = config.planned(dataclasses.replace(preset, smallest=5, largest=6))
    assert [run.digest for run in fewer] == [run.digest for run in runs[3:5]]
