"""What is drawn are the numbers that were given, and wrong ones are refused."""

import math
from statistics import NormalDist
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import sphax as sx

# Untyped: what artists of matplotlib hold is typed as whatever may be put there.
plots: Any = sx.plots
ROC = sx.metrics.roc(np.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False])
DET = sx.metrics.det(np.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False])
LOW, MIDDLE, HIGH = np.array([[0.1, 0.5, 1.0], [0.2, 0.6, 1.0], [0.4, 0.8, 1.0]])
BAND = sx.metrics.Interval(MIDDLE, LOW, HIGH, np.zeros((2, 3)), "made")
FAR = np.array([0.01, 0.1, 1.0])


def labels_of(axis: Any) -> list[str]:
    """The labels of the ticks within the limits."""
    axis.get_figure().draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks()
    return [t.label1.get_text() for t in ticks if low <= t.get_loc() <= high]


def edges_of(band: Any) -> set[tuple[float, float]]:
    return {tuple(point) for point in band.get_paths()[0].vertices.round(9).tolist()}


def at(line: Any, degrees: float) -> float:
    x, y = line.get_data()
    return float(y[np.argmin(np.abs(x - degrees))])


def test_psi_of_margins_beside_the_cosine():
    axes = plots.psi(
        {
            "arc": sx.margins.ArcFace(margin=0.5),
            "cos": sx.margins.CosFace(margin=0.35),
            "own": lambda angles: 1.0 - angles,
        }
    )
    for degrees in (0.0, 30.0, 90.0, 120.0):
        angle = math.radians(degrees)
        expected = (
            *(math.cos(angle), math.cos(angle + 0.5), math.cos(angle) - 0.35),
            1.0 - angle,
        )
        found = [at(line, degrees) for line in axes.lines]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_forces_are_derivatives():
    margins = {"arc": sx.margins.ArcFace(margin=0.5), "A": sx.margins.SphereFace(m=2)}
    axes = plots.psi(margins, forces=True)
    for degrees in (0.0, 30.0, 45.0, 120.0):
        angle = math.radians(degrees)
        expected = (
            *(math.sin(angle), math.sin(angle + 0.5)),
            2.0 * abs(math.sin(2.0 * angle)),
        )
        found = [at(line, degrees) for line in axes.lines]
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("forces", [False, True])
def test_a_jump_is_a_gap(forces):
    margins = {x: sx.margins.ArcFace(0.5, beyond=x) for x in ("fallback", "pure")}
    _, jumps, smooth = plots.psi(margins, forces=forces).lines
    x, y = jumps.get_data()
    np.testing.assert_allclose(x[np.isnan(y)], math.degrees(math.pi - 0.5), atol=0.1)
    assert np.isnan(y).sum() == 1
    assert not np.isnan(smooth.get_ydata()).any()


def test_a_single_margin_has_no_name():
    axes = plots.psi(sx.margins.CosFace())
    assert axes.get_legend_handles_labels()[1] == ["cosine"]


def test_points_on_the_circle_keep_their_directions():
    points = np.array([[3.0, 0.0], [0.0, 1e200], [-1e-200, 1e-200], [0.0, 0.0]])
    axes = plots.circle(points, [2, 0, 2, 1], prototypes=5.0 * points[[0, 1, 2]])
    found = {c.get_label(): c.get_offsets() for c in axes.collections}
    assert list(found) == ["0", "1", "2"]
    drawn = np.concatenate([found["2"], found["0"], found["1"]])
    radius = np.linalg.norm(drawn, axis=1)
    assert np.all(np.abs(radius[:3] - 1.0) <= 0.06 + 1e-9)
    half = math.sqrt(0.5)
    expected = np.array([[1.0, 0.0], [-half, half], [0.0, 1.0]])
    np.testing.assert_allclose(drawn[:3] / radius[:3, None], expected, atol=1e-12)
    assert radius[3] == 0.0
    _, *rays = axes.lines
    for ray, direction in zip(rays, expected[[0, 2, 1]], strict=True):
        start, end = np.transpose(ray.get_data())
        assert not start.any()
        np.testing.assert_allclose(end / np.linalg.norm(end), direction, atol=1e-12)


