"""Pairs: ROC, AUC, EER, TAR at FAR, counted scores, and rates over folds."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from sphax import metrics


def draw(seed, n=200, levels=15, genuine=0.3):
    """Scores on a coarse grid, so that many are tied."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < genuine
    scores = np.clip(rng.normal(0.25 * same, 0.3), -1, 1)
    return np.round(scores * levels) / levels, same


def rates(scores, same, threshold):
    """False and true accept rate, from their definition."""
    accepted = scores >= threshold
    return accepted[~same].mean(), accepted[same].mean()


# Scores, whether the pair is genuine, and the answers by hand.
HAND = np.array([0.9, 0.8, 0.8, 0.6, 0.4, 0.2])
HAND_SAME = np.array([True, True, False, True, False, False])


def test_roc_by_hand():
    curve = metrics.roc(HAND, HAND_SAME)
    # At 0.8 both rates rise: a slanted step. 0.4 lies within the last flat run.
    np.testing.assert_allclose(curve.thresholds, [np.inf, 0.9, 0.8, 0.6, 0.2])
    np.testing.assert_allclose(curve.tar, np.array([0, 1, 2, 3, 3]) / 3)
    np.testing.assert_allclose(curve.far, np.array([0, 0, 1, 1, 3]) / 3)
    # 9 pairs of a genuine and an impostor: 0.6 loses to 0.8, 0.8 ties with 0.8.
    np.testing.assert_allclose(curve.auc, 7.5 / 9)
    # From (0, 1/3) to (1/3, 2/3): FAR = 1 - TAR at (1/3, 2/3) itself.
    np.testing.assert_allclose(curve.eer, 1 / 3)
    assert (curve.genuine, curve.impostors) == (3, 3)
    assert "score >= threshold" in curve.rule


