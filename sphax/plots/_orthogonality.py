"""How far matrices are from orthogonal, step by step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from sphax.plots._drawing import add_legend, as_axes, by_name, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Errors = ArrayLike | jax.Array


def orthogonality(
    errors: _Errors | Mapping[str, _Errors],
    *,
    steps: ArrayLike | jax.Array | None = None,
    axes: "Axes | None" = None,
) -> "Axes":
    """Errors of orthogonality over the steps of training, on a logarithmic axis.

    Whether rounding accumulates, and which layer or method leaves the orthogonal group.

    Args:
        errors: Error at each step, as :func:`sphax.orthogonal.orthogonality_error`
            returns it, not negative, ``[steps]``; or several by name, of layers or
            methods. NaN is a gap.
        steps: Number of each step, ``[steps]``, the same for all; from 0 on by default.
        axes: Where to draw; a new figure by default.

    Returns:
        The axes. An error of exactly 0 is below every axis, and not drawn.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If ``axes`` is something else.
        ValueError: If shapes do not fit, or an error is negative.

    Example:
        >>> errors = {"first": jnp.array([1e-7, 3e-7]), "second": [1e-7, 2e-7]}
        >>> axes = sx.plots.orthogonality(errors, steps=[0, 100])
        >>> axes.get_yscale()
        'log'
    """
    named = {
        name: np.asarray(values, np.float64)
        for name, values in by_name("errors", errors).items()
    }
    places = None if steps is None else np.asarray(steps)
    for name, values in named.items():
        of = f" of {name!r}" * bool(name)
        if values.ndim != 1 or not values.size:
            raise ValueError(f"errors{of} must be [steps], got shape {values.shape}.")
        if places is not None and places.shape != values.shape:
            raise ValueError(
                f"steps must have the shape of errors{of}, got steps {places.shape} and"
                f" errors {values.shape}."
            )
        if np.any(values < 0.0):
            raise ValueError(
                f"errors{of} must not be negative, got {np.nanmin(values):g}; they are"
                " norms, not their logarithms."
            )
    is_new = axes is None
    axes = as_axes(axes, (5.4, 3.0))
    styles = line_styles(axes, len(named))
    for (name, values), style in zip(named.items(), styles, strict=True):
        x = np.arange(len(values)) if places is None else places
        drawn = np.where(values > 0.0, values, np.nan)
        axes.plot(x, drawn, label=name or "_", lw=1.4, **style)
    axes.set(xlabel="step", ylabel="error of orthogonality", yscale="log")
    if is_new:
        add_legend(axes)
    return axes
