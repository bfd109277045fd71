"""Intervals over subjects, weights of pairs, and thresholds for a false accept rate."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sphax import metrics


def all_pairs(subjects):
    """Both subjects of all pairs of images, and whether they are the same."""
    i, j = np.triu_indices(len(subjects), 1)
    sides = np.stack([subjects[i], subjects[j]], axis=1)
    return sides, sides[:, 0] == sides[:, 1]


SUBJECTS, SAME = all_pairs(np.repeat([7, -3, 20, 5], 3))
SCORES = np.random.default_rng(0).normal(SAME * 1.5)


def resampled_weights(same, subjects, **options):
    """The weights with which a measure is called: for all pairs, and resamples."""
    seen = []

    def record(scores, same, weights):
        seen.append(weights)
        return 0.0

    scores = np.zeros(len(same))
    found = metrics.bootstrap(record, scores, same, subjects, **options)
    assert seen[-1].tolist() == [1.0] * len(same)
    return np.array(seen[:-1]), found


def test_subject_weights_are_numbers_of_pairs_of_the_sample():
    images, counts = np.array([0, 0, 1, 2, 2, 2, 3]), np.array([2, 0, 3, 1])
    sides, _ = all_pairs(images)
    # Each copy of a subject has its images; copies of one subject are not compared.
    sample = [(k, a, copy) for k, a in enumerate(images) for copy in range(counts[a])]
    expected = [
        sum(
            p[0] == i and q[0] == j and (p[1] != q[1] or p[2] == q[2])
            for p in sample
            for q in sample
        )
        for i, j in zip(*np.triu_indices(len(images), 1), strict=True)
    ]
    found = metrics.subject_weights(sides, counts)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_resamples_are_of_subjects():
    weights, found = resampled_weights(SAME, SUBJECTS, resamples=400)
    names, numbers = np.unique(SUBJECTS, return_inverse=True)
    for each in weights:
        counts = [each[SAME & (SUBJECTS[:, 0] == name)][0] for name in names]
        assert sum(counts) == len(names)
        np.testing.assert_array_equal(each, metrics.subject_weights(numbers, counts))
    # A multiplicity has mean 1 and variance 1 - 1/n; two of them covariance -1/n.
    # Means of 400 agree within five standard deviations.
    of_impostors = weights[:, ~SAME].mean(axis=1)
    assert abs(weights[:, SAME].mean() - 1) < 1e-12
    assert abs(of_impostors.mean() - 0.75) < 5 * of_impostors.std() / 20
    assert "of 4 subjects" in found.rule


def test_sets_are_resampled_apart():
    # Left and right: the weight is a product, for genuine pairs too.
    weights, found = resampled_weights(SAME, SUBJECTS, sets=[0, 1], resamples=300)
    assert "of 4 and 4 subjects" in found.rule
    genuine = weights[:, SAME]
    assert {0, 1, 2, 4} <= set(genuine.ravel())
    assert abs(genuine.mean() - 1) < 5 * genuine.mean(axis=1).std() / np.sqrt(300)
    # Genuine pairs of the subjects 0 to 3, impostor pairs of five others.
    others, _ = all_pairs(np.arange(5))
    sides = np.concatenate([np.stack([np.arange(4)] * 2, axis=1), others])
    sets = np.repeat([[0, 0], [1, 1]], [4, 10], axis=0)
    weights, found = resampled_weights(np.arange(14) < 4, sides, sets=sets)
    assert "of 4 and 5 subjects" in found.rule
    np.testing.assert_array_equal(weights[:, :4].sum(axis=1), 4)
    correlation = np.corrcoef(weights[:, 0], weights[:, 4:].sum(axis=1))[0, 1]
    assert abs(correlation) < 0.15


def test_intervals_are_quantiles_of_samples():
    def two(scores, same, weights):
        return [np.average(scores, weights=weights), weights[same].sum()]

    found = metrics.bootstrap(two, SCORES, SAME, SUBJECTS, resamples=99, level=0.8)
    assert found.samples.shape == (99, 2)
    np.testing.assert_allclose(found.estimate, [SCORES.mean(), SAME.sum()])
    ordered = np.sort(found.samples, axis=0)  # quantiles at 0.1 * 98 = 9.8 and 88.2
    low = 0.2 * ordered[9] + 0.8 * ordered[10]
    high = 0.8 * ordered[88] + 0.2 * ordered[89]
    np.testing.assert_allclose((found.low, found.high), (low, high))
    again = metrics.bootstrap(two, SCORES, SAME, SUBJECTS, resamples=99, level=0.8)
    np.testing.assert_array_equal(found.samples, again.samples)
    other = metrics.bootstrap(two, SCORES, SAME, SUBJECTS, resamples=99, seed=1)
    assert not np.array_equal(found.samples, other.samples)


def test_two_systems_are_measured_with_the_same_subjects():
    systems = np.stack([SCORES, SCORES + np.random.default_rng(1).normal(size=66)])
    measure = metrics.roc_auc
    first, second, both = (
        metrics.bootstrap(measure, scores, SAME, SUBJECTS, resamples=50)
        for scores in (*systems, jnp.asarray(systems))
    )
    np.testing.assert_allclose(both.samples, first.samples - second.samples, atol=1e-6)
    np.testing.assert_allclose(both.estimate, first.estimate - second.estimate, 1e-5)
    assert "first system minus the second" in both.rule


def test_resamples_without_impostors_are_drawn_again():
    sides = np.array([[0, 0], [1, 1], [0, 1]])
    weights, found = resampled_weights(np.array([True, True, False]), sides)
    # Of two subjects, half of all draws take one of them twice.
    assert set(map(tuple, weights)) == {(1.0, 1.0, 1.0)}
    redrawn = int(found.rule.split("; ")[-1].split()[0])
    assert abs(redrawn - 1000) < 5 * np.sqrt(2 * 1000)


def test_all_measures_of_pairs_can_be_resampled():
    folds = np.arange(66) % 2
    measures: list[Any] = [
        metrics.roc_auc,
        metrics.equal_error_rate,
        metrics.min_cllr,
        metrics.cllr,
        lambda *pairs, weights: metrics.roc(*pairs, weights=weights).eer,
        lambda *pairs, weights: metrics.partial_auc(
            *pairs, max_far=0.2, weights=weights
        ),
        lambda *pairs, weights: (
            metrics.tar_at_far(*pairs, far=0.2, weights=weights).tar
        ),
        lambda scores, same, weights: (
            metrics.verification_accuracy(scores, same, folds, weights=weights).accuracy
        ),
        lambda scores, same, weights: (
            metrics.val_at_far(scores, same, folds, 0.2, weights=weights).val
        ),
        lambda *pairs, weights: (
            metrics.calibrate(*pairs, prior=0.1, weights=weights).slope
        ),
    ]
    for measure in measures:
        found = metrics.bootstrap(measure, SCORES, SAME, SUBJECTS, resamples=20)
        assert found.low < found.estimate < found.high


def draw_world(rng, subjects=40, images=3):
    """Scores of all pairs, some subjects being much harder than others."""
    centers = rng.normal(size=(subjects, 8))
    spread = rng.choice([0.3, 1.2], size=(subjects, 1, 1), p=[0.8, 0.2])
    x = centers[:, None] + spread * rng.normal(size=(subjects, images, 8))
    x = x.reshape(-1, 8) / np.linalg.norm(x, axis=-1).reshape(-1, 1)
    sides, same = all_pairs(np.repeat(np.arange(subjects), images))
    return (x @ x.T)[np.triu_indices(len(x), 1)], same, sides


def test_resampled_pairs_understate_the_spread():
    rng = np.random.default_rng(0)
    measure = metrics.equal_error_rate
    truth = np.std([measure(*draw_world(rng)[:2]) for _ in range(150)])
    by_subjects, by_pairs = [], []
    for _ in range(8):
        scores, same, sides = draw_world(rng)
        found = metrics.bootstrap(measure, scores, same, sides, resamples=60)
        by_subjects.append(found.samples.std())
        pairs = rng.integers(len(same), size=(60, len(same)))
        by_pairs.append(np.std([measure(scores[k], same[k]) for k in pairs]))
    assert 0.8 * truth < np.mean(by_subjects) < 1.5 * truth
    assert np.mean(by_pairs) < 0.75 * truth


class Mates(NamedTuple):
    """What identification keeps of each probe, and the number of identities."""

    is_mated: np.ndarray
    rank: np.ndarray
    identities: int


def test_probes_are_resampled_by_subject():
    rng = np.random.default_rng(0)
    subjects = rng.integers(6, size=30) * 10
    rank = rng.integers(1, 4, size=30)
    mates = Mates(subjects < 30, rank, 3)
    galleries = [mates, mates._replace(is_mated=~mates.is_mated)]
    seen = []

    def measure(both):
        first, second = both
        assert first.identities == 3
        np.testing.assert_array_equal(first.is_mated, ~second.is_mated)
        np.testing.assert_array_equal(first.rank, second.rank)
        seen.append(first.rank)
        return np.mean((first.rank == 1) & first.is_mated)

    found = metrics.bootstrap_probes(measure, galleries, subjects, resamples=50)
    assert found.estimate == np.mean((rank == 1) & mates.is_mated)
    assert found.low < found.estimate < found.high
    assert "gallery is fixed" in found.rule
    # The same draws of all probes' numbers: each subject's probes come together.
    numbers = metrics.bootstrap_probes(
        lambda probes: np.bincount(probes, minlength=30),
        np.arange(30),
        subjects,
        resamples=50,
    ).samples
    for row, ranks in zip(numbers, seen, strict=False):
        counts = [set(row[subjects == name]) for name in np.unique(subjects)]
        assert all(len(of_one) == 1 for of_one in counts)
        assert sum(of_one.pop() for of_one in counts) == 6
        np.testing.assert_array_equal(np.repeat(rank, row.astype(int)), ranks)


def test_identification_by_score_matrices():
    rng = np.random.default_rng(1)
    labels, gallery = np.repeat(np.arange(8), 4), np.arange(5)
    scores = rng.normal(1.5 * (labels[:, None] == gallery), 1.0)
    is_mated = labels < 5

    def rates(probes):
        found = metrics.dir_at_far(probes[0], probes[1], gallery, far=[0.25, 0.5])
        assert (found.mated, found.non_mated) == (20, 12)
        return found.dir

    found = metrics.bootstrap_probes(
        rates, (scores, labels), labels, resamples=40, sets=is_mated
    )
    expected = metrics.dir_at_far(scores, labels, gallery, far=[0.25, 0.5]).dir
    np.testing.assert_array_equal(found.estimate, expected)
    assert np.all(found.low < found.high)
    assert "of 3 and 5 subjects" in found.rule


@pytest.mark.parametrize("impostors", [1, 2, 20, 500])
def test_interval_of_the_false_accept_rate_is_exact(impostors):
    """Its ends are the rates at which such counts have the probability 2.5 %."""
    scores = np.append(np.linspace(0, 1, impostors, endpoint=False), [2.0, -1.0])
    same = np.arange(len(scores)) >= impostors
    for k in {0, 1, impostors // 3, impostors - 1, impostors}:
        found = metrics.threshold_at_far(scores, same, k / impostors)
        assert found.far == k / impostors
        chance = stats.binom(impostors, [found.low, found.high])
        if k:
            np.testing.assert_allclose(chance.sf(k - 1)[0], 0.025, rtol=2e-5)
        else:
            assert found.low == 0.0
            np.testing.assert_allclose(found.high, 1 - 0.025 ** (1 / impostors), 1e-6)
        if k < impostors:
            np.testing.assert_allclose(chance.cdf(k)[1], 0.025, rtol=2e-5)
        else:
            assert found.high == 1.0
            np.testing.assert_allclose(found.low, 0.025 ** (1 / impostors), 1e-6)


def test_interval_of_many_counted_pairs():
    rng = np.random.default_rng(0)
    counts = metrics.ScoreCounts(
        [(rng.uniform(-1, 1, 300_000), np.arange(300_000) < 9)]
    )
    for far in (0.0, 1e-5, 1e-3, 0.1):
        found = metrics.threshold_at_far(counts, far=far, level=0.99)
        at = metrics.tar_at_far(counts, far=far)
        assert (found.threshold, found.far) == (at.threshold, at.far)
        n = counts.impostors
        k = round(found.far * n)
        if k:
            np.testing.assert_allclose(
                found.low, stats.beta(k, n - k + 1).ppf(0.005), 2e-6
            )
        np.testing.assert_allclose(
            found.high, stats.beta(k + 1, n - k).ppf(0.995), 2e-6
        )
    # Rule of three.
    none = metrics.threshold_at_far(counts, far=0.0, level=0.9)
    np.testing.assert_allclose(none.high * counts.impostors, 3, rtol=2e-3)


def test_an_unsupported_rate_accepts_no_impostor():
    scores, same = np.array([0.9, 0.8, 0.7, 0.2]), np.array([1, 0, 1, 0], bool)
    found = metrics.threshold_at_far(scores, same, 0.1)
    assert (found.threshold, found.far, found.low) == (0.9, 0.0, 0.0)
    assert found.high > 0.1
    # Even the largest score accepts half of the impostors.
    found = metrics.threshold_at_far(scores - same, same, 0.1)
    assert (found.threshold, found.far) == (np.inf, 0.0)


def test_interval_of_the_false_accept_rate_over_subjects():
    found = metrics.threshold_at_far(SCORES, SAME, 0.2, subjects=SUBJECTS, seed=3)
    plain = metrics.threshold_at_far(SCORES, SAME, 0.2)
    assert (found.threshold, found.far) == (plain.threshold, plain.far)

    def far_there(scores, same, weights):
        return weights[~same & (scores >= plain.threshold)].sum() / weights[~same].sum()

    expected = metrics.bootstrap(far_there, SCORES, SAME, SUBJECTS, seed=3)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high))
    assert "4 subjects" in found.rule
    none = metrics.threshold_at_far(SCORES, SAME, 0.0, subjects=SUBJECTS, resamples=9)
    assert none.low == 0.0
    assert np.isnan(none.high)


def boot(**changes):
    """A bootstrap with one argument changed."""
    arguments = {"scores": SCORES, "same": SAME, "subjects": SUBJECTS} | changes
    return metrics.bootstrap(arguments.pop("measure", metrics.roc_auc), **arguments)


def boot_probes(probes, subjects, **options):
    """A bootstrap of a mean."""
    return metrics.bootstrap_probes(np.mean, probes, subjects, **options)


@pytest.mark.parametrize(
    ("error", "match", "function"),
    [
        (
            ValueError,
            r"\[2, pairs\] and same \[pairs\], got",
            lambda: boot(same=[True]),
        ),
        (TypeError, "same must be boolean", lambda: boot(same=SAME * 1)),
        (ValueError, "no impostor pair", lambda: boot(same=SAME | True)),
        (
            TypeError,
            "subjects must be integer",
            lambda: boot(subjects=SUBJECTS / 2),
        ),
        (
            ValueError,
            r"must be \[pairs, 2\]",
            lambda: boot(subjects=SUBJECTS[:, 0]),
        ),
        (
            ValueError,
            "each of the 66 pairs",
            lambda: boot(subjects=SUBJECTS[:3]),
        ),
        (
            ValueError,
            "equal in genuine pairs .* got 2 of 66",
            lambda: boot(same=SAME ^ (np.arange(66) < 2)),
        ),
        (ValueError, r"sets must be \[2\]", lambda: boot(sets=[1, 2, 3])),
        (ValueError, "resamples must be 1 or more", lambda: boot(resamples=0)),
        (ValueError, r"level must lie in \(0, 1\)", lambda: boot(level=1.0)),
        (TypeError, "seed must be an integer", lambda: boot(seed=0.5)),
        (
            TypeError,
            "must return a number or an array, got TarAtFar",
            lambda: boot(measure=metrics.tar_at_far),
        ),
        (
            ValueError,
            r"subjects must be in \[0, 2\), .* got 0 to 2",
            lambda: metrics.subject_weights([[0, 2]], [1, 1]),
        ),
        (
            ValueError,
            "counts must have an entry",
            lambda: metrics.subject_weights([[0, 2]], 3),
        ),
        (
            ValueError,
            r"first axis, got arrays of \[2, 3\] entries",
            lambda: boot_probes((np.ones(3), np.ones(2)), np.arange(3)),
        ),
        (
            ValueError,
            "each of the 3 probes",
            lambda: boot_probes(np.ones(3), np.arange(2)),
        ),
        (
            ValueError,
            "got 1 subjects in several sets",
            lambda: boot_probes(np.ones(3), [0, 0, 1], sets=[0, 1, 1]),
        ),
        (
            ValueError,
            "sets must have an entry",
            lambda: boot_probes(np.ones(3), [0, 0, 1], sets=[0, 1]),
        ),
        (
            ValueError,
            r"far must lie in \[0, 1\]",
            lambda: metrics.threshold_at_far(SCORES, SAME, 2.0),
        ),
        (
            ValueError,
            "subjects must go with scores",
            lambda: metrics.threshold_at_far(
                metrics.ScoreCounts([(SCORES / 9, SAME)]), subjects=SUBJECTS
            ),
        ),
    ],
)
def test_errors_teach(error, match, function):
    with pytest.raises(error, match=match):
        function()
