"""All losses of the library as heads of a network, by their names in tables.

Hyperparameters are the papers', which the library has by default; the losses on cosines
share one scale, where it is not part of their paper's method. The head of a network has
its parameters and state, and ``loss(embeddings, labels, key=key)``.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import sphax as sx

m, l = sx.margins, sx.losses  # noqa: E741


class _Pairs(nnx.Module):
    """A loss among the embeddings of the batch."""

    def __init__(self, function: Callable[..., jax.Array]):
        self.function = function

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        return self.function(embeddings, labels)


class _Towers(nnx.Module):
    """A loss of two towers, whose queries and keys are every second row of a batch.

    A query belongs to all keys of its class. Scale and bias are learned.
    """

    def __init__(
        self, function: Callable[..., jax.Array], scale: float, bias: float | None
    ):
        self.function = function
        self.log_scale = nnx.Param(jnp.log(scale))
        self.bias = None if bias is None else nnx.Param(jnp.asarray(bias))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        given = {"scale": jnp.exp(self.log_scale[...])}
        if self.bias is not None:
            given["bias"] = self.bias[...]
        pairs = sx.losses.pair_masks(labels[::2], labels[1::2])
        return self.function(embeddings[::2], embeddings[1::2], pairs=pairs, **given)


class _MarginLoss(nnx.Module):
    """The margin loss with drawn negatives, and a learned boundary of each class."""

    def __init__(self, classes: int):
        self.boundary = nnx.Param(jnp.full(classes, 1.2))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss of a batch, in which each anchor draws four negatives."""
        cosines = sx.sphere.cosine_similarity(embeddings, embeddings)
        distances = jnp.sqrt(jnp.maximum(2.0 - 2.0 * cosines, 0.0))
        _, is_negative = sx.losses.pair_masks(labels)
        log_weights = sx.losses.distance_log_weights(
            distances, is_negative, features=embeddings.shape[-1]
        )
        negatives = sx.losses.sample_negatives(key, log_weights, samples=4)
        return sx.losses.margin_loss(
            embeddings, labels, boundary=self.boundary[...], negatives=negatives
        )


class _UnifiedThreshold(nnx.Module):
    """All pairs against one threshold, which starts from the first batch."""

    def __init__(self):
        self.start = nnx.Variable(jnp.asarray(jnp.nan))
        self.change = nnx.Param(jnp.asarray(0.0))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss, with a bias that is learned from its start on."""
        first = sx.losses.uss_bias(embeddings, labels)
        start = jnp.where(jnp.isnan(self.start[...]), first, self.start[...])
        self.start[...] = start
        return sx.losses.uss(embeddings, labels, bias=start + self.change[...])


class _Prototypes(nnx.Module):
    """A loss between embeddings and one learned vector for each class, or several."""

    def __init__(
        self, function, features: int, classes: int, *centers: int, rngs: nnx.Rngs
    ):
        self.function = function
        init = nnx.initializers.normal(features**-0.5)
        shape = classes, *centers, features
        self.prototypes = nnx.Param(init(rngs.params(), shape))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        return self.function(embeddings, self.prototypes[...], labels)


class _SphereFace2(_Prototypes):
    """A binary problem for each class, with one learned bias."""

    def __init__(self, variant, features: int, classes: int, *, rngs: nnx.Rngs):
        super().__init__(sx.losses.sphereface2, features, classes, rngs=rngs)
        self.variant = variant
        bias = sx.losses.sphereface2_bias(classes, variant=variant)
        self.bias = nnx.Param(jnp.asarray(bias))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        weights = self.prototypes[...], labels, self.bias[...]
        return self.function(embeddings, *weights, variant=self.variant)


class _UniFace(_Prototypes):
    """A binary problem for each class, with one learned threshold."""

    def __init__(self, features: int, classes: int, *, rngs: nnx.Rngs):
        super().__init__(sx.losses.uce, features, classes, rngs=rngs)
        self.bias = nnx.Param(jnp.asarray(sx.losses.uce_bias(classes)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        weights = self.prototypes[...], labels
        return self.function(embeddings, *weights, bias=self.bias[...])


class _AdaCos(_Prototypes):
    """Softmax of the cosines, with a scale that follows the angles."""

    def __init__(self, features: int, classes: int, *, rngs: nnx.Rngs):
        super().__init__(sx.losses.margin_softmax, features, classes, rngs=rngs)
        self.scale = nnx.Variable(jnp.asarray(sx.losses.adacos_fixed_scale(classes)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss of the batch, with its own scale."""
        batch = embeddings, self.prototypes[...], labels
        self.scale[...] = sx.losses.adacos_dynamic_scale(*batch, self.scale[...])
        return self.function(*batch, sx.margins.NoMargin(), scale=self.scale[...])