def test_points_are_drawn_where_they_are_unless_normalized():
    points = np.array([[3.0, 0.5], [-0.2, 40.0]])
    axes = plots.circle(points, [0, 1], normalize=False)
    found = [c.get_offsets() for c in axes.collections]
    np.testing.assert_array_equal(np.concatenate(found), points)
    assert axes.get_xlim()[1] == axes.get_ylim()[1] > 40.0
    exact = plots.circle(points, [0, 0], width=0.0).collections[0].get_offsets()
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1.0)


def test_points_on_the_sphere_are_directions():
    points = np.array([[3.0, 0.0, 4.0], [0.0, -2.0, 0.0], [1.0, 2.0, 2.0]])
    axes = plots.sphere(points, [1, 1, 0], prototypes=points[[2, 1]])
    _, zero, one = axes.collections
    np.testing.assert_allclose(
        np.transpose(one._offsets3d), [[0.6, 0.0, 0.8], [0.0, -1.0, 0.0]]
    )
    np.testing.assert_allclose(
        np.ravel(zero._offsets3d), np.array([1.0, 2.0, 2.0]) / 3.0
    )
    ends = [np.transpose(line.get_data_3d())[-1] for line in axes.lines]
    np.testing.assert_allclose(ends[0], np.array([1.0, 2.0, 2.0]) / 3.0)
    np.testing.assert_allclose(ends[2], [0.0, -1.0, 0.0])


def test_angles_are_shares_of_each_kind():
    degrees = np.array([10.0, 22.0, 23.0, 35.0, 65.0, 95.0, 110.0])
    same = np.array([True, True, True, False, True, False, False])
    axes = plots.angles(np.cos(np.radians(degrees)), same, bins=10)
    (genuine, edges, _), (impostors, _, _) = (x.get_data() for x in axes.patches)
    np.testing.assert_allclose(edges, np.linspace(10.0, 110.0, 11))
    np.testing.assert_allclose(genuine, [0.25, 0.5, 0, 0, 0, 0.25, 0, 0, 0, 0])
    np.testing.assert_allclose(impostors * 3.0, [0, 0, 1, 0, 0, 0, 0, 0, 1, 1])
    assert labels_of(axes.yaxis)[1].endswith(" %")


def test_thresholds_are_lines_at_their_angles():
    cosines, same = jnp.array([0.9, 0.1]), [True, False]
    several = {"a": 0.5, "b": np.array([0.0, -1.0])}
    axes = plots.angles(cosines, same, thresholds=several)
    places = [line.get_xdata()[0] for line in axes.lines]
    np.testing.assert_allclose(places, [60.0, 90.0, 180.0])
    assert axes.get_legend_handles_labels()[1] == ["genuine", "impostor", "a", "b"]
    (line,) = plots.angles(cosines, same, thresholds=0.5).lines
    assert line.get_label() == "threshold"


def test_angles_from_counts_of_scores():
    rng = np.random.default_rng(0)
    cosines, same = rng.uniform(-1, 1, 500).round(3), rng.random(500) < 0.3
    counts = sx.metrics.ScoreCounts([(cosines, same)])
    found = plots.angles(counts, bins=18).patches
    expected = plots.angles(cosines, same, bins=18).patches
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(each.get_data()[0], other.get_data()[0], atol=1e-9)


def test_roc_curves_and_bands():
    axes = plots.roc({"curve": ROC, "det": DET, "band": BAND}, far=FAR)
    curve, from_det, middle = axes.lines
    np.testing.assert_array_equal(curve.get_data(), [ROC.far, ROC.tar])
    np.testing.assert_allclose(from_det.get_data(), [ROC.far, ROC.tar])
    np.testing.assert_array_equal(middle.get_data(), [FAR, MIDDLE])
    corners = {*zip(FAR, LOW, strict=True), *zip(FAR, HIGH, strict=True)}
    assert edges_of(axes.collections[0]) == corners
    assert axes.get_xlim() == (0.01, 1.0)
    assert labels_of(axes.xaxis) == ["1 %", "10 %", "100 %"]
    assert labels_of(axes.yaxis)[::5] == ["0 %", "100 %"]


