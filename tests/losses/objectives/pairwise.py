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


def multi_similarity(x, labels, batch, held=None, **options):
    alpha, beta = options["positive_scale"], options["negative_scale"]
    threshold, margin = options["threshold"], options["mining_margin"]
    s = cosines(x)
    for a, positives, negatives in anchors_of(labels, batch):
        if margin is not None:
            most = max(s[a, negatives], default=-np.inf)
            least = min(s[a, positives], default=np.inf)
            positives = [p for p in positives if s[a, p] < most + margin]
            negatives = [n for n in negatives if s[a, n] > least - margin]
        pull = np.exp(-alpha * (s[a, positives] - threshold)).sum()
        push = np.exp(beta * (s[a, negatives] - threshold)).sum()
        yield a, np.log1p(pull) / alpha + np.log1p(push) / beta


def margin_loss(x, labels, batch, held=None, *, margin, boundary):
    d = distance_matrix(x, "euclidean")
    for a, positives, negatives in anchors_of(labels, batch):
        costs = [d[a, p] - boundary + margin for p in positives]
        costs += [boundary - d[a, n] + margin for n in negatives]
        yield from ((a, cost) for cost in costs if cost > 0)


def lifted(x, labels, batch, held=None, *, margin, positive_margin, generalized):
    d = distance_matrix(x, "euclidean")
    anchors = list(anchors_of(labels, batch))
    for a, positives, negatives in anchors:
        apart = np.exp(margin - d[a, negatives]).sum()
        if generalized and positives and negatives:
            near = np.exp(d[a, positives] - positive_margin).sum()
            yield a, max(np.log(near) + np.log(apart), 0.0)
        for p in [] if generalized else positives:
            of_reference = [k for k, _, others in anchors if p in others]
            powers = apart + np.exp(margin - d[of_reference, p]).sum()
            gap = np.log(powers) + d[a, p] - positive_margin if powers else 0.0
            yield a, 0.5 * max(gap, 0.0) ** 2


def tuplet_margin(x, labels, batch, held=None, *, scale, margin):
    s = np.clip(cosines(x), -1.0, 1.0)
    nearer = np.cos(np.arccos(s) - margin)
    for a, positives, negatives in anchors_of(labels, batch):
        for p in positives:
            yield a, np.log1p(np.exp(scale * (s[a, negatives] - nearer[a, p])).sum())


def pair_variance(x, labels, held=None, *, batch=None, weights=None, slack):
    """The mean of the positive pairs plus that of the negative ones."""
    batch, s = len(x) if batch is None else batch, cosines(x)
    weights = np.ones(batch) if weights is None else weights
    _, positives, negatives = zip(*anchors_of(labels, batch), strict=True)
    total = 0.0
    for kind, sign in ((positives, 1 - slack), (negatives, -1 - slack)):
        pairs = [(a, other) for a, others in enumerate(kind) for other in others]
        share = np.array([weights[a] for a, _ in pairs])
        values = np.array([np.sign(sign) * s[a, other] for a, other in pairs])
        if share.sum():
            bound = abs(sign) * (share @ values) / share.sum()
            costs = np.maximum(bound - values, 0.0) ** 2
            total += share @ costs / share.sum()
    return total


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


def row(loss, costs, *own, scales=(0,), definition=None, **options):
    return Objective(
        loss=partial(loss, **options),
        definition=definition or partial(mean_of, costs, **options),
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


def multi_similarity_row(*own, mining_margin):
    return row(
        losses.multi_similarity,
        multi_similarity,
        *own,
        positive_scale=2.0,
        negative_scale=20.0,
        threshold=0.3,
        mining_margin=mining_margin,
    )


def lifted_row(*own, generalized):
    margins = {"margin": 1.2, "positive_margin": 0.1}
    return row(losses.lifted, lifted, *own, **margins, generalized=generalized)


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
    "multi-similarity": multi_similarity_row(
        *(
            (ValueError, rf"{name} must lie in \(0, inf\), got 0", {name: 0.0})
            for name in ("positive_scale", "negative_scale")
        ),
        (ValueError, "mining_margin must lie in", dict(mining_margin=-0.1)),
        (ValueError, "threshold must lie in", dict(threshold=float("nan"))),
        (TypeError, "no argument beta: it is called negative_scale", dict(beta=2.0)),
        mining_margin=0.1,
    ),
    "multi-similarity-all": multi_similarity_row(mining_margin=None),
    "margin-loss": row(
        losses.margin_loss,
        margin_loss,
        (ValueError, "margin must lie in", dict(margin=-1.0)),
        (ValueError, r"boundary must lie in \(0, inf\)", dict(boundary=0)),
        (TypeError, "boundary must be floating", dict(boundary=Y)),
        (ValueError, "boundary must be a scalar or .classes.", dict(boundary=X)),
        (
            ValueError,
            "boundary must be a scalar or .4., one for each row",
            dict(boundary=X[0], boundary_of="anchor"),
        ),
        (
            ValueError,
            "boundary must be a scalar unless labels are integers",
            dict(y=jnp.ones((4, 2), bool), boundary=X[0]),
        ),
        (ValueError, "boundary_of must be one of", dict(boundary_of="image")),
        (ValueError, "regularization must lie in", dict(regularization=-1)),
        (TypeError, "negatives must be integer", dict(negatives=X)),
        (ValueError, r"negatives must be \[n, draws\]", dict(negatives=Y)),
        margin=0.2,
        boundary=1.2,
    ),
    "lifted": lifted_row(
        (ValueError, r"margin must lie in \(0, inf\), got 0", dict(margin=0)),
        (ValueError, "positive_margin must lie in", dict(positive_margin=-1)),
        (TypeError, "generalized must be True or False", dict(generalized=1)),
        generalized=False,
    ),
    "lifted-generalized": lifted_row(generalized=True),
    "tuplet-margin": row(
        losses.tuplet_margin,
        tuplet_margin,
        *BAD_SCALE,
        (ValueError, "margin must be in radians", dict(margin=5.7)),
        (ValueError, r"margin must lie in \[0, 1.5708\)", dict(margin=1.6)),
        scale=8.0,
        margin=0.1,
    ),
    "pair-variance": row(
        partial(losses.pair_variance, positive_slack=0.1, negative_slack=0.1),
        None,
        (ValueError, r"positive_slack must lie in \[0, 1\)", dict(positive_slack=1)),
        (ValueError, "negative_slack must lie in", dict(negative_slack=-0.1)),
        definition=partial(pair_variance, slack=0.1),
    ),
}
