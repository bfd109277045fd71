"""What anchors are compared with, and how: options that all pairwise losses share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sphax import losses
from tests import reference
from tests.jaxprs import largest_array
from tests.losses.objectives.pairwise import LABELS, PAIRWISE, SHAPE

# One row for each way in which a loss meets its pairs.
LEFT_OUT = {
    *("triplet-hard", "triplet-easy-positive", "triplet-easy-soft", "supcon-in"),
    *("angular-exact", "uss", "multi-similarity-all", "lifted-generalized"),
    *("n-pair-first", "dcl-weighted"),  # which depend on more than an anchor's pairs
}
EACH_FORM = [name for name in PAIRWISE if name not in LEFT_OUT]
each_form = pytest.mark.parametrize("name", EACH_FORM)
(N, D), M = SHAPE, 12
DEVICES = 3


def rows(seed, n=N):
    return np.random.default_rng(seed).normal(size=(n, D))


def masks(seed, shape=(N, M)):
    """Some positive pairs, more negative ones, and some of neither kind."""
    kind = np.random.default_rng(seed).choice(3, shape, p=(0.3, 0.5, 0.2))
    return kind == 0, kind == 1


X, R, WEIGHTS = rows(0), rows(1, M), np.random.default_rng(2).uniform(0.5, 2.0, N)
PAIRS = masks(3)
KEPT, LISTED = np.arange(N) != 4, np.arange(M) % 5 != 2
KNOWN = tuple(mask & KEPT[:, None] & LISTED[None, :] for mask in PAIRS)


def definition(name, x, r, pairs=KNOWN, **options):
    """The loss by loops, with references after the anchors."""
    every = np.concatenate([x, r])
    held = np.concatenate([X, R]) if x.shape == X.shape else every
    return PAIRWISE[name].definition(every, pairs, [held], batch=len(x), **options)


def with_references(name, x, r, pairs, where, listed, **options):
    return PAIRWISE[name].loss(
        x, references=r, pairs=pairs, where=where, reference_where=listed, **options
    )


def step_of(name, **options):
    loss = functools.partial(with_references, name, **options)
    return jax.jit(jax.value_and_grad(loss, (0, 1)))


@functools.cache
def whole(name):
    """Value and gradients with all pairs at once; masked rows are NaN."""
    x = np.where(KEPT[:, None], X, np.nan)
    r = np.where(LISTED[:, None], R, np.nan)
    return step_of(name)(x, r, PAIRS, WEIGHTS * KEPT, LISTED)


@each_form
@pytest.mark.usefixtures("x64")
def test_references_and_masks_by_loops(name):
    value, gradients = whole(name)
    exact = functools.partial(definition, name, weights=WEIGHTS * KEPT)
    assert exact(X, R) != 0
    np.testing.assert_allclose(value, exact(X, R), rtol=1e-11)
    slopes = (
        reference.numerical_gradient(lambda x: exact(x, R), X),
        reference.numerical_gradient(lambda r: exact(X, r), R),
    )
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)


# Its costs are relative to means of all anchors.
@pytest.mark.parametrize("name", [x for x in EACH_FORM if x != "pair-variance"])
@pytest.mark.usefixtures("x64")
def test_blocks_and_values_of_each_anchor(name):
    def total(*arguments):
        values = with_references(name, *arguments, reduction="none", block_size=5)
        return jnp.sum(values * jnp.arange(1.0, N + 1)), values

    step = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, values), gradients = step(X, R, PAIRS, WEIGHTS * KEPT, LISTED)
    alone = [np.eye(N)[a] for a in range(N)]
    expected = [definition(name, X, R, weights=one) for one in alone]
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-14)

    def exact(x, r):
        each = (definition(name, x, r, weights=one) for one in alone)
        return sum((a + 1) * value for a, value in enumerate(each))

    slope = reference.numerical_gradient(lambda r: exact(X, r), R)
    np.testing.assert_allclose(gradients[1], slope, rtol=1e-6, atol=1e-6)


# In blocks, the sums of margin-loss are those of contrastive, and the sweeps of
# tuplet-margin those of nt-xent.
ON_DEVICES = [
    *((name, None) for name in EACH_FORM),
    *((name, 2) for name in EACH_FORM if name not in ("margin-loss", "tuplet-margin")),
]


@pytest.mark.parametrize(("name", "block_size"), ON_DEVICES)
@pytest.mark.usefixtures("x64")
def test_references_of_all_devices(name, block_size):
    """Rows travel in a ring, and their gradients travel home with them."""
    mesh = jax.make_mesh(
        (DEVICES,), ("d",), (AxisType.Auto,), devices=jax.devices()[:DEVICES]
    )
    specs = P("d"), P("d"), P(None, "d"), P("d"), P("d")
    loss = functools.partial(
        with_references, name, batch_axis="d", block_size=block_size
    )
    split = jax.shard_map(
        loss, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=block_size is None
    )
    step = jax.jit(jax.value_and_grad(split, (0, 1)))
    value, gradients = step(X, R, PAIRS, WEIGHTS * KEPT, LISTED)
    expected, slopes = whole(name)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-11)


# All losses share the ways to give pairs. These are two of them, one with sums and one
# with log-sum-exps.
FEW = pytest.mark.parametrize("name", ["contrastive", "nt-xent"])


def assert_same(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13),
        found,
        expected,
    )


@FEW
@pytest.mark.usefixtures("x64")
def test_labels_sets_and_masks_say_the_same(name):
    rng = np.random.default_rng(4)
    labels, others = np.array(LABELS), rng.choice(LABELS, M).astype(np.int8)
    same = labels[:, None] == others[None, :]
    step = jax.jit(jax.value_and_grad(PAIRWISE[name].loss))
    expected = step(X, references=R, pairs=(same, ~same))
    assert_same(step(X, labels, references=R, reference_labels=others), expected)

    sets, other_sets = rng.random((N, 4)) < 0.4, rng.random((M, 4)) < 0.4
    assert not sets.any(axis=1).all()  # a row without a label is negative to all
    shares = np.any(sets[:, None, :] & other_sets[None, :, :], axis=-1)
    expected = step(X, references=R, pairs=(shares, ~shares))
    assert_same(step(X, sets, references=R, reference_labels=other_sets), expected)
    # In the batch itself, no row is a pair of itself.
    shares, others = np.any(sets[:, None] & sets[None], axis=-1), ~np.eye(N, dtype=bool)
    listed = shares & others, ~shares & others
    assert_same(step(X, sets), step(X, pairs=listed))
    assert_same(step(X, pairs=(shares, ~shares)), step(X, pairs=listed))
    definition = PAIRWISE[name].definition
    every = np.concatenate([X, X])
    np.testing.assert_allclose(step(X, sets)[0], definition(every, listed, batch=N))


@FEW
@pytest.mark.usefixtures("x64")
def test_references_may_contain_the_batch(name):
    """An anchor is left out by its place; its duplicates are pairs."""
    x, labels = np.concatenate([X[:6], X[:3]]), np.array(LABELS)
    order = np.random.default_rng(5).permutation(N)
    place = np.argsort(order)
    loss = PAIRWISE[name].loss

    def both(x):
        return loss(
            x,
            labels,
            references=x[order],
            reference_labels=labels[order],
            self_index=place.astype(np.uint8),
        )

    expected = jax.value_and_grad(loss)(x, labels)
    assert_same(jax.jit(jax.value_and_grad(both))(x), expected)


@FEW
@pytest.mark.usefixtures("x64")
def test_rows_of_a_memory_may_be_positives(name):
    labels, stored = np.array(LABELS), rows(6, 5)
    names = np.array([4, 20, 2, 21, 7])
    memory = losses.init_memory(8, D, dtype=jnp.float64)
    memory = losses.enqueue(memory, stored, names)
    step = jax.jit(
        jax.value_and_grad(
            lambda x: PAIRWISE[name].loss(
                x, labels, memory=memory, memory_positives=True
            )
        )
    )
    every = np.concatenate([labels, names])
    same = labels[:, None] == every[None, :]
    others = ~np.eye(N, N + 5, dtype=bool)

    def exact(x):
        all_rows = np.concatenate([x, x, stored])
        return PAIRWISE[name].definition(
            all_rows, (same & others, ~same & others), [all_rows], batch=N
        )

    value, gradient = step(X)
    np.testing.assert_allclose(value, exact(X), rtol=1e-11)
    slope = reference.numerical_gradient(exact, X)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_contradictions_are_nan():
    labels, index = np.array(LABELS), np.zeros(N, np.int32)
    loss = jax.jit(losses.nt_xent)
    given = {"references": R, "reference_labels": np.resize(labels, M)}
    assert np.isfinite(loss(X, labels, **given, self_index=index - 1))
    for wrong in (-2, M):
        index[3] = wrong
        assert np.isnan(loss(X, labels, **given, self_index=index))
        # Not of an anchor that does not count.
        where = np.arange(N) != 3
        assert np.isfinite(loss(X, labels, **given, self_index=index, where=where))
    both = PAIRS[0] | (np.arange(N) == 3)[:, None], PAIRS[1]
    assert np.isnan(loss(X, references=R, pairs=both))
    values = losses.nt_xent(X, references=R, pairs=both, reduction="none")
    assert np.flatnonzero(np.isnan(values)) == [3]


def products_in(function, *arguments):
    """Number of matrix products of a traced function."""
    return jax.jit(function).lower(*arguments).as_text().count("dot_general")


def test_constant_references_cost_no_product():
    """Forward once; backward again, and one product for the gradient of the anchors."""
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])
    x, r = X[:8].astype(np.float32), R.astype(np.float32)
    y, z = np.array(LABELS[:8]), np.resize(LABELS, M)

    def total(x, r, *, hold):
        def loss(x, r, y, z):
            r = jax.lax.stop_gradient(r) if hold else r
            return losses.supervised_contrastive(
                x, y, references=r, reference_labels=z, batch_axis="d"
            )

        split = jax.shard_map(loss, mesh=mesh, in_specs=P("d"), out_specs=P())
        return split(x, r, y, z)

    held, free = (
        products_in(
            jax.value_and_grad(functools.partial(total, hold=hold), (0, 1)), x, r
        )
        for hold in (True, False)
    )
    assert (held, free) == (3, 4)  # of a turn of the ring


def test_no_array_of_all_pairs_in_blocks():
    n, d = 512, 8
    x, y = jnp.ones((n, d)), jnp.arange(n) // 4
    for name in (
        *("nt-xent", "supcon-out", "contrastive", "circle", "triplet"),
        *("triplet-batch-hard", "angular"),
    ):
        loss = functools.partial(PAIRWISE[name].loss, block_size=32)
        jaxpr = jax.make_jaxpr(jax.value_and_grad(loss))(x, y)
        assert largest_array(jaxpr.jaxpr) <= 2 * n * n // 32


Y, SETS = np.array(LABELS), np.ones((N, 4), bool)
BANK = losses.init_memory(4, D)


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "labels or pairs must be given, .* got neither", {}),
        (
            ValueError,
            "labels or pairs must be given, .* got both",
            dict(labels=Y, references=R, pairs=PAIRS),
        ),
        (
            ValueError,
            "reference_labels must be given with references",
            dict(labels=Y, references=R),
        ),
        (
            ValueError,
            "reference_labels must be given with references",
            dict(labels=Y, reference_labels=Y),
        ),
        (
            ValueError,
            "reference_labels must be given with labels",
            dict(references=R, pairs=PAIRS, reference_labels=Y),
        ),
        (
            ValueError,
            "references must have the features of embeddings",
            dict(labels=Y, references=R[:, :3], reference_labels=Y),
        ),
        (
            ValueError,
            r"references must be \[n, features\]",
            dict(labels=Y, references=R[0], reference_labels=Y),
        ),
        (TypeError, "references must be floating", dict(labels=Y, references=Y)),
        (TypeError, "labels must be boolean as sets", dict(labels=SETS * 1)),
        (ValueError, "labels must be integers", dict(labels=SETS[:3])),
        (
            ValueError,
            "reference_labels must be of the kind of labels",
            dict(labels=Y, references=X, reference_labels=SETS),
        ),
        (
            TypeError,
            "labels must be integer with a memory",
            dict(labels=SETS, memory=BANK),
        ),
        (
            ValueError,
            "pairs has no masks for the rows of a memory",
            dict(pairs=masks(7, (N, N)), memory=BANK),
        ),
        (TypeError, "pairs must be two masks", dict(pairs=PAIRS[0])),
        (
            TypeError,
            "pairs must be boolean",
            dict(pairs=(PAIRS[0] * 1, PAIRS[1]), references=R),
        ),
        (ValueError, r"pairs must be masks \(9, 9\)", dict(pairs=PAIRS)),
        (
            ValueError,
            "self_index must be given with references",
            dict(labels=Y, self_index=Y),
        ),
        (
            ValueError,
            "reference_where must be given with references",
            dict(labels=Y, reference_where=KEPT),
        ),
        (
            ValueError,
            r"reference_where must be boolean, \(12,\)",
            dict(references=R, pairs=PAIRS, reference_where=KEPT),
        ),
        (
            TypeError,
            "memory_positives must be True or False",
            dict(labels=Y, memory_positives=1),
        ),
        (ValueError, "reduction must be one of", dict(labels=Y, reduction="sum")),
        (ValueError, "block_size must be 1 or more", dict(labels=Y, block_size=0)),
        (ValueError, "batch_axis='d' must be an axis", dict(labels=Y, batch_axis="d")),
        (TypeError, "unexpected keyword argument 'blocks'", dict(labels=Y, blocks=3)),
        (TypeError, "no argument mask: ", dict(labels=Y, mask=KEPT)),
    ],
)
def test_errors_teach(error, match, options):
    with pytest.raises(error, match=match):
        losses.contrastive(X.astype(np.float32), **options)
