"""Losses of arrays on a mesh: values, gradients and placement as on one device."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses, margins, sharding

BATCH, CLASSES, ROWS, FEATURES = 8, 21, 24, 5
RNG = np.random.default_rng(1)
X = RNG.normal(size=(BATCH, FEATURES))
X[2] = np.nan  # masked
W = RNG.normal(size=(ROWS, FEATURES))
CENTERS = np.stack([W, RNG.normal(size=W.shape)], axis=1)
LABELS = RNG.integers(0, CLASSES, BATCH)
# Unequal sums on any two devices, and a device with none.
WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 1.0, 1.0, 0.0, 0.0])
EXPLICIT, AUTOMATIC = (AxisType.Explicit,) * 3, (AxisType.Auto,) * 3


class Row(NamedTuple):
    """A loss, and where classes and examples lie on a mesh (a, b, c) of 1 x 2 x 4."""

    name: str
    class_axis: Any
    batch_axis: Any
    options: dict[str, Any] = {}
    kinds: tuple[AxisType, ...] = EXPLICIT
    rows: int = ROWS
    is_placed: bool = True
    w: np.ndarray = W

    def loss(self, package, **more):
        options = {**self.options, "num_classes": min(CLASSES, self.rows), **more}

        def loss(x, w, labels, where):
            function = getattr(package, self.name)
            options["where"] = where
            if self.name != "margin_softmax":
                return function(x, w, labels, **options), ()
            value, aux = function(x, w, labels, has_aux=True, **options)
            logged = aux.correct, aux.angle, aux.norm, aux.weight
            return value, (*logged, *jax.tree.leaves(aux.margin))

        return loss


def softmax(margin, classes, batch, kinds=EXPLICIT, rows=ROWS, is_placed=True, **more):
    options = {"margin": margin, **more}
    return Row("margin_softmax", classes, batch, options, kinds, rows, is_placed)


PER_EXAMPLE = margins.ArcFace(margin=np.linspace(0.0, 0.5, BATCH))  # pyright: ignore[reportArgumentType]
# Each of the ways in which classes and examples can lie, with both kinds of axes, and
# margins for which the ways differ.
TABLE = {
    "equal examples": softmax(margins.ArcFace(), "c", None),
    "all axes": softmax(margins.CurricularFace(), ("b", "c"), "b"),
    "all axes, automatic": softmax(
        margins.AdaFace(), ("b", "c"), ("b", "c"), kinds=AUTOMATIC, block_size=2
    ),
    "an axis each": softmax(margins.CurricularFace(), "c", "b"),
    "an axis each, automatic": softmax(margins.AdaFace(), "c", "b", kinds=AUTOMATIC),
    "one axis": softmax(margins.MVSoftmax(margins.ArcFace()), "c", "c", block_size=3),
    "more axes of examples": softmax(
        PER_EXAMPLE, "c", ("b", "c"), scale=np.linspace(1.0, 5.0, BATCH)
    ),
    "draws": softmax(
        margins.ElasticFace(ranked=True), ("b", "c"), "b", key=jax.random.key(0)
    ),
    "axis of one": softmax(margins.NoMargin(), "a", "b", normalize="none"),
    "anywhere": softmax(margins.ArcFace(), ("b", "c"), "b", is_placed=False),
    "uneven": softmax(margins.ArcFace(), "c", "b", rows=CLASSES, is_placed=False),
    "sphereface2": Row("sphereface2", ("b", "c"), "b", {"bias": 0.3}),
    "soft_triple": Row("soft_triple", "c", "b", {"block_size": 3}, w=CENTERS),
    "hinge": Row("hinge", "c", "b"),
    "p2sgrad": Row("p2sgrad", "c", "c", kinds=AUTOMATIC),
    "proxy_nca": Row("proxy_nca", "c", ("b", "c")),
    "proxy_anchor": Row("proxy_anchor", "c", "b"),
    "proxy_anchor, all axes": Row("proxy_anchor", ("b", "c"), "b"),
}


def place(row, mesh):
    specs = P(row.batch_axis), P(row.class_axis), P(row.batch_axis), P(row.batch_axis)
    arrays: Any = X, row.w[: row.rows], LABELS, WEIGHTS
    if not row.is_placed:
        return arrays
    return [
        jax.device_put(array, NamedSharding(mesh, spec))
        for array, spec in zip(arrays, specs, strict=True)
    ]


def same(actual, desired, **tolerance):
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        np.testing.assert_allclose(
            np.asarray(x, float), np.asarray(y, float), **tolerance
        )


@pytest.mark.parametrize("name", TABLE)
def test_the_same_as_on_one_device(name):
    row = TABLE[name]
    with jax.enable_x64(True):
        mesh = jax.make_mesh((1, 2, 4), ("a", "b", "c"), row.kinds)
        where = {"class_axis": row.class_axis, "batch_axis": row.batch_axis}
        gradients = partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        one = jax.jit(gradients(row.loss(losses)))
        step = jax.jit(gradients(row.loss(sharding, mesh=mesh, **where)))
        expected = one(X, row.w[: row.rows], LABELS, WEIGHTS)
        arguments = place(row, mesh)
        found = step(*arguments)
        same(found, expected, rtol=1e-9, atol=1e-12)
        if row.is_placed and row.kinds == EXPLICIT:
            logged = found[0][1][:3]
            for array, argument in zip(
                (*found[1], *logged),
                (*arguments[:2], *arguments[2:3] * 3),
                strict=False,
            ):
                assert array.sharding.is_equivalent_to(argument.sharding, array.ndim)


@pytest.mark.parametrize("number", [CLASSES, 20])
@pytest.mark.parametrize("kinds", [EXPLICIT, AUTOMATIC])
def test_logits_of_classes_on_a_mesh(kinds, number):
    """They are split along the classes where the devices divide these."""
    mesh = jax.make_mesh((1, 2, 4), ("a", "b", "c"), kinds)
    x, w = X[3:7].astype(np.float32), W.astype(np.float32)
    found = sharding.class_logits(
        x, w, mesh=mesh, class_axis="c", batch_axis="b", num_classes=number, scale=4.0
    )
    same(found, losses.class_logits(x, w[:number], scale=4.0), rtol=1e-5)
    if kinds == EXPLICIT:
        expected = P("b", "c" if number == 20 else None)
        assert found.sharding.is_equivalent_to(NamedSharding(mesh, expected), 2)


def test_gathered_embeddings_are_sent_once_and_their_gradient_scattered():
    batch, classes, features = 32, 1024, 16
    mesh = jax.make_mesh((8,), ("c",))
    options: Any = {"mesh": mesh, "class_axis": "c", "batch_axis": "c"}
    loss = partial(sharding.margin_softmax, margin=margins.ArcFace(), **options)
    arguments = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P("c")))
        for shape, dtype in (
            ((batch, features), jnp.float32),
            ((classes, features), jnp.float32),
            ((batch,), jnp.int32),
        )
    ]
    step = jax.jit(jax.value_and_grad(partial(loss, block_size=256), (0, 1)))
    program = str(step.lower(*arguments).compile().as_text())
    sent = [line for line in program.splitlines() if f"{features}]{{" in line]
    for kind, shape in (("all-gather", batch), ("reduce-scatter", batch // 8)):
        lines = [line for line in sent if f" {kind}(" in line]
        assert len(lines) == 1
        assert f"f32[{shape},{features}]" in lines[0]
    assert not [line for line in sent if " all-reduce(" in line]


def test_an_empty_batch_has_loss_zero():
    mesh = jax.make_mesh((2, 4), ("b", "c"))
    options: Any = {"mesh": mesh, "class_axis": "c", "batch_axis": "b"}
    loss = partial(sharding.margin_softmax, margin=margins.ArcFace(), **options)
    w = jax.device_put(W, NamedSharding(mesh, P("c")))
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    value, (_, dw) = step(jnp.zeros((0, FEATURES)), w, np.zeros(0, int))
    assert value == 0.0
    np.testing.assert_array_equal(dw, 0.0)


def test_losses_of_several_batches_at_once():
    mesh = jax.make_mesh((2, 4), ("b", "c"))
    options: Any = {"mesh": mesh, "class_axis": ("b", "c"), "batch_axis": "b"}
    x, labels = np.stack([X[3:5], X[5:7]]), np.stack([LABELS[3:5], LABELS[5:7]])
    found = jax.jit(jax.vmap(lambda x, y: sharding.hinge(x, W, y, **options)))(
        x, labels
    )
    expected = [losses.hinge(x[i], W, labels[i]) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_mesh_of_the_context_is_found():
    with jax.set_mesh(jax.make_mesh((2, 4), ("b", "c"))):
        loss = partial(sharding.p2sgrad, class_axis="c", batch_axis="b")
        same(
            loss(X[3:5], W, LABELS[3:5]),
            losses.p2sgrad(X[3:5], W, LABELS[3:5]),
            rtol=1e-5,
        )


def test_the_mesh_of_the_prototypes_is_found():
    mesh = jax.make_mesh((2, 4), ("b", "c"), EXPLICIT[:2])
    w = jax.device_put(W, NamedSharding(mesh, P("c")))
    for kind in (jax.jit, lambda function: function):
        loss = kind(partial(sharding.hinge, class_axis="c"))
        same(
            loss(X[3:5], w, LABELS[3:5]),
            losses.hinge(X[3:5], W, LABELS[3:5]),
            rtol=1e-5,
        )


def call(**options):
    given: dict[str, Any] = {
        "mesh": jax.make_mesh((2, 4), ("b", "c")),
        "class_axis": "c",
        "margin": margins.NoMargin(),
        **options,
    }
    return sharding.margin_softmax(X[:2], W, LABELS[:2], **given)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mesh": None}, ValueError, "there is no mesh: give mesh="),
        ({"class_axis": "d"}, ValueError, r"axes of the mesh, \('b', 'c'\)"),
        ({"class_axis": 1}, TypeError, "class_axis must be the name of a mesh axis"),
        ({"batch_axis": ("b", "b")}, ValueError, "batch_axis must name axes"),
        ({"batch_axis": "c"}, ValueError, "the 4 devices along batch_axis='c' must"),
        ({"num_classes": 25}, ValueError, "which is 24; got 25"),
        ({"scale": -1.0}, ValueError, "scale must be positive"),
        ({"where": np.ones(3)}, ValueError, r"where must have the shape of labels"),
        ({"margin": margins.AdaFace()}, ValueError, "has_aux=True"),
        ({"temperature": 1.0}, TypeError, "no argument temperature"),
    ],
)
def test_errors_teach(options, error, match):
    with pytest.raises(error, match=match):
        call(**options)


def test_a_call_within_shard_map_names_the_other_package():
    mesh = jax.make_mesh((2,), ("c",))
    w = jax.device_put(W, NamedSharding(mesh, P("c")))

    def loss(w):
        return sharding.hinge(X[3:5], w, LABELS[3:5], class_axis="c")

    mapped = jax.shard_map(loss, mesh=mesh, in_specs=P("c"), out_specs=P())
    with pytest.raises(
        ValueError, match="inside of it, use class_axis of the functions of"
    ):
        jax.eval_shape(mapped, w)
