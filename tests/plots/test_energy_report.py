"""The figure of an energy report, and when matplotlib is imported."""

import ast
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import sphax as sx

PLOTS = Path(sx.plots.__file__).parent


def report(*shapes):
    """A report of random kernels, without energies, which no figure shows."""
    rng = np.random.default_rng(0)
    kernels = {}
    for number, (n, d) in enumerate(shapes):
        counts, _ = np.histogram(rng.uniform(0, 180, n * (n - 1) // 2), np.arange(181))
        angle = sx.energy.closest_angle_bound(n, d)
        kernels[f"layer{number}"] = sx.energy.KernelReport(
            1, n, d, 1.0, 1.0, 1.0, 0.0, angle, 1.0, 0.5, counts
        )
    return sx.energy.EnergyReport(kernels, 1.0, "euclidean", False)


def test_panels_are_densities_of_pairs_and_of_random_directions():
    given = report((6, 3), (40, 10), (5, 2), (8, 576))
    panels = sx.plots.energy_report(given)
    assert [axes.get_title() for axes in panels] == [
        "layer0: 6 of 3 dimensions",
        "layer1: 40 of 10 dimensions",
        "layer2: 5 of 2 dimensions",
        "layer3: 8 of 576 dimensions",
    ]
    for axes, kernel in zip(panels, given.kernels.values(), strict=True):
        drawn: Any = axes
        (stairs,), (random, bound) = drawn.patches, drawn.lines
        values, edges, _ = stairs.get_data()
        widths = np.diff(edges)
        np.testing.assert_allclose(values @ widths, 1.0)
        np.testing.assert_allclose(
            np.cumsum(values * widths)[:-1] * np.sum(kernel.histogram),
            np.cumsum(kernel.histogram)[np.int64(edges[1:-1]) - 1],
        )
        degrees, density = random.get_data()
        expected = np.sin(np.radians(degrees)) ** (kernel.d - 2)
        expected /= np.sum(expected)
        np.testing.assert_allclose(density, expected, rtol=1e-9)
        assert bound.get_xdata()[0] == pytest.approx(
            math.degrees(kernel.closest_angle_bound)
        )


def test_bars_are_wide_where_pairs_are_few():
    panels: Any = sx.plots.energy_report(report((5, 3), (120, 3)))
    few, many = (len(axes.patches[0].get_data()[0]) for axes in panels)
    assert few == 18
    assert many == 180


def test_axes_go_in_and_out_one_for_each_kernel():
    axes = Figure().subplots(1, 2)
    assert sx.plots.energy_report(report((5, 3), (6, 3)), axes=axes) == [*axes]
    with pytest.raises(ValueError, match="one for each of the 3 kernels, got 2"):
        sx.plots.energy_report(report((5, 3), (6, 3), (7, 3)), axes=axes)
    with pytest.raises(TypeError, match="axes must be matplotlib Axes, one for each"):
        sx.plots.energy_report(report((5, 3)), axes=np.array([Figure()]))


def test_matplotlib_is_imported_when_a_figure_is_drawn():
    for path in PLOTS.glob("*.py"):
        for node in ast.parse(path.read_text()).body:  # at the top, which runs
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "matplotlib" not in ast.unparse(node), path


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'sphax\[plots\]'"):
        sx.plots.energy_report(report((6, 3)))