def test_equal_error_rate_between_two_points():
    # (0, 0), (0, 1/2), (1, 1): on the last line FAR = 1 - TAR at FAR = 1/3.
    scores, same = [0.9, 0.5, 0.5, 0.5], [True, True, False, False]
    np.testing.assert_allclose(metrics.equal_error_rate(scores, same), 1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_roc_is_its_definition(seed):
    scores, same = draw(seed)
    curve = metrics.roc(scores, same)
    every = np.unique(scores)[::-1]
    far, tar = np.transpose([rates(scores, same, t) for t in [np.inf, *every]])
    # The corners lie on the curve, and the points left out lie between them.
    for threshold, *point in zip(curve.thresholds, curve.far, curve.tar, strict=True):
        np.testing.assert_allclose(point, rates(scores, same, threshold))
    assert set(curve.thresholds) <= {np.inf, *every}
    for x, y in zip(far, tar, strict=True):
        lower = np.max(curve.tar[curve.far <= x], initial=0)
        upper = np.min(curve.tar[curve.far >= x], initial=1)
        assert min(lower, upper) <= y <= max(lower, upper)
    np.testing.assert_allclose(curve.auc, np.trapezoid(tar, far))
    won = np.sign(scores[same][:, None] - scores[~same]) / 2 + 0.5
    np.testing.assert_allclose(metrics.roc_auc(scores, same), won.mean())
    np.testing.assert_allclose(
        metrics.equal_error_rate(scores, same), crossing(far, tar)
    )


def crossing(far, tar):
    """The equal error rate by bisection along the whole curve."""
    along = np.arange(len(far))
    low, high = 0.0, float(along[-1])
    for _ in range(60):
        middle = (low + high) / 2
        x, y = np.interp(middle, along, far), np.interp(middle, along, tar)
        low, high = (middle, high) if x < 1 - y else (low, middle)
    return np.interp(low, along, far)


def test_closed_forms():
    same = np.repeat([True, False], 3)
    perfect = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    assert metrics.roc_auc(perfect, same) == 1.0
    assert metrics.equal_error_rate(perfect, same) == 0.0
    assert metrics.roc_auc(-perfect, same) == 0.0
    assert metrics.equal_error_rate(-perfect, same) == 1.0
    constant = np.full(6, 0.5)
    assert metrics.roc_auc(constant, same) == 0.5
    assert metrics.equal_error_rate(constant, same) == 0.5


def test_tar_at_far_by_hand():
    found = metrics.tar_at_far(HAND, HAND_SAME, [0.2, 1 / 3, 0.5, 1.0])
    # Three impostors: 0.2 is out of reach; one of them is accepted at 0.6.
    np.testing.assert_array_equal(found.is_supported, [False, True, True, True])
    np.testing.assert_allclose(found.tar, [np.nan, 1, 1, 1])
    np.testing.assert_allclose(found.threshold, [np.nan, 0.6, 0.6, 0.2])
    np.testing.assert_allclose(found.far, [np.nan, 1 / 3, 1 / 3, 1])
    assert "smallest threshold" in found.rule


def test_tied_impostors_above_all_leave_no_threshold():
    scores = np.array([0.9, 0.9, 0.5, 0.1])
    same = np.array([False, False, True, False])
    found = metrics.tar_at_far(scores, same, 1 / 3)
    assert found.is_supported
    assert (found.tar, found.far, found.threshold) == (0.0, 0.0, np.inf)


@pytest.mark.parametrize("seed", range(5))
def test_tar_at_far_is_its_definition(seed):
    scores, same = draw(seed)
    impostors = np.count_nonzero(~same)
    for far in (1e-4, 0.5 / impostors, 1 / impostors, 0.01, 0.1, 0.5, 1.0):
        found = metrics.tar_at_far(scores, same, far)
        assert found.is_supported == (far * impostors >= 1 - 1e-9)
        if not found.is_supported:
            assert np.isnan(found.tar)
            continue
        allowed = [t for t in (*scores, np.inf) if rates(scores, same, t)[0] <= far]
        assert found.threshold == min(allowed)
        np.testing.assert_allclose(
            (found.far, found.tar), rates(scores, same, min(allowed))
        )


@pytest.mark.parametrize("count", [3, 7, 10, 1000, 3000])
def test_a_rate_of_one_impostor_is_supported(count):
    """Though ``far * count`` need not be 1 in floating point."""
    scores, same = np.linspace(0, 1, count + 1), np.arange(count + 1) == count
    found = metrics.tar_at_far(scores, same, 1 / count)
    assert found.is_supported
    np.testing.assert_allclose(found.far, 1 / count)


def test_counted_scores_on_the_grid_are_the_scores():
    scores, same = draw(1, levels=16)  # multiples of the spacing
    counts = metrics.ScoreCounts(spacing=2.0**-6)
    for block in np.array_split(np.arange(len(scores)), 7):
        counts.add(scores[block].astype("float32"), same[block])
    assert counts.genuine == same.sum()
    assert counts.impostors == (~same).sum()
    streamed, held = metrics.roc(counts), metrics.roc(scores, same)
    for name in ("thresholds", "far", "tar"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(held, name))
    assert (streamed.auc, streamed.eer) == (held.auc, held.eer)
    assert "multiples of 0.015625" in streamed.rule
    of_counts = metrics.tar_at_far(counts, far=[0.1, 0.5])
    of_scores = metrics.tar_at_far(scores, same, far=[0.1, 0.5])
    np.testing.assert_array_equal(of_counts.tar, of_scores.tar)


@pytest.mark.parametrize("seed", range(3))
def test_counted_scores_are_exact_at_their_thresholds_and_conservative(seed):
    rng = np.random.default_rng(seed)
    same = rng.random(3000) < 0.3
    scores = np.clip(rng.normal(0.3 * same, 0.3), -1, 1).astype("float32")
    counts = metrics.ScoreCounts([(scores, same)], spacing=2.0**-5)
    curve = metrics.roc(counts)
    for threshold, *point in zip(curve.thresholds, curve.far, curve.tar, strict=True):
        np.testing.assert_allclose(point, rates(scores, same, threshold))
    for far in (0.001, 0.01, 0.1):
        coarse = metrics.tar_at_far(counts, far=far)
        exact = metrics.tar_at_far(scores, same, far)
        assert coarse.far <= far
        assert coarse.tar <= exact.tar
        assert coarse.threshold - exact.threshold < 2.0**-5
    fine = metrics.ScoreCounts([(scores, same)])
    np.testing.assert_allclose(
        metrics.roc_auc(fine), metrics.roc_auc(scores, same), atol=1e-5
    )


def test_scores_beyond_the_limit():
    counts = metrics.ScoreCounts()
    counts.add(jnp.array([1.0078125, -1.0078125], jnp.bfloat16), [True, False])
    assert metrics.roc_auc(counts) == 1.0
    with pytest.raises(ValueError, match=r"within \[-1, 1\], got one of size 3"):
        counts.add([3.0], [True])
    wide = metrics.ScoreCounts([([3.0, -30.0], [True, False])], spacing=0.5, limit=64)
    np.testing.assert_array_equal(metrics.roc(wide).thresholds, [np.inf, 3, -30])


@pytest.mark.parametrize("block_size", [1, 4, 7, 50])
def test_pairs_of_one_set(block_size):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(13, 5)).astype("float32"), rng.integers(4, size=13)
    blocks = list(metrics.pair_scores(x, labels, block_size=block_size))
    assert max(len(scores) for scores, _ in blocks) <= block_size**2
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    i, j = np.triu_indices(13, 1)
    expected = sorted(zip((unit @ unit.T)[i, j], labels[i] == labels[j], strict=True))
    found = sorted(
        (s, b) for scores, same in blocks for s, b in zip(scores, same, strict=True)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pairs_of_two_sets_streamed_and_held():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(9, 4)), rng.normal(size=(6, 4))
    a, b = rng.integers(3, size=9), rng.integers(3, size=6)
    blocks = metrics.pair_scores(x, a, w, b, block_size=4)
    streamed = metrics.roc(metrics.ScoreCounts(blocks))
    cosines = sx.sphere.cosine_similarity(x, w)
    held = metrics.roc(cosines, a[:, None] == b)
    assert streamed.genuine + streamed.impostors == 54
    np.testing.assert_allclose(streamed.auc, held.auc, atol=1e-3)
    np.testing.assert_allclose(streamed.eer, held.eer, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pair_scores_of_narrow_dtypes_are_float32(dtype):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 8)), dtype)
    scores, _ = next(metrics.pair_scores(x, np.arange(6)))
    assert scores.dtype == np.float32
    exact = np.asarray(x, np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(
        scores, (exact @ exact.T)[np.triu_indices(6, 1)], atol=1e-6
    )


# A made LFW: two folds of four pairs each. Fold 1 chooses for fold 0 and conversely.
FOLDS = np.repeat([0, 1], 4)
SAME = np.tile([True, True, False, False], 2)
SCORES = np.array([0.903, 0.46, 0.4595, 0.1] + [0.8, 0.5, 0.42, 0.2])
# What is best on fold 1 is any threshold in (0.42, 0.5), on fold 0 any in
# (0.4595, 0.46).
BY_HAND: dict[Any, Any] = {
    # The middles, 0.46 and 0.45975. Fold 0: 0.46 is same. Fold 1: all right.
    "exact": ([0.46, 0.45975], [1.0, 1.0]),
    # Best are 0.4201 ... 0.4999, mean 0.46: equal to a genuine score, an error. For
    # fold 1 only 0.4596 ... 0.4599 are left, mean 0.45975.
    "matlab": ([0.46, 0.45975], [0.75, 1.0]),
    # Squared distances of fold 1: 0.4, 1.0, 1.16, 1.6; the first of the best is 1.01,
    # similarity 0.495; the genuine 0.46 of fold 0 is at 1.08 and lost. Those of fold 0:
    # 0.194, 1.08, 1.081, 1.8. No multiple of 0.01 separates the middle two: 3 of 4 are
    # right from 0.2 on, similarity 0.9; both genuine pairs of fold 1 are lost.
    "insightface": ([0.495, 0.9], [0.75, 0.5]),
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_accuracy_by_hand(rule):
    thresholds, per_fold = BY_HAND[rule]
    found = metrics.verification_accuracy(SCORES, SAME, FOLDS, rule=rule)
    np.testing.assert_allclose(found.thresholds, thresholds, rtol=1e-12)
    np.testing.assert_allclose(found.per_fold, per_fold)
    np.testing.assert_allclose(found.accuracy, np.mean(per_fold))
    # For two values, the standard deviation (N - 1) is the difference over root 2.
    error = abs(per_fold[0] - per_fold[1]) / 2
    np.testing.assert_allclose(found.standard_error, error)
    assert found.rule


def test_a_score_at_the_threshold():
    """Same for the exact rule, an error for MATLAB's, different for insightface's."""
    folds = np.repeat([0, 1], 2)
    # Fold 1 chooses 0.5 by the midpoint, 0.5 by the mean of 0.2501 ... 0.7499, and the
    # squared distance 0.51 as the first beyond 0.5, similarity 0.745.
    scores, same = [0.5, 0.1, 0.75, 0.25], [True, False, True, False]
    by_rule: dict[Any, float] = {"exact": 1.0, "matlab": 0.5, "insightface": 0.5}
    for rule, first in by_rule.items():
        found = metrics.verification_accuracy(scores, same, folds, rule=rule)
        assert found.per_fold[0] == first


def test_several_equally_accurate_thresholds():
    # Right, falling from infinity: 3, 4, 3, 4, 3, 4, 3: three best, the middle counts.
    train = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    same = np.array([True, False, True, False, True, False])
    folds = np.append(np.zeros(6, int), [1, 1])
    found = metrics.verification_accuracy(
        np.append(train, [0.1, 0.0]), np.append(same, [True, False]), folds
    )
    np.testing.assert_allclose(found.thresholds[1], 0.65)
    np.testing.assert_allclose(found.thresholds[0], 0.05)


@pytest.mark.parametrize("seed", range(4))
def test_exact_accuracy_is_its_definition(seed):
    scores, same = draw(seed, 120)
    folds = np.arange(120) % 4
    found = metrics.verification_accuracy(scores, same, folds)
    for fold, threshold in enumerate(found.thresholds):
        rest = folds != fold
        sweep = np.linspace(-1.01, 1.01, 405)  # finer than the grid of the scores
        right = [((scores >= t) == same)[rest].mean() for t in sweep]
        chosen = ((scores >= threshold) == same)[rest].mean()
        np.testing.assert_allclose(chosen, max(right))
        expected = ((scores >= threshold) == same)[~rest].mean()
        np.testing.assert_allclose(found.per_fold[fold], expected)


@pytest.mark.parametrize("rule", ["matlab", "insightface"])
def test_rules_on_a_grid_are_their_definition(rule):
    scores, same = draw(7, 90, levels=40)
    scores = 0.99 * scores + 1e-5 / 3  # on no grid, where rounding would decide
    folds = np.arange(90) % 3
    found = metrics.verification_accuracy(scores, same, folds, rule=rule)
    for fold, threshold in enumerate(found.thresholds):
        s, b = scores[folds != fold], same[folds != fold]
        if rule == "matlab":
            grid = np.linspace(-1, 1, 20001)
            right = (s[b, None] > grid).sum(0) + (s[~b, None] < grid).sum(0)
            expected = grid[right == right.max()].mean()
        else:
            grid = 0.01 * np.arange(400)
            right = (((2 - 2 * s[:, None]) < grid) == b[:, None]).sum(0)
            expected = 1 - grid[right.argmax()] / 2
        np.testing.assert_allclose(threshold, expected, atol=1e-9)


def test_accuracy_of_separated_scores_is_one():
    same = np.tile([True, False], 30)
    scores = np.where(same, 0.8, 0.2) + np.random.default_rng(0).uniform(0, 0.1, 60)
    for rule in BY_HAND:
        found = metrics.verification_accuracy(
            scores, same, np.repeat(np.arange(10), 6), rule=rule
        )
        assert (found.accuracy, found.standard_error) == (1.0, 0.0)


BAD, ALTERNATING = np.array([0.1, np.nan, 0.3, np.inf]), np.array([True, False] * 2)
FINE = np.arange(4) / 4


@pytest.mark.parametrize(
    ("error", "match", "function", "args"),
    [
        (ValueError, "1 NaN and 1 infinite of 4", metrics.roc, (BAD, ALTERNATING)),
        (
            ValueError,
            r"same \(3,\) and scores \(4,\)",
            metrics.roc,
            (FINE, ALTERNATING[:3]),
        ),
        (
            TypeError,
            "same must be boolean",
            metrics.roc_auc,
            (FINE, ALTERNATING * 1),
        ),
        (
            TypeError,
            "scores must be floating",
            metrics.roc_auc,
            (ALTERNATING * 1, ALTERNATING),
        ),
        (ValueError, "must not be empty", metrics.roc, (FINE[:0], ALTERNATING[:0])),
        (
            ValueError,
            "no genuine pair",
            metrics.equal_error_rate,
            (FINE, ALTERNATING & False),
        ),
        (
            ValueError,
            "no impostor pair",
            metrics.tar_at_far,
            (FINE, ALTERNATING | True),
        ),
        (
            ValueError,
            r"far must be within \[0, 1\]",
            metrics.tar_at_far,
            (FINE, ALTERNATING, 2),
        ),
        (ValueError, "same must be given", metrics.roc, (FINE,)),
        (ValueError, "nothing was added", metrics.roc, (metrics.ScoreCounts(),)),
        (
            ValueError,
            "same has no effect with ScoreCounts",
            metrics.roc,
            (metrics.ScoreCounts([(FINE, ALTERNATING)]), ALTERNATING),
        ),
    ],
)
def test_errors_of_roc_teach(error, match, function, args):
    with pytest.raises(error, match=match):
        function(*args)


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("spacing must be a power of two", {"spacing": 0.3}),
        ("spacing must be a power of two", {"spacing": -0.5}),
        ("limit must be finite and at least", {"spacing": 0.5, "limit": 0.25}),
    ],
)
def test_errors_of_counts_teach(match, options):
    with pytest.raises(ValueError, match=match):
        metrics.ScoreCounts(**options)


