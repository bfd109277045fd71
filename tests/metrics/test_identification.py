"""Probes against a gallery: CMC, DIR at FAR, TPIR at FPIR, template pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics

A, B, NOBODY, NOBODY_ELSE = 4, 9, 1, 12

# Two mated probes, of which the second is identified wrongly, and two non-mated ones.
SCORES = np.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2], [0.4, 0.1]])
PROBES, GALLERY = [A, B, NOBODY, NOBODY_ELSE], [A, B]


def draw(seed, probes=40, gallery=25, identities=12):
    """Scores with many ties; identities with several templates, probes without any."""
    rng = np.random.default_rng(seed)
    labels, known = rng.integers(identities + 5, size=probes), rng.permutation(gallery)
    known = known % identities
    scores = 0.3 * (labels[:, None] == known) + rng.normal(0, 0.3, (probes, gallery))
    return np.round(8 * scores) / 8, labels, known


def identify(scores, labels, known):
    """Score and rank of each probe's mate, None and None without one."""
    rows = []
    for row, label in zip(scores, labels, strict=True):
        best = {k: max(row[known == k]) for k in set(known)}
        if label not in best:
            rows.append((None, None, max(row)))
            continue
        others = [value for k, value in best.items() if k != label]
        rank = 1 + sum(value >= best[label] for value in others)
        rows.append((best[label], rank, max(row)))
    return rows


def test_cmc_by_hand():
    found = metrics.cmc(SCORES[:2], PROBES[:2], GALLERY)
    np.testing.assert_array_equal(found.ranks, [1, 2])
    np.testing.assert_array_equal(found.rates, [0.5, 1.0])
    assert "tie counts against" in found.rule


def test_cmc_ranks_identities_not_templates():
    # Two templates of A score above B's, yet they are one identity.
    scores = [[0.9, 0.8, 0.7]]
    assert metrics.cmc(scores, [B], [A, A, B]).ranks == [2]
    # The better template of an identity counts, wherever it stands.
    assert metrics.cmc(scores, [B], [B, A, B]).ranks == [1]


def test_ties_are_pessimistic():
    found = metrics.cmc(np.full((2, 3), 0.5), [A, B], [A, B, NOBODY], max_rank=4)
    np.testing.assert_array_equal(found.ranks, [3, 3])
    np.testing.assert_array_equal(found.rates, [0, 0, 1, 1])


@pytest.mark.parametrize("seed", range(4))
def test_cmc_is_its_definition(seed):
    scores, labels, known = draw(seed)
    mated = np.isin(labels, known)
    found = metrics.cmc(scores[mated], labels[mated], known, max_rank=6)
    ranks = np.array([rank for _, rank, _ in identify(scores, labels, known) if rank])
    np.testing.assert_array_equal(found.ranks, ranks)
    expected = [np.mean(ranks <= k) for k in range(1, 7)]
    np.testing.assert_allclose(found.rates, expected)


def test_cmc_of_separated_identities():
    found = metrics.cmc(jnp.eye(4), np.arange(4), np.arange(4))
    np.testing.assert_array_equal(found.rates, np.ones(4))


def test_open_set_by_hand():
    found = metrics.tpir_at_fpir(SCORES, PROBES, GALLERY, 0.5)
    assert found.tpir == 0.5
    (only,) = found.per_gallery
    # Of the thresholds at which the rates change, 0.55 is the smallest that lets one
    # of two non-mated probes through. The second probe is below it, and at 0.5, where
    # FPIR is the same, its mate would be accepted, but ranks second.
    assert (only.dir, only.threshold, only.far) == (0.5, 0.55, 0.5)
    assert (only.mated, only.non_mated) == (2, 2)
    # Without the rank condition it counts as well.
    loose = metrics.dir_at_far(SCORES, PROBES, GALLERY, 0.5, rank=2)
    assert (loose.dir, loose.threshold, loose.far) == (1.0, 0.5, 0.5)


