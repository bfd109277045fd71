"""Rows of the objectives of a batch without a row for each class or pair."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from sphax import losses
from tests.losses.objectives._objective import Objective
from tests.reference import directions

# Classes of three and two rows, and one row alone.
LABELS = (5, -2, 5, -2, 5, 8)
SHAPE = (len(LABELS), 4)
X, Y = jnp.ones((4, 3)), jnp.array([0, 0, 1, 1])


def koleo(x, held=None):
    u = directions(np.asarray(x))
    apart = np.linalg.norm(u[:, None] - u[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return -np.log(apart.min(1)).mean() if len(u) > 1 else 0.0


def norm_variance(x, held=None):
    return np.linalg.norm(x, axis=1).var()


def ge2e(x, scale, bias, labels, held=None, *, form):
    u, labels, costs = directions(np.asarray(x)), np.asarray(labels), []
    for i, label in enumerate(labels):
        mates = (labels == label) & (np.arange(len(u)) != i)
        if not mates.any():
            continue
        z = {
            other: scale * similarity(u[i], u[labels == other].mean(0)) + bias
            for other in set(labels) - {label}
        }
        own, others = scale * similarity(u[i], u[mates].mean(0)) + bias, [*z.values()]
        if form == "softmax":
            costs.append(np.log(np.exp([own, *others]).sum()) - own)
        else:
            worst = max(sigmoid(z) for z in others) if others else 0.0
            costs.append(1 - sigmoid(own) + worst)
    return np.mean(costs) if costs else 0.0


def similarity(x, y):
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def ge2e_row(form, errors=()):
    def loss(x, scale, bias, labels, where=None):
        return losses.ge2e(x, labels, scale=scale, bias=bias, form=form, where=where)

    return Objective(
        loss,
        partial(ge2e, form=form),
        shapes=(SHAPE, (), ()),
        labels=LABELS,
        scales=(0,),
        positive=(1,),
        errors=errors,
    )


def bad(function, *arguments, **options):
    return lambda: function(*arguments, **options)


BATCHWISE = {
    "koleo": Objective(
        losses.koleo,
        koleo,
        shapes=(SHAPE,),
        labels=None,
        scales=(0,),
        errors=(
            (
                ValueError,
                r"must be \[n, features\], one batch",
                bad(losses.koleo, X[0]),
            ),
            (TypeError, "must be floating", bad(losses.koleo, Y)),
            (ValueError, "where must have", bad(losses.koleo, X, where=X[0])),
            (ValueError, "block_size must be 1", bad(losses.koleo, X, block_size=0)),
        ),
    ),
    "norm_variance": Objective(
        losses.norm_variance,
        norm_variance,
        shapes=(SHAPE,),
        labels=None,
        errors=(
            (
                ValueError,
                r"center must lie in \[0, inf\), got -1",
                bad(losses.norm_variance, X, center=-1.0),
            ),
            (ValueError, "a scalar", bad(losses.norm_variance, X, center=X[0])),
            (ValueError, "where must have", bad(losses.norm_variance, X, where=X[0])),
        ),
    ),
    "ge2e": ge2e_row(
        "softmax",
        errors=(
            (ValueError, "form must be one of", bad(losses.ge2e, X, Y, form="x")),
            (ValueError, r"scale must lie in \(0,", bad(losses.ge2e, X, Y, scale=0)),
            (TypeError, "got dtype bool", bad(losses.ge2e, X, X > 0)),
            (TypeError, "no argument w: it is", bad(losses.ge2e, X, Y, w=1.0)),
        ),
    ),
    "ge2e-contrast": ge2e_row("contrast"),
}
