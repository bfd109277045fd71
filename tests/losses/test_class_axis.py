"""Class-wise losses inside ``shard_map``: the same as with all classes on one device.

What they are on one device is tested against definitions in NumPy elsewhere.
"""

import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses, margins

BATCH, CLASSES, ROWS, FEATURES = 6, 21, 24, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, FEATURES))
X[2] = np.nan  # masked
W = RNG.normal(size=(ROWS, FEATURES))
SUBCENTERS = RNG.normal(size=(ROWS, 2, FEATURES))
LABELS = np.array([0, 20, 7, 7, 13, 3])
WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 1.0, 1.0])
# The class axis, and the meshes: the one named for its devices, or both of the last.
MESHES = {
    "1": ((1,), ("c",), "c"),
    "2": ((2,), ("c",), "c"),
    "4": ((4,), ("c",), "c"),
    "8": ((8,), ("c",), "c"),
    "4 of 2 x 4": ((2, 4), ("b", "c"), "c"),
    "2 x 4": ((2, 4), ("b", "c"), ("b", "c")),
}


class Row(NamedTuple):
    """A loss with its options, and the mesh on which it is called."""

    mesh: str
    loss: Any
    options: dict[str, Any] = {}
    w: np.ndarray = W


def softmax(margin, mesh, w=W, **options):
    def loss(x, w, labels, **more):
        value, aux = losses.margin_softmax(
            x, w, labels, margin, has_aux=True, **options, **more
        )
        logged = aux.correct, aux.angle, aux.norm, aux.weight
        return value, (*logged, *jax.tree.leaves(aux.margin))

    return Row(mesh, loss, w=w)


def others(name, mesh, w=W, **options):
    def loss(x, w, labels, **more):
        return getattr(losses, name)(x, w, labels=labels, **options, **more), ()

    return Row(mesh, loss, w=w)


# All margins share the code that differs, so each way through it is here once: each
# normalization plain and blocked, smoothing, sub-centers, edited negatives, running
# states, penalties, draws, detachment; and each mesh with both forms.
TABLE = {
    "none, plain": softmax(margins.NoMargin(), "1", normalize="none"),
    "none, blocked": softmax(margins.ArcFace(), "8", normalize="none", block_size=2),
    "prototypes, plain": softmax(
        margins.SphereFace(m=4), "8", normalize="prototypes", label_smoothing=0.1
    ),
    "prototypes, blocked": softmax(
        margins.CurricularFace(t=0.2), "2 x 4", normalize="prototypes", block_size=100
    ),
    "both, plain": softmax(margins.ArcFace(), "2", scale=8.0),
    "both, blocked": softmax(
        margins.CosFace(), "4", block_size=4, label_smoothing=0.1, scale=8.0
    ),
    "negatives": softmax(margins.CurricularFace(t=0.2), "4 of 2 x 4", scale=8.0),
    "state": softmax(margins.AdaFace(), "2 x 4", block_size=2, scale=8.0),
    "penalty": softmax(margins.MagFace(), "2 x 4"),
    "draws": softmax(margins.ElasticFace(ranked=True), "8", key=jax.random.key(0)),
    "detached": softmax(
        margins.SphereFaceR(m=1.5, version=2), "8", gradient="detached", scale=8.0
    ),
    "sub-centers": softmax(
        margins.ArcFace(), "8", SUBCENTERS, label_smoothing=0.1, scale=8.0
    ),
    "sub-centers, blocked": softmax(
        margins.MVSoftmax(margins.ArcFace()), "4", SUBCENTERS, block_size=5, scale=8.0
    ),
    "sphereface2": others("sphereface2", "8", bias=0.3),
    "sphereface2, blocked": others("sphereface2", "2 x 4", bias=0.3, block_size=2),
    "uce": others("uce", "8", bias=0.3),
    "soft_triple": others("soft_triple", "8", SUBCENTERS),
    "hinge": others("hinge", "2 x 4"),
    "hinge, blocked": others("hinge", "8", normalize="both", scale=4.0, block_size=2),
    "p2sgrad": others("p2sgrad", "4"),
    "p2sgrad, blocked": others("p2sgrad", "4 of 2 x 4", block_size=4),
    "proxy_nca": others("proxy_nca", "8"),
    "proxy_anchor": others("proxy_anchor", "8"),
    "adacos": others("adacos_dynamic_scale", "8", scale=8.0, block_size=2),
}
# With gradients taken outside of `shard_map` too, where a collective in a derivative
# rule would make them wrong by a factor: one for each way of joining the devices.
THREE_WAYS = ["none, plain", "prototypes, blocked", "hinge, blocked", "proxy_anchor"]


def same(actual, desired, **tolerance):
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        np.testing.assert_allclose(
            np.asarray(x, float), np.asarray(y, float), **tolerance
        )