def test_open_set_beyond_its_support():
    found = metrics.dir_at_far(SCORES, PROBES, GALLERY, [0.1, 0.49, 0.5, 1.0])
    np.testing.assert_array_equal(found.is_supported, [False, False, True, True])
    np.testing.assert_array_equal(found.dir, [np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(found.far, [np.nan, np.nan, 0.5, 1.0])
    assert "rank 1" in found.rule


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_open_set_is_its_definition(seed, rank):
    scores, labels, known = draw(seed)
    rows = identify(scores, labels, known)
    mated = [(score, r) for score, r, _ in rows if r]
    alarms = np.array([best for _, r, best in rows if not r])
    for far in (0.2, 0.5, 1.0):
        found = metrics.dir_at_far(scores, labels, known, far, rank=rank)
        assert (found.mated, found.non_mated) == (len(mated), len(alarms))
        best = max(
            np.mean([score >= t and r <= rank for score, r in mated])
            for t in (*np.unique(scores), np.inf)
            if np.mean(alarms >= t) <= far
        )
        np.testing.assert_allclose(found.dir, best)
        np.testing.assert_allclose(found.far, np.mean(alarms >= found.threshold))
        assert found.far <= far


def test_nobody_within_the_rank():
    found = metrics.dir_at_far([[0.1, 0.9], [0.3, 0.2]], [A, NOBODY], [A, B], 1.0)
    assert (found.dir, found.mated, found.non_mated) == (0.0, 1, 1)


def test_several_galleries_are_averaged():
    scores, labels, known = draw(0)
    halves = [known < 6, known >= 6]
    galleries = [scores[:, half] for half in halves]
    identities = [known[half] for half in halves]
    found = metrics.tpir_at_fpir(galleries, labels, identities, [0.1, 0.3])
    single = [
        metrics.tpir_at_fpir(s, labels, k, [0.1, 0.3])
        for s, k in zip(galleries, identities, strict=True)
    ]
    np.testing.assert_allclose(found.tpir, (single[0].tpir + single[1].tpir) / 2)
    assert len(found.per_gallery) == 2
    # A probe of the second gallery is non-mated in the first.
    assert found.per_gallery[0].non_mated == np.sum(~np.isin(labels, identities[0]))
    assert "mean over 2 galleries" in found.rule


WITH_NAN = np.where(np.arange(8).reshape(4, 2) == 0, np.nan, SCORES)


@pytest.mark.parametrize(
    ("error", "match", "function", "args", "options"),
    [
        (
            ValueError,
            "2 of 4 probes without a mate",
            metrics.cmc,
            (SCORES, PROBES, GALLERY),
            {},
        ),
        (
            ValueError,
            "1 NaN and 0 infinite of 8",
            metrics.cmc,
            (WITH_NAN, PROBES, GALLERY),
            {},
        ),
        (
            ValueError,
            "each of the 4 probes",
            metrics.cmc,
            (SCORES, PROBES[:3], GALLERY),
            {},
        ),
        (
            TypeError,
            "probe_labels must be integer",
            metrics.cmc,
            (SCORES, [0.5] * 4, GALLERY),
            {},
        ),
        (
            ValueError,
            r"must be \[probes, gallery\]",
            metrics.cmc,
            (SCORES[0], PROBES, GALLERY),
            {},
        ),
        (
            ValueError,
            "max_rank must be 1 or more",
            metrics.cmc,
            (SCORES[:2], PROBES[:2], GALLERY),
            {"max_rank": 0},
        ),
        (
            ValueError,
            "2 mated and 0 non-mated",
            metrics.dir_at_far,
            (SCORES[:2], PROBES[:2], GALLERY, 0.5),
            {},
        ),
        (
            ValueError,
            "0 mated and 2 non-mated",
            metrics.dir_at_far,
            (SCORES[2:], PROBES[2:], GALLERY, 0.5),
            {},
        ),
        (
            ValueError,
            "gallery columns of scores",
            metrics.dir_at_far,
            (SCORES, PROBES, [A], 0.5),
            {},
        ),
        (
            ValueError,
            "rank must be 1 or more",
            metrics.dir_at_far,
            (SCORES, PROBES, GALLERY, 0.5),
            {"rank": 0},
        ),
        (
            ValueError,
            r"far must be within \[0, 1\], got 1.5",
            metrics.dir_at_far,
            (SCORES, PROBES, GALLERY, 1.5),
            {},
        ),
        (
            ValueError,
            "got 2 and 1",
            metrics.tpir_at_fpir,
            ([SCORES, SCORES], PROBES, [GALLERY], 0.5),
            {},
        ),
    ],
)
def test_errors_teach(error, match, function, args, options):
    with pytest.raises(error, match=match):
        function(*args, **options)


def test_pooling_by_hand():
    # A video of two frames and a still: the video counts as one medium.
    x = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 5.0], [-1.0, 0.0]])
    pooled = metrics.pool_templates(x, [7, 7, 7, 3], [1, 1, 2, 1])
    np.testing.assert_array_equal(pooled.templates, [3, 7])
    expected = np.array([[-1.0, 0.0], np.array([0.5, 1.5]) / np.sqrt(2.5)])
    np.testing.assert_allclose(pooled.embeddings, expected, rtol=1e-6)
    # With their lengths: (1, 1) of the video and (0, 5) of the still.
    pooled = metrics.pool_templates(x, [7, 7, 7, 3], [1, 1, 2, 1], use_directions=False)
    expected[1] = np.array([1.0, 6.0]) / np.sqrt(37)
    np.testing.assert_allclose(pooled.embeddings, expected, rtol=1e-6)