class _Centers(nnx.Module):
    """Distance from centers that follow their classes (center loss)."""

    def __init__(self, features: int, classes: int):
        self.centers = nnx.Variable(jnp.zeros((classes, features)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """From the centers before this batch, which then move."""
        centers = self.centers[...]
        self.centers[...] = sx.losses.update_centers(centers, embeddings, labels)
        return sx.losses.center(embeddings, centers, labels)


class _UniformFace(_Centers):
    """Repulsion of the centers of all classes."""

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        """The loss with the centers after this batch, which have a gradient."""
        centers = sx.losses.update_centers(self.centers[...], embeddings, labels)
        self.centers[...] = centers
        return sx.losses.uniform_face(centers)


class _Ring(nnx.Module):
    """Distance of the norms from a learned one."""

    def __init__(self, features: int, classes: int):
        # The norm that batch normalization gives to an embedding at first.
        self.radius = nnx.Param(jnp.asarray(math.sqrt(features)))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        return sx.losses.ring(embeddings, self.radius[...])


class _GE2E(nnx.Module):
    """Softmax over the centroids of the batch, with a learned scale."""

    def __init__(self):
        self.scale = nnx.Param(jnp.asarray(10.0))

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        return sx.losses.ge2e(embeddings, labels, scale=self.scale[...])


class _Sum(nnx.Module):
    """Two losses at once, each with its parameters."""

    def __init__(self, first: nnx.Module, second: nnx.Module):
        self.first: Any = first
        self.second: Any = second

    def loss(self, embeddings: jax.Array, labels: jax.Array, *, key: Any) -> jax.Array:
        first = self.first.loss(embeddings, labels, key=key)
        return first + self.second.loss(embeddings, labels, key=key)


def alignment_and_uniformity(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of a batch in which neighbors of one class are positive pairs."""
    order = jnp.argsort(labels)
    x, y = embeddings[order], labels[order]
    alignment = sx.energy.alignment(x[1:], x[:-1], where=y[1:] == y[:-1])
    return alignment + sx.energy.uniformity(embeddings)


def tuplets_and_variance(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The tuplet margin loss, with the variance of pairs at half its weight."""
    variance = sx.losses.pair_variance(embeddings, labels)
    return sx.losses.tuplet_margin(embeddings, labels) + 0.5 * variance


def n_pair_and_angular(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The total with which the angular loss was published."""
    return l.n_pair(embeddings, labels) + 2.0 * l.angular(embeddings, labels)


def koleo(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The distance from neighbors with DINOv2's weight."""
    del labels
    return 0.1 * sx.losses.koleo(embeddings)


def triplet_and_norm_variance(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """The triplet loss with norms that are drawn together."""
    triplet = sx.losses.triplet(embeddings, labels, mining="semi_hard")
    return triplet + 0.5 * sx.losses.norm_variance(embeddings)


@cache
def _matryoshka_arcface(features: int, scale: float) -> Callable[..., jax.Array]:
    """ArcFace of an eighth, a quarter and a half of the features, and of all."""
    arcface = partial(l.margin_softmax, margin=m.ArcFace(), scale=scale)
    sizes = [features // part for part in (8, 4, 2, 1) if features >= part]
    return l.matryoshka(arcface, sizes=sizes, cut=2)


class Method(NamedTuple):
    """A loss: its name in tables, its head, and whether it asks for a margin."""

    title: str
    build: Callable[[int, int, float, nnx.Rngs], nnx.Module]
    has_margin: bool = False

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """The head of the network while it trains; ``scale`` if it is used."""
        return self.build(features, classes, scale, rngs)


def _softmax(
    title: str,
    margin: sx.margins.Margin | None = None,
    normalize: Literal["none", "prototypes", "both"] = "both",
    **options: Any,
) -> Method:
    def build(features, classes, scale, rngs):
        given = {"scale": scale} if normalize == "both" else {}
        return sx.layers.MarginHead(
            features,
            classes,
            margin=margin or m.NoMargin(),
            normalize=normalize,
            **given | options,
            rngs=rngs,
        )

    return Method(title, build, margin is not None)


def _adacos_fixed(title: str) -> Method:
    def build(features, classes, scale, rngs):
        scale = l.adacos_fixed_scale(classes)
        return _softmax("").head(features, classes, scale, rngs=rngs)

    return Method(title, build)


def _sphereface2(title: str, variant: Literal["A", "C", "M"]) -> Method:
    def build(features, classes, scale, rngs):
        return _SphereFace2(variant, features, classes, rngs=rngs)

    return Method(title, build, True)


def _prototypes(title: str, function: Callable[..., jax.Array]) -> Method:
    def build(features, classes, scale, rngs):
        return _Prototypes(function, features, classes, rngs=rngs)

    return Method(title, build)


def _pairs(title: str, function: Callable[..., jax.Array], **options: Any) -> Method:
    # Bound once: a partial equals itself alone, and the steps of all seeds are one.
    bound = partial(function, **options)
    return Method(title, lambda features, classes, scale, rngs: _Pairs(bound))


def _with_softmax(title: str, other: Callable[[int, int], nnx.Module]) -> Method:
    def build(features, classes, scale, rngs):
        softmax = METHODS["softmax"].head(features, classes, scale, rngs=rngs)
        return _Sum(softmax, other(features, classes))

    return Method(title, build)


METHODS: dict[str, Method] = {
    "softmax": _softmax("Softmax", normalize="none"),
    "softmax-smoothed": _softmax(
        "Softmax, label smoothing 0.1", normalize="none", label_smoothing=0.1
    ),
    "weight-normalized": _softmax("Weight-normalized softmax", normalize="prototypes"),
    "normface": _softmax("NormFace"),
    "adacos-fixed": _adacos_fixed("AdaCos, fixed scale"),
    "adacos": Method(
        "AdaCos, dynamic scale",
        lambda features, classes, scale, rngs: _AdaCos(features, classes, rngs=rngs),
    ),
    "hinge": _prototypes("Hinge", l.hinge),
    "p2sgrad": _prototypes("P2SGrad", l.p2sgrad),
    "l-softmax-2": _softmax("L-Softmax, m = 2", m.SphereFace(m=2), "none"),
    "l-softmax-3": _softmax("L-Softmax, m = 3", m.SphereFace(m=3), "none"),
    "l-softmax-4": _softmax("L-Softmax, m = 4", m.SphereFace(m=4), "none"),
    "sphereface": _softmax(
        "SphereFace (A-Softmax), m = 4", m.SphereFace(m=4), "prototypes"
    ),
    "sphereface-r1": _softmax(
        "SphereFace-R v1, m = 1.5", m.SphereFaceR(m=1.5, version=1)
    ),
    "sphereface-r2": _softmax(
        "SphereFace-R v2, m = 1.5", m.SphereFaceR(m=1.5, version=2)
    ),
    "cosface": _softmax("CosFace, m = 0.35", m.CosFace()),
    "arcface": _softmax("ArcFace, m = 0.5", m.ArcFace()),
    "combined": _softmax(
        "Combined, m = 1, 0.3, 0.2", m.Combined(m1=1.0, m2=0.3, m3=0.2)
    ),
    "li-arcface": _softmax("Li-ArcFace, m = 0.45", m.LiArcFace()),
    "subcenter-arcface": _softmax(
        "Sub-center ArcFace, K = 3", m.ArcFace(), subcenters=3
    ),
    "filtered-arcface": _softmax(
        "ArcFace, inter-class filter", m.InterClassFilter(m.ArcFace())
    ),
    "curricularface": _softmax("CurricularFace", m.CurricularFace()),
    "mv-cosface": _softmax("MV-Softmax on CosFace", m.MVSoftmax()),
    "mv-arcface": _softmax("MV-Softmax on ArcFace", m.MVSoftmax(m.ArcFace())),
    "magface": _softmax("MagFace", m.MagFace()),
    "adaface": _softmax("AdaFace", m.AdaFace()),
    "elasticface": _softmax("ElasticFace", m.ElasticFace()),
    # The paper's scale: the loss has its optimum at fixed cosines, whatever it is.
    "circle-classes": _softmax("Circle, class level", m.Circle(), scale=256.0),
    "sphereface2-c": _sphereface2("SphereFace2, C", "C"),
    "sphereface2-a": _sphereface2("SphereFace2, A", "A"),
    "sphereface2-m": _sphereface2("SphereFace2, M", "M"),
    "uniface": Method(
        "UniFace",
        lambda features, classes, scale, rngs: _UniFace(features, classes, rngs=rngs),
        True,
    ),
    "matryoshka-arcface": Method(
        "ArcFace, Matryoshka",
        lambda features, classes, scale, rngs: _Prototypes(
            _matryoshka_arcface(features, scale), features, classes, rngs=rngs
        ),
        True,
    ),
    "softmax-center": _with_softmax("Softmax + center", _Centers),
    "softmax-ring": _with_softmax("Softmax + ring", _Ring),
    "softmax-uniformface": _with_softmax("Softmax + UniformFace", _UniformFace),
    "softmax-contrastive": _with_softmax(
        "Softmax + contrastive", lambda *_: _Pairs(l.contrastive)
    ),
    "softmax-koleo": _with_softmax("Softmax + KoLeo", lambda *_: _Pairs(koleo)),
    "contrastive": _pairs("Contrastive", l.contrastive),
    "triplet": _pairs("Triplet, semi-hard", l.triplet, mining="semi_hard"),
    "triplet-all": _pairs("Triplet, all", l.triplet, mining="all"),
    "triplet-batch-hard": _pairs("Triplet, batch-hard", l.triplet, mining="batch_hard"),
    "triplet-batch-hard-soft": _pairs(
        "Triplet, batch-hard, soft",
        l.triplet,
        margin="soft",
        mining="batch_hard",
        distance="euclidean",
    ),
    "triplet-easy-positive": _pairs(
        "Triplet, easy positive, soft",
        l.triplet,
        margin="soft",
        mining="easy_positive",
    ),
    "triplet-norm-variance": _pairs(
        "Triplet, semi-hard + norm variance", triplet_and_norm_variance
    ),
    "n-pair": _pairs("N-pair", l.n_pair),
    "n-pair-angular": _pairs("N-pair + angular", n_pair_and_angular),
    "nt-xent": _pairs("NT-Xent", l.nt_xent),
    "dcl": _pairs("DCL", l.dcl),
    "supcon": _pairs("SupCon", l.supervised_contrastive),
    "circle": _pairs("Circle, pair level", l.circle),
    "multi-similarity": _pairs("Multi-Similarity", l.multi_similarity),
    "margin-loss": Method(
        "Margin loss, distance-weighted",
        lambda features, classes, scale, rngs: _MarginLoss(classes),
    ),
    "lifted": _pairs("Lifted structure", l.lifted),
    "tuplet-margin": _pairs("Tuplet margin + pair variance", tuplets_and_variance),
    "uss": Method("USS, learned threshold", lambda *_: _UnifiedThreshold()),
    "info-nce": Method(
        "InfoNCE (CLIP), within classes",
        lambda *_: _Towers(l.info_nce, 1 / 0.07, bias=None),
    ),
    "sigmoid-pairs": Method(
        "Sigmoid pairs (SigLIP), within classes",
        lambda *_: _Towers(l.sigmoid_pairs, 10.0, bias=-10.0),
    ),
    "proxy-nca": _prototypes("Proxy-NCA", l.proxy_nca),
    "proxy-anchor": _prototypes("Proxy-Anchor", l.proxy_anchor),
    "soft-triple": Method(
        "SoftTriple, K = 10",
        lambda features, classes, scale, rngs: _Prototypes(
            l.soft_triple, features, classes, 10, rngs=rngs
        ),
    ),
    "ge2e": Method("GE2E", lambda features, classes, scale, rngs: _GE2E()),
    "alignment-uniformity": _pairs("Alignment + uniformity", alignment_and_uniformity),
}
