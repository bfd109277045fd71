"""Calls of ``sphax.losses``."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import sphax as sx
from sphax import losses, margins
from tests.calls._call import Call, normal

X, W, CENTERS = normal(0, 8, 16), normal(1, 16, 16), normal(2, 16, 16)
KEYS = normal(5, 8, 16)
SUBCENTERS = normal(3, 16, 2, 16)
LABELS = np.array([3, 0, 3, 15, 7, 7, 7, 1], np.int32)
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 1.0, 0.25, 1.0], np.float32)

BOUNDARY = np.linspace(1.0, 1.4, 16, dtype=np.float32)
NEGATIVES = np.array([[1, 3], [0, 2], [1, 1], [0, 5], [-1, 2], [3, 1], [0, 1], [6, 2]])
SIMILARITIES = normal(5, 8, 16)
MASKS = tuple(LABELS[:, None] % 4 == np.arange(16) % 4 + k for k in (0, 1))


def bank(*fields: Any) -> losses.MemoryBank:
    """A memory of arrays of NumPy, or of what stands for them."""
    return losses.MemoryBank(*fields)


MEMORY = bank(
    normal(4, 24, 16), np.arange(24, dtype=np.int32) % 9, np.int32(20), np.int32(20)
)
ROWS, CLASSES, EACH = ("batch", "features"), ("classes", "features"), ("batch",)
PAIR, OF_SUPPORT = ("batch", "stored"), ("support", "features")
OF_MEMORY = bank(("stored", "features"), ("stored",), (), ())


def by_class(name, function, *more, **options):
    """A row of embeddings, prototypes, labels, and weights of the examples."""

    def call(x, w, labels, where):
        return function(x, w, labels, *more, where=where, **options)

    arguments = X, W, LABELS, WEIGHTS
    axes = ROWS, CLASSES, EACH, EACH
    return Call(f"losses.{name}", call, arguments, axes, (0, 1))


def in_pairs(name, function, **options):
    """A row of embeddings and labels."""
    arguments, axes = (X, LABELS), (ROWS, EACH)
    return Call(f"losses.{name}", partial(function, **options), arguments, axes)


def in_towers(name, function, **options):
    """A row of queries, keys and a scale."""

    def call(queries, keys, scale):
        return function(queries, keys, scale=scale, **options)

    arguments = X, KEYS, np.array(8.0, np.float32)
    return Call(f"losses.{name}", call, arguments, (ROWS, ROWS, ()), (0, 1, 2))


def with_state(x, w, labels, where):
    """Loss, log entries and the running state, with other classes edited in blocks."""
    margin = margins.CurricularFace(t=0.2)
    loss, aux = losses.margin_softmax(
        x, w, labels, margin, where=where, block_size=8, has_aux=True
    )
    assert isinstance(aux.margin, margins.CurricularFace)
    return loss, aux.correct, aux.angle, aux.margin.t


def head_of(margin, **options):
    """Logits and loss of a head with the prototypes given."""
    head = sx.layers.MarginHead(16, 16, margin=margin, rngs=nnx.Rngs(0), **options)
    graph, _, others = nnx.split(head, nnx.Param, ...)

    def function(x, w, labels):
        head = nnx.merge(graph, {"prototypes": nnx.Param(w)}, others)
        return head(x), head.loss(x, labels)

    return function


CALLS = [
    by_class("margin_softmax", losses.margin_softmax, margins.ArcFace()),
    by_class(
        "margin_softmax[blocked]",
        losses.margin_softmax,
        margins.ArcFace(),
        block_size=4,
    ),
    by_class(
        "margin_softmax[blocked, not a multiple]",
        losses.margin_softmax,
        margins.CosFace(),
        normalize="none",
        block_size=7,
    ),
    by_class("margin_softmax[state]", with_state),
    Call(
        "losses.margin_softmax[drawn, smoothed, sub-centers]",
        lambda x, w, labels, key, scale: losses.margin_softmax(
            x,
            w,
            labels,
            margins.ElasticFace(ranked=True),
            key=key,
            scale=scale,
            label_smoothing=0.1,
            block_size=8,
        ),
        (X, SUBCENTERS, LABELS, jax.random.key(0), np.array(8.0, np.float32)),
        (ROWS, ("classes", None, "features"), EACH, (), ()),
        (0, 1, 4),
    ),
    by_class(
        "margin_softmax_per_example",
        losses.margin_softmax_per_example,
        margins.ArcFace(),
    ),
    by_class("sphereface2", losses.sphereface2, 0.5),
    by_class("sphereface2[blocked]", losses.sphereface2, 0.5, block_size=4),
    by_class("p2sgrad", losses.p2sgrad),
    by_class("p2sgrad[blocked]", losses.p2sgrad, block_size=4),
    by_class("hinge", losses.hinge),
    by_class("hinge[blocked]", losses.hinge, normalize="both", scale=4.0, block_size=4),
    by_class("proxy_nca", losses.proxy_nca),
    by_class("proxy_anchor", losses.proxy_anchor),
    by_class("uce", losses.uce, bias=0.5),
    Call(
        "losses.soft_triple",
        losses.soft_triple,
        (X, SUBCENTERS, LABELS),
        (ROWS, ("classes", None, "features"), EACH),
        (0, 1),
    ),
    by_class("center", losses.center),
    by_class("adacos_dynamic_scale", losses.adacos_dynamic_scale, 5.0, block_size=4),
    Call(
        "losses.update_centers",
        losses.update_centers,
        (CENTERS, X, LABELS),
        (CLASSES, ROWS, EACH),
        (0, 1),
    ),
    Call(
        "losses.negative_elbo",
        lambda values, mean: losses.negative_elbo(
            values, sx.distributions.VonMisesFisher(mean, 2.0)
        ),
        (normal(20, 8), normal(21, 8, 4)),
        (("batch",), ("batch", "features")),
        (0, 1),
    ),
    Call(
        "losses.importance_weighted_elbo",
        lambda values, mean, points: losses.importance_weighted_elbo(
            values, sx.distributions.VonMisesFisher(mean, 2.0), points
        ),
        (normal(20, 3, 8), normal(21, 8, 4), normal(22, 3, 8, 4)),
        ((None, "batch"), ("batch", "features"), (None, "batch", "features")),
        (0, 1, 2),
    ),
    Call(
        "losses.ring",
        losses.ring,
        (X, np.array(2.0, np.float32)),
        (ROWS, ()),
        (0, 1),
    ),
    Call(
        "losses.sphere_gan_critic",
        losses.sphere_gan_critic,
        (X, X[::-1]),
        (ROWS, ROWS),
        (0, 1),
    ),
    Call("losses.sphere_gan_generator", losses.sphere_gan_generator, (X,), (ROWS,)),
    by_class("hyperspherical_prototype", losses.hyperspherical_prototype),
    Call(
        "losses.vmf_likelihood",
        lambda x, w, labels, k, where: losses.vmf_likelihood(
            x, w, labels, k, where=where
        ),
        (X, W, LABELS, WEIGHTS + 0.5, WEIGHTS),
        (ROWS, CLASSES, EACH, EACH, EACH),
        (0, 1, 3),
    ),
    Call(
        "losses.polar_regression",
        lambda x, poles, y, high, where: losses.polar_regression(
            x, poles, y, high=high, where=where
        ),
        (
            X,
            normal(6, 2, 16),
            normal(7, 8, 2),
            np.array([2.0, 3.0], np.float32),
            WEIGHTS,
        ),
        (ROWS, (None, "features"), ("batch", None), (None,), EACH),
        (0, 1, 2, 3),
    ),
    Call(
        "losses.polar_values",
        losses.polar_values,
        (X, normal(6, 2, 16)),
        (ROWS, (None, "features")),
        (0, 1),
    ),
    Call(
        "losses.prototypical",
        lambda x, labels, support, of_support, scale: losses.prototypical(
            x, labels, support, of_support, num_classes=4, scale=scale
        ),
        (X, LABELS % 4, W, np.arange(16, dtype=np.int32) % 4, np.float32(3.0)),
        (ROWS, EACH, OF_SUPPORT, ("support",), ()),
        (0, 2, 4),
    ),
    Call(
        "losses.prototypical_logits",
        lambda x, support, of_support: losses.prototypical_logits(
            x, support, of_support, num_classes=4, on_sphere=True
        ),
        (X, W, np.arange(16, dtype=np.int32) % 4),
        (ROWS, OF_SUPPORT, ("support",)),
        (0, 1),
        sharded_like=0,
    ),
    Call(
        "losses.imprint",
        losses.imprint,
        (W, X, LABELS),
        (CLASSES, ROWS, EACH),
        (0, 1),
        sharded_like=0,
    ),
    Call("losses.norm_variance", losses.norm_variance, (X,), (ROWS,)),
    Call(
        "losses.matryoshka",
        losses.matryoshka(losses.norm_variance, sizes=(4, 16)),
        (X,),
        (ROWS,),
    ),
    Call("losses.koleo[blocked]", partial(losses.koleo, block_size=3), (X,), (ROWS,)),
    Call("losses.uniform_face", losses.uniform_face, (CENTERS,), (CLASSES,)),
    Call(
        "losses.class_logits",
        lambda x, w: losses.class_logits(x, w, scale=8.0),
        (X, W),
        (ROWS, CLASSES),
        (0, 1),
    ),
    Call(
        "losses.subcenter_cosines",
        losses.subcenter_cosines,
        (X, SUBCENTERS),
        (ROWS, ("classes", None, "features")),
        (0, 1),
    ),
    Call(
        "losses.dominant_subcenters",
        lambda w, x, labels: losses.dominant_subcenters(w, x, labels, has_aux=True),
        (SUBCENTERS, X, LABELS),
        (("classes", None, "features"), ROWS, EACH),
        (),
    ),
    Call(
        "losses.angles_to_dominant",
        losses.angles_to_dominant,
        (SUBCENTERS, X, LABELS),
        (("classes", None, "features"), ROWS, EACH),
        (0, 1),
    ),
    Call(
        "layers.MarginHead[blocked, margins of classes]",
        head_of(
            margins.ArcFace(margin=jnp.linspace(0.1, 0.5, 16)),
            block_size=4,
            per_class_margin=True,
        ),
        (X, W, LABELS),
        (ROWS, CLASSES, EACH),
        (0, 1),
    ),
    Call(
        "layers.MarginHead[sub-centers]",
        head_of(margins.ArcFace(), subcenters=2),
        (X, SUBCENTERS, LABELS),
        (ROWS, ("classes", None, "features"), EACH),
        (0, 1),
    ),
    in_pairs("contrastive", losses.contrastive),
    in_pairs("triplet", losses.triplet),
    in_pairs("triplet[batch_hard]", losses.triplet, mining="batch_hard", margin="soft"),
    in_pairs("triplet[easy_positive]", losses.triplet, mining="easy_positive"),
    in_pairs("n_pair", losses.n_pair),
    in_pairs("n_pair[first]", losses.n_pair, pairing="first"),
    in_pairs("nt_xent", losses.nt_xent),
    in_pairs("supervised_contrastive", losses.supervised_contrastive),
    in_pairs("circle", losses.circle),
    in_pairs("multi_similarity", losses.multi_similarity),
    in_pairs("lifted", losses.lifted),
    in_pairs("lifted[generalized]", losses.lifted, generalized=True),
    in_pairs("tuplet_margin", losses.tuplet_margin),
    in_pairs("pair_variance", losses.pair_variance),
    Call(
        "losses.margin_loss",
        lambda x, labels, boundary, negatives: losses.margin_loss(
            x, labels, boundary=boundary, regularization=0.1, negatives=negatives
        ),
        (X, LABELS, BOUNDARY, NEGATIVES),
        (ROWS, EACH, ("classes",), ("batch", None)),
        (0, 2),
    ),
    Call(
        "losses.pair_masks",
        lambda labels, others, where: losses.pair_masks(
            labels, others, where=where, self_index=labels
        ),
        (LABELS, np.arange(16, dtype=np.int32), WEIGHTS),
        (EACH, ("stored",), EACH),
        (),
    ),
    Call(
        "losses.mine_multi_similarity",
        losses.mine_multi_similarity,
        (SIMILARITIES, *MASKS),
        (PAIR, PAIR, PAIR),
        (),
    ),
    Call(
        "losses.mine_easy_positive",
        losses.mine_easy_positive,
        (SIMILARITIES, *MASKS),
        (PAIR, PAIR, PAIR),
        (),
    ),
    Call(
        "losses.distance_log_weights",
        partial(losses.distance_log_weights, features=16),
        (np.abs(SIMILARITIES), MASKS[1]),
        (PAIR, PAIR),
        (),
    ),
    Call(
        "losses.sample_negatives",
        partial(losses.sample_negatives, samples=2),
        (jax.random.key(0), SIMILARITIES),
        ((), PAIR),
        (),
    ),
    in_pairs("angular", losses.angular),
    in_pairs("angular[exact]", losses.angular, angle=np.array(0.7, np.float32)),
    in_pairs("uss", losses.uss, bias=2.0),
    in_pairs("uss_bias", losses.uss_bias),
    in_pairs("dcl", losses.dcl),
    in_pairs("dcl[weighted]", losses.dcl, weighted=True),
    in_towers("info_nce[blocked]", losses.info_nce, block_size=3),
    in_towers("sigmoid_pairs", losses.sigmoid_pairs),
    Call(
        "losses.info_nce[queue]",
        lambda x, y, queue: losses.info_nce(
            x, y, queue=queue, symmetric=False, batch_negatives=False
        ),
        (X, KEYS, MEMORY),
        (ROWS, ROWS, OF_MEMORY),
        (0, 1),
    ),
    in_pairs("ge2e", losses.ge2e),
    Call(
        "losses.nt_xent[memory]",
        lambda x, labels, memory: losses.nt_xent(x, labels, memory=memory),
        (X, LABELS, MEMORY),
        (ROWS, EACH, OF_MEMORY),
    ),
    Call(
        "losses.init_memory",
        lambda labels: losses.init_memory(8, 16, label_dtype=labels.dtype),
        (LABELS,),
        (EACH,),
        (),
    ),
    Call(
        "losses.enqueue",
        lambda memory, x, labels: losses.enqueue(memory, x, labels, where=labels > 0),
        (MEMORY, X, LABELS),
        (OF_MEMORY, ROWS, EACH),
        (),
    ),
]
EXEMPT: dict[str, str] = {
    "losses.PairOptions": "a typed dictionary, computes nothing",
    "losses.check_margin_softmax": "checks options, returns nothing",
    "losses.adacos_fixed_scale": "arithmetic on a Python number",
    "losses.sphereface2_bias": "arithmetic on Python numbers",
    "losses.uce_bias": "arithmetic on Python numbers",
}
