"""Curves of error rates: ROC, DET and CMC of several systems, with intervals."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import shown
from sphax.metrics import Cmc, Det, Interval, Roc
from sphax.plots._drawing import (
    REFERENCE,
    add_legend,
    as_axes,
    by_name,
    line_styles,
    percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Labels of the axes of a DET curve, in the order in which they are put where they fit.
_RATES = (
    *(0.5, 0.2, 0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 0.8, 0.95, 0.99),
    *(0.1, 0.02, 0.3, 0.4, 0.002, 0.005, 0.6, 0.7, 0.9),
)
_NORMAL = NormalDist()
# Beyond all rates that can be measured: where curves leave the axes.
_SMALLEST = 1e-12


class _Curve(NamedTuple):
    """Rates and, of an interval, its ends."""

    x: np.ndarray
    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None


def roc(
    systems: Roc | Det | Interval | Mapping[str, Roc | Det | Interval],
    *,
    far: ArrayLike | jax.Array | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """ROC curves: true accept rates over false accept rates on a logarithmic axis.

    Args:
        systems: What :func:`sphax.metrics.roc` or :func:`sphax.metrics.det` returned,
            or several by name. An :class:`sphax.metrics.Interval` of true accept rates
            at ``far`` is drawn with its band.
        far: False accept rates of the intervals, ``[n]``.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; rates are shares, with labels in percent. The axis begins at the
        smallest rate that is measured.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If a system is something else, or ``axes`` is.
        ValueError: If there are no systems, or an interval does not have the shape of
            ``far``.

    Example:
        A curve alone, and the same with a band, from pairs of 12 subjects:

        >>> x = jax.random.normal(jax.random.key(0), (12, 1, 8))
        >>> x = (x + 0.7 * jax.random.normal(jax.random.key(1), (12, 3, 8)))
        >>> who = np.repeat(np.arange(12), 3)
        >>> [(scores, same)] = sx.metrics.pair_scores(x.reshape(-1, 8), who)
        >>> axes = sx.plots.roc(sx.metrics.roc(scores, same))
        >>> far = np.geomspace(0.01, 1.0, 20)
        >>> def tar(*pairs, weights):
        ...     return sx.metrics.tar_at_far(*pairs, far=far, weights=weights).tar
        >>> sides = who[np.stack(np.triu_indices(36, 1), axis=1)]
        >>> band = sx.metrics.bootstrap(tar, scores, same, sides, resamples=20)
        >>> axes = sx.plots.roc({"ours": band}, far=far)
    """
    curves = {
        name: _tars(system, far) for name, system in by_name("systems", systems).items()
    }
    is_new = axes is None
    axes = as_axes(axes, (5.8, 3.2))
    axes.set_xscale("log", nonpositive="clip")
    _draw(axes, curves)
    measured = [curve.x[np.isfinite(curve.y)] for curve in curves.values()]
    least = _least(np.concatenate(measured))
    axes.set(xlim=(least, 1.0), ylim=(0.0, 1.02))
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    _label_logarithmic(axes)
    axes.yaxis.set_major_formatter(percent)
    if is_new:
        add_legend(axes)
    return axes


def det(
    systems: Roc | Det | Interval | Mapping[str, Roc | Det | Interval],
    *,
    far: ArrayLike | jax.Array | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """DET curves: false reject over false accept rates, on axes of normal quantiles.

    On these axes normally distributed scores give straight lines, and both errors have
    the same weight; on the dotted line they are equal.

    Args:
        systems: What :func:`sphax.metrics.det` or :func:`sphax.metrics.roc` returned,
            or several by name. An :class:`sphax.metrics.Interval` of **true accept**
            rates at ``far``, as for :func:`roc`, is drawn with its band.
        far: False accept rates of the intervals, ``[n]``.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; rates are shares, with labels in percent, so that lines can be added
        at rates: ``axes.axvline(0.01)``.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If a system is something else, or ``axes`` is.
        ValueError: If there are no systems, or an interval does not have the shape of
            ``far``.

    Example:
        >>> scores, same = jnp.array([0.9, 0.7, 0.5, 0.3]), [True, False, True, False]
        >>> axes = sx.plots.det({"ours": sx.metrics.det(scores, same)})
        >>> axes.get_xlabel()
        'false accept rate'

    References:
        Martin et al., `The DET curve in assessment of detection task performance
        <https://doi.org/10.21437/Eurospeech.1997-504>`_, Eurospeech 1997.
    """
    curves = {}
    for name, system in by_name("systems", systems).items():
        x, tar, band = _tars(system, far)
        curves[name] = _Curve(x, 1.0 - tar, band and (1.0 - band[1], 1.0 - band[0]))
    is_new = axes is None
    axes = as_axes(axes, (5.0, 3.8))
    axes.set_xscale("function", functions=(_probit, _share))
    axes.set_yscale("function", functions=(_probit, _share))
    # Rates up to one half, as is usual, unless a system has more errors of both kinds.
    worst = max(
        np.fmin.reduce(np.maximum(curve.x, curve.y), initial=1.0)
        for curve in curves.values()
    )
    end = 0.5 if worst < 0.3 else 0.99
    rates = np.concatenate([np.stack(curve[:2], 1) for curve in curves.values()])
    seen = rates[np.max(rates, axis=1) <= end]
    axes.set_xlim(min(_least(seen[:, 0]), 0.1), end)
    axes.set_ylim(min(_least(seen[:, 1]), 0.1), end)
    _label_probits(axes.xaxis)
    _label_probits(axes.yaxis)
    _draw(axes, curves)
    axes.plot([_SMALLEST, 1.0 - _SMALLEST], [_SMALLEST, 1.0 - _SMALLEST], **REFERENCE)
    axes.set(xlabel="false accept rate", ylabel="false reject rate")
    if is_new:
        add_legend(axes)
    return axes


def cmc(
    systems: Cmc | Interval | Mapping[str, Cmc | Interval],
    *,
    axes: "Axes | None" = None,
) -> "Axes":
    """CMC curves: how many probes have their mate among the best ranks.

    Args:
        systems: What :func:`sphax.metrics.cmc` returned, or several by name. An
            :class:`sphax.metrics.Interval` of rates at the ranks 1, 2, 3, ..., as
            :func:`sphax.metrics.bootstrap_probes` makes it of ``cmc(...).rates``, is
            drawn with its band.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; rates are shares, with labels in percent. With more than 30 ranks
        their axis is logarithmic.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If a system is something else, or ``axes`` is.
        ValueError: If there are no systems, or an interval is not ``[ranks]``.

    Example:
        >>> scores = jnp.array([[0.9, 0.3, 0.1], [0.6, 0.5, 0.5]])
        >>> axes = sx.plots.cmc(sx.metrics.cmc(scores, [7, 8], [7, 8, 8]))
        >>> print(axes.lines[0].get_xdata(), axes.lines[0].get_ydata())
        [1 2] [0.5 1. ]
    """
    curves = {}
    for name, system in by_name("systems", systems).items():
        if isinstance(system, Interval):
            rates, band = np.asarray(system.estimate), (system.low, system.high)
            if rates.ndim != 1:
                raise ValueError(
                    "systems must be intervals of the rates at all ranks, [ranks], got"
                    f" shape {rates.shape}."
                )
        elif isinstance(system, Cmc):
            rates, band = system.rates, None
        else:
            raise _unknown(system, "sphax.metrics.cmc")
        curves[name] = _Curve(np.arange(1, len(rates) + 1), rates, band)
    is_new = axes is None
    axes = as_axes(axes, (5.2, 3.2))
    last = max(curve.x[-1] for curve in curves.values())
    _draw(axes, curves, marker="o" if last <= 30 else "", ms=4.0)
    if last > 30:
        axes.set_xscale("log")
        axes.set_xlim(1, last)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xticks(range(1, last + 1, -(-last // 10)))
    axes.set(xlabel="rank", ylabel="identification rate")
    axes.yaxis.set_major_formatter(percent)
    if is_new:
        add_legend(axes)
    return axes


def _tars(system: object, far: Any) -> _Curve:
    """True accept rates over false accept rates."""
    if isinstance(system, Roc):
        return _Curve(system.far, system.tar)
    if isinstance(system, Det):
        return _Curve(system.far, 1.0 - system.frr)
    if not isinstance(system, Interval):
        raise _unknown(system, "sphax.metrics.roc")
    if far is None:
        raise ValueError(
            "far must be given with an Interval: the false accept rates at which its"
            " true accept rates were measured."
        )
    rates, estimate = np.asarray(far, np.float64), np.asarray(system.estimate)
    if rates.ndim != 1 or estimate.shape != rates.shape:
        raise ValueError(
            "far must be [n], the rates of the intervals, got far"
            f" {rates.shape} and an interval {estimate.shape}."
        )
    return _Curve(rates, estimate, (system.low, system.high))


def _unknown(system: object, source: str) -> TypeError:
    return TypeError(
        f"systems must be what {source} returns, an Interval of"
        " sphax.metrics.bootstrap, or a mapping from names to them, got"
        f" {shown(system)}."
    )


def _draw(axes: "Axes", curves: dict[str, _Curve], **line: Any) -> None:
    styles = line_styles(axes, len(curves))
    for (name, curve), style in zip(curves.items(), styles, strict=True):
        axes.plot(curve.x, curve.y, label=name or "_", lw=1.6, **style, **line)
        if curve.band is not None:
            fill = {"color": style["color"], "alpha": 0.2, "lw": 0}
            axes.fill_between(curve.x, *curve.band, **fill)


def _least(rates: np.ndarray) -> float:
    """The smallest positive rate."""
    return float(np.min(rates[rates > 0.0], initial=0.5))


def _label_logarithmic(axes: "Axes") -> None:
    """Percentages at powers of ten, and between them if there are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    is_short = axes.get_xlim()[0] > 0.01
    subs = (1.0, 2.0, 5.0) if is_short else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(percent)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_probits(axis: "Axis") -> None:
    """Percentages that do not touch each other."""
    low, high = axis.get_view_interval()
    chosen: list[float] = []
    for rate in _RATES:
        others = _probit([low, high, rate, *chosen])
        is_free = np.abs(others[3:] - others[2]) > (others[1] - others[0]) / 7
        if low <= rate <= high and np.all(is_free):
            chosen.append(rate)
    axis.set_ticks(chosen, [percent(rate) for rate in chosen])


def _probit(shares: ArrayLike) -> np.ndarray:
    is_gap = np.isnan(shares)
    inside = np.where(is_gap, 0.5, np.clip(shares, _SMALLEST, 1.0 - _SMALLEST))
    probits = np.vectorize(_NORMAL.inv_cdf, otypes=[np.float64])(inside)
    return np.where(is_gap, np.nan, probits)


def _share(probits: ArrayLike) -> np.ndarray:
    return np.vectorize(_NORMAL.cdf, otypes=[np.float64])(probits)