def on_mesh(row):
    """Loss, log entries and gradients: taken inside of `shard_map`, and outside."""
    sizes, names, axis = MESHES[row.mesh]
    mesh = jax.make_mesh(sizes, names)
    specs = P(), P(axis), P(), P()
    arguments = [
        jax.device_put(array, NamedSharding(mesh, spec))
        for array, spec in zip((X, row.w, LABELS, WEIGHTS), specs, strict=True)
    ]

    def loss(x, w, labels, where):
        more: dict[str, Any] = {"class_axis": axis, "num_classes": CLASSES}
        return row.loss(x, w, labels, where=where, **more)

    gradients = partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    mapped = partial(jax.shard_map, mesh=mesh, in_specs=specs)
    inside = mapped(gradients(loss), out_specs=((P(), P()), (P(), P(axis))))
    outside = gradients(mapped(loss, out_specs=(P(), P())))
    unchecked = gradients(mapped(loss, out_specs=(P(), P()), check_vma=False))
    return arguments, (inside, outside, unchecked)


@pytest.mark.parametrize("name", TABLE)
def test_the_same_as_on_one_device(name):
    row = TABLE[name]
    with jax.enable_x64(True):

        def loss(x, w, labels, where):
            return row.loss(x, w[:CLASSES], labels, where=where)

        one = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        expected = one(X, row.w, LABELS, WEIGHTS)
        arguments, ways = on_mesh(row)
        for way in ways if name in THREE_WAYS else ways[:1]:
            same(jax.jit(way)(*arguments), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["none, plain", "hinge", "proxy_anchor", "soft_triple"]
)
def test_rows_beyond_the_classes_have_no_gradient(name):
    """Exactly none, and what they hold has no effect, on one device too."""
    row = TABLE[name]

    def loss(x, w, labels, where):
        return row.loss(x, w, labels, where=where, num_classes=CLASSES)

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    huge = row.w.copy()
    huge[CLASSES:] = 1e6
    arguments = LABELS, WEIGHTS
    expected = step(X, row.w, *arguments)
    found = step(X, huge, *arguments)
    same(found, expected, rtol=0)
    np.testing.assert_array_equal(found[1][1][CLASSES:], 0)


@pytest.mark.parametrize("label", [CLASSES, ROWS, -1])
def test_labels_of_no_class_are_loud_on_all_devices(label):
    arguments, (inside, *_) = on_mesh(TABLE["both, plain"])
    arguments[2] = jnp.array([0, 20, 7, 7, label, 3])
    (loss, _), gradients = jax.jit(inside)(*arguments)
    for found in (loss, *(gradient[0, 0] for gradient in map(np.asarray, gradients))):
        assert np.isnan(found)


COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
    r"(?:-start)?\("
)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        # The angle; the largest logit and the sum; each once more for more entries.
        ({}, 3),
        ({"normalize": "prototypes", "block_size": 16}, 4),
        ({"normalize": "none", "label_smoothing": 0.1}, 6),
    ],
)
def test_numbers_travel_and_the_gradient_of_the_embeddings(options, numbers):
    """No loop sends anything: every collective is in the entry computation."""
    batch, features, classes = 32, 16, 1024
    mesh = jax.make_mesh((8,), ("c",))
    loss = partial(losses.margin_softmax, margin=margins.ArcFace(), class_axis="c")
    specs = P(), P("c"), P()
    mapped = jax.shard_map(
        partial(loss, **options), mesh=mesh, in_specs=specs, out_specs=P()
    )
    arguments = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, dtype, spec in (
            ((batch, features), jnp.bfloat16, specs[0]),
            ((classes, features), jnp.bfloat16, specs[1]),
            ((batch,), jnp.int32, specs[2]),
        )
    ]
    step = jax.jit(jax.value_and_grad(mapped, (0, 1)))
    program = str(step.lower(*arguments).compile().as_text())
    sizes, inside = [], ""
    for line in program.splitlines():
        if line and not line.startswith(" "):
            inside = line
        if found := COLLECTIVE.search(line):
            assert found[2] == "all-reduce"
            assert inside.startswith("ENTRY")
            shapes = re.findall(r"f32\[([\d,]*)\]", found[1])
            sizes += [int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes]
    assert sorted(sizes) == [*[batch] * numbers, batch * features]


def call(class_axis: Any = "c", inside=True, **options):
    def loss(x, w, labels):
        return losses.margin_softmax(
            x, w, labels, margins.NoMargin(), class_axis=class_axis, **options
        )

    mesh = jax.make_mesh((2, 4), ("b", "c"))
    specs = P(), P("c"), P()
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=P())
    with jax.set_mesh(mesh):
        w = jax.device_put(W, NamedSharding(mesh, specs[1]))
        return jax.eval_shape(mapped if inside else loss, X[:2], w, LABELS[:2])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"inside": False}, ValueError, "got none. sphax.sharding has"),
        ({"class_axis": "d"}, ValueError, r"its axes are \('b', 'c'\)"),
        ({"class_axis": ()}, ValueError, r"one axis or more, once, got \(\)"),
        ({"class_axis": ("c", "c")}, ValueError, "one axis or more, once"),
        ({"class_axis": 0}, TypeError, "a mesh axis or a tuple of names, got 0"),
        ({"num_classes": 25}, ValueError, "is 24, 6 on each of 4 devices; got 25"),
        ({"num_classes": 0}, ValueError, "num_classes must be 1 or more"),
        ({"num_classes": 3.0}, TypeError, "num_classes must be an integer"),
        ({"num_classes": 3, "class_axis": "d"}, ValueError, "jax.shard_map"),
    ],
)
def test_errors_teach(options, error, match):
    with pytest.raises(error, match=match):
        call(**options)
