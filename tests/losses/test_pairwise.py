"""The pairwise objectives: mining, means, memory, weights and what they cost."""

import functools
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sphax import losses
from tests import reference
from tests.jaxprs import largest_array
from tests.losses.objectives.pairwise import LABELS, PAIRWISE, SHAPE

CHOSEN = ["triplet-semi-hard-euclidean", "triplet-soft", "supcon-out", "circle"]

# Objectives whose negative pairs count by themselves.
NEGATIVES_COUNT = (
    *("contrastive", "uss", "multi-similarity-all", "margin-loss", "pair-variance"),
)

SUPCON_ALL = functools.partial(losses.supervised_contrastive, anchors="all")
SUPCON_IN = functools.partial(losses.supervised_contrastive, mean="in")
CONTRASTIVE_GRADIENT = jax.jit(jax.grad(losses.contrastive))


@functools.cache
def step_of(name):
    """Value and gradient by the embeddings, compiled as one piece."""
    return jax.jit(jax.value_and_grad(PAIRWISE[name].loss))


def draw(seed=0, n=SHAPE[0]):
    return np.random.default_rng(seed).normal(size=(n, SHAPE[1]))


# On the circle, in degrees: an anchor and its positive, and three lone negatives.
CIRCLE = np.deg2rad([0.0, 60.0, 40.0, 70.0, 90.0])


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        # From 0 the negatives are at 40, 70, 90, the positive at 60; from 60 they are
        # at 20, 10, 30, all nearer than it. Within a margin of 0.5 beyond the positive
        # there is 70 (1 < 1.316 < 1.5), by plain distances 90 as well (1.414).
        (dict(mining="semi_hard"), [(1, 70)]),
        (dict(mining="semi_hard", distance="euclidean"), [(1, 70), (1, 90)]),
        (dict(mining="nearest_semi_hard", distance="euclidean"), [(1, 70), (1, 30)]),
        (dict(mining="nearest_semi_hard"), [(1, 70), (1, 30)]),
        (dict(mining="hard"), [(1, 40), (1, 20), (1, 10), (1, 30)]),
        (
            dict(mining="active", distance="euclidean"),
            [(1, a) for a in (40, 70, 90, 20, 10, 30)],
        ),
        (dict(mining="batch_hard"), [(1, 40), (1, 10)]),
        (dict(mining="easy_positive"), [(1, 40), (1, 10)]),
        (dict(mining="easy_positive_semi_hard"), [(1, 70)]),
    ],
)
def test_mining_by_hand(options, terms):
    x = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1).astype(np.float32)
    loss = jax.jit(functools.partial(losses.triplet, margin=0.5, **options))
    value = loss(x, np.array([0, 0, 1, 2, 3]))
    distances = [(d, 2 * np.sin(np.deg2rad(angle) / 2)) for d, angle in terms]
    if options.get("distance") != "euclidean":
        distances = [(d**2, other**2) for d, other in distances]
    costs = [max(d - other + 0.5, 0) for d, other in distances]
    np.testing.assert_allclose(value, np.mean(costs), rtol=1e-5)


