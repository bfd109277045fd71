"""Samples of classes: which are kept, how often, and the loss of those that are."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from sphax.sharding._sample_classes import _are_smallest

sample = sx.sharding.sample_classes
ROWS, CLASSES, SIZE, DRAWS = 12, 11, 6, 4000
LABELS = jnp.array([3, 7, 3, 0, 5])
WHERE = jnp.array([True, False, True, True, False])  # so that 0 and 3 are in the batch
OTHERS = sorted(set(range(CLASSES)) - {0, 3})


@pytest.fixture(scope="module")
def draws():
    """Many samples on one device."""
    prototypes = jax.ShapeDtypeStruct((ROWS, 2), jnp.float32)

    def draw(key):
        return sample(key, prototypes, LABELS, SIZE, where=WHERE, num_classes=CLASSES)

    keys = jax.random.split(jax.random.key(1), DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(keys))


def test_classes_of_the_batch_are_kept_and_others_are_distinct(draws):
    assert draws.rows.dtype == draws.labels.dtype == np.int32
    assert np.all(np.diff(draws.rows, axis=1) > 0)
    assert (draws.rows.min(), draws.rows.max()) == (0, CLASSES - 1)
    assert np.all(np.any(draws.rows == 0, axis=1) & np.any(draws.rows == 3, axis=1))
    found = np.take_along_axis(draws.rows, draws.labels, axis=1)
    is_there = np.any(draws.rows[:, None, :] == np.asarray(LABELS)[:, None], axis=2)
    assert np.all(is_there[:, [0, 2, 3]])
    np.testing.assert_array_equal(
        found[is_there], np.tile(LABELS, (DRAWS, 1))[is_there]
    )
    assert np.all(draws.labels[~is_there] == -1)  # masked, and not sampled by chance
    np.testing.assert_allclose(draws.log_inclusion, math.log(4 / 9), rtol=1e-6)


def test_every_set_of_others_is_equally_probable(draws):
    """A chi-square statistic of all sets, and the frequency of each class."""
    sets = list(itertools.combinations(OTHERS, SIZE - 2))
    numbers: dict[tuple[int, ...], int] = {
        others: number for number, others in enumerate(sets)
    }
    drawn = [
        numbers[tuple(int(row) for row in rows if row in OTHERS)] for rows in draws.rows
    ]
    counts, expected = np.bincount(drawn, minlength=len(sets)), DRAWS / len(sets)
    statistic = np.sum((counts - expected) ** 2) / expected
    degrees = len(sets) - 1
    assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)
    frequencies = [np.mean(np.any(draws.rows == row, axis=1)) for row in OTHERS]
    deviation = math.sqrt(4 / 9 * 5 / 9 / DRAWS)
    np.testing.assert_allclose(frequencies, 4 / 9, atol=4 * deviation)


def test_sums_over_all_classes_are_unbiased_if_corrected(draws):
    terms = np.exp(np.random.default_rng(0).normal(size=CLASSES))
    is_other = np.isin(draws.rows, OTHERS)
    probabilities = np.where(is_other, np.exp(draws.log_inclusion)[:, None], 1.0)
    estimates = np.sum(terms[draws.rows] / probabilities, axis=1)
    n, k = len(OTHERS), SIZE - 2
    deviation = n * math.sqrt((1 / k - 1 / n) * np.var(terms[OTHERS], ddof=1))
    error = 4 * deviation / math.sqrt(DRAWS)
    np.testing.assert_allclose(np.mean(estimates), np.sum(terms), atol=error)
    np.testing.assert_allclose(np.std(estimates), deviation, rtol=0.1)


def on_devices(*, axis, size, classes):
    """Samples of many keys, with a first axis for the eight devices of a 4 x 2 mesh."""

    def draw(keys, prototypes, labels):
        options = {"class_axis": axis, "num_classes": classes}
        sampled = jax.vmap(lambda key: sample(key, prototypes, labels, size, **options))
        return jax.tree.map(lambda x: x[None], sampled(keys))

    return jax.jit(
        jax.shard_map(
            draw,
            mesh=jax.make_mesh((4, 2), ("c", "b")),
            in_specs=(P(), P(axis), P()),
            out_specs=P(("c", "b")),
        )
    )


@pytest.mark.parametrize("axis", ["c", ("c", "b")])
def test_each_device_samples_its_own_classes(axis):
    devices = 4 if axis == "c" else 8
    rows, size, keys = 5, 3, 64
    classes = devices * rows - 2
    mesh = jax.make_mesh((4, 2), ("c", "b"))
    prototypes = jax.device_put(
        jnp.zeros((devices * rows, 1)), NamedSharding(mesh, P(axis))
    )
    labels = jnp.array([[5, 5, 6, 7], [6, classes - 1, 5, classes]])
    run = on_devices(axis=axis, size=size, classes=classes)
    arguments = jax.random.split(jax.random.key(2), keys), prototypes, labels
    found = jax.tree.map(np.asarray, run(*arguments))
    if devices == 4:  # the two devices with the same classes sample alike
        for x in found:
            np.testing.assert_array_equal(x[::2], x[1::2])
        found = jax.tree.map(lambda x: x[::2], found)
    own = found.rows  # [devices, keys, size]
    assert np.all(np.diff(own, axis=-1) > 0)
    assert (own.min(), own.max()) == (0, rows - 1)
    assert own[-1].max() == 2  # the last two of the last device are padding
    # Two devices without a class of the batch: one of ten sets by chance.
    assert np.mean(np.all(own[0] == own[2], axis=-1)) < 0.4
    assert len(np.unique(own[2], axis=0)) > 5
    joined = own + rows * np.arange(devices)[:, None, None]
    joined = joined.transpose(1, 0, 2).reshape(keys, devices * size)
    np.testing.assert_array_equal(
        found.labels, np.broadcast_to(found.labels[:1], found.labels.shape)
    )
    places = found.labels[0].reshape(keys, labels.size)
    np.testing.assert_array_equal(places[:, -1], -1)
    np.testing.assert_array_equal(
        np.take_along_axis(joined, places[:, :-1], axis=1),
        np.tile(labels.reshape(-1)[:-1], (keys, 1)),
    )
    positives = np.bincount(np.unique(labels[labels < classes]) // rows)
    exist = np.minimum(classes - rows * np.arange(devices), rows)
    positives = np.pad(positives, (0, devices - len(positives)))
    with np.errstate(divide="ignore"):
        expected = np.log((size - positives) / (exist - positives))
    expected[exist == size] = 0.0
    np.testing.assert_allclose(found.log_inclusion[:, 0], expected, rtol=1e-6)


def test_a_number_for_each_label_travels():
    mesh = jax.make_mesh((8,), ("c",))
    prototypes = jax.ShapeDtypeStruct((1000, 4), jnp.float32)
    run = jax.shard_map(
        lambda key, labels: sample(key, prototypes, labels, 100, class_axis="c").labels,
        mesh=mesh,
        in_specs=P(),
        out_specs=P(),
    )
    arguments = jax.random.key(0), jnp.arange(16)
    program = jax.jit(run).lower(*arguments).compile().as_text() or ""
    lines = [
        line for line in program.splitlines() if "all-" in line or "permute" in line
    ]
    assert lines
    assert all("s32[16]" in line for line in lines if " = " in line)
    assert "all-gather" not in program


def test_classes_of_the_batch_that_find_no_place():
    key, prototypes = jax.random.key(0), jnp.zeros((9, 2))
    labels = jnp.array([8, 2, 5, 9, -1])
    full = sample(key, prototypes, labels, 2)
    np.testing.assert_array_equal(full.rows, [2, 5])
    np.testing.assert_array_equal(full.labels, [-1, 0, 1, -1, -1])
    assert full.log_inclusion == -jnp.inf
    loss = sx.losses.margin_softmax(
        jnp.eye(5), jnp.eye(5)[full.rows], full.labels, sx.margins.CosFace()
    )
    assert jnp.isnan(loss)
    exact = sample(key, prototypes, labels, 3)
    np.testing.assert_array_equal(exact.rows, [2, 5, 8])
    everything = sample(key, prototypes, labels, 9)
    np.testing.assert_array_equal(everything.rows, np.arange(9))
    assert everything.log_inclusion == 0.0


@pytest.mark.parametrize("count", [1, 3, 4, 6, 8])
def test_of_equal_numbers_the_first_are_taken(count):
    numbers = jnp.array([2**32 - 1, 7, 7, 0, 7, 2**31, 7, 9], jnp.uint32)
    order = np.argsort(np.asarray(numbers), kind="stable")
    found = _are_smallest(numbers, count)
    np.testing.assert_array_equal(np.flatnonzero(found), np.sort(order[:count]))


def whole_loss(x, w, sampled):
    """The loss of all classes, whose logits are left out if they are not sampled."""
    x, w = (v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (x, w))
    classes = jnp.arange(len(w))
    is_class = LABELS[:, None] == classes[None]
    logits = 8.0 * (x @ w.T - 0.35 * is_class)
    logits = jnp.where(jnp.isin(classes, sampled)[None], logits, -jnp.inf)
    target = jnp.sum(jnp.where(is_class, logits, 0.0), 1)
    return jnp.mean(jax.nn.logsumexp(logits, 1) - target)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("devices", [1, 4])
def test_the_gradient_is_that_of_all_classes_with_the_others_left_out(devices):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.normal(size=(ROWS, 4)))
    size = SIZE // 2 if devices > 1 else SIZE
    axis: Any = {"class_axis": "c"} if devices > 1 else {}

    def loss(w, x):
        sampled = sample(jax.random.key(3), w, LABELS, size, **axis)
        kept, margin = w[sampled.rows], sx.margins.CosFace()
        value = sx.losses.margin_softmax(
            x, kept, sampled.labels, margin, scale=8.0, **axis
        )
        return value, sampled.rows

    if devices > 1:
        mesh = jax.make_mesh((devices,), ("c",))
        w = jax.device_put(w, NamedSharding(mesh, P("c")))
        x = jax.device_put(x, NamedSharding(mesh, P()))
        loss = jax.shard_map(
            loss, mesh=mesh, in_specs=(P("c"), P()), out_specs=(P(), P("c"))
        )
    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (value, rows), gradients = run(w, x)
    starts = np.repeat(np.arange(devices) * (ROWS // devices), size)
    expected = jax.value_and_grad(whole_loss, (1, 0))(
        *jax.tree.map(np.asarray, (x, w)), np.asarray(rows) + starts
    )
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14),
        (value, gradients),
        expected,
    )
    kept = np.any(np.asarray(gradients[0]) != 0.0, axis=1)
    assert np.count_nonzero(kept) == size * devices


@pytest.mark.parametrize(
    ("error", "match", "arguments", "options"),
    [
        (ValueError, "sample_size must be at most .* classes, 12, got 13", (13,), {}),
        (ValueError, "classes, 7, got 8", (8,), {"num_classes": 7}),
        (ValueError, "sample_size must be 1 or more, got 0", (0,), {}),
        (TypeError, "sample_size must be an integer, got 2.0", (2.0,), {}),
        (ValueError, "num_classes must be at most .*12", (2,), {"num_classes": 13}),
        (ValueError, "class_axis='c' must be an axis of", (2,), {"class_axis": "c"}),
        (
            ValueError,
            r"where must have the shape of labels, \(5,\)",
            (2,),
            {"where": jnp.ones(4, bool)},
        ),
    ],
)
def test_wrong_arguments(error, match, arguments, options):
    with pytest.raises(error, match=match):
        sample(jax.random.key(0), jnp.zeros((ROWS, 2)), LABELS, *arguments, **options)


def test_wrong_arrays():
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="key must be a random key"):
        sample(0, jnp.zeros((3, 2)), LABELS, 2)  # pyright: ignore
    with pytest.raises(TypeError, match="labels must be integer"):
        sample(key, jnp.zeros((3, 2)), jnp.zeros(2), 2)
    with pytest.raises(ValueError, match=r"prototypes must be \[classes, ...\]"):
        sample(key, jnp.zeros(()), LABELS, 2)


def test_every_device_needs_enough_classes():
    run = on_devices(axis="c", size=3, classes=17)
    mesh = jax.make_mesh((4, 2), ("c", "b"))
    prototypes = jax.device_put(jnp.zeros((20, 1)), NamedSharding(mesh, P("c")))
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="the last of 4 devices, 2, got 3"):
        run(keys, prototypes, LABELS)