@pytest.mark.parametrize(
    ("error", "match", "scores", "same", "folds", "rule"),
    [
        (ValueError, "each of the 8 scores", SCORES, SAME, FOLDS[:2], "exact"),
        (TypeError, "folds must be integer", SCORES, SAME, FOLDS * 1.0, "exact"),
        (ValueError, r"got \[0\] alone", SCORES, SAME, FOLDS * 0, "exact"),
        (
            ValueError,
            r"no genuine pair in \[1\]",
            SCORES,
            SAME & (FOLDS == 0),
            FOLDS,
            "exact",
        ),
        (
            ValueError,
            r"no impostor pair in \[0\]",
            SCORES,
            SAME | (FOLDS == 0),
            FOLDS,
            "exact",
        ),
        (ValueError, "rule must be one of", SCORES, SAME, FOLDS, "best"),
        (ValueError, "must be cosines", 9 * SCORES, SAME, FOLDS, "matlab"),
    ],
)
def test_errors_of_accuracy_teach(error, match, scores, same, folds, rule):
    with pytest.raises(error, match=match):
        metrics.verification_accuracy(scores, same, folds, rule=rule)


X, LABELS = np.ones((3, 2), "float32"), np.arange(3)


@pytest.mark.parametrize(
    ("error", "match", "args", "block_size"),
    [
        (ValueError, "block_size must be 1 or more", (X, LABELS), 0),
        (ValueError, "must be given together", (X, LABELS, X), 8),
        (
            ValueError,
            "features and dtype of embeddings",
            (X, LABELS, X[:, :1], LABELS),
            8,
        ),
        (ValueError, "each of the 3 embeddings", (X, LABELS[:2]), 8),
        (TypeError, "reference_labels must be integer", (X, LABELS, X, LABELS / 2), 8),
        (ValueError, r"must be \[n, features\]", (X[0], LABELS), 8),
    ],
)
def test_errors_of_pair_scores_teach(error, match, args, block_size):
    with pytest.raises(error, match=match):
        metrics.pair_scores(*args, block_size=block_size)