@pytest.mark.parametrize(
    "mining",
    ["batch_hard", "nearest_semi_hard", "easy_positive", "easy_positive_semi_hard"],
)
def test_negatives_equally_near_share_one_place(mining):
    x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.6, 0.8], [-1.0, 0.0]])
    loss = functools.partial(losses.triplet, mining=mining, margin=0.5)
    step = jax.jit(jax.value_and_grad(loss))
    once, twice = jnp.array([0, 0, 1, 4, 2]), jnp.array([0, 0, 1, 2, 3])
    keep = jnp.array([True, True, True, False, True])
    value, gradient = step(x, once, where=keep)
    shared, gradients = step(x, twice)
    assert float(value) > 0
    np.testing.assert_allclose(shared, value, rtol=1e-6)
    np.testing.assert_allclose(gradients[2], gradient[2] / 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradients[2], gradients[3])
    np.testing.assert_allclose(gradients[:2], gradient[:2], rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_triplets_of_one_large_class():
    """As many iterations as the class has positives; anchors without have no cost."""
    x, labels = draw(1, n=12), np.array([3] * 9 + [5, 6, 7])
    row = PAIRWISE["triplet"]
    value, gradient = step_of("triplet")(x, labels)
    definition = functools.partial(row.definition, labels=labels)
    np.testing.assert_allclose(value, definition(x), rtol=1e-12)
    expected = reference.numerical_gradient(definition, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["triplet-soft", "triplet-semi-hard-squared"])
@pytest.mark.usefixtures("x64")
def test_first_and_second_derivatives_of_the_triplet_loss(name):
    x, labels = draw(2), np.array(LABELS)
    loss = jax.jit(functools.partial(PAIRWISE[name].loss, labels=labels))
    along, gradient = draw(3), jax.jit(jax.grad(loss))
    _, slope = jax.jit(lambda x: jax.jvp(loss, (x,), (along,)))(x)
    np.testing.assert_allclose(slope, np.sum(gradient(x) * along), rtol=1e-10)
    _, curvature = jax.jit(lambda x: jax.jvp(gradient, (x,), (along,)))(x)
    ahead, behind = (gradient(x + step * along) for step in (1e-6, -1e-6))
    expected = (ahead - behind) / 2e-6
    np.testing.assert_allclose(curvature, expected, rtol=1e-5, atol=1e-7)
    in_reverse = jax.jit(jax.grad(lambda x: jnp.sum(gradient(x) * along)))
    if name == "triplet-soft":
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not"):
            in_reverse(x)
    else:
        np.testing.assert_allclose(in_reverse(x), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "option", "value"),
    [
        (losses.contrastive, "margin", 1.2),
        (functools.partial(losses.triplet, mining="semi_hard"), "margin", 0.6),
        (functools.partial(losses.triplet, mining="batch_hard"), "margin", 0.6),
        (losses.n_pair, "regularization", 0.3),
        (losses.nt_xent, "scale", 4.0),
        (losses.supervised_contrastive, "scale", 4.0),
        (losses.circle, "margin", 0.3),
        (functools.partial(losses.triplet, mining="easy", soft=True), "margin", 0.6),
        (losses.angular, "angle", 0.6),
        (losses.uss, "bias", 20.0),
        (functools.partial(losses.dcl, weighted=True), "sigma", 0.4),
    ],
)
@pytest.mark.usefixtures("x64")
def test_hyperparameters_may_be_traced_and_differentiated(loss, option, value):
    x, labels = draw(4), np.array(LABELS)
    step = jax.jit(
        jax.value_and_grad(lambda number: loss(x, labels, **{option: number}))
    )
    found, slope = step(value)
    if loss is losses.circle:
        # Its weights depend on the margin and are detached from x.
        np.testing.assert_allclose(found, loss(x, labels, margin=value), rtol=1e-12)
    ahead, behind = (float(step(value + change)[0]) for change in (1e-6, -1e-6))
    assert slope != 0
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-6)


# On the circle, two rows of each class, with cosines 0.8 within the classes, and 0,
# -0.6, 0.6, 0 between them; and three references.
FOUR, PAIRED = np.array([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]]), np.arange(4) // 2
THREE = {
    "references": np.array([[1, 0], [0, 1], [0.6, -0.8]]),
    "reference_labels": np.array([0, 1, 1]),
}


@pytest.mark.parametrize(
    ("loss", "options", "expected"),
    [
        (losses.triplet, dict(soft=True), 0.277655),
        (losses.triplet, dict(margin="soft", mining="easy_positive"), 0.348458),
        (losses.n_pair, dict(pairing="first"), 0.411278),
        (losses.angular, {}, 0.373649),
        (losses.uss, dict(bias=20), 9.2),
        (losses.uss_bias, dict(scale=8), 2.408196),
        (losses.dcl, {}, -4.997524),
        (losses.dcl, dict(weighted=True), -4.997524),
        (losses.dcl, THREE, -2.999175),
    ],
)
@pytest.mark.usefixtures("x64")
def test_values_by_hand(loss, options, expected):
    value = loss(FOUR, PAIRED, **options)
    np.testing.assert_allclose(value, expected, atol=1e-6)


