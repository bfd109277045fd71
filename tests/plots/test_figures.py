"""What holds for all figures: axes in and out, no state, and nothing cut off."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import sphax as sx
from tests.plots.test_energy_report import report

mpl.use("Agg")
RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(10), 6)
POINTS = RNG.normal(size=(60, 3)).astype(np.float32)
COSINES = np.clip(RNG.normal(np.where(np.arange(300) < 90, 0.6, 0.1), 0.2), -1, 1)
SAME = np.arange(300) < 90
FAR = np.geomspace(0.01, 1.0, 5)
INTERVAL = sx.metrics.Interval(
    np.linspace(0.2, 1.0, 5),
    np.linspace(0.1, 1.0, 5),
    np.linspace(0.3, 1.0, 5),
    np.zeros((2, 5)),
    "made",
)
NAMES = [f"class of long name {number}" for number in range(10)]
MARGINS = {
    f"margin of long name {m:g}": sx.margins.ArcFace(margin=m)
    for m in np.linspace(0.1, 0.8, 12)
}

# Each function with small arguments; ``to`` makes them NumPy or JAX arrays.
DRAWN: dict[str, Callable[..., Any]] = {
    "psi": lambda to, **kw: sx.plots.psi(MARGINS, **kw),
    "circle": lambda to, **kw: sx.plots.circle(
        to(POINTS[:, :2]), to(LABELS), prototypes=to(POINTS[::6, :2]), **kw
    ),
    "sphere": lambda to, **kw: sx.plots.sphere(
        to(POINTS), to(LABELS), prototypes=to(POINTS[::6]), names=NAMES, **kw
    ),
    "angles": lambda to, **kw: sx.plots.angles(
        to(COSINES), to(SAME), thresholds={"FAR = 1 %": 0.5, "FAR = 10 %": 0.3}, **kw
    ),
    "roc": lambda to, **kw: sx.plots.roc(
        {"curve": sx.metrics.roc(to(COSINES), to(SAME)), "band": INTERVAL},
        far=to(FAR),
        **kw,
    ),
    "det": lambda to, **kw: sx.plots.det(
        {"curve": sx.metrics.det(to(COSINES), to(SAME)), "band": INTERVAL},
        far=to(FAR),
        **kw,
    ),
    "cmc": lambda to, **kw: sx.plots.cmc(
        {
            "curve": sx.metrics.cmc(to(POINTS @ POINTS.T), to(LABELS), to(LABELS)),
            "band": INTERVAL,
        },
        **kw,
    ),
    "confusion": lambda to, **kw: sx.plots.confusion(
        to(LABELS), to(LABELS[::-1]), names=NAMES, **kw
    ),
    "energy_report": lambda to, **kw: sx.plots.energy_report(report((6, 3)), **kw),
    "orthogonality": lambda to, **kw: sx.plots.orthogonality(
        {"first": to(np.geomspace(1e-7, 1e-3, 9)), "second": to(np.full(9, 1e-5))}, **kw
    ),
    "gram": lambda to, **kw: sx.plots.gram(
        to(POINTS[:20]), order=to(np.arange(20)[::-1]), **kw
    ),
}


def one(axes: Any) -> Any:
    """The axes, out of the list of a report with a single kernel."""
    return axes[0] if isinstance(axes, list) else axes


def given_axes(name: str) -> Any:
    projection = "3d" if name == "sphere" else "rectilinear"
    return Figure().add_subplot(projection=projection)


def artists(axes: Any) -> list[np.ndarray]:
    """The numbers of all lines, points, areas, bars and images."""
    found = [np.stack(line.get_data()) for line in axes.lines]
    found += [each.get_offsets() for each in axes.collections]
    found += [path.vertices for each in axes.collections for path in each.get_paths()]
    found += [np.append(*each.get_data()[:2]) for each in axes.patches]
    return found + [image.get_array() for image in axes.images]


def test_every_function_is_in_the_table():
    assert set(DRAWN) == set(dir(sx.plots))


@pytest.mark.parametrize("name", DRAWN)
def test_axes_go_in_and_out(name):
    axes = given_axes(name)
    assert one(DRAWN[name](np.asarray, axes=axes)) is axes
    assert axes.figure.axes == [axes]  # no color bar
    assert not axes.figure.legends
    assert axes.get_legend() is None
    assert inspect.signature(getattr(sx.plots, name)).parameters["axes"].default is None


@pytest.mark.parametrize("name", DRAWN)
def test_calls_share_nothing_and_change_no_settings(name):
    settings = mpl.rcParams.copy()
    first = one(DRAWN[name](np.asarray))
    before = artists(first)
    second = one(DRAWN[name](jnp.asarray))
    assert first.figure is not second.figure
    assert first.figure.canvas.manager is None
    assert plt.get_fignums() == []
    assert mpl.rcParams == settings
    # The second drew the same, and nothing into the first.
    for kind in (artists(first), artists(second)):
        assert len(kind) == len(before) > 0
        for x, y in zip(kind, before, strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_written_with_nothing_cut_off_or_overlapping(name, tmp_path):
    axes = one(DRAWN[name](np.asarray))
    figure = axes.figure
    for kind in ("png", "svg"):
        figure.savefig(tmp_path / f"figure.{kind}")
        assert (tmp_path / f"figure.{kind}").stat().st_size > 4000
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.bbox.size
    hidden = {id(text) for panel in figure.axes for text in hidden_labels(panel)}
    shown = [x for x in figure.findobj(Text) if x.get_text() and id(x) not in hidden]
    for text in shown:
        box = text.get_window_extent(renderer)
        assert -1.0 <= box.x0 < box.x1 <= width + 1.0, text
        assert -1.0 <= box.y0 < box.y1 <= height + 1.0, text
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            labels = [t for t in axis.get_ticklabels() if any(t is x for x in shown)]
            boxes = [label.get_window_extent(renderer) for label in labels]
            for box, other in itertools.pairwise(boxes):
                # The boxes of turned names overlap, the names do not.
                assert not box.overlaps(other) or labels[0].get_rotation() == 45


def hidden_labels(axes: Any) -> list[Text]:
    """Labels that are not drawn: of hidden axes, and outside of the limits."""
    axes_of = (axes.xaxis, axes.yaxis, *([axes.zaxis] if axes.name == "3d" else []))
    found = []
    for axis in axes_of:
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (axes.axison and low <= tick.get_loc() <= high):
                found += [tick.label1, tick.label2]
    return found


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "energy_report"])
def test_axes_of_another_kind_are_refused(name):
    with pytest.raises(
        TypeError, match=r"axes must be .*plt.subplots\(\)\[1\], got tu"
    ):
        DRAWN[name](np.asarray, axes=plt_subplots())
    other = given_axes("sphere" if name != "sphere" else "psi")
    with pytest.raises(ValueError, match="must have the projection .* make them by"):
        DRAWN[name](np.asarray, axes=other)


def plt_subplots() -> tuple[Figure, Any]:
    """What is easily passed instead of its second entry."""
    figure = Figure()
    return figure, figure.add_subplot()


def test_a_second_call_on_the_same_axes_takes_further_colors():
    axes = sx.plots.orthogonality({"first": [1.0, 2.0]})
    sx.plots.orthogonality({"second": [3.0, 4.0]}, axes=axes)
    assert len({line.get_color() for line in axes.lines}) == 2
    many = sx.plots.orthogonality({str(n): [1.0, 2.0] for n in range(20)})
    looks = {(line.get_color(), line.get_linestyle()) for line in many.lines}
    assert len(looks) == 20


def test_the_style_has_the_colors_of_the_figures():
    with plt.style.context("sphax.plots.paper"):
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    axes = sx.plots.orthogonality({str(n): [1.0, 2.0] for n in range(10)})
    assert cycle == [x.get_color() for x in axes.lines]