def test_rates_that_are_not_measured_are_left_out():
    rates = np.array([np.nan, 0.6, 1.0])
    interval = sx.metrics.Interval(rates, rates, rates, np.zeros((2, 3)), "made")
    far = np.array([1e-5, 0.1, 1.0])
    assert plots.roc(interval, far=far).get_xlim() == (0.1, 1.0)
    plots.det(interval, far=far).figure.draw_without_rendering()
    nothing = interval._replace(estimate=np.full(3, np.nan))
    assert plots.det(nothing, far=far).get_xlim() == (0.1, 0.99)


def test_labels_of_small_rates_are_plain():
    axes = plots.roc(BAND, far=np.array([1e-4, 0.1, 1.0]))
    assert labels_of(axes.xaxis) == ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"]
    short = plots.roc(BAND, far=np.array([0.1, 0.5, 1.0]))
    assert labels_of(short.xaxis) == ["10 %", "20 %", "50 %", "100 %"]


def test_det_curves_are_on_axes_of_normal_quantiles():
    axes = plots.det({"curve": DET, "roc": ROC, "band": BAND}, far=FAR)
    curve, from_roc, middle, equal = axes.lines
    np.testing.assert_array_equal(curve.get_data(), [DET.far, DET.frr])
    np.testing.assert_allclose(from_roc.get_data(), [DET.far, DET.frr])
    np.testing.assert_array_equal(middle.get_data(), [FAR, 1.0 - MIDDLE])
    np.testing.assert_array_equal(*equal.get_data())
    corners = {*zip(FAR, 1.0 - LOW, strict=True), *zip(FAR, 1.0 - HIGH, strict=True)}
    assert edges_of(axes.collections[0]) == {
        tuple(np.round(corner, 9).tolist()) for corner in corners
    }
    rates = [0.02, 0.1, 0.3, 0.5, 0.9]
    x, y = axes.transData.transform(np.stack([rates, rates], axis=1)).T
    probits = [NormalDist().inv_cdf(rate) for rate in rates]
    for pixels in (x, y):
        slope, start = np.polyfit(probits, pixels, 1)
        np.testing.assert_allclose(slope * np.array(probits) + start, pixels, rtol=1e-9)
    assert "50 %" in labels_of(axes.xaxis)


def test_det_shows_the_usual_errors_and_more_of_a_bad_system():
    rates = 1.0 - FAR[::-1] / 2
    good = sx.metrics.Interval(rates, rates, rates, np.zeros((2, 3)), "made")
    axes = plots.det(good, far=FAR / 10)
    assert axes.get_xlim()[1] == axes.get_ylim()[1] == 0.5
    assert plots.det(ROC).get_ylim()[1] == 0.99
    # Of a system without errors there is nothing to see, yet axes.
    perfect = sx.metrics.roc(np.array([0.9, 0.1]), [True, False])
    assert plots.det(perfect).get_xlim() == (0.1, 0.5)


def test_cmc_curves_and_bands():
    found = sx.metrics.cmc(np.array([[0.9, 0.3], [0.6, 0.5]]), [0, 1], [0, 1])
    axes = plots.cmc({"curve": found, "band": BAND})
    np.testing.assert_array_equal(axes.lines[0].get_data(), [[1, 2], [0.5, 1.0]])
    np.testing.assert_array_equal(axes.lines[1].get_data(), [[1, 2, 3], MIDDLE])
    assert (1.0, 0.1) in edges_of(axes.collections[0])
    assert labels_of(axes.xaxis) == ["1", "2", "3"]
    many = sx.metrics.Cmc(np.linspace(0.5, 1.0, 100), np.zeros(1, int), "made")
    axes = plots.cmc(many)
    assert labels_of(axes.xaxis) == ["1", "10", "100"]