@pytest.mark.parametrize("angle", [0.3, 1.2, 1.3, 1.5])
def test_the_two_forms_of_the_angular_loss(angle):
    """At 1.3 radians a product of powers would underflow; at 1.2 it nearly does."""
    x, labels = draw(22).astype(np.float32), np.array(LABELS)
    x[:3] = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [-1, 0, 0, 0, 0]]
    loss = jax.jit(losses.angular, static_argnames="angle")
    value = loss(x, labels, angle=angle)
    expected = PAIRWISE["angular"].definition(x.astype(float), labels, angle=angle)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    step = jax.value_and_grad(losses.angular)
    with jax.enable_x64(True):
        exact, slope = step(x.astype(float), labels, angle=jnp.asarray(angle))
    np.testing.assert_allclose(exact, expected, rtol=1e-9)
    slope, gradient = np.asarray(slope), step(x, labels, angle=angle)[1]
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-4 * abs(slope).max())


def test_references_without_anchors_cost_nothing():
    x, labels = draw(25).astype(np.float32), np.array(LABELS)
    step = jax.value_and_grad(losses.angular, argnums=0)
    given = {"references": x, "reference_labels": labels}
    value, gradient = step(x[:0], labels[:0], **given)
    assert float(value) == 0.0
    assert gradient.shape == (0, SHAPE[1])


@pytest.mark.parametrize("name", ["n-pair-first", "dcl-weighted"])
@pytest.mark.usefixtures("x64")
def test_losses_of_an_order_or_of_all_anchors_in_blocks_and_on_devices(name):
    """The first rows of a class, and the mean of all powers, are those of all rows."""
    x, labels, weights = draw(23, n=8), np.array(LABELS[:8]), np.arange(8.0) % 4
    dirty = np.where(weights[:, None] > 0, x, np.nan)
    loss = functools.partial(PAIRWISE[name].loss, where=weights)
    step = jax.jit(jax.value_and_grad(functools.partial(loss, labels=labels)))
    expected, slope = step(dirty)
    kept = weights > 0
    definition = functools.partial(
        PAIRWISE[name].definition, labels=labels[kept], weights=weights[kept]
    )
    np.testing.assert_allclose(expected, definition(x[kept]), rtol=1e-12)
    by_hand = reference.numerical_gradient(definition, x[kept])
    np.testing.assert_allclose(slope[kept], by_hand, rtol=1e-6, atol=1e-8)

    def split(x, labels, weights, block_size=None):
        return PAIRWISE[name].loss(
            x, labels, where=weights, batch_axis="d", block_size=block_size
        )

    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])
    on_mesh = jax.shard_map(split, mesh=mesh, in_specs=P("d"), out_specs=P())
    for step in (
        jax.value_and_grad(lambda x: loss(x, labels, block_size=4)),
        jax.value_and_grad(lambda x: on_mesh(x, labels, weights)),
    ):
        value, gradient = jax.jit(step)(dirty)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-12)