def test_no_false_accept():
    """ZeroFMR: the share of genuine pairs above the best impostor, however few."""
    for impostors in ([0.5], [0.5] * 1000):
        scores = np.array([0.9, 0.5, 0.4, *impostors])
        same = np.array([True] * 3 + [False] * len(impostors))
        found = metrics.tar_at_far(scores, same, far=[0.0, 1e-9])
        np.testing.assert_array_equal(found.tar, [1 / 3, np.nan])
        np.testing.assert_array_equal(found.is_supported, [True, False])
        assert (found.threshold[0], found.far[0]) == (0.9, 0.0)
    assert metrics.tar_at_far([0.9, 0.1], [False, True], far=0.0).tar == 0.0


def flat(result):
    """The numbers of a record, without its words."""
    parts = result if isinstance(result, tuple) else (result,)
    return np.concatenate([np.ravel(x) for x in parts if not isinstance(x, str)])


FOUR_FOLDS = np.arange(240) % 4
OF_PAIRS: dict[str, Any] = {
    "roc": metrics.roc,
    "roc_auc": metrics.roc_auc,
    "equal_error_rate": metrics.equal_error_rate,
    "tar_at_far": lambda *a, **k: metrics.tar_at_far(
        *a, far=[0, 1e-3, 5e-3, 0.05, 0.5, 1], **k
    ),
    "partial_auc": lambda *a, **k: metrics.partial_auc(*a, max_far=0.1, **k),
    "det": metrics.det,
    "cllr": metrics.cllr,
    "min_cllr": metrics.min_cllr,
    "calibrate pav": lambda *a, **k: metrics.calibrate(*a, method="pav", **k),
    **{
        f"accuracy {rule}": lambda *a, rule=rule, **k: metrics.verification_accuracy(
            *a, rule=rule, **k
        )
        for rule in BY_HAND
    },
    **{
        f"val {rule}": lambda *a, rule=rule, **k: metrics.val_at_far(
            *a, far=0.02, rule=rule, **k
        )
        for rule in BY_HAND
        if rule != "matlab"
    },
}


