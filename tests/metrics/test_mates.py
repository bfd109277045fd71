"""Mates found from embeddings: what the matrix of all scores gives, and its rules."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics

# Unit vectors whose cosines are exact, so that many are tied.
CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=4)), "float32")
RNG = np.random.default_rng(0)
PROBES, TEMPLATES = (
    CORNERS[RNG.integers(16, size=24)],
    CORNERS[RNG.integers(16, size=150)],
)
# Identities of the gallery, in tiles of 32: of few templates, of one each, one that is
# larger than two tiles among small ones, only one, and a boundary at every tile.
GALLERIES = {
    "small": RNG.integers(40, size=150),
    "single": RNG.permutation(150),
    "large": np.where(RNG.random(150) < 0.6, 3, RNG.integers(10, size=150)),
    "one": np.full(150, 7),
    "tiles": RNG.permutation(np.arange(150) // 32),
}


def identify(scores, labels, known):
    """What :func:`find_mates` is to find, by its definition; NaN is no pair."""
    rows = []
    for row, label in zip(scores, labels, strict=True):
        best = {k: np.max(row[known == k], initial=-np.inf) for k in set(known)}
        best = {k: score for k, score in best.items() if score > -np.inf}
        score = best.get(label)
        rank = None if score is None else sum(s >= score for s in best.values())
        rows.append((score, rank, max(best.values(), default=-np.inf)))
    return rows


def same(mates, rows):
    for i, (score, rank, best) in enumerate(rows):
        assert mates.is_mated[i] == (rank is not None)
        assert mates.best[i] == best
        if rank is not None:
            assert (mates.score[i], mates.rank[i]) == (score, rank)


@pytest.mark.parametrize("block_size", [5, 1024])
@pytest.mark.parametrize("name", GALLERIES)
def test_as_from_the_matrix_of_scores(name, block_size):
    known = GALLERIES[name]
    labels = np.concatenate([known[:16], 1000 + np.arange(8)])
    mates = metrics.find_mates(PROBES, labels, TEMPLATES, known, block_size=block_size)
    scores = PROBES @ TEMPLATES.T
    same(mates, identify(scores, labels, known))
    assert mates.identities == len(set(known))
    for rank in (1, 3):
        found = metrics.dir_at_far(mates, far=[0.0, 0.5], rank=rank)
        expected = metrics.dir_at_far(scores, labels, known, [0.0, 0.5], rank=rank)
        np.testing.assert_equal(tuple(found), tuple(expected))
    fields = {name: getattr(mates, name)[:16] for name in mates._fields[:4]}
    closed = mates._replace(**fields)
    found, expected = metrics.cmc(closed), metrics.cmc(scores[:16], labels[:16], known)
    np.testing.assert_equal(tuple(found), tuple(expected))


def test_several_galleries():
    known = GALLERIES["small"]
    labels = np.arange(24)
    halves = [known < 12, known >= 12]
    mates = [
        metrics.find_mates(PROBES, labels, TEMPLATES[half], known[half])
        for half in halves
    ]
    found = metrics.tpir_at_fpir(mates, fpir=[0.1, 0.5])
    scores = [PROBES @ TEMPLATES[half].T for half in halves]
    expected = metrics.tpir_at_fpir(
        scores, labels, [known[half] for half in halves], [0.1, 0.5]
    )
    np.testing.assert_equal(found.tpir, expected.tpir)
    single = metrics.tpir_at_fpir(mates[0], fpir=[0.1, 0.5])
    np.testing.assert_equal(single.tpir, expected.per_gallery[0].dir)


def test_pairs_that_do_not_exist():
    known = GALLERIES["small"]
    labels = np.concatenate([known[:16], 1000 + np.arange(8)])
    is_excluded = np.random.default_rng(1).random((24, 150)) < 0.3
    is_excluded[2] |= known == labels[2]  # every template of its mate
    is_excluded[3] |= known == labels[4]  # every template of another identity
    is_excluded[5] = True
    scores = np.where(is_excluded, -np.inf, PROBES @ TEMPLATES.T)
    expected = identify(scores, labels, known)
    assert (expected[2][1], expected[5]) == (None, (None, None, -np.inf))
    for exclude in (np.argwhere(is_excluded), lambda p, g: is_excluded[p, g]):
        for block_size in (5, 1024):
            mates = metrics.find_mates(
                PROBES,
                labels,
                TEMPLATES,
                known,
                exclude=exclude,
                block_size=block_size,
            )
            same(mates, expected)
    unmated = sum(rank is None for _, rank, _ in expected)
    with pytest.raises(ValueError, match=f"{unmated} of 24 probes without a mate"):
        metrics.cmc(mates)


@pytest.mark.parametrize("block_size", [4, 64])
def test_a_copy_of_the_mate_is_a_tie(block_size):
    """Each probe has its mate in the gallery twice, once under another name.

    The copies are in other tiles and places than the mates, and no cosine is exact.
    """
    rng = np.random.default_rng(2)
    known = rng.permutation(150)
    templates = rng.normal(size=(150, 37)).astype("float32")
    copies = rng.permutation(150)
    probes = (templates + 0.1 * rng.normal(size=(150, 37)).astype("float32"))[:24]
    mates = metrics.find_mates(
        probes,
        known[:24],
        np.concatenate([templates, templates[copies]]),
        np.concatenate([known, 1000 + known[copies]]),
        block_size=block_size,
    )
    np.testing.assert_array_equal(mates.rank, np.full(24, 2))
    cosines = np.sum(probes * templates[:24], axis=1, dtype=np.float64)
    lengths = np.linalg.norm(probes, axis=1) * np.linalg.norm(templates[:24], axis=1)
    np.testing.assert_allclose(mates.score, cosines / lengths, rtol=1e-6)
    np.testing.assert_array_equal(mates.best, mates.score)


def test_arrays_on_devices():
    """JAX arrays, on one device and on a mesh, give what NumPy arrays give."""
    known, labels = np.arange(48) % 20, np.arange(24)
    expected = metrics.find_mates(PROBES, labels, TEMPLATES[:48], known)
    mesh = jax.NamedSharding(jax.make_mesh((8,), ("a",)), jax.P("a"))
    for place in (jnp.asarray, lambda x: jax.device_put(x, mesh)):
        found = metrics.find_mates(
            place(PROBES.astype(jnp.bfloat16)),
            labels,
            place((4.0 * TEMPLATES[:48]).astype(jnp.bfloat16)),
            known,
        )
        np.testing.assert_equal(tuple(found), tuple(expected))
        assert found.score.dtype == np.float32


def test_other_probes_do_not_matter():
    """More probes than blocks that are on the device together."""
    known = GALLERIES["small"]
    probes, labels = np.tile(PROBES, (3, 1)), np.tile(np.arange(24), 3)
    once = metrics.find_mates(PROBES, labels[:24], TEMPLATES, known, block_size=3)
    mates = metrics.find_mates(probes, labels, TEMPLATES, known, block_size=3)
    for found, expected in zip(mates[:4], once[:4], strict=True):
        np.testing.assert_array_equal(found, np.tile(expected, 3))


MATES = metrics.find_mates(CORNERS[:3], [0, 1, 5], CORNERS[:4], [0, 1, 2, 3])
X, LABELS = CORNERS[:3], [0, 1, 5]
WITH_NAN = np.where(np.arange(12).reshape(3, 4) == 1, np.nan, X)


CMC: Any = metrics.cmc
DIR: Any = metrics.dir_at_far
TPIR: Any = metrics.tpir_at_fpir


@pytest.mark.parametrize(
    ("error", "match", "function"),
    [
        (ValueError, "1 of 3 probes without a mate", lambda: metrics.cmc(MATES)),
        (ValueError, "no effect with", lambda: CMC(MATES, LABELS)),
        (ValueError, "must be given, unless", lambda: CMC(np.eye(3), LABELS)),
        (TypeError, "far must be given: by name", lambda: DIR(MATES)),
        (TypeError, "fpir=0.01", lambda: TPIR([MATES, MATES])),
        (
            ValueError,
            "gallery must have the features",
            lambda: metrics.find_mates(X, LABELS, X[:, :2], LABELS),
        ),
        (
            ValueError,
            "each of the 3 gallery",
            lambda: metrics.find_mates(X, LABELS, X, LABELS[:2]),
        ),
        (
            ValueError,
            "cosines of probes and gallery .* got NaN in 1 of 3",
            lambda: metrics.find_mates(WITH_NAN, LABELS, X, LABELS),
        ),
        (
            ValueError,
            "block_size must be 1 or more",
            lambda: metrics.find_mates(X, LABELS, X, LABELS, block_size=0),
        ),
    ],
)
def test_errors_teach(error, match, function):
    with pytest.raises(error, match=match):
        function()