def test_the_initial_bias_has_no_gradient():
    x, labels = draw(24).astype(np.float32), np.array(LABELS)
    bias, slope = jax.value_and_grad(losses.uss_bias)(x, labels)
    cosines = reference.directions(x) @ reference.directions(x).T
    is_negative = labels[:, None] != labels[None, :]
    powers = np.sum(np.exp(64.0 * cosines), axis=1, where=is_negative)
    np.testing.assert_allclose(bias, np.mean(np.log(powers)), rtol=1e-5)
    assert not slope.any()
    assert losses.uss_bias(x, jnp.zeros(len(x), int)) == 0.0


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.usefixtures("x64")
def test_weights_are_those_of_the_anchors(name):
    x, labels = draw(5), np.array(LABELS)
    weights = np.random.default_rng(6).uniform(0.2, 3.0, len(x))
    value = jax.jit(PAIRWISE[name].loss)(x, labels, where=weights)
    expected = PAIRWISE[name].definition(x, labels, weights=weights)
    assert abs(expected - PAIRWISE[name].definition(x, labels)) > 1e-6
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_supervised_contrastive_over_all_anchors_by_hand():
    """Four of five anchors have a positive: the official code's loss is 4/5 of ours."""
    x, labels = draw(7, n=5).astype(np.float32), np.array([0, 0, 1, 1, 2])
    paired = jax.jit(losses.supervised_contrastive)(x, labels)
    everyone = jax.jit(SUPCON_ALL)(x, labels)
    np.testing.assert_allclose(paired / everyone, 5 / 4, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_two_means_of_supervised_contrastive():
    x, labels = draw(8), np.array(LABELS)
    outside, inside = map(jax.jit, (losses.supervised_contrastive, SUPCON_IN))
    assert inside(x, labels) < outside(x, labels)
    pairs = np.array([0, 1, 2, 0, 1, 2, 3, 4, 5])  # one positive at most: they agree
    expected = outside(x, pairs)
    np.testing.assert_allclose(inside(x, pairs), expected, rtol=1e-12)
    # NT-Xent then has the same denominator.
    np.testing.assert_allclose(jax.jit(losses.nt_xent)(x, pairs), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_nt_xent_is_that_of_optax():
    x, labels = draw(9), np.array(LABELS)
    theirs = jax.jit(functools.partial(optax.losses.ntxent, temperature=0.5))
    ours = jax.jit(functools.partial(losses.nt_xent, scale=2.0))
    np.testing.assert_allclose(ours(x, labels), theirs(x, labels), rtol=1e-9)


@pytest.mark.parametrize("name", PAIRWISE)
def test_without_a_positive_there_is_no_loss(name):
    x = jnp.asarray(draw(10), jnp.float32)
    value, gradient = step_of(name)(x, jnp.arange(len(x)))
    if name in NEGATIVES_COUNT:
        assert float(value) > 0
    else:
        assert float(value) == 0.0
        assert np.all(np.asarray(gradient) == 0)
    value, gradient = step_of(name)(x, jnp.zeros(len(x), jnp.int32))
    if name.startswith(("triplet", "nt-xent", "circle", "angular", "dcl")):
        assert float(value) == 0.0
        assert np.all(np.asarray(gradient) == 0)
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_nan_is_not_mined_away(name):
    x = jnp.asarray(draw(11), jnp.float32).at[2, 1].set(jnp.nan)
    value, _ = step_of(name)(x, jnp.array(LABELS))
    assert np.isnan(float(value))


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.usefixtures("x64")
def test_neither_order_nor_names_of_the_classes_count(name):
    x, labels = draw(12), np.array(LABELS)
    order = np.random.default_rng(13).permutation(len(x))
    expected, slopes = step_of(name)(x, labels)
    value, gradient = step_of(name)(x[order], -1000 * labels[order])
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 3e-3, 1e-3, 1e-4])
def test_gradient_of_close_negatives_points_apart(angle):
    base = draw(14, n=3).astype(np.float32)
    x = np.stack([base[0], base[0] * np.cos(angle) + base[1] * np.sin(angle)])
    gradient = CONTRASTIVE_GRADIENT(x, np.array([0, 1]))
    u, v = reference.directions(x.astype(np.float64))
    gap = np.linalg.norm(v - u)
    tangent = (v - u) - (v - u) @ u * u
    expected = (1 - gap) / gap * tangent / np.linalg.norm(x[0])
    size = np.linalg.norm(expected)
    assert np.linalg.norm(gradient[0]) < 1.5 * size
    if gap >= 3e-3:  # well above the root of what cosines resolve, 3e-4
        assert np.linalg.norm(gradient[0] - expected) < 2e-6 / gap**2 * size + 1e-5


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_coincident_negatives_have_no_gradient(dtype):
    x = jnp.asarray(np.repeat(draw(15, n=4), 2, axis=0), dtype)
    step = jax.jit(jax.grad(losses.contrastive))
    doubled, single = step(x, jnp.arange(8))[::2], step(x[::2], jnp.arange(4))
    doubled, single = np.asarray(doubled, np.float64), np.asarray(single, np.float64)
    # Every row meets the other points twice as often, in 56 pairs instead of 12.
    error = np.linalg.norm(doubled - 2 * 12 / 56 * single)
    allowed = 4 * float(jnp.finfo(dtype).eps) + 1e-3
    assert error < allowed * np.linalg.norm(single)


def remember(rows, labels, size, where=None):
    """A memory by hand: a list, cut to its newest rows."""
    kept = [i for i in range(len(rows)) if where is None or where[i]][-size:]
    return rows[kept], labels[kept]