@pytest.mark.parametrize("name", OF_PAIRS)
def test_integer_weights_are_repeated_pairs(name):
    scores, same = draw(0, 240, levels=200)
    weights = np.random.default_rng(1).integers(4, size=240)
    has_folds = name.startswith(("accuracy", "val"))
    pairs = (scores, same, FOUR_FOLDS) if has_folds else (scores, same)
    weighted = OF_PAIRS[name](*pairs, weights=weights)
    repeated = OF_PAIRS[name](*(np.repeat(x, weights) for x in pairs))
    np.testing.assert_allclose(flat(weighted), flat(repeated), rtol=1e-13)
    assert not np.array_equal(flat(weighted), flat(OF_PAIRS[name](*pairs)))
    ones = OF_PAIRS[name](*pairs, weights=np.ones(240, np.float32))
    np.testing.assert_allclose(flat(ones), flat(OF_PAIRS[name](*pairs)), rtol=1e-13)


def test_fractional_weights():
    scores, same = draw(4)
    weights = np.random.default_rng(4).uniform(size=200)
    curve = metrics.roc(scores, same, weights=weights)
    assert (curve.far[-1], curve.tar[-1]) == (1.0, 1.0)
    np.testing.assert_allclose(curve.genuine, weights[same].sum())
    for threshold, *point in zip(curve.thresholds, curve.far, curve.tar, strict=True):
        accepted = scores >= threshold
        expected = [
            np.average(accepted[kind], weights=weights[kind]) for kind in (~same, same)
        ]
        np.testing.assert_allclose(point, expected, atol=1e-15)
    won = np.sign(scores[same][:, None] - scores[~same]) / 2 + 0.5
    auc = weights[same] @ won @ weights[~same]
    auc /= weights[same].sum() * weights[~same].sum()
    np.testing.assert_allclose(curve.auc, auc)
    assert "by their weights" in curve.rule
    # The weight of all impostors stands for their number.
    far = 1 / weights[~same].sum()
    found = metrics.tar_at_far(scores, same, [0.99 * far, 1.01 * far], weights=weights)
    np.testing.assert_array_equal(found.is_supported, [False, True])


