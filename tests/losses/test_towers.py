"""Two towers: closed forms, masks, queues, blocks, and the ring of devices."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses, sharding
from tests import reference
from tests.losses.objectives import towers

QUERIES = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
KEYS = np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
MOCO: dict[str, Any] = dict(symmetric=False, batch_negatives=False)


@pytest.mark.usefixtures("x64")
def test_values_of_four_pairs():
    def values(x, y):
        return (
            losses.info_nce(x, y),
            losses.info_nce(x, y, symmetric=False),
            losses.info_nce(x, y, queue=x, **MOCO),
            losses.sigmoid_pairs(x, y),
        )

    expected = 1.462311, 1.583832, 3.248153, 2.588394
    np.testing.assert_allclose(jax.jit(values)(QUERIES, KEYS), expected, atol=6e-7)


def test_closed_forms():
    """The least value of CLIP's loss, that of unrelated rows, the start of SigLIP's."""
    n = 64
    here, there = np.eye(n, 2 * n, dtype=np.float32), np.eye(n, 2 * n, n)

    def values(x, y, scale):
        return (
            losses.info_nce(x, x, scale=scale),
            losses.info_nce(x, y, scale=scale),
            losses.sigmoid_pairs(x, y.astype(x.dtype)),
        )

    for scale in (1 / 0.07, 40.0):  # of which the last leaves 3e-16 of the loss
        least, unrelated, start = jax.jit(values)(here, there, scale)
        np.testing.assert_allclose(least, np.log1p((n - 1) * np.exp(-scale)), rtol=1e-5)
        np.testing.assert_allclose(unrelated, np.log(n), rtol=1e-6)
    expected = np.log1p(np.exp(10)) + (n - 1) * np.log1p(np.exp(-10))
    np.testing.assert_allclose(start, expected, rtol=1e-6)


def test_a_zero_row_is_as_far_from_all():
    x = np.float32(QUERIES) * (np.arange(4) != 1)[:, None]

    def total(x, y):
        values = losses.info_nce(x, y, symmetric=False, reduction="none")
        return jnp.sum(values), values

    (_, values), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
        x, np.float32(KEYS)
    )
    np.testing.assert_allclose(values[1], np.log(4), rtol=1e-6)
    np.testing.assert_array_equal(gradients[0][1], 0)
    assert np.isfinite(gradients[1]).all()


@pytest.mark.usefixtures("x64")
def test_values_of_each_pair():
    """Those of queries, and of pairs if keys look for queries too; 0 if masked."""
    where, pairs = np.array([1.0, 0.5, 0.0, 2.0]), (np.eye(4, k=1) > 0, np.eye(4) > 0)

    def values(x, y):
        clip = functools.partial(losses.info_nce, x, y, scale=2.0, reduction="none")
        return (
            clip(where=where),
            clip(where=where, symmetric=False),
            clip(pairs=pairs),
            losses.sigmoid_pairs(x, y, reduction="none", where=where),
        )

    both, one_way, masked, sigmoid = jax.jit(values)(QUERIES, KEYS)
    z, kept = 2 * towers.products(QUERIES, KEYS), where > 0
    each = [mask & kept & kept[:, None] for mask in towers.own_and_others(4)]
    by_query, by_key = two_ways(z, each)
    np.testing.assert_allclose(one_way, by_query, rtol=1e-12)
    np.testing.assert_allclose(both, (by_query + by_key) / 2, rtol=1e-12)
    by_query, by_key = two_ways(z, pairs)
    assert by_query[-1] == by_key[0] == 0  # without a positive
    np.testing.assert_allclose(masked, (by_query + by_key) / 2, rtol=1e-12)
    alone = [
        towers.sigmoid_pairs(
            QUERIES[i : i + 1], KEYS, 10.0, -10.0, pairs=[m[i : i + 1] for m in each]
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(sigmoid, alone, rtol=1e-12)


def two_ways(z, masks):
    """Cross-entropies of rows and of columns, 0 without a positive."""
    turned = [mask.T for mask in masks]
    return np.nan_to_num([towers.entropies(z, *masks), towers.entropies(z.T, *turned)])


@pytest.mark.usefixtures("x64")
def test_a_scale_above_the_limit_has_no_gradient():
    limited = functools.partial(losses.info_nce, max_scale=5.0)
    step = jax.jit(
        jax.value_and_grad(lambda s, f: f(QUERIES, KEYS, scale=s)), static_argnums=1
    )
    free = functools.partial(losses.info_nce, max_scale=None)
    at_limit, slope = step(5.0, free)
    for scale in (4.9, 5.0):
        np.testing.assert_array_equal(step(scale, limited), step(scale, free))
    np.testing.assert_array_equal(step(5.1, limited), (at_limit, 0.0))
    assert slope != 0
    assert step(5.1, free)[0] != at_limit
    assert np.isnan(step(jnp.nan, limited)[0])
    np.testing.assert_array_equal(step(150.0, losses.info_nce)[0], step(100.0, free)[0])


def masks(seed, shape):
    """Some positive pairs, more negative ones, and some of neither kind."""
    kind = np.random.default_rng(seed).choice(3, shape, p=(0.2, 0.5, 0.3))
    return kind == 0, kind == 1


class Case(NamedTuple):
    """A loss with its options, and how many keys it has."""

    name: str
    options: dict[str, Any] = {}
    m: int = 16


D, N = 5, 16
RNG = np.random.default_rng(0)
X, QUEUE = RNG.normal(size=(N, D)), RNG.normal(size=(24, D))
WEIGHTS = RNG.uniform(0.2, 2.0, N) * (np.arange(N) % 5 != 2)
MASKS = masks(1, (N, N))
CASES = {
    "CLIP": Case("info_nce", dict(where=WEIGHTS)),
    "queue": Case("info_nce", dict(queue=QUEUE, where=WEIGHTS, symmetric=False)),
    "MoCo": Case("info_nce", dict(queue=QUEUE, where=WEIGHTS, **MOCO)),
    "masks": Case("info_nce", dict(pairs=masks(2, (N, 24))), 24),
    "masks, weights": Case(
        "info_nce", dict(pairs=MASKS, where=WEIGHTS, normalize=False)
    ),
    "SigLIP": Case("sigmoid_pairs", dict(where=WEIGHTS, normalize=False)),
    "SigLIP, masks": Case("sigmoid_pairs", dict(pairs=masks(4, (N, 24))), 24),
}
each_case = pytest.mark.parametrize("case", CASES)


def operands_of(case):
    """Queries, keys, the scale, and the bias of the loss that has one."""
    keys = np.random.default_rng(5).normal(size=(CASES[case].m, D))
    numbers = (1.7,) if CASES[case].name == "info_nce" else (1.7, -1.3)
    return X, keys, *map(np.array, numbers)


def call(case, operands, arrays, **more):
    """The loss of the case; arrays are those of its options."""
    x, y, *numbers = operands
    named = dict(zip(("scale", "bias"), numbers, strict=False))
    fixed = {k: v for k, v in CASES[case].options.items() if k not in ARRAYS}
    return getattr(losses, CASES[case].name)(x, y, **named, **fixed, **arrays, **more)


ARRAYS = {"where": P("d"), "pairs": P(None, "d"), "queue": P("d")}


def arrays_of(case):
    return {k: v for k, v in CASES[case].options.items() if k in ARRAYS}


@functools.cache
def on_one_device(case):
    """Value and gradients with all pairs at once, and in blocks."""

    def steps(operands, arrays):
        return [
            jax.value_and_grad(functools.partial(call, case, block_size=block_size))(
                operands, arrays
            )
            for block_size in (None, 5)
        ]

    return jax.jit(steps)(operands_of(case), arrays_of(case))


def assert_close(found, expected, **tolerance):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@each_case
@pytest.mark.usefixtures("x64")
def test_by_loops_and_in_blocks(case):
    operands, options = operands_of(case), CASES[case].options
    exact = functools.partial(getattr(towers, CASES[case].name), **options)
    (value, gradients), blocked = on_one_device(case)
    np.testing.assert_allclose(value, exact(*operands), rtol=1e-12)
    for i, gradient in enumerate(gradients):
        slope = reference.numerical_gradient(
            lambda z, i=i: exact(*operands[:i], z, *operands[i + 1 :]), operands[i]
        )
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)
    assert_close(blocked, (value, gradients), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("case", "devices", "block_size", "way"),
    [
        ("CLIP", 8, None, "checked"),
        ("SigLIP", 8, None, "unchecked"),
        ("queue", 2, None, "unchecked"),
        ("MoCo", 2, None, "inside"),
        ("masks", 2, 5, "inside"),
        ("masks, weights", 2, None, "checked"),
        ("SigLIP, masks", 2, 3, "inside"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_the_keys_of_all_devices(case, devices, block_size, way):
    """They travel in a ring, and their gradients travel home with them.

    With and without the check of what varies, and with gradients taken inside.
    """
    operands, arrays = operands_of(case), arrays_of(case)
    loss = functools.partial(call, case, batch_axis="d", block_size=block_size)
    of_operands = P("d"), P("d"), *(P() for _ in operands[2:])
    mesh = jax.make_mesh(
        (devices,), ("d",), (AxisType.Auto,), devices=jax.devices()[:devices]
    )
    split = functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(of_operands, {name: ARRAYS[name] for name in arrays}),
        check_vma=way != "unchecked",
    )
    if way == "inside":
        step = split(jax.value_and_grad(loss), out_specs=(P(), of_operands))
    else:
        step = jax.value_and_grad(split(loss, out_specs=P()))
    expected, _ = on_one_device(case)
    assert_close(jax.jit(step)(operands, arrays), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_outside_of_shard_map_a_queue_is_split():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    options: dict[str, Any] = dict(queue=jnp.asarray(QUEUE), symmetric=False)
    found = sharding.pairwise(
        losses.info_nce, X, X + 1.0, mesh=mesh, batch_axis="d", **options
    )
    expected = losses.info_nce(X, X + 1.0, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    options["queue"] = losses.init_memory(4, D)
    with pytest.raises(ValueError, match="queue must be an array"):
        sharding.pairwise(losses.info_nce, X, X, mesh=mesh, batch_axis="d", **options)


@pytest.mark.usefixtures("x64")
def test_a_queue_is_a_memory_or_its_rows():
    """Labels of the memory, and what is not yet filled, count for nothing."""
    memory = losses.init_memory(40, D, dtype=jnp.float64)
    memory = losses.enqueue(memory, QUEUE, np.arange(len(QUEUE)) % 3)
    empty = losses.init_memory(40, D, dtype=jnp.float64)

    def loss(queue):
        return losses.info_nce(X, X + 1.0, queue=queue, **MOCO)

    step = jax.jit(jax.value_and_grad(loss, allow_int=True))
    (of_rows, slope), (of_memory, _) = step(QUEUE), step(memory)
    np.testing.assert_array_equal(slope, 0)
    assert of_rows > 0
    np.testing.assert_allclose(of_memory, of_rows, rtol=1e-14)
    assert step(empty)[0] == 0
    found = losses.info_nce(X, X, queue=memory, pairs=MASKS, scale=2.0, **MOCO)
    expected = towers.info_nce(X, X, 2.0, queue=QUEUE, pairs=MASKS, **MOCO)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_pair_in_both_masks_is_nan():
    wrong = MASKS[0] | (np.arange(N) == 3)[:, None], MASKS[1]
    for loss in (losses.info_nce, losses.sigmoid_pairs):
        assert np.isnan(loss(X, X, pairs=wrong))
        values = loss(X, X, pairs=wrong, reduction="none")
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [3])
        assert np.isfinite(loss(X, X, pairs=wrong, where=np.arange(N) != 3))


@pytest.mark.parametrize("loss", [losses.info_nce, losses.sigmoid_pairs])
def test_blocks_take_the_memory_of_a_few_tiles(loss):
    """65,536 queries and keys: the matrix of all pairs takes 16 GiB, a tile 64 MiB."""
    rows = jax.ShapeDtypeStruct((65_536, 32), jnp.float32)
    step = jax.value_and_grad(functools.partial(loss, block_size=4096), (0, 1))
    memory: Any = jax.jit(step).lower(rows, rows).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 512 * 2**20


@pytest.mark.parametrize("loss", [losses.info_nce, losses.sigmoid_pairs])
def test_no_device_holds_the_keys_of_all(loss):
    here, d, devices = 16, 32, 4
    mesh = jax.make_mesh((devices,), ("d",), devices=jax.devices()[:devices])
    lying = NamedSharding(mesh, P("d"))
    rows = jax.ShapeDtypeStruct((devices * here, d), jnp.float32, sharding=lying)
    split = jax.shard_map(
        functools.partial(loss, batch_axis="d"),
        mesh=mesh,
        in_specs=P("d"),
        out_specs=P(),
    )
    step = jax.jit(jax.value_and_grad(split, (0, 1)))
    program = str(step.lower(rows, rows).compile().as_text())
    sizes = [
        np.prod([int(n) for n in shape.split(",") if n], dtype=int)
        for shape in re.findall(r"\w\[([\d,]*)\]", program)
    ]
    assert max(sizes) == here * d
    assert "collective-permute" in program
    assert "all-gather" not in program
