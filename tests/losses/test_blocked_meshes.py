"""Blocks of classes that lie on several devices: what travels between them."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses, margins
from sphax.losses._core.blocked import as_blocks

BATCH, CLASSES, FEATURES = 16, 1008, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, FEATURES)).astype(np.float32)
W = RNG.normal(size=(CLASSES, FEATURES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, BATCH).astype(np.int32)


def sphereface2(x, w, labels, **options):
    return losses.sphereface2(x, w, labels, 0.1, **options)


def subcenters(x, w, labels, **options):
    return losses.margin_softmax(
        x, w, labels, margins.ArcFace(), label_smoothing=0.1, **options
    )


def with_state(x, w, labels, **options):
    margin = margins.CurricularFace(t=0.3)
    loss, _ = losses.margin_softmax(
        x, w, labels, margin, scale=8.0, has_aux=True, **options
    )
    return loss


def scale(x, w, labels, **options):
    return losses.adacos_dynamic_scale(x, w, labels, 8.0, **options)


# The losses that take their classes in blocks; ``uce`` does as ``sphereface2``.
BLOCKED = {
    "margin_softmax": partial(losses.margin_softmax, margin=margins.ArcFace()),
    "subcenters": subcenters,
    "state": with_state,
    "sphereface2": sphereface2,
    "soft_triple": losses.soft_triple,
    "p2sgrad": losses.p2sgrad,
    "hinge": losses.hinge,
    "adacos": scale,
}


def travelling(text):
    """Kinds of the collectives of a compiled program, and numbers of entries."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    for line in text.splitlines():
        if found := re.search(rf" = (.*?) ({kinds})(?:-start)?\(", line):
            for shape in re.findall(r"\[([\d,]*)\]", found[1]):
                size = np.prod([int(n) for n in shape.split(",") if n], dtype=int)
                yield found[2], size


# 160 in all are 20 of the 126 classes of each of eight devices, and 6 are left over.
# The losses are of two families, by what they fold over the blocks: one loss of each is
# on both meshes with both kinds of axes, the others are on one mesh, in turn.
@pytest.mark.parametrize(
    ("name", "kind", "meshes"),
    [
        *(
            (name, kind, ("lines", "grid"))
            for name in ("margin_softmax", "sphereface2")
            for kind in (AxisType.Explicit, AxisType.Auto)
        ),
        ("subcenters", AxisType.Explicit, ("grid",)),
        ("state", AxisType.Explicit, ("lines",)),
        pytest.param(
            "soft_triple", AxisType.Explicit, ("grid",), marks=pytest.mark.slow
        ),
        ("p2sgrad", AxisType.Explicit, ("grid",)),
        ("hinge", AxisType.Explicit, ("lines",)),
        ("adacos", AxisType.Explicit, ("grid",)),
    ],
)
def test_no_prototypes_travel(name, kind, meshes):
    """What does has the size of the batch of embeddings at most, and no classes."""
    step = jax.jit(jax.value_and_grad(partial(BLOCKED[name], block_size=160), (0, 1)))
    w = np.stack([W, -W], axis=1) if name in ("subcenters", "soft_triple") else W
    expected = jax.jit(jax.value_and_grad(BLOCKED[name], (0, 1)))(X, w, LABELS)
    for form in meshes:
        if form == "lines":
            mesh, rows = jax.make_mesh((8,), ("c",), (kind,)), P()
        else:
            mesh, rows = jax.make_mesh((4, 2), ("b", "c"), (kind, kind)), P("b")
        arguments = [
            jax.device_put(array, NamedSharding(mesh, spec))
            for array, spec in ((X, rows), (w, P("c")), (LABELS, rows))
        ]
        program = step.lower(*arguments).compile()
        found = program(*arguments)
        for actual, desired in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(actual, desired, rtol=2e-5, atol=1e-6)
        if kind == AxisType.Explicit:
            assert found[1][1].sharding.is_equivalent_to(arguments[1].sharding, w.ndim)
        collectives = list(travelling(program.as_text()))
        assert collectives
        for operation, size in collectives:
            # If the batch is spread, the gradients of a device's own prototypes are
            # added up, as those of any parameter.
            is_sum = operation == "all-reduce" and form == "grid"
            assert size <= (CLASSES // 2 if is_sum else BATCH) * w[0].size


def test_a_block_has_as_many_classes_of_every_device():
    explicit = jax.make_mesh((4, 2), ("b", "c"))
    automatic = jax.make_mesh((4, 2), ("b", "c"), (AxisType.Auto, AxisType.Auto))
    for mesh, spec, shards in (
        (explicit, P(), 1),
        (explicit, P("c"), 2),
        (explicit, P(("b", "c")), 8),
        (automatic, P("c"), 8),
    ):
        w = jax.device_put(W, NamedSharding(mesh, spec))
        assert as_blocks(144, w) == (144 // shards, shards)
    odd = jax.device_put(W[:1001], NamedSharding(automatic, P()))
    assert as_blocks(144, odd) == (144, 1)  # that no axis of this mesh can shard
    assert as_blocks(144, jnp.asarray(W)) == (144, 1)
    assert as_blocks(None, jnp.asarray(W)) is None
