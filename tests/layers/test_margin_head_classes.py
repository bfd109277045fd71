"""Margins with an entry for each class, in every form of the head."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax import margins as sm

CLASSES, FEATURES = 6, 5
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, FEATURES)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, CLASSES, 8))
KEY = jax.random.key(1)
# All that is no running state.
MARGINS: dict[str, sm.Margin] = {
    "SphereFace": sm.SphereFace(m=2.0, annealing=1.0),
    "SphereFaceR, version 1": sm.SphereFaceR(m=1.5, version=1),
    "SphereFaceR, version 2": sm.SphereFaceR(m=1.4, version=2),
    "CosFace": sm.CosFace(),
    "ArcFace": sm.ArcFace(),
    "Combined": sm.Combined(m1=1.1, m2=0.4, m3=0.15),
    "LiArcFace": sm.LiArcFace(),
    "CurricularFace": sm.CurricularFace(t=0.1),
    "MVSoftmax": sm.MVSoftmax(sm.ArcFace()),
    "InterClassFilter": sm.InterClassFilter(sm.CosFace()),
    "MagFace": sm.MagFace(lower_norm=1.0, upper_norm=4.0, weight=0.5),
    "AdaFace": sm.AdaFace(mean=2.0, deviation=0.5),
    "ElasticFace": sm.ElasticFace(),
    "Circle": sm.Circle(),
    "GeneralizedAngular": sm.GeneralizedAngular(m=2.0),
}
STATE = {".t", ".mean", ".deviation", ".rate"}


def scaled(margin, factor):
    """The margin with all but its state multiplied."""

    def multiplied(path, leaf):
        is_state = margin.keeps_state and jax.tree_util.keystr(path) in STATE
        return jnp.asarray(leaf if is_state else leaf * factor, jnp.float32)

    return jax.tree.map_with_path(multiplied, margin)


def key_of(margin):
    return KEY if isinstance(margin, sm.ElasticFace) else None


def head_of(margin, **options: Any):
    return sx.layers.MarginHead(
        FEATURES,
        CLASSES,
        margin=margin,
        per_class_margin=True,
        scale=8.0,
        rngs=nnx.Rngs(0),
        **options,
    )


@jax.jit
def per_example(w, margin):
    """The losses of the batch, with one margin for all."""
    return sx.losses.margin_softmax_per_example(
        X, w, LABELS, margin, scale=8.0, key=key_of(margin), has_aux=True
    )[0]


def test_every_margin_is_here():
    public = {name for name in dir(sm) if isinstance(getattr(sm, name), type)}
    kinds = {type(margin).__name__ for margin in MARGINS.values()}
    assert public - kinds == {"Margin", "NoMargin", "Psi", "Target"}


@pytest.mark.parametrize("name", MARGINS)
def test_each_example_has_the_margin_of_its_class(name):
    """Against losses with that margin for all examples, of which one is taken."""
    margin = MARGINS[name]
    factors = jnp.linspace(1.0, 1.3, CLASSES)
    head = head_of(scaled(margin, factors), subcenters=2, block_size=4)
    found = head.loss(X, LABELS, key=key_of(margin))
    w = head.prototypes[...]
    expected = [
        per_example(w, scaled(margin, factors[label]))[i]
        for i, label in enumerate(LABELS)
    ]
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)
    # The margins differ enough for the test to tell.
    assert abs(found - np.mean(per_example(w, scaled(margin, 1.0)))) > 1e-3
    # Only the state has moved.
    for (path, old), new in zip(
        jax.tree.leaves_with_path(scaled(margin, factors)),
        jax.tree.leaves(head.margin),
        strict=True,
    ):
        assert jnp.shape(old) == jnp.shape(new)
        if jax.tree_util.keystr(path) not in STATE:
            np.testing.assert_array_equal(old, new)


def test_on_a_mesh_with_subcenters_in_blocks():
    """Margins that also change negatives, keep a state, or have a penalty."""
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    names = ("CurricularFace", "MVSoftmax", "MagFace")
    factors = jnp.linspace(1.0, 1.3, CLASSES)

    def trained(**where):
        """Losses and new states of all heads, and gradients of their prototypes."""
        margins = [scaled(MARGINS[name], factors) for name in names]
        heads = [
            head_of(margin, subcenters=2, block_size=1, **where) for margin in margins
        ]
        graphs, params, others = zip(
            *(nnx.split(head, nnx.Param, ...) for head in heads), strict=True
        )

        def step(params):
            heads = [
                nnx.merge(*parts, copy=True)
                for parts in zip(graphs, params, others, strict=True)
            ]
            losses = [head.loss(X, LABELS) for head in heads]
            return sum(losses), (losses, [head.margin for head in heads])

        gradients, results = jax.jit(jax.grad(step, has_aux=True))(params)
        return jax.tree.leaves(results), map(np.asarray, jax.tree.leaves(gradients))

    found = trained(mesh=mesh, class_axis="model", batch_axis="data")
    expected = trained()
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one[:CLASSES], other, rtol=1e-4, atol=1e-6)
        assert not np.any(one[CLASSES:])


@pytest.mark.parametrize("examples", [CLASSES, 8])
def test_a_rate_of_each_class_is_refused(examples):
    margin = sm.CurricularFace(rate=jnp.full(CLASSES, 0.1))
    with pytest.raises(ValueError, match="rate of a running state must be a scalar"):
        head_of(margin).loss(X[:examples], LABELS[:examples])