def test_confusion_is_shares_of_rows():
    axes = plots.confusion([0, 0, 0, 1, 3], [0, 0, 1, 1, 0], names=list("abcd"))
    expected = [[2 / 3, 1 / 3, 0, 0], [0, 1, 0, 0], [np.nan] * 4, [1, 0, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): "67", (1, 0): "33", (1, 1): "100", (0, 3): "100"
    }  # fmt: skip
    assert labels_of(axes.yaxis) == list("abcd")
    large = plots.confusion(np.arange(30), np.arange(30), num_classes=40)
    assert large.images[0].get_array().shape == (40, 40)
    assert not large.texts


def test_gram_has_cosines_and_the_smallest_angle():
    vectors = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0]])
    half = math.sqrt(0.5)
    expected = np.array(
        [[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]]
    )
    axes = plots.gram(vectors, names=list("abcd"))
    np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-12)
    assert axes.get_title() == "smallest angle 45.0°"
    axes = plots.gram(vectors, order=[2, 0, 3, 1], names=list("abcd"))
    rows = np.ix_([2, 0, 3, 1], [2, 0, 3, 1])
    np.testing.assert_allclose(axes.images[0].get_array(), expected[rows], atol=1e-12)
    assert labels_of(axes.xaxis) == list("cadb")


def test_similar_prototypes_come_together():
    rng = np.random.default_rng(0)
    kind = np.arange(30) % 3
    vectors = np.eye(8)[kind] + 0.1 * rng.normal(size=(30, 8))
    cosines = plots.gram(vectors, order="similar").images[0].get_array()
    first = np.asarray(cosines)[::10, :] > 0.5
    np.testing.assert_array_equal(first, np.repeat(np.eye(3, dtype=bool), 10, axis=1))


def test_orthogonality_over_steps():
    errors = {"a": jnp.array([1e-7, 0.0, 1e-5]), "b": [1e-3, np.nan, 2e-3]}
    axes = plots.orthogonality(errors, steps=[0, 10, 20])
    for line, expected in zip(
        axes.lines, ([1e-7, np.nan, 1e-5], [1e-3, np.nan, 2e-3]), strict=True
    ):
        np.testing.assert_allclose(line.get_xdata(), [0, 10, 20])
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert axes.get_yscale() == "log"


