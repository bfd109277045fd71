"""A margin head whose prototypes lie on the devices of a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from sphax import margins

CLASSES, FEATURES = 21, 8
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, FEATURES)), jnp.float32)
LABELS = RNG.integers(0, CLASSES, 8)
KINDS = {"explicit": (AxisType.Explicit,) * 2, "automatic": (AxisType.Auto,) * 2}


def mesh_of(kind="explicit", devices=8):
    shape = (2, devices // 2) if devices > 1 else (1, 1)
    return jax.make_mesh(shape, ("data", "model"), KINDS[kind])


def head_of(mesh, margin: margins.Margin | None = None, **options: Any):
    where: dict[str, Any] = {}
    if mesh is not None:
        axes = ("data", "model")
        where = {"mesh": mesh, "class_axis": axes, "batch_axis": "data"}
    margin = margins.ArcFace() if margin is None else margin
    return sx.layers.MarginHead(
        FEATURES, CLASSES, margin=margin, rngs=nnx.Rngs(0), **where, **options
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("explicit", {"margin": margins.CurricularFace(), "block_size": 4}),
        ("automatic", {"margin": margins.AdaFace(), "subcenters": 2}),
        (
            "explicit",
            {
                "margin": margins.CosFace(margin=jnp.linspace(0.0, 0.5, CLASSES)),
                "per_class_margin": True,
                "scale": nnx.Param(jnp.array(8.0)),
            },
        ),
    ],
)
def test_three_steps_are_those_of_one_device(kind, options):
    """Prototypes, states of margin and optimizer, logits; nothing is replicated."""
    mesh = mesh_of(kind)
    heads = head_of(mesh, **options), head_of(None, **options)
    optimizers = [nnx.Optimizer(h, optax.adam(0.1), wrt=nnx.Param) for h in heads]

    @nnx.jit
    def step(head, optimizer, x, labels):
        loss, gradient = nnx.value_and_grad(lambda head: head.loss(x, labels))(head)
        optimizer.update(head, gradient)
        return loss

    for _ in range(3):
        losses = [
            step(*both, X, LABELS) for both in zip(heads, optimizers, strict=True)
        ]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    parallel, single = heads
    found = np.asarray(parallel.prototypes[...])
    np.testing.assert_allclose(found[:CLASSES], single.prototypes[...], atol=2e-4)
    np.testing.assert_array_equal(found[CLASSES:], 0)
    np.testing.assert_allclose(parallel(X), single(X), rtol=2e-3, atol=2e-2)
    states = (jax.tree.leaves(head.margin) for head in heads)
    for leaves in zip(*states, strict=True):
        np.testing.assert_allclose(*leaves, rtol=1e-5)
    rows = NamedSharding(mesh, P(("data", "model")))
    large = [
        leaf
        for leaf in jax.tree.leaves(nnx.state((parallel, optimizers[0])))
        if leaf.ndim > 1
    ]
    assert len(large) == 3  # prototypes and two moments
    assert all(leaf.sharding.is_equivalent_to(rows, leaf.ndim) for leaf in large)


def test_the_same_prototypes_on_every_mesh():
    single = np.asarray(head_of(None).prototypes[...])
    found = [
        np.asarray(head_of(mesh_of(devices=devices)).prototypes[...])
        for devices in (1, 2, 8)
    ]
    assert found[0].shape == (128, FEATURES)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    # By another program.
    np.testing.assert_allclose(found[0][:CLASSES], single, rtol=1e-6)


def test_padding_is_no_neuron():
    parallel, single = head_of(mesh_of()), head_of(None)
    energies = (
        sx.energy.energy_of_params(
            nnx.state(head, nnx.Param), neurons=sx.neurons.of(head)
        )
        for head in (parallel, single)
    )
    np.testing.assert_allclose(*energies, rtol=1e-6)
    declared: Any = sx.neurons.of(parallel)["prototypes"]
    rows = sx.neurons.to_rows(parallel.prototypes[...], declared)
    assert rows.shape == (CLASSES, FEATURES)
    back = sx.neurons.from_rows(rows, parallel.prototypes.shape, declared)
    np.testing.assert_array_equal(back, np.asarray(parallel.prototypes[...]))


@pytest.mark.parametrize(
    ("where", "error", "match"),
    [
        ({"mesh": mesh_of}, ValueError, "mesh and class_axis must be given together"),
        ({"class_axis": "model"}, ValueError, "must be given together"),
        ({"batch_axis": "data"}, ValueError, "batch_axis with them only"),
        ({"mesh": mesh_of, "class_axis": "rows"}, ValueError, "axes of the mesh"),
    ],
)
def test_errors_teach(where, error, match):
    given: Any = {k: v() if callable(v) else v for k, v in where.items()}
    with pytest.raises(error, match=match):
        sx.layers.MarginHead(4, 3, margin=margins.ArcFace(), rngs=nnx.Rngs(0), **given)
