"""The experiment on Thomson's problem."""

import dataclasses
import json

import mpmath
import numpy as np
import pytest

from experiments import _spheres, thomson


@pytest.fixture
def config(tmp_path):
    return thomson.Config(
        largest=4,
        restarts=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )


def test_published_energies_of_the_regular_polyhedra():
    known = thomson.published()
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
    assert float(constant) == pytest.approx(thomson.LATTICE, abs=1e-12)


def test_comparison_by_hand():
    energies = np.array([10.5, 10.0, 11.0, 10.0 + 1e-9, 10.5 + 1e-9])
    found = thomson.compare(energies, known=10.0 + 2e-9)
    assert found == {"energy": 10.0, "known": 10.0 + 2e-9, "reached": 2, "minima": 3}


def test_gap_of_two_charges():
    assert thomson.scaled_gap(2, 0.5) == pytest.approx(np.sqrt(2) / 2)


def test_edges_of_a_cube_have_no_diagonals():
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T / np.sqrt(3)
    edges = _spheres.hull_edges(cube)
    assert len(edges) == 12
    np.testing.assert_allclose(
        np.linalg.norm(cube[edges[:, 0]] - cube[edges[:, 1]], axis=1), 2 / np.sqrt(3)
    )


@pytest.mark.slow
def test_goes_on_where_it_was_killed_and_leaves_its_results(config, monkeypatch):
    known, minimize, done = thomson.published(), thomson.minimize, []

    def killed_once(config, n):
        done.append(n)
        if done == [2, 3, 4]:
            raise KeyboardInterrupt
        if n == 4:
            return minimize(config, n)
        # Of the others it does not matter where their energies come from.
        return {"points": [], "energies": [known[n]] * config.restarts}

    monkeypatch.setattr(thomson, "minimize", killed_once)
    with pytest.raises(KeyboardInterrupt):
        thomson.train(config)
    results = thomson.train(config)
    assert done == [2, 3, 4, 4]
    path = config.results / "thomson.json"
    assert json.loads(path.read_text()) == results
    assert str(config.results.parent) not in path.read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(config.checkpoints.iterdir())
    last = results["charges"][-1]
    assert last["energy"] == pytest.approx(known[4], rel=1e-9)
    assert (last["n"], last["reached"], last["minima"]) == (4, 2, 1)
    *table, _, verdict = thomson.table(results)
    assert table[0].endswith("| of 2 starts, reached it | minima found | gap x √n |")
    assert table[-1].startswith("| 4 | 3.674234614 | 3.674234614 | ")
    assert verdict.startswith("3 of 3 energies are the lowest known")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(largest=101), r"largest must be in \[2, 100\], got 101"),
        (dict(restarts=0), "restarts must be positive, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(config, setting, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **setting)