@pytest.mark.parametrize("seed", range(3))
def test_partial_area_is_its_definition(seed):
    scores, same = draw(seed, levels=1000)
    scores = scores + 1e-6 * np.arange(200)  # no ties
    impostors = np.sort(scores[~same])[::-1]
    tar = (scores[same] >= impostors[:, None]).mean(axis=1)
    n = len(impostors)
    for k in (1, 5, n // 2, n):
        # The curve is upright at multiples of 1 / n, and flat between them.
        for limit in (k / n, (k - 0.3) / n):
            area = (tar[: k - 1].sum() + tar[k - 1] * (limit * n - k + 1)) / n
            found = metrics.partial_auc(scores, same, max_far=limit)
            np.testing.assert_allclose(found, area / limit)
            half = limit**2 / 2
            expected = (1 + (area - half) / (limit - half)) / 2
            found = metrics.partial_auc(scores, same, max_far=limit, standardize=True)
            np.testing.assert_allclose(found, expected)


def test_closed_forms_of_the_partial_area():
    same = np.repeat([True, False], 3)
    for limit in (0.01, 1 / 3, 0.7, 1.0):
        options: Any = {"max_far": limit}, {"max_far": limit, "standardize": True}
        for scores, area in (
            (np.full(6, 0.5), limit / 2),  # a slanted line, cut inside
            (np.linspace(1, 0, 6), 1.0),
        ):
            found = [metrics.partial_auc(scores, same, **each) for each in options]
            expected = [area, 1.0 if area == 1.0 else 0.5]
            np.testing.assert_allclose(found, expected)
    for seed in range(3):
        scores, same = draw(seed)
        auc = metrics.roc_auc(scores, same)
        for standardize in (False, True):
            found = metrics.partial_auc(
                scores, same, max_far=1, standardize=standardize
            )
            np.testing.assert_allclose(found, auc)


def test_det_has_both_errors_on_normal_axes():
    scores, same = draw(0)
    curve, expected = metrics.det(scores, same), metrics.roc(scores, same)
    np.testing.assert_array_equal(curve.thresholds, expected.thresholds)
    np.testing.assert_array_equal(curve.far, expected.far)
    np.testing.assert_array_equal(curve.frr, 1 - expected.tar)
    for rate, probit in ((curve.far, curve.far_probit), (curve.frr, curve.frr_probit)):
        below = [math.erfc(-x / math.sqrt(2)) / 2 for x in probit]
        np.testing.assert_allclose(below, rate, atol=1e-15)
    assert (curve.far_probit[0], curve.far_probit[-1]) == (-np.inf, np.inf)
    assert (curve.frr_probit[0], curve.frr_probit[-1]) == (np.inf, -np.inf)
    # Scores 2 apart with equal variance: a line of slope -1 through (-1, -1).
    normal = np.random.default_rng(0).normal(size=20_000)
    curve = metrics.det(
        np.append(normal[:10_000] + 2, normal[10_000:]), np.arange(20_000) < 10_000
    )
    middle = (curve.far > 0.02) & (curve.frr > 0.02)
    sums = curve.far_probit[middle] + curve.frr_probit[middle]
    np.testing.assert_allclose(sums, -2, atol=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("far", [0.0, 0.02, 0.3, 1.0])
def test_val_is_its_definition(seed, far):
    scores, same = draw(seed, 240)
    scores = 0.99 * scores + 1e-5 / 3  # on no grid, where rounding would decide
    for rule in ("exact", "insightface"):
        found = metrics.val_at_far(scores, same, FOUR_FOLDS, far, rule=rule)
        pairs = []
        for fold, threshold in enumerate(found.thresholds):
            is_held = fold == FOUR_FOLDS
            s, b = scores[~is_held], same[~is_held]
            held, held_same = scores[is_held], same[is_held]
            if rule == "exact":
                expected = metrics.tar_at_far(s, b, far).threshold
                accepted = held >= expected
            else:
                grid = np.linspace(0, 3.999, 4000)
                rates = ((2 - 2 * s[~b, None]) < grid).mean(axis=0)
                distance = 0.0
                if rates.max() >= far:
                    i = np.flatnonzero(rates <= far)[-1]
                    rise = (rates[i + 1] - rates[i]) if i < 3999 else np.inf
                    distance = grid[i] + 0.001 * (far - rates[i]) / rise
                expected = 1 - distance / 2
                accepted = 2 - 2 * held < distance
            np.testing.assert_allclose(threshold, expected, atol=1e-9)
            pairs.append((accepted[held_same].mean(), accepted[~held_same].mean()))
        per_fold, alarms = np.transpose(pairs)
        np.testing.assert_allclose(found.per_fold, per_fold)
        np.testing.assert_allclose(
            (found.val, found.far), (per_fold.mean(), alarms.mean())
        )
        np.testing.assert_allclose(found.standard_error, per_fold.std(ddof=1) / 2)


def test_val_without_enough_impostors():
    found = metrics.val_at_far(SCORES, SAME, FOLDS, 0.1)
    for value in (found.val, found.standard_error, found.far, *found.per_fold):
        assert np.isnan(value)
    # A cosine beyond 1 by rounding is at a distance below the grid.
    scores = np.where(SAME, 0.5, 1.0 + 1e-7)
    found = metrics.val_at_far(scores, SAME, FOLDS, 0.1, rule="insightface")
    assert (found.val, found.thresholds[0]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("error", "match", "function"),
    [
        (
            ValueError,
            "weights must not be negative, got -1",
            lambda: metrics.roc(FINE, ALTERNATING, weights=[1, -1, 1, 1]),
        ),
        (
            ValueError,
            r"for each pair, \(4,\), got shape \(2,\)",
            lambda: metrics.roc_auc(FINE, ALTERNATING, weights=[1, 1]),
        ),
        (
            TypeError,
            "weights must be floating or integer, got dtype bool",
            lambda: metrics.cllr(FINE, ALTERNATING, weights=ALTERNATING),
        ),
        (
            ValueError,
            "weights must be finite, got 1 NaN",
            lambda: metrics.det(FINE, ALTERNATING, weights=[1, np.nan, 1, 1]),
        ),
        (
            ValueError,
            "weights must not all be zero",
            lambda: metrics.tar_at_far(FINE, ALTERNATING, weights=np.zeros(4)),
        ),
        (
            ValueError,
            "no genuine pair",
            lambda: metrics.min_cllr(FINE, ALTERNATING, weights=[0, 1, 0, 1]),
        ),
        (
            ValueError,
            "weights has no effect with ScoreCounts",
            lambda: metrics.partial_auc(
                metrics.ScoreCounts([(FINE, ALTERNATING)]), max_far=0.1, weights=FINE
            ),
        ),
        (
            ValueError,
            r"no impostor pair in \[1\]",
            lambda: metrics.val_at_far(
                SCORES, SAME, FOLDS, weights=np.where(SAME, 1, FOLDS == 0)
            ),
        ),
        (
            ValueError,
            r"max_far must lie in \(0, 1\]",
            lambda: metrics.partial_auc(FINE, ALTERNATING, max_far=0.0),
        ),
        (
            TypeError,
            "standardize must be True or False",
            lambda: metrics.partial_auc(
                FINE,
                ALTERNATING,
                max_far=0.1,
                standardize=1,  # pyright: ignore
            ),
        ),
        (
            ValueError,
            r"far must lie in \[0, 1\]",
            lambda: metrics.val_at_far(SCORES, SAME, FOLDS, 1.5),
        ),
        (
            ValueError,
            "must be cosines",
            lambda: metrics.val_at_far(9 * SCORES, SAME, FOLDS, rule="insightface"),
        ),
    ],
)
def test_errors_of_weights_areas_and_val_teach(error, match, function):
    with pytest.raises(error, match=match):
        function()