@pytest.mark.parametrize("size", [3, 7, 40])
def test_a_memory_keeps_the_newest_rows(size):
    """Partly filled, wrapped around, and smaller than a batch."""
    rng = np.random.default_rng(16)
    rows = rng.normal(size=(4, 5, 2)).astype(np.float32)
    labels, where = rng.integers(0, 9, (4, 5)), rng.random((4, 5)) < 0.7
    rows[~where] = np.nan

    def push(memory, batch):
        x, y, kept = batch
        return losses.enqueue(memory, x, y, where=kept), memory.filled

    start = losses.init_memory(size, 2)
    batches = tuple(map(jnp.asarray, (rows, labels, where)))
    memory, _ = jax.jit(lambda m, b: jax.lax.scan(push, m, b))(start, batches)
    kept, names = remember(
        rows.reshape(-1, 2), labels.reshape(-1), size, where.reshape(-1)
    )
    assert int(memory.filled) == len(kept) == min(size, where.sum())
    found = np.asarray(memory.embeddings)[: len(kept)]
    turn = -int(memory.position) if len(kept) == size else 0
    np.testing.assert_array_equal(np.roll(found, turn, axis=0), kept)
    found = np.asarray(memory.labels)[: len(kept)]
    np.testing.assert_array_equal(np.roll(found, turn), names)


def test_a_memory_can_be_donated_and_holds_half_precision():
    memory = losses.init_memory(4, 2, dtype=jnp.bfloat16, label_dtype=jnp.int8)
    push = jax.jit(losses.enqueue, donate_argnums=0)
    memory = push(memory, np.ones((3, 2), np.float32), np.array([1, 2, 3]))
    assert memory.embeddings.dtype == jnp.bfloat16
    assert memory.labels.dtype == jnp.int8
    assert int(memory.filled) == 3
    x, labels = jnp.ones((2, 2)), jnp.array([1, 1])
    value = jax.eval_shape(losses.nt_xent, x, labels, memory=memory)
    assert value.dtype == jnp.float32


