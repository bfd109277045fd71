"""Margins as curves: the modified cosine of the target over its angle, and its pull."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import check_flag, shown
from sphax.margins import Margin
from sphax.plots._drawing import REFERENCE, add_legend, as_axes, by_name, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ANGLES = 2881
# What changes more between two neighboring angles than at this slope is a jump.
_STEEPEST = {"psi": 20.0, "force": 100.0}

_Function = Callable[[jax.Array], jax.Array]


def psi(
    margins: Margin | _Function | Mapping[str, Margin | _Function],
    *,
    forces: bool = False,
    axes: "Axes | None" = None,
) -> "Axes":
    r"""Target curves :math:`\psi(\theta)` of margins, with the cosine for comparison.

    A margin lowers the curve below the cosine (dotted), so that training goes on after
    the right class has won. The force :math:`-\psi'(\theta)` is how strongly the logit
    of the target pulls an embedding towards its prototype; where it is negative, it
    pushes. A jump is a gap in the curve.

    Args:
        margins: A margin, or several by name. Instead of a margin, a function from
            angles in radians ``[n]`` to modified cosines ``[n]``.
        forces: Whether to draw the forces in place of the curves.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes; angles are in degrees.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If a margin is not callable, or ``axes`` is something else.
        ValueError: If there are no margins, a hyperparameter is an array, or a function
            does not return a value for each angle.

    Example:
        >>> margins = {"ArcFace": sx.margins.ArcFace(), "CosFace": sx.margins.CosFace()}
        >>> axes = sx.plots.psi(margins)
        >>> [line.get_label() for line in axes.lines]
        ['cosine', 'ArcFace', 'CosFace']
    """
    check_flag("forces", forces)
    named = by_name("margins", margins)
    angles = jnp.linspace(0.0, jnp.pi, _ANGLES)
    curves = [_curve(margin, angles, forces) for margin in named.values()]
    is_new = axes is None
    axes = as_axes(axes, (5.8, 3.2))
    degrees = np.linspace(0.0, 180.0, _ANGLES)
    plain = np.sin(angles) if forces else np.cos(angles)
    axes.plot(degrees, plain, label="no margin" if forces else "cosine", **REFERENCE)
    styles = line_styles(axes, len(curves))
    for name, curve, style in zip(named, curves, styles, strict=True):
        axes.plot(degrees, curve, label=name or "_", lw=1.6, **style)
    axes.set(
        xlim=(0.0, 180.0),
        xticks=range(0, 181, 45),
        xlabel=r"angle $\theta$ to the target's prototype, degrees",
        ylabel=r"force $-\psi'(\theta)$" if forces else r"$\psi(\theta)$",
    )
    if is_new:
        add_legend(axes)
    return axes


def _curve(margin: Any, angles: jax.Array, forces: bool) -> np.ndarray:
    if not callable(margin) or isinstance(margin, type):
        raise TypeError(
            "margins must be a margin, such as sphax.margins.ArcFace(), a function of"
            f" the angles, or a mapping from names to them, got {shown(margin)}."
        )
    if isinstance(margin, Margin) and any(np.ndim(x) for x in jax.tree.leaves(margin)):
        raise ValueError(
            "margins must have numbers as hyperparameters, got an array; draw a margin"
            " for each entry."
        )
    values: Any
    if forces:
        values = -jax.jvp(margin, (angles,), (jnp.ones_like(angles),))[1]
        steepest = _STEEPEST["force"]
    else:
        values, steepest = margin(angles), _STEEPEST["psi"]
    if jnp.shape(values) != angles.shape:
        raise ValueError(
            "margins must return a value for each angle, got shape"
            f" {jnp.shape(values)} for angles {angles.shape}."
        )
    curve = np.array(values, np.float64)
    change = steepest * np.pi / (_ANGLES - 1)
    curve[1:][np.abs(np.diff(curve)) > change] = np.nan
    return curve