@pytest.mark.parametrize("use_directions", [True, False])
def test_pooling_is_its_definition(use_directions):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(30, 4)), rng.uniform(0.2, 1, 30)
    templates, media = rng.integers(20, 25, 30), rng.integers(100, 104, 30)
    pooled = metrics.pool_templates(
        x, templates, media, weights=weights, use_directions=use_directions
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True) if use_directions else x
    weighted = unit * weights[:, None]
    for row, t in zip(pooled.embeddings, pooled.templates, strict=True):
        members = templates == t
        total = sum(
            weighted[members & (media == m)].mean(0)
            for m in set(media[members].tolist())
        )
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)
    assert "weights" in pooled.rule


def test_images_that_cancel_have_no_direction():
    x = jnp.array([[1.0, 0.0], [-1.0, 0.0]], jnp.bfloat16)
    pooled = metrics.pool_templates(x, [0, 0], [0, 1])
    np.testing.assert_array_equal(pooled.embeddings, [[0, 0]])
    assert pooled.embeddings.dtype == jnp.float32


def test_pooled_templates_can_be_differentiated():
    x = jax.random.normal(jax.random.key(0), (4, 3))

    def first(x):
        return metrics.pool_templates(x, [0, 0, 1, 1], [0, 0, 0, 1]).embeddings[0, 0]

    gradient = jax.jit(jax.grad(first))(x)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient[:2] != 0)
    assert np.all(gradient[2:] == 0)


X, NUMBERS = np.ones((3, 2)), [0, 0, 1]


@pytest.mark.parametrize(
    ("error", "match", "args", "weights"),
    [
        (ValueError, "templates must have an entry", (X, NUMBERS[:2], NUMBERS), None),
        (TypeError, "media must be integer", (X, NUMBERS, [0.0] * 3), None),
        (ValueError, r"\[images, features\]", (X[0], NUMBERS, NUMBERS), None),
        (ValueError, "weights must have an entry", (X, NUMBERS, NUMBERS), np.ones(2)),
    ],
)
def test_errors_of_pooling_teach(error, match, args, weights):
    with pytest.raises(error, match=match):
        metrics.pool_templates(*args, weights=weights)