# One row for each loss, and both ways in which triplets are summed: options and kinds
# of mining come after the anchors have met the memory.
@pytest.mark.parametrize(
    "name",
    [
        *("contrastive", "triplet", "triplet-batch-hard", "n-pair", "nt-xent"),
        *("supcon-out", "circle", "n-pair-first", "angular", "uss", "dcl-weighted"),
        *("multi-similarity", "margin-loss", "lifted"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_rows_of_a_memory_are_further_negatives(name):
    """Those of the anchor's own class are left out, and none is an anchor."""
    x, labels = draw(17), np.array(LABELS)
    stored, names = draw(18, n=5), np.array([4, 20, 2, 21, 20])
    memory = losses.init_memory(8, SHAPE[1], dtype=jnp.float64)
    memory = losses.enqueue(memory, stored, names)

    def definition(x):
        rows, classes = np.concatenate([x, stored]), np.concatenate([labels, names])
        return PAIRWISE[name].definition(rows, classes, [held], batch=len(x))

    held = np.concatenate([x, stored])
    loss = PAIRWISE[name].loss
    step = jax.jit(
        jax.value_and_grad(
            lambda x, m: loss(x, labels, memory=m), (0, 1), allow_int=True
        )
    )
    value, (gradient, d_memory) = step(x, memory)
    assert abs(definition(x) - PAIRWISE[name].definition(x, labels)) > 1e-9
    np.testing.assert_allclose(value, definition(x), rtol=1e-11)
    expected = reference.numerical_gradient(definition, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)
    assert np.all(np.asarray(d_memory.embeddings) == 0)

    empty = losses.init_memory(8, SHAPE[1], dtype=jnp.float64)
    value, (gradient, _) = step(x, empty)
    expected, slopes = step_of(name)(x, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-15)


def test_a_mask_hides_rows_from_the_memory_too():
    x, labels = draw(19).astype(np.float32), np.array(LABELS)
    push = jax.jit(losses.enqueue)
    memory = push(losses.init_memory(4, 5), x[:3] + 1, labels[:3])
    keep = np.arange(len(x)) != 3
    dirty = np.where(keep[:, None], x, np.nan)
    loss = jax.jit(losses.nt_xent)
    value = loss(dirty, labels, memory=memory, where=keep)
    expected = loss(x[keep], labels[keep], memory=memory)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.uint32])
def test_a_memory_of_other_integers_keeps_classes_apart(dtype):
    """300 is 44 in eight bits; as a class it is another one."""
    x, labels = draw(20, n=4).astype(np.float32), np.array([300, 300, 44, 44])
    stored = draw(21, n=2).astype(np.float32)
    loss = jax.jit(losses.nt_xent)
    memories = [
        losses.enqueue(
            losses.init_memory(4, SHAPE[1], label_dtype=kind), stored, np.array([44, 7])
        )
        for kind in (dtype, jnp.int32)
    ]
    narrow, wide = (loss(x, labels, memory=memory) for memory in memories)
    rows, classes = np.concatenate([x, stored]), np.concatenate([labels, [44, 7]])
    definition = PAIRWISE["nt-xent"].definition
    np.testing.assert_allclose(wide, definition(rows, classes, batch=4), rtol=1e-5)
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


def test_a_label_that_does_not_fit_is_never_stored_silently():
    memory = losses.init_memory(4, 3, label_dtype=jnp.int8)
    x, labels = np.eye(3, dtype=np.float32), np.array([1, 300, 2])
    with pytest.raises(ValueError, match=r"labels must fit in the memory's dtype int8"):
        losses.enqueue(memory, x, labels)
    stored = jax.jit(losses.enqueue)(memory, x, labels)
    assert np.isnan(stored.embeddings[1]).all()
    value = losses.contrastive(x, jnp.array([1, 2, 2]), memory=stored)
    assert np.isnan(float(value))


FLOAT64 = """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from sphax import losses

def total(batches):
    found = 0.0
    for x in batches:
        labels = jnp.arange(len(x), dtype=jnp.int32) // 2
        found += losses.triplet(x, labels) + losses.triplet(x, labels, soft=True)
        found += losses.triplet(x, labels, mining="easy_positive_semi_hard")
        found += losses.angular(x, labels) + losses.n_pair(x, labels, pairing="first")
        found += losses.dcl(x, labels, weighted=True) + losses.uss(x, labels, bias=9.0)
    return found

batches = [jnp.cos(jnp.arange(3.0 * n)).reshape(n, 3) for n in (1, 2, 7, 8, 9, 16, 17)]
print(all(jnp.isfinite(g).all() for g in jax.jit(jax.grad(total))(batches)))
"""


@pytest.mark.slow
def test_float64_of_every_small_number_of_rows():
    """As compiled by default: LLVM took the process along at eight rows."""
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: x for name, x in os.environ.items() if name not in ours}
    run = subprocess.run(
        [sys.executable, "-c", FLOAT64], env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "True", run.stderr


def push(*arguments):
    return losses.enqueue(losses.init_memory(4, 3), *arguments)


NO_MEMORY: Any = None


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (
            ValueError,
            "size must be 1 or more, got 0",
            lambda: losses.init_memory(0, 3),
        ),
        (
            ValueError,
            "features must be 1 or more, got 0",
            lambda: losses.init_memory(3, 0),
        ),
        (
            TypeError,
            "dtype must be floating, got int32",
            lambda: losses.init_memory(4, 3, dtype=jnp.int32),
        ),
        (
            TypeError,
            "label_dtype must be integer, got float32",
            lambda: losses.init_memory(4, 3, label_dtype=jnp.float32),
        ),
        (
            ValueError,
            "memory must have the features",
            lambda: push(jnp.ones((2, 5)), jnp.zeros(2, jnp.int32)),
        ),
        (
            TypeError,
            "labels must be integer",
            lambda: push(jnp.ones((2, 3)), jnp.zeros(2)),
        ),
        (
            TypeError,
            "memory must be a sphax.losses.MemoryBank",
            lambda: losses.enqueue(
                NO_MEMORY, jnp.ones((2, 3)), jnp.zeros(2, jnp.int32)
            ),
        ),
    ],
)
def test_errors_of_the_memory_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("name", PAIRWISE)
def test_no_array_is_larger_than_the_pairs(name):
    n, size, d = 48, 16, 8
    memory = losses.init_memory(size, d)
    loss = PAIRWISE[name].loss
    step = jax.value_and_grad(lambda x, y, m: loss(x, y, memory=m))
    jaxpr = jax.make_jaxpr(step)(jnp.ones((n, d)), jnp.arange(n) // 4, memory)
    assert largest_array(jaxpr.jaxpr) <= n * (n + size)
