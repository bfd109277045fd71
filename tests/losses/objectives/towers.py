"""Rows of the objectives of two towers, each with its definition in NumPy."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from sphax import losses
from tests import reference
from tests.losses.objectives._objective import Objective

SHAPE = 7, 5


def products(queries, keys, normalize=True):
    if normalize:
        queries, keys = reference.directions(queries), reference.directions(keys)
    return queries @ keys.T


def own_and_others(n):
    return np.eye(n, dtype=bool), ~np.eye(n, dtype=bool)


def entropies(z, is_positive, is_negative):
    """Cross-entropy of each row, NaN without a positive."""
    losses = np.full(len(z), np.nan)
    for i, (row, positive, negative) in enumerate(
        zip(z, is_positive, is_negative, strict=True)
    ):
        if positive.any():
            compared = row[positive | negative]
            losses[i] = np.mean(
                [np.log(np.exp(compared - z_p).sum()) for z_p in row[positive]]
            )
    return losses


def mean(values, weights=None):
    """Mean over the rows that count."""
    weights = np.ones(len(values)) if weights is None else weights
    weights = np.where(np.isnan(values), 0.0, weights)
    return weights @ np.nan_to_num(values) / max(weights.sum(), 1e-300)


def info_nce(
    queries,
    keys,
    scale,
    held=None,
    *,
    symmetric=True,
    queue=None,
    batch_negatives=True,
    pairs=None,
    where=None,
    normalize=True,
):
    z = scale * products(queries, keys, normalize)
    pairs = own_and_others(len(z)) if pairs is None else pairs
    is_positive, is_negative = pairs[0], pairs[1] & batch_negatives
    if where is not None:
        kept = np.asarray(where) > 0
        is_positive = is_positive & kept[:, None] & kept
        is_negative = is_negative & kept[:, None] & kept
    of_keys = entropies(z.T, is_positive.T, is_negative.T)
    if queue is not None:
        z = np.concatenate([z, scale * products(queries, queue, normalize)], axis=1)
        more = np.zeros((len(z), len(queue)), bool)
        is_positive = np.concatenate([is_positive, more], axis=1)
        is_negative = np.concatenate([is_negative, ~more], axis=1)
    of_queries = mean(entropies(z, is_positive, is_negative), where)
    return (of_queries + mean(of_keys, where)) / 2 if symmetric else of_queries


def sigmoid_pairs(
    queries, keys, scale, bias, held=None, *, pairs=None, where=None, normalize=True
):
    z = scale * products(queries, keys, normalize) + bias
    is_positive, is_negative = own_and_others(len(z)) if pairs is None else pairs
    if where is not None:
        kept = np.asarray(where) > 0
        is_positive = is_positive & kept[:, None] & kept
        is_negative = is_negative & kept[:, None] & kept
    values = np.full(len(z), np.nan)
    for i, row in enumerate(z):
        costs = [np.log1p(np.exp(-x)) for x in row[is_positive[i]]]
        costs += [np.log1p(np.exp(x)) for x in row[is_negative[i]]]
        if costs:
            values[i] = sum(costs)
    return mean(values, where)


X, Y = jnp.ones((4, 3)), jnp.ones((5, 3))
MASKS = jnp.full((4, 5), False), jnp.full((4, 5), True)


def errors(loss, *own):
    """What both objectives refuse, then what this one does."""

    def case(error, match, x=X, y=X, **options):
        return error, match, partial(loss, x, y, **options)

    return (
        case(TypeError, "queries must be floating", X.astype(int)),
        case(TypeError, "keys must be floating", X, X.astype(int)),
        case(ValueError, r"keys must be \[n, features\], one batch", X, X[0]),
        case(ValueError, "queries and keys must have the same features", X, X[:, :2]),
        case(ValueError, r"queries and keys must be as many.*\(4, .*\(5, ", X, Y),
        case(ValueError, "where masks a query", X, Y, pairs=MASKS, where=jnp.ones(4)),
        case(ValueError, "where must have the shape of queries", where=jnp.ones(5)),
        case(ValueError, r"pairs must be masks \(4, 4\), a row", pairs=MASKS),
        case(TypeError, "normalize must be True or False", normalize=1),
        case(ValueError, "reduction must be one of", reduction="sum"),
        case(ValueError, "block_size must be 1 or more", block_size=0),
        case(ValueError, "batch_axis='d' must be an axis", batch_axis="d"),
        case(ValueError, r"scale must lie in \(0, inf\), got 0", scale=0),
        case(ValueError, "scale must be a scalar", scale=jnp.ones(4)),
        case(TypeError, "no argument temperature: give scale", temperature=0.1),
        case(TypeError, "no argument logit_scale: give scale, ", logit_scale=1.0),
        *(case(error, match, **options) for error, match, options in own),
    )


TOWERS = {
    "info_nce": Objective(
        lambda x, y, scale, **more: losses.info_nce(x, y, scale=scale, **more),
        info_nce,
        shapes=(SHAPE, SHAPE, ()),
        labels=None,
        masked=(0, 1),
        rotated=(0, 1),
        scales=(0, 1),
        positive=(2,),
        errors=errors(
            losses.info_nce,
            (ValueError, r"max_scale must lie in \(0, inf\)", dict(max_scale=0.0)),
            (TypeError, "symmetric must be True or False", dict(symmetric="no")),
            (TypeError, "batch_negatives must be True", dict(batch_negatives=0)),
            (ValueError, "queue has negatives of queries", dict(queue=X)),
            (
                ValueError,
                "batch_negatives=False leaves no negatives",
                dict(batch_negatives=False),
            ),
            (
                ValueError,
                "queue must have the features of queries",
                dict(queue=X[:, :2], symmetric=False),
            ),
            (
                ValueError,
                r"queue must be \[n, features\]",
                dict(queue=X[0], symmetric=False),
            ),
            (
                ValueError,
                'reduction="none" has a value for each query and the key',
                dict(y=Y, pairs=MASKS, reduction="none"),
            ),
        ),
    ),
    "sigmoid_pairs": Objective(
        lambda x, y, scale, bias, **more: losses.sigmoid_pairs(
            x, y, scale=scale, bias=bias, **more
        ),
        sigmoid_pairs,
        shapes=(SHAPE, SHAPE, (), ()),
        labels=None,
        masked=(0, 1),
        rotated=(0, 1),
        scales=(0, 1),
        positive=(2,),
        errors=errors(
            losses.sigmoid_pairs,
            (ValueError, "bias must be a scalar", dict(bias=jnp.ones(4))),
            (TypeError, "no argument logit_bias", dict(logit_bias=-10.0)),
        ),
    ),
}
