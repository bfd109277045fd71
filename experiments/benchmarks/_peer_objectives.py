"""Objectives that sphax and pytorch-metric-learning both have, with equal settings.

Defaults of pytorch-metric-learning are kept where sphax has them as an option.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks._peer_case import Case, import_peer
from sphax import losses, margins


class Objective(NamedTuple):
    """One objective, by both libraries.

    Attributes:
        name: Of the function of sphax, with options in words.
        peer: Classes of pytorch-metric-learning.
        ours: Loss of embeddings, class weights if it has any, and labels.
        theirs: Makes the loss of embeddings and labels, given the package, the number
            of classes and that of features.
        weights: Shape of the class weights, ``"classes, features"`` or with
            ``"centers"``; empty if there are none.
        on_unit_rows: Whether both define the same only for embeddings of unit length.
        pairs_by_pairs: Whether the peer has arrays of positive times negative pairs.
    """

    name: str
    peer: str
    ours: Callable[..., jax.Array]
    theirs: Callable[[Any, int, int], Callable[[Any, Any], Any]]
    weights: str = ""
    on_unit_rows: bool = False
    pairs_by_pairs: bool = False


# Centers of each class, for objectives that have several.
CENTERS = 3


def _of_pairs(name: str, **options: Any) -> Callable[..., Any]:
    """Makes a loss; an option may be a function of the package."""

    def make(package, classes, features):
        del classes, features
        return getattr(package.losses, name)(**_made(package, options))

    return make


def _mined(miner: str, mining: dict[str, Any], name: str, **options: Any):
    """Makes a loss of what a miner finds."""

    def make(package, classes, features):
        del classes, features
        mine = getattr(package.miners, miner)(**mining)
        loss = getattr(package.losses, name)(**_made(package, options))
        return lambda x, labels: loss(x, labels, mine(x, labels))

    return make


def _of_classes(name: str, **options: Any) -> Callable[..., Any]:
    def make(package, classes, features):
        sizes = {"num_classes": classes, "embedding_size": features}
        return getattr(package.losses, name)(**sizes, **options)

    return make


def _p2sgrad(package, classes, features):
    return package.losses.P2SGradLoss(descriptors_dim=features, num_classes=classes)


def _made(package: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {key: x(package) if callable(x) else x for key, x in options.items()}


def _mean(package):
    return package.reducers.MeanReducer()


def _inner_product(package):
    return package.distances.DotProductSimilarity(normalize_embeddings=False)


def _squared_distance(package):
    return package.distances.LpDistance(power=2)


def _margin_softmax(margin: margins.Margin, **options: Any) -> Callable[..., Any]:
    return partial(losses.margin_softmax, margin=margin, **options)


def _mean_square_of_cosines(x, prototypes, labels):
    """``p2sgrad`` as a mean over classes, without the half."""
    return 2.0 / len(prototypes) * losses.p2sgrad(x, prototypes, labels)


OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        "contrastive",
        "ContrastiveLoss",
        partial(losses.contrastive, squared=False, average="nonzero"),
        _of_pairs("ContrastiveLoss"),
    ),
    Objective(
        "triplet, active",
        "TripletMarginLoss",
        partial(losses.triplet, margin=0.05, mining="active", distance="euclidean"),
        _of_pairs("TripletMarginLoss"),
    ),
    Objective(
        "triplet, all, squared",
        "TripletMarginLoss",
        losses.triplet,
        _of_pairs(
            "TripletMarginLoss", margin=0.2, distance=_squared_distance, reducer=_mean
        ),
    ),
    Objective(
        "triplet, semi-hard",
        "TripletMarginMiner",
        partial(losses.triplet, mining="semi_hard", distance="euclidean"),
        _mined(
            "TripletMarginMiner",
            {"margin": 0.2, "type_of_triplets": "semihard"},
            "TripletMarginLoss",
            margin=0.2,
        ),
    ),
    Objective(
        "triplet, batch hard",
        "BatchHardMiner",
        partial(losses.triplet, mining="batch_hard", distance="euclidean"),
        _mined("BatchHardMiner", {}, "TripletMarginLoss", margin=0.2, reducer=_mean),
    ),
    Objective(
        "triplet, batch hard, soft",
        "BatchHardMiner",
        partial(
            losses.triplet, margin="soft", mining="batch_hard", distance="euclidean"
        ),
        _mined(
            "BatchHardMiner",
            {},
            "TripletMarginLoss",
            margin=0.0,
            smooth_loss=True,
            reducer=_mean,
        ),
    ),
    Objective(
        "n_pair",
        "NTXentLoss",
        partial(losses.n_pair, regularization=0.0),
        _of_pairs("NTXentLoss", temperature=1.0, distance=_inner_product),
        pairs_by_pairs=True,
    ),
    Objective(
        "n_pair, first",
        "NPairsLoss",
        partial(losses.n_pair, regularization=0.0, pairing="first"),
        _of_pairs("NPairsLoss", distance=_inner_product),
    ),
    Objective(
        "nt_xent",
        "NTXentLoss",
        losses.nt_xent,
        _of_pairs("NTXentLoss", temperature=0.1),
        pairs_by_pairs=True,
    ),
    Objective(
        "supervised_contrastive",
        "SupConLoss",
        losses.supervised_contrastive,
        _of_pairs("SupConLoss", temperature=0.1),
    ),
    Objective("circle", "CircleLoss", losses.circle, _of_pairs("CircleLoss")),
    Objective(
        "multi_similarity",
        "MultiSimilarityMiner",
        losses.multi_similarity,
        _mined("MultiSimilarityMiner", {"epsilon": 0.1}, "MultiSimilarityLoss"),
    ),
    Objective(
        "multi_similarity, all",
        "MultiSimilarityLoss",
        partial(losses.multi_similarity, mining_margin=None),
        _of_pairs("MultiSimilarityLoss"),
    ),
    Objective("margin_loss", "MarginLoss", losses.margin_loss, _of_pairs("MarginLoss")),
    Objective(
        "lifted",
        "LiftedStructureLoss",
        losses.lifted,
        _of_pairs("LiftedStructureLoss"),
        pairs_by_pairs=True,
    ),
    Objective(
        "lifted, generalized",
        "GeneralizedLiftedStructureLoss",
        partial(losses.lifted, generalized=True),
        _of_pairs("GeneralizedLiftedStructureLoss"),
    ),
    Objective(
        "angular",
        "AngularLoss",
        partial(losses.angular, angle=math.radians(40.0)),
        _of_pairs("AngularLoss"),
        on_unit_rows=True,
    ),
    Objective(
        "tuplet_margin",
        "TupletMarginLoss",
        partial(losses.tuplet_margin, margin=math.radians(5.73)),
        _of_pairs("TupletMarginLoss"),
        pairs_by_pairs=True,
    ),
    Objective(
        "pair_variance",
        "IntraPairVarianceLoss",
        losses.pair_variance,
        _of_pairs("IntraPairVarianceLoss"),
    ),
    Objective(
        "ArcFace",
        "ArcFaceLoss",
        _margin_softmax(margins.ArcFace(0.5, beyond="fallback")),
        _of_classes("ArcFaceLoss", margin=math.degrees(0.5)),
        "features, classes",
    ),
    Objective(
        "ArcFace, sub-centers",
        "SubCenterArcFaceLoss",
        _margin_softmax(margins.ArcFace(0.5, beyond="fallback")),
        _of_classes(
            "SubCenterArcFaceLoss", margin=math.degrees(0.5), sub_centers=CENTERS
        ),
        "features, classes, centers",
    ),
    Objective(
        "CosFace",
        "CosFaceLoss",
        _margin_softmax(margins.CosFace(0.35)),
        _of_classes("CosFaceLoss"),
        "features, classes",
    ),
    Objective(
        "SphereFace",
        "SphereFaceLoss",
        _margin_softmax(margins.SphereFace(4.0), normalize="prototypes"),
        _of_classes("SphereFaceLoss"),
        "features, classes",
    ),
    Objective(
        "L-Softmax",
        "LargeMarginSoftmaxLoss",
        _margin_softmax(margins.SphereFace(4.0), normalize="none"),
        _of_classes("LargeMarginSoftmaxLoss"),
        "features, classes",
    ),
    Objective(
        "proxy_nca",
        "ProxyNCALoss",
        partial(losses.proxy_nca, include_target=True),
        _of_classes("ProxyNCALoss"),
        "classes, features",
    ),
    Objective(
        "proxy_anchor",
        "ProxyAnchorLoss",
        losses.proxy_anchor,
        _of_classes("ProxyAnchorLoss"),
        "classes, features",
    ),
    Objective(
        "soft_triple",
        "SoftTripleLoss",
        partial(losses.soft_triple, regularization=0.0),
        _of_classes("SoftTripleLoss", centers_per_class=CENTERS),
        "features, classes, centers",
    ),
    Objective(
        "p2sgrad",
        "P2SGradLoss",
        _mean_square_of_cosines,
        _p2sgrad,
        "features, classes",
    ),
)


def cases(rows: int, features: int, per_class: int, classes: int) -> list[Case]:
    """All objectives of the same embeddings, after the products that they need.

    Args:
        rows: Number of embeddings.
        features: Their width.
        per_class: Embeddings of each class in the batch.
        classes: Classes of the objectives that have weights for each, at least.
    """
    classes = max(classes, rows // per_class)
    products = [
        _products("products, batch", rows, rows, features),
        _products("products, classes", rows, classes, features),
    ]
    objectives = [
        _case(each, rows, features, per_class, classes) for each in OBJECTIVES
    ]
    return products + objectives


def _products(name: str, rows: int, columns: int, features: int) -> Case:
    """A product of two matrices, and the two of its gradient."""
    random = np.random.default_rng(rows)
    variables = [random.normal(size=(n, features)) for n in (rows, columns)]
    cotangent = random.normal(size=(rows, columns))

    def ours(x, w, cotangent):
        return (cotangent * (x @ w.T)).sum()

    def theirs(torch, leaves, constants):
        del torch
        return lambda: ours(*leaves, *constants), leaves

    return Case(name, "matmul", "torch", (*variables,), (cotangent,), ours, theirs)


def _case(
    objective: Objective, rows: int, features: int, per_class: int, classes: int
) -> Case:
    random = np.random.default_rng(rows)
    labels = np.arange(rows) // per_class
    # Neither easy nor hopeless: some negatives are nearer than positives.
    x = random.normal(size=(labels[-1] + 1, features))[labels]
    x += 3.0 * random.normal(size=(rows, features))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if not objective.on_unit_rows:
        x *= random.uniform(0.5, 2.0, size=(rows, 1))
    variables = (x,)
    if objective.weights:
        centers = [CENTERS] if "centers" in objective.weights else []
        variables = x, random.normal(size=(classes, *centers, features))

    def theirs(torch, leaves, constants):
        del torch
        modules = "losses", "miners", "distances", "reducers"
        package = import_peer("pytorch-metric-learning", *modules)
        loss = objective.theirs(package, classes, features)
        if objective.weights:
            (weights,) = loss.parameters()
            weights.data = leaves[1].detach()
            leaves = [leaves[0], weights]
        return lambda: loss(leaves[0], constants[0]), leaves

    positives, negatives = rows * (per_class - 1), rows * (rows - per_class)
    return Case(
        objective.name,
        objective.peer,
        "pytorch-metric-learning",
        variables,
        (labels,),
        objective.ours,
        theirs,
        objective.weights.startswith("features"),
        4 * positives * negatives if objective.pairs_by_pairs else 0,
    )
