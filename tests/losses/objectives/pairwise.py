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


def triplet(x, labels, batch, held=None, *, margin, mining, distance, soft):
    d = distance_matrix(x, distance)
    is_soft = soft or margin == "soft"
    m = 0.0 if margin == "soft" else margin
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
    if mining.startswith("easy_positive"):
        nearest = min(positives, key=lambda p: d[p])
        is_semi_hard = mining == "easy_positive_semi_hard"
        beyond = [n for n in negatives if d[n] > d[nearest] or not is_semi_hard]
        return [(nearest, min(beyond, key=lambda n: d[n]))] if beyond else []
    pairs = [(p, n) for p in positives for n in negatives]
    if mining == "easy":
        return [(p, n) for p, n in pairs if d[n] >= d[p] + m]
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


def n_pair_first(x, labels, batch, held=None, *, regularization, pairing):
    own = list(labels[:batch])
    paired = {c: [i for i in range(batch) if own[i] == c][:2] for c in own}
    paired = [rows for rows in paired.values() if len(rows) == 2]
    others = [p for _, p in paired] + list(range(batch, len(labels)))
    for a, p in paired:
        negatives = [n for n in others if labels[n] != labels[a]]
        powers = [np.exp(x[a] @ x[n] - x[a] @ x[p]) for n in negatives]
        lengths = x[a] @ x[a] + x[p] @ x[p]
        yield a, np.log1p(sum(powers)) + regularization * lengths / 2


def angular(x, labels, batch, held=None, *, angle):
    s, square = cosines(x), np.tan(float(angle)) ** 2
    for a, positives, negatives in anchors_of(labels, batch):
        for p in positives:
            near = 2 * (1 + square) * s[a, p]
            gaps = [4 * square * (s[a, n] + s[p, n]) - near for n in negatives]
            yield a, np.logaddexp.reduce([0.0, *gaps])


def uss(x, labels, batch, held=None, *, bias, scale, margin):
    s = cosines(x)
    for a, positives, negatives in anchors_of(labels, batch):
        if positives or negatives:
            pull = sum(np.log1p(np.exp(bias - scale * (s[a, positives] - margin))))
            yield a, pull + sum(np.log1p(np.exp(scale * s[a, negatives] - bias)))


def dcl(x, labels, batch, held=None, *, scale, sigma=None, weights=None):
    s = cosines(x)
    paired = [
        (a, p, negatives)
        for a, positives, negatives in anchors_of(labels, batch)
        for p in positives
        if negatives
    ]
    if sigma is not None:
        w = np.ones(batch) if weights is None else weights
        powers = [w[a] * np.exp(s[a, p] / sigma) for a, p, _ in paired]
        mean = sum(powers) / sum(w[a] for a, _, _ in paired) if paired else 1.0
    for a, p, negatives in paired:
        weight = 1.0 if sigma is None else 2 - np.exp(s[a, p] / sigma) / mean
        yield (
            a,
            np.log(np.exp(scale * s[a, negatives]).sum()) - weight * scale * s[a, p],
        )


def dcl_weighted(
    x, labels, held=None, *, batch=None, weights=None, weighted, **options
):
    """The weights of the anchors count in the mean within each of its weights too."""
    costs = partial(dcl, weights=weights, **options)
    return mean_of(costs, x, labels, held, batch=batch, weights=weights)


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


def pair_variance(x, labels, held=None, *, batch=None, weights=None, **slacks):
    """The mean of the positive pairs plus that of the negative ones."""
    batch, s = len(x) if batch is None else batch, cosines(x)
    weights = np.ones(batch) if weights is None else weights
    _, positives, negatives = zip(*anchors_of(labels, batch), strict=True)
    total = 0.0
    positive, negative = 1 - slacks["positive_slack"], -1 - slacks["negative_slack"]
    for kind, sign in ((positives, positive), (negatives, negative)):
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
        definition=partial(definition or partial(mean_of, costs), **options),
        shapes=(SHAPE,),
        labels=LABELS,
        scales=scales,
        errors=errors(loss, *own),
    )


def triplet_row(*own, **options):
    usual = {"margin": 0.2, "mining": "all", "distance": "squared", "soft": False}
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
    (ValueError, 'mining="easy" takes .* soft=True', dict(mining="easy")),
    (TypeError, "soft must be True or False, got 'yes'", dict(soft="yes")),
    (ValueError, "mining must be one of", dict(mining="hardest")),
    (ValueError, "distance must be one of", dict(distance="cosine")),
)

ONE_EACH = dict(references=X, reference_labels=Y)
BAD_FIRST = tuple(
    (error, match, dict(pairing="first") | options)
    for error, match, options in (
        (ValueError, "references has no order within a class", ONE_EACH),
        (
            ValueError,
            "labels must be integer with pairing",
            dict(y=np.ones((4, 2), bool)),
        ),
        (
            ValueError,
            "pairs has no order within a class",
            dict(y=None, pairs=(np.eye(4) > 0, np.eye(4) < 1)),
        ),
        (ValueError, "memory_positives has no meaning", dict(memory_positives=True)),
    )
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
    "triplet-easy-positive": triplet_row(mining="easy_positive"),
    "triplet-easy-positive-semi-hard": triplet_row(
        mining="easy_positive_semi_hard", distance="euclidean", soft=True
    ),
    "triplet-soft": triplet_row(margin="soft"),
    "triplet-easy-soft": triplet_row(mining="easy", soft=True),
    "n-pair": row(
        losses.n_pair,
        n_pair,
        (ValueError, "pairing must be one of", dict(pairing="second")),
        (ValueError, "regularization must lie in", dict(regularization=-1.0)),
        regularization=0.1,
        scales=(),
    ),
    "n-pair-first": row(
        losses.n_pair,
        n_pair_first,
        *BAD_FIRST,
        regularization=0.1,
        pairing="first",
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
        losses.pair_variance,
        None,
        (ValueError, r"positive_slack must lie in \[0, 1\)", dict(positive_slack=1)),
        (ValueError, "negative_slack must lie in", dict(negative_slack=-0.1)),
        positive_slack=0.1,
        negative_slack=0.2,
        definition=pair_variance,
    ),
    "angular": row(
        losses.angular,
        angular,
        (ValueError, r"angle must lie in \(0, 1.5708\), got 0", dict(angle=0)),
        (
            ValueError,
            r"angle must be in radians, .* 45 degrees are 0.7854",
            dict(angle=45),
        ),
        angle=0.7,
    ),
    # float32, since JAX 0.10 keeps the constants of a trace without 64-bit types, and
    # takes them for those of one that has them.
    "angular-exact": row(losses.angular, angular, angle=np.array(0.7, np.float32)),
    "uss": row(
        partial(losses.uss, bias=3.0),
        partial(uss, bias=3.0),
        *BAD_SCALE,
        (ValueError, r"margin must lie in \[0, inf\)", dict(margin=-0.1)),
        (ValueError, r"bias must lie in \(-inf, inf\)", dict(bias=np.inf)),
        scale=8.0,
        margin=0.1,
    ),
    "dcl": row(
        losses.dcl,
        dcl,
        *BAD_SCALE,
        (ValueError, r"sigma must lie in \(0, inf\), got 0", dict(sigma=0)),
        (TypeError, "weighted must be True or False", dict(weighted=1)),
        scale=10.0,
    ),
    "dcl-weighted": row(
        losses.dcl,
        dcl,
        scale=4.0,
        sigma=0.5,
        weighted=True,
        definition=dcl_weighted,
    ),
}
