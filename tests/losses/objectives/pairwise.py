"""Rows of the pairwise objectives, each with its definition as loops over NumPy."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from sphax import losses
from tests import reference
from tests.losses.objectives._objective import Objective

# Two classes of three and of two, and two rows that are alone in theirs.
LABELS = (4, -1, 4, 2, -1, 4, 2, 9, 7)
SHAPE = (len(LABELS), 5)


def cosines(x):
    u = reference.directions(x)
    return u @ u.T


def distance_matrix(x, kind):
    u = reference.directions(x)
    apart = np.linalg.norm(u[:, None] - u[None], axis=-1)
    # A vector without a direction is at a right angle to all.
    exists = np.linalg.norm(u, axis=-1) > 0
    apart = np.where(exists[:, None] & exists, apart, np.sqrt(2))
    return apart**2 if kind == "squared" else apart


def anchors_of(labels, batch):
    """Every anchor, its positives and its negatives.

    Given masks in place of labels, ``[anchors, references]``, the references are the
    rows after the anchors.
    """
    if isinstance(labels, tuple):
        for a, masks in enumerate(zip(*labels, strict=True)):
            positives, negatives = (batch + np.flatnonzero(mask) for mask in masks)
            yield a, list(positives), list(negatives)
        return
    for a in range(batch):
        same = [j for j in range(batch) if j != a and labels[j] == labels[a]]
        yield a, same, [j for j in range(len(labels)) if labels[j] != labels[a]]


def mean_of(costs, x, labels, held=None, *, batch=None, weights=None, **options):
    """Mean of what ``costs`` yields, each with its anchor, whose weight it has.

    Rows from ``batch`` on are those of a memory, or the references if ``labels`` are
    masks.
    """
    if held is not None:
        options["held"] = held[0]
    batch = len(x) if batch is None else batch
    found = list(costs(x, labels, batch, **options))
    weights = np.ones(batch) if weights is None else weights
    total = sum(weights[a] for a, _ in found)
    return sum(weights[a] * cost for a, cost in found) / total if total else 0.0


def contrastive(x, labels, batch, held=None, *, margin):
    d = distance_matrix(x, "euclidean")
    for a, positives, negatives in anchors_of(labels, batch):
        for p in positives:
            yield a, 0.5 * d[a, p] ** 2
        for n in negatives:
            yield a, 0.5 * max(margin - d[a, n], 0.0) ** 2


def triplet(x, labels, batch, held=None, *, margin, mining, distance):
    d = distance_matrix(x, distance)
    is_soft = margin == "soft"
    m = 0.0 if is_soft else margin
    for a, positives, negatives in anchors_of(labels, batch):
        for p, n in mined_pairs(d[a], positives, negatives, m, mining):
            gap = d[a, p] - d[a, n] + m
            yield a, np.log1p(np.exp(gap)) if is_soft else max(gap, 0.0)


def mined_pairs(d, positives, negatives, m, mining):
    """Positives and negatives at distances ``d`` from their anchor."""
    if not positives or not negatives:
        return []
    if mining == "batch_hard":
        farthest = max(positives, key=lambda p: d[p])
        return [(farthest, min(negatives, key=lambda n: d[n]))]
    pairs = [(p, n) for p in positives for n in negatives]
    if mining == "active":
        return [(p, n) for p, n in pairs if d[n] < d[p] + m]
    if mining == "hard":
        return [(p, n) for p, n in pairs if d[n] <= d[p]]
    if mining == "semi_hard":
        return [(p, n) for p, n in pairs if d[p] < d[n] < d[p] + m]
    if mining == "nearest_semi_hard":
        return [(p, nearest_beyond(d, p, negatives)) for p in positives]
    return pairs


def nearest_beyond(d, p, negatives):
    beyond = [n for n in negatives if d[n] > d[p]]
    if beyond:
        return min(beyond, key=lambda n: d[n])
    return max(negatives, key=lambda n: d[n])


def pair_entropies(products, labels, batch):
    """``log(1 + sum_n exp(s_n - s_p))`` of every positive pair."""
    for a, positives, negatives in anchors_of(labels, batch):
        for p in positives:
            powers = [np.exp(products[a, n] - products[a, p]) for n in negatives]
            yield a, np.log1p(sum(powers))


def n_pair(x, labels, batch, held=None, *, regularization):
    for a, cost in pair_entropies(x @ x.T, labels, batch):
        yield a, cost + regularization * x[a] @ x[a]


def nt_xent(x, labels, batch, held=None, *, scale):
    return pair_entropies(scale * cosines(x), labels, batch)


def supervised_contrastive(x, labels, batch, held=None, *, scale, mean, anchors):
    powers = np.exp(scale * cosines(x))
    for a, positives, negatives in anchors_of(labels, batch):
        if positives:
            shares = powers[a, positives] / powers[a, positives + negatives].sum()
            inside = -np.log(np.mean(shares))
            yield a, inside if mean == "in" else -np.mean(np.log(shares))
        elif anchors == "all":
            yield a, 0.0


def circle(x, labels, batch, held=None, *, margin, scale):
    s, fixed = cosines(x), cosines(x if held is None else held)
    for a, positives, negatives in anchors_of(labels, batch):
        if positives:
            pull = np.maximum(1 + margin - fixed[a], 0) * (s[a] - (1 - margin))
            push = np.maximum(fixed[a] + margin, 0) * (s[a] - margin)
            near = np.exp(-scale * pull[positives]).sum()
            yield a, np.log1p(near * np.exp(scale * push[negatives]).sum())


X, Y = jnp.ones((4, 3)), jnp.array([0, 0, 1, 1])


def errors(loss, *own):
    """What every pairwise objective refuses, then what this one does."""

    def case(error, match, x=X, y=Y, **options):
        return error, match, partial(loss, x, y, **options)

    narrow = losses.init_memory(4, 2)
    return (
        case(TypeError, "embeddings must be floating", X.astype(int)),
        case(ValueError, r"embeddings must be \[n, features\], one batch", X[0]),
        case(TypeError, "labels must be integer", X, Y * 1.0),
        case(ValueError, "labels must have the shape of embeddings", X, Y[:2]),
        case(TypeError, "where must be a boolean mask", where=Y),
        case(ValueError, "where must have the shape", where=jnp.ones(3)),
        case(TypeError, "memory must be a sphax.losses.MemoryBank", memory=(X, Y)),
        case(ValueError, "memory must have the features of embeddings", memory=narrow),
        *(case(*one, **options) for *one, options in own),
    )


def row(loss, costs, *own, scales=(0,), **options):
    return Objective(
        loss=partial(loss, **options),
        definition=partial(mean_of, costs, **options),
        shapes=(SHAPE,),
        labels=LABELS,
        scales=scales,
        errors=errors(loss, *own),
    )


def triplet_row(*own, **options):
    usual = {"margin": 0.2, "mining": "all", "distance": "squared"}
    return row(losses.triplet, triplet, *own, **usual | options)


def supcon_row(*own, **options):
    usual = {"scale": 4.0, "mean": "out", "anchors": "paired"}
    loss, costs = losses.supervised_contrastive, supervised_contrastive
    return row(loss, costs, *own, **usual | options)


BAD_SCALE = (
    (ValueError, r"scale must lie in \(0, inf\), got 0", dict(scale=0)),
    (ValueError, r"scale must be a scalar, got shape \(4,\)", dict(scale=jnp.ones(4))),
)
BAD_TRIPLET = (
    (ValueError, r"margin must lie in \[0, inf\), got -0.1", dict(margin=-0.1)),
    (ValueError, 'margin must be a number or "soft", got', dict(margin="hard")),
    (ValueError, "asks which negatives", dict(margin="soft", mining="semi_hard")),
    (ValueError, "mining must be one of", dict(mining="hardest")),
    (ValueError, "distance must be one of", dict(distance="cosine")),
)

PAIRWISE = {
    "contrastive": row(
        losses.contrastive,
        contrastive,
        (ValueError, r"margin must lie in \(0, inf\), got 0", dict(margin=0)),
        margin=1.0,
    ),
    "triplet": triplet_row(*BAD_TRIPLET),
    "triplet-active-euclidean": triplet_row(mining="active", distance="euclidean"),
    "triplet-hard": triplet_row(mining="hard"),
    "triplet-semi-hard-squared": triplet_row(mining="semi_hard", margin=0.5),
    "triplet-semi-hard-euclidean": triplet_row(
        mining="semi_hard", margin=0.5, distance="euclidean"
    ),
    "triplet-nearest-semi-hard": triplet_row(
        mining="nearest_semi_hard", margin=0.5, distance="euclidean"
    ),
    "triplet-batch-hard": triplet_row(mining="batch_hard"),
    "triplet-batch-hard-soft": triplet_row(
        mining="batch_hard", margin="soft", distance="euclidean"
    ),
    "triplet-soft": triplet_row(margin="soft"),
    "n-pair": row(
        losses.n_pair,
        n_pair,
        (ValueError, "regularization must lie in", dict(regularization=-1.0)),
        regularization=0.1,
        scales=(),
    ),
    "nt-xent": row(losses.nt_xent, nt_xent, *BAD_SCALE, scale=10.0),
    "supcon-out": supcon_row(
        *BAD_SCALE,
        (ValueError, "mean must be one of", dict(mean="outside")),
        (ValueError, "anchors must be one of", dict(anchors="some")),
    ),
    "supcon-in": supcon_row(mean="in"),
    "supcon-all-anchors": supcon_row(anchors="all"),
    "circle": row(
        losses.circle,
        circle,
        *BAD_SCALE,
        (ValueError, r"margin must lie in \(-1, inf\)", dict(margin=-1.0)),
        margin=0.4,
        scale=80.0,
    ),
}