PLANE, SPACE, GOOD = np.eye(2), np.eye(3), np.array([0.9, 0.1])
ERRORS = [
    (lambda: plots.psi({}), ValueError, "margins must not be empty"),
    (lambda: plots.psi(0.5), TypeError, r"such as sphax.margins.ArcFace\(\)"),
    (lambda: plots.psi(sx.margins.ArcFace), TypeError, r"ArcFace\(\), a function of"),
    (lambda: plots.psi(jnp.sum), ValueError, r"for each angle, got shape \(\)"),
    (
        lambda: plots.psi(sx.margins.CosFace(margin=jnp.array([0.1, 0.2]))),
        ValueError,
        "draw a margin for each entry",
    ),
    (lambda: plots.psi(jnp.cos, forces=1), TypeError, "forces must be True or"),
    (lambda: plots.circle(SPACE, [0, 1, 2]), ValueError, "sphere draws three"),
    (lambda: plots.sphere(PLANE, [0, 1]), ValueError, "circle draws two features"),
    (lambda: plots.circle(GOOD, [0, 1]), ValueError, r"\[n, 2\], got shape \(2,\)"),
    (lambda: plots.circle(PLANE, [0]), ValueError, "each of the 2 embeddings"),
    (lambda: plots.circle(PLANE, [0.0, 1.0]), TypeError, "labels must be integer"),
    (lambda: plots.circle(PLANE, [0, -1]), ValueError, r"in \[0, 1\), got -1 to 0"),
    (
        lambda: plots.circle(PLANE, [0, 2], prototypes=PLANE),
        ValueError,
        r"labels must be in \[0, 2\), got 0 to 2",
    ),
    (
        lambda: plots.circle(PLANE, [0, 1], prototypes=SPACE),
        ValueError,
        r"prototypes must be \[classes, 2\], got shape \(3, 3\)",
    ),
    (
        lambda: plots.circle(PLANE, [0, 1], prototypes=PLANE, names=["a"]),
        ValueError,
        "names must have a string for each of the 2 classes",
    ),
    (lambda: plots.circle(PLANE[:0], []), ValueError, "must not be empty"),
    (lambda: plots.circle(np.nan * PLANE, [0, 1]), ValueError, "must be finite"),
    (lambda: plots.circle(PLANE, [0, 1], width=1.0), ValueError, "width must lie"),
    (lambda: plots.angles(GOOD), ValueError, "same must be given"),
    (lambda: plots.angles(GOOD, [1, 0]), TypeError, "same must be boolean"),
    (lambda: plots.angles(GOOD, [True]), ValueError, "the shape of cosines"),
    (lambda: plots.angles(GOOD, GOOD > 2), ValueError, "got 0 genuine and 2 impos"),
    (lambda: plots.angles(60 * GOOD, GOOD > 0.5), ValueError, "one of size 54"),
    (
        lambda: plots.angles(GOOD, GOOD > 0.5, thresholds=60.0),
        ValueError,
        "thresholds must be cosines",
    ),
    (lambda: plots.angles(GOOD, GOOD > 0.5, bins=0), ValueError, "bins must be 1"),
    (
        lambda: plots.angles(sx.metrics.ScoreCounts([(GOOD, GOOD > 0.5)]), [True]),
        ValueError,
        "same has no effect",
    ),
    (lambda: plots.roc((0.1, 0.9)), TypeError, "what sphax.metrics.roc returns"),
    (lambda: plots.roc({}), ValueError, "systems must not be empty"),
    (lambda: plots.roc(BAND), ValueError, "far must be given with an Interval"),
    (lambda: plots.det(BAND, far=FAR[:2]), ValueError, r"far \(2,\) and an int"),
    (lambda: plots.cmc(ROC), TypeError, "what sphax.metrics.cmc returns"),
    (
        lambda: plots.cmc(BAND._replace(estimate=0.5)),
        ValueError,
        r"\[ranks\], got shape \(\)",
    ),
    (lambda: plots.confusion([], []), ValueError, r"\[n\], one for each example"),
    (lambda: plots.confusion([0, 1], [0]), ValueError, "each of the 2 labels"),
    (
        lambda: plots.confusion([0, 1], [0, 2], num_classes=2),
        ValueError,
        r"predictions must be in \[0, 2\), got 0 to 2",
    ),
    (lambda: plots.confusion([0.0], [0]), TypeError, "labels must be integer"),
    (lambda: plots.gram(PLANE[:1]), ValueError, "two classes or more"),
    (lambda: plots.gram([[1, 0], [0, 1]]), TypeError, "prototypes must be floating"),
    (lambda: plots.gram(PLANE, order=[0, 0]), ValueError, "each of the 2 classes"),
    (lambda: plots.gram(PLANE, order="name"), ValueError, "one of"),
    (lambda: plots.orthogonality([-1.0]), ValueError, "not their logarithms"),
    (lambda: plots.orthogonality(np.eye(2)), ValueError, r"be \[steps\], got shape"),
    (
        lambda: plots.orthogonality({"a": [1.0, 2.0]}, steps=[0]),
        ValueError,
        r"errors of 'a', got steps \(1,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors_teach(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_wrong_arguments_leave_given_axes_as_they_were():
    axes = Figure().add_subplot()
    for call in (
        lambda: plots.roc({"a": ROC, "b": BAND}, axes=axes),
        lambda: plots.circle(PLANE, [0, -1], axes=axes),
        lambda: plots.gram(PLANE, order=[0, 0], axes=axes),
        lambda: plots.confusion([0], [-1], axes=axes),
    ):
        with pytest.raises(ValueError, match="must (be|have)"):
            call()
    assert not axes.has_data()
