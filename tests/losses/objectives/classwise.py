"""Rows of the class-wise, proxy and centre objectives, alignment and uniformity."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.losses.objectives._objective import Objective
from tests.reference import angles, directions

N, CLASSES, FEATURES = 6, 4, 3
LABELS = (2, 0, 1, 1, 3, 0)
X, W, Y = jnp.ones((N, FEATURES)), jnp.ones((CLASSES, FEATURES)), jnp.array(LABELS)


def is_target(labels, classes=CLASSES):
    return np.arange(classes) == np.asarray(labels)[:, None]


# SphereFace2


def similarities(x, w, labels, *, variant, margin, exponent):
    """With the margin, of every example and class, one by one."""
    theta = angles(x, w)
    out = np.zeros_like(theta)
    for i, j in np.ndindex(theta.shape):
        if variant == "C":
            moved, shift = theta[i, j], -margin if j == labels[i] else margin
        else:
            moved = theta[i, j] + margin if variant == "A" else theta[i, j] * margin
            moved = min(moved, np.pi) if j == labels[i] else theta[i, j]
            shift = 0.0
        out[i, j] = 2 * ((np.cos(moved) + 1) / 2) ** exponent - 1 + shift
    return out


def sphereface2(
    x, w, bias, labels, held=(), *, margin, variant="C", detached=False, r=5.0, t=3.0
):
    x, w = np.asarray(x), np.asarray(w)
    modify = partial(similarities, variant=variant, margin=margin, exponent=t)
    if detached:
        x0, w0 = held[:2]
        offset = modify(x0, w0, labels) - np.cos(angles(x0, w0))
        z = r * (np.cos(angles(x, w)) + offset) + bias
    else:
        z = r * modify(x, w, labels) + bias
    own = is_target(labels)
    positive, negative = np.log1p(np.exp(-z)), np.log1p(np.exp(z))
    each = np.where(own, 0.6 * positive, 0.4 * negative) / r
    return each.sum(1).mean()


def sphereface2_row(variant, margin, errors=(), **options):
    detached = options.get("gradient") == "detached"
    define = partial(sphereface2, variant=variant, margin=margin, detached=detached)

    def loss(x, w, bias, labels, where=None):
        return sx.losses.sphereface2(
            x,
            w,
            labels,
            bias,
            variant=variant,
            margin=margin,
            scale=5.0,
            balance=0.6,
            where=where,
            **options,
        )

    return Objective(
        loss,
        define,
        shapes=((N, FEATURES), (CLASSES, FEATURES), ()),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=errors,
    )


def bad_sphereface2(**options):
    return lambda: sx.losses.sphereface2(X, W, Y, 0.0, **options)


SPHEREFACE2_ERRORS = (
    (ValueError, "variant must be one of", bad_sphereface2(variant="B")),
    (ValueError, "gradient must be one of", bad_sphereface2(gradient="straight")),
    (ValueError, r'"C" must lie in \[0, 2\), got 2', bad_sphereface2(margin=2)),
    (ValueError, r'"M" must .* got 0.5', bad_sphereface2(variant="M", margin=0.5)),
    (ValueError, "margin must be a scalar", bad_sphereface2(margin=np.ones(N))),
    (ValueError, r"scale must lie in \(0, inf\)", bad_sphereface2(scale=0.0)),
    (ValueError, "scale must be a scalar", bad_sphereface2(scale=np.ones(N))),
    (ValueError, r"exponent must lie in \[1, inf\)", bad_sphereface2(exponent=0.5)),
    (ValueError, r"balance must lie in \(0, 1\)", bad_sphereface2(balance=1.0)),
    (ValueError, "balance must be a scalar", bad_sphereface2(balance=np.ones(2))),
    (ValueError, "block_size must be 1 or more", bad_sphereface2(block_size=0)),
    (ValueError, "where must have the shape", bad_sphereface2(where=np.ones(2))),
    (TypeError, "where must be a boolean mask", bad_sphereface2(where=Y)),
    (
        ValueError,
        r"bias must be a scalar, got shape \(4,\)",
        lambda: sx.losses.sphereface2(X, W, Y, jnp.zeros(CLASSES)),
    ),
    (
        TypeError,
        "bias must be floating",
        lambda: sx.losses.sphereface2(X, W, Y, 1),
    ),
    (
        ValueError,
        "turned by neurons.to_rows",
        lambda: sx.losses.sphereface2(X, W.T, Y, 0.0),
    ),
)

# P2SGrad and the hinge


def p2sgrad(x, w, labels, held=None):
    gaps = np.cos(angles(np.asarray(x), np.asarray(w))) - is_target(labels)
    return 0.5 * (gaps**2).sum(1).mean()


def p2sgrad_row(errors=(), **options):
    return Objective(
        lambda x, w, labels, where=None: sx.losses.p2sgrad(
            x, w, labels, where=where, **options
        ),
        p2sgrad,
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=errors,
    )


P2SGRAD_ERRORS = (
    (ValueError, "labels must have the shape", lambda: sx.losses.p2sgrad(X, W, Y[:2])),
    (TypeError, "labels must be integer", lambda: sx.losses.p2sgrad(X, W, Y * 1.0)),
    (TypeError, "embeddings must be floating", lambda: sx.losses.p2sgrad(Y, W, Y)),
    (
        ValueError,
        "block_size must be 1 or more",
        lambda: sx.losses.p2sgrad(X, W, Y, block_size=0),
    ),
)


def hinge(x, w, labels, held=None, *, power, normalize, scale):
    x, w = np.asarray(x), np.asarray(w)
    if normalize == "both":
        x = scale * directions(x)
    if normalize != "none":
        w = directions(w)
    signs = np.where(is_target(labels), 1, -1)
    return (np.maximum(1 - signs * (x @ w.T), 0) ** power).sum(1).mean()


def hinge_row(
    power: Any = 1, normalize: Any = "none", scale=None, errors=(), **options
):
    return Objective(
        lambda x, w, labels, where=None: sx.losses.hinge(
            x,
            w,
            labels,
            power=power,
            normalize=normalize,
            scale=scale,
            where=where,
            **options,
        ),
        partial(hinge, power=power, normalize=normalize, scale=scale),
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales={"none": (), "prototypes": (1,), "both": (0, 1)}[normalize],
        errors=errors,
    )


def bad_hinge(**options):
    return lambda: sx.losses.hinge(X, W, Y, **options)


HINGE_ERRORS = (
    (ValueError, "power must be one of", bad_hinge(power=3)),
    (ValueError, "normalize must be one of", bad_hinge(normalize="x")),
    (ValueError, "scale has no effect", bad_hinge(scale=2.0)),
    (ValueError, "scale must be positive", bad_hinge(scale=-1.0, normalize="both")),
    (
        ValueError,
        "scale must be a scalar or",
        bad_hinge(scale=np.ones(2), normalize="both"),
    ),
    (ValueError, "block_size must be 1 or more", bad_hinge(block_size=-1)),
)

# Proxies


def proxy_nca(x, proxies, labels, held=None, *, scale, include_target):
    gaps = directions(np.asarray(x))[:, None] - directions(np.asarray(proxies))
    terms = np.exp(-scale * (gaps**2).sum(-1))
    own = is_target(labels)
    below = terms.sum(1) if include_target else np.where(own, 0, terms).sum(1)
    return -np.log(terms[own] / below).mean()


def proxy_nca_row(scale=1.0, include_target=False, errors=()):
    options = dict(scale=scale, include_target=include_target)
    return Objective(
        partial(sx.losses.proxy_nca, **options),
        partial(proxy_nca, **options),
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=errors,
    )


def bad_proxy_anchor(**options):
    return lambda: sx.losses.proxy_anchor(X, W, Y, **options)


PROXY_NCA_ERRORS = (
    (
        ValueError,
        r"two or more classes, got 1, proxies \(1, 3\)",
        lambda: sx.losses.proxy_nca(X, W[:1], Y),
    ),
    (
        ValueError,
        r"scale must lie in \(0, inf\)",
        lambda: sx.losses.proxy_nca(X, W, Y, scale=0),
    ),
    (
        ValueError,
        r"must be \[classes, features\]",
        lambda: sx.losses.proxy_nca(X, W[0], Y),
    ),
)
PROXY_ANCHOR_ERRORS = (
    (ValueError, r"scale must lie in \(0, inf\)", bad_proxy_anchor(scale=0)),
    (ValueError, "scale must be a scalar", bad_proxy_anchor(scale=np.ones(N))),
    (ValueError, r"margin must lie in \[0, inf\)", bad_proxy_anchor(margin=-0.1)),
    (ValueError, "margin must be a scalar", bad_proxy_anchor(margin=np.ones(N))),
)


def proxy_anchor(x, proxies, labels, held=None, *, scale, margin):
    cosines = np.cos(angles(np.asarray(x), np.asarray(proxies)))
    labels, pulls, pushes = np.asarray(labels), [], []
    for p in range(len(proxies)):
        own, others = cosines[labels == p, p], cosines[labels != p, p]
        if len(own):
            pulls.append(np.log1p(np.exp(-scale * (own - margin)).sum()))
        pushes.append(np.log1p(np.exp(scale * (others + margin)).sum()))
    return (np.mean(pulls) if pulls else 0.0) + np.mean(pushes)


def proxy_anchor_row(labels, scale, margin, errors=()):
    options = dict(scale=scale, margin=margin)
    return Objective(
        partial(sx.losses.proxy_anchor, **options),
        partial(proxy_anchor, **options),
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=labels,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=errors,
    )


# SoftTriple and UniFace

CENTERS = jnp.ones((CLASSES, 3, FEATURES))


def soft_triple(x, centers, labels, held=None, *, scale, inner_scale, margin, weight):
    cosines = np.stack([np.cos(angles(np.asarray(x), c)) for c in centers], axis=1)
    near = np.exp(inner_scale * cosines)
    similarities = (near * cosines).sum(-1) / near.sum(-1)
    logits = scale * (similarities - margin * is_target(labels))
    entropies = np.log(np.exp(logits).sum(1)) - logits[is_target(labels)]
    classes, k = centers.shape[:2]
    apart = 0.0
    for own in directions(np.asarray(centers)):
        for t, u in zip(*np.triu_indices(k, 1), strict=True):
            apart += np.sqrt(2 - 2 * own[t] @ own[u])
    return entropies.mean() + weight * apart / (classes * k * max(k - 1, 1))


def bad_soft_triple(w=CENTERS, **options):
    return lambda: sx.losses.soft_triple(X, w, Y, **options)


SOFT_TRIPLE_ERRORS = (
    (ValueError, r"must be \[classes, k, features\], k cent", bad_soft_triple(W)),
    (ValueError, r"scale must lie in \(0, inf\), got 0", bad_soft_triple(scale=0)),
    (ValueError, r"inner_scale must .* got -1", bad_soft_triple(inner_scale=-1)),
    (ValueError, r"margin must lie in \[0, inf\)", bad_soft_triple(margin=-0.1)),
    (ValueError, "regularization must lie", bad_soft_triple(regularization=-1.0)),
    (ValueError, "margin must be a scalar", bad_soft_triple(margin=np.ones(N))),
    (ValueError, "block_size must be 1 or more", bad_soft_triple(block_size=0)),
    (TypeError, "no argument gamma: give inner_scale", bad_soft_triple(gamma=0.1)),
)


def uce(x, w, bias, labels, held=None, *, scale, margin, negative_weight):
    own = is_target(labels)
    cosines = np.cos(angles(np.asarray(x), np.asarray(w)))
    positive = np.log1p(np.exp(bias - scale * (cosines - margin)))
    negative = np.log1p(np.exp(scale * cosines - bias))
    return np.where(own, positive, negative_weight * negative).sum(1).mean()


def with_bias(x, w, bias, labels, **options):
    return sx.losses.uce(x, w, labels, bias=bias, **options)


def bad_uce(bias: Any = 0.0, **options):
    return lambda: sx.losses.uce(X, W, Y, bias=bias, **options)


UCE_ERRORS = (
    (TypeError, "bias must be floating", bad_uce(1)),
    (ValueError, r"bias must be a scalar, got shape \(4,\)", bad_uce(jnp.ones(4))),
    (ValueError, r"scale must lie in \(0, inf\)", bad_uce(scale=0.0)),
    (ValueError, r"margin must lie in \[0, inf\)", bad_uce(margin=-0.1)),
    (ValueError, "negative_weight must lie in", bad_uce(negative_weight=-1.0)),
    (ValueError, "block_size must be 1 or more", bad_uce(block_size=0)),
    (ValueError, "classes must be 1 or more", lambda: sx.losses.uce_bias(0)),
    (
        ValueError,
        r"share must lie in \(0, 1\], got 0",
        lambda: sx.losses.uce_bias(9, share=0),
    ),
)

# Centres


def center(x, centers, labels, held=None):
    gaps = np.asarray(x) - np.asarray(centers)[np.asarray(labels)]
    return 0.5 * 0.3 * (gaps**2).sum(1).mean()


def ring(x, radius, held=None):
    return 0.5 * 0.2 * ((np.linalg.norm(x, axis=1) - radius) ** 2).mean()


def uniform_face(centers, held=None):
    # The half of the pairs: the other half is the same.
    pairs = [(centers[a], centers[b]) for b in range(len(centers)) for a in range(b)]
    return 0.7 * np.mean([1 / (np.linalg.norm(a - b) + 1) for a, b in pairs])


# Alignment and uniformity


def uniformity(points, held=None, *, scale=2.0):
    u = directions(np.asarray(points))
    pairs = [(u[i], u[j]) for j in range(len(u)) for i in range(j)]
    return np.log(np.mean([np.exp(-scale * np.sum((a - b) ** 2)) for a, b in pairs]))


def alignment(x, y, held=None, *, power):
    gaps = directions(np.asarray(x)) - directions(np.asarray(y))
    return (np.linalg.norm(gaps, axis=1) ** power).mean()


def alignment_row(power, errors=()):
    return Objective(
        partial(sx.energy.alignment, power=power),
        partial(alignment, power=power),
        shapes=((N, FEATURES), (N, FEATURES)),
        labels=None,
        masked=(0, 1),
        rotated=(0, 1),
        scales=(0, 1),
        errors=errors,
    )


def uniformity_row(scale, errors=()):
    return Objective(
        partial(sx.energy.uniformity, scale=scale),
        partial(uniformity, scale=scale),
        shapes=((N, FEATURES),),
        labels=None,
        scales=(0,),
        errors=errors,
    )


CLASSWISE: dict[str, Objective] = {
    "sphereface2-C": sphereface2_row("C", 0.4, SPHEREFACE2_ERRORS),
    "sphereface2-A": sphereface2_row("A", 0.5),
    "sphereface2-M": sphereface2_row("M", 1.7),
    "sphereface2-C-detached": sphereface2_row("C", 0.4, gradient="detached"),
    "sphereface2-A-detached": sphereface2_row("A", 0.5, gradient="detached"),
    "sphereface2-blocked": sphereface2_row("C", 0.4, block_size=3),
    "p2sgrad": p2sgrad_row(P2SGRAD_ERRORS),
    "p2sgrad-blocked": p2sgrad_row(block_size=3),
    "hinge": hinge_row(errors=HINGE_ERRORS),
    "hinge-squared": hinge_row(power=2),
    "hinge-prototypes": hinge_row(normalize="prototypes"),
    "hinge-both": hinge_row(power=2, normalize="both", scale=3.0),
    "hinge-blocked": hinge_row(block_size=3),
    "proxy_nca": proxy_nca_row(errors=PROXY_NCA_ERRORS),
    "proxy_nca-all": proxy_nca_row(scale=3.0, include_target=True),
    "proxy_anchor": proxy_anchor_row(LABELS, 5.0, 0.2, PROXY_ANCHOR_ERRORS),
    "proxy_anchor-absent": proxy_anchor_row((2, 0, 2, 2, 2, 0), 32.0, 0.1),
    "soft_triple": Objective(
        partial(
            sx.losses.soft_triple,
            scale=5.0,
            inner_scale=3.0,
            margin=0.1,
            regularization=0.7,
        ),
        partial(soft_triple, scale=5.0, inner_scale=3.0, margin=0.1, weight=0.7),
        shapes=((N, FEATURES), CENTERS.shape),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=SOFT_TRIPLE_ERRORS,
    ),
    "uce": Objective(
        partial(with_bias, scale=5.0, margin=0.2, negative_weight=0.6),
        partial(uce, scale=5.0, margin=0.2, negative_weight=0.6),
        shapes=((N, FEATURES), (CLASSES, FEATURES), ()),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=UCE_ERRORS,
    ),
    "center": Objective(
        partial(sx.losses.center, weight=0.3),
        center,
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        errors=(
            (
                ValueError,
                "weight must be a scalar",
                lambda: sx.losses.center(X, W, Y, weight=np.ones(2)),
            ),
            (
                ValueError,
                r"must be \[classes, features\]",
                lambda: sx.losses.center(X, W[0], Y),
            ),
            (
                ValueError,
                "rate must be a scalar",
                lambda: sx.losses.update_centers(W, X, Y, rate=np.ones(2)),
            ),
        ),
    ),
    "ring": Objective(
        partial(sx.losses.ring, weight=0.2),
        ring,
        shapes=((N, FEATURES), ()),
        labels=None,
        errors=(
            (TypeError, "radius must be floating", lambda: sx.losses.ring(X, 1)),
            (
                ValueError,
                "radius must be a scalar",
                lambda: sx.losses.ring(X, jnp.ones(N)),
            ),
            (
                ValueError,
                "where must have the shape of embeddings without",
                lambda: sx.losses.ring(X, 1.0, where=np.ones(2)),
            ),
        ),
    ),
    "uniform_face": Objective(
        partial(sx.losses.uniform_face, weight=0.7),
        uniform_face,
        shapes=((N, FEATURES),),
        labels=None,
        errors=(
            (
                ValueError,
                r"centers must be \[classes, features\], got \(3,\)",
                lambda: sx.losses.uniform_face(W[0]),
            ),
            (
                ValueError,
                "where must have the shape of centers without",
                lambda: sx.losses.uniform_face(W, where=np.ones(2)),
            ),
            (TypeError, "centers must be floating", lambda: sx.losses.uniform_face(Y)),
        ),
    ),
    "uniformity": uniformity_row(
        2.0,
        errors=(
            (
                ValueError,
                r"points must be \[..., n, d\]",
                lambda: sx.energy.uniformity(X[0]),
            ),
            (
                ValueError,
                "scale must be positive, got -1",
                lambda: sx.energy.uniformity(X, scale=-1),
            ),
            (
                ValueError,
                "where must have the shape of points without",
                lambda: sx.energy.uniformity(X, where=np.ones(2)),
            ),
        ),
    ),
    "uniformity-sharp": uniformity_row(20.0),
    "alignment": alignment_row(
        2.0,
        errors=(
            (
                ValueError,
                "power must be positive, got 0",
                lambda: sx.energy.alignment(X, X, power=0),
            ),
            (
                ValueError,
                "x and y must have vectors of one length",
                lambda: sx.energy.alignment(X, X[:, :2]),
            ),
            (
                ValueError,
                "where must have the shape of the pairs",
                lambda: sx.energy.alignment(X, X, where=np.ones(2)),
            ),
        ),
    ),
    "alignment-distance": alignment_row(1.0),
    "alignment-root": alignment_row(0.5),
}
