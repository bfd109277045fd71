"""Log-likelihood ratios: their cost, and calibration of scores."""

import jax.numpy as jnp
import numpy as np
import pytest

from sphax import metrics


def draw(seed, n=60, levels=8):
    """Scores on a coarse grid, many tied, and weights, many of them zero."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.4
    scores = np.round(rng.normal(0.4 * same, 0.5) * levels) / levels
    return scores, same, rng.integers(3, size=n).astype(float)


def cost(llr, same, weights=None):
    """Cllr from its definition."""
    with np.errstate(over="ignore"):
        bits = np.log2(1 + np.exp(np.where(same, -llr, llr)))
    weights = np.ones(len(llr)) if weights is None else weights
    return np.mean([np.average(bits[k], weights=weights[k]) for k in (same, ~same)])


def isotonic(scores, same, weights):
    """Share of genuine pairs that rises with the score, as a maximum of minima."""
    levels = np.unique(scores[weights > 0])
    genuine, total = (
        np.array([np.sum(w[scores == level]) for level in levels])
        for w in (weights * same, weights)
    )
    n = len(levels)
    mean = [
        [genuine[a : b + 1].sum() / total[a : b + 1].sum() for b in range(a, n)]
        for a in range(n)
    ]
    best = [max(min(mean[a][k - a :]) for a in range(k + 1)) for k in range(n)]
    return levels, np.array(best)


def log_odds(p):
    """Logarithm of p / (1 - p), infinite at the ends."""
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def test_cost_by_hand():
    same = [True, True, False, False]
    llr = jnp.array([2.0, 1.0, 0.0, -1.0])
    np.testing.assert_allclose(metrics.cllr(llr, same), 0.521750, atol=5e-7)
    assert metrics.cllr(np.zeros(4), same) == 1.0
    infinite = np.array([np.inf, 1.0, -1.0, -np.inf])
    np.testing.assert_allclose(
        metrics.cllr(infinite, same), np.log2(1 + np.exp(-1)) / 2
    )
    assert metrics.cllr(-infinite, same) == np.inf
    assert metrics.cllr(-infinite, same, weights=[0, 1, 1, 0]) < np.inf
    # Beyond the range of exp.
    large = np.array([-2000.0, 1.0, -1.0, -1.0])
    assert 500 / np.log(2) < metrics.cllr(large, same) < 501 / np.log(2)


@pytest.mark.parametrize("seed", range(4))
def test_costs_are_their_definition(seed):
    scores, same, weights = draw(seed)
    for each in (np.ones(len(same)), weights):
        np.testing.assert_allclose(
            metrics.cllr(scores, same, weights=each), cost(scores, same, each)
        )
        levels, share = isotonic(scores, same, each)
        odds = np.sum(each * same) / np.sum(each * ~same)
        llr = log_odds(share) - np.log(odds)
        found = metrics.calibrate(scores, same, method="pav", weights=each)
        np.testing.assert_allclose(found(levels), llr, atol=1e-12)
        assert np.all(found.llr[1:] < found.llr[:-1])  # as few steps as there can be
        used = each > 0
        ratios = llr[np.searchsorted(levels, scores[used])]
        least = cost(ratios, same[used], each[used])
        np.testing.assert_allclose(
            metrics.min_cllr(scores, same, weights=each), least, rtol=1e-12
        )


def test_the_least_cost():
    scores, same, _ = draw(7)
    least = metrics.min_cllr(scores, same)
    found = metrics.calibrate(scores, same, method="pav")
    np.testing.assert_allclose(metrics.cllr(found(scores), same), least)
    np.testing.assert_allclose(metrics.min_cllr(np.exp(3 * scores), same), least)
    line = metrics.calibrate(scores, same)
    assert least < metrics.cllr(line(scores), same) < 1.0
    assert metrics.min_cllr(np.where(same, 0.9, 0.1), same) == 0.0
    assert metrics.min_cllr(np.where(same, 0.1, 0.9), same) == 1.0
    np.testing.assert_allclose(metrics.min_cllr(np.zeros(60), same), 1.0)
    # Of a histogram.
    counts = metrics.ScoreCounts([(scores, same)], spacing=0.125, limit=4.0)
    np.testing.assert_allclose(metrics.min_cllr(counts), least)


def test_steps_of_new_scores():
    scores, same = np.array([0.9, 0.7, 0.6, 0.4, 0.1]), np.array([1, 0, 1, 1, 0], bool)
    found = metrics.calibrate(scores, same, method="pav")
    # The step of 0.7 to 0.4 has shares 2/3 and 1/2.
    np.testing.assert_allclose(found.thresholds, [0.9, 0.4, 0.1])
    np.testing.assert_allclose(found.llr, [np.inf, np.log(4 / 3), -np.inf])
    new = np.array([[2.0, 0.9], [0.89, 0.4], [0.39, -5.0]])
    steps = [[0, 0], [1, 1], [2, 2]]
    np.testing.assert_array_equal(found(new), found.llr[steps])


def test_smooth_steps_have_two_more_pairs_at_either_end():
    scores, same = draw(3)[:2]
    found = metrics.calibrate(scores, same, method="pav", smooth=True)
    more = np.concatenate([[9.0, 9.0], scores, [-9.0, -9.0]])
    more_same = np.concatenate([[True, False], same, [True, False]])
    levels, share = isotonic(more, more_same, np.ones(64))
    llr = log_odds(share) - np.log(more_same.sum() / (~more_same).sum())
    assert np.all(np.isfinite(llr))
    np.testing.assert_allclose(found(levels), llr, atol=1e-12)
    assert np.all(np.isfinite(found.llr))


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_line_through_two_scores(prior):
    """Two points determine a line, so that the prior has no effect."""
    scores = np.array([1.0, 1.0, 3.0, 1.0, 3.0])
    same, weights = np.array([1, 1, 1, 0, 0], bool), np.array([1.0, 2.0, 5.0, 7.0, 0.5])
    found = metrics.calibrate(scores, same, prior=prior, weights=weights)
    expected = [np.log((3 / 8) / (7 / 7.5)), np.log((5 / 8) / (0.5 / 7.5))]
    np.testing.assert_allclose(found(np.array([1.0, 3.0])), expected, rtol=1e-9)
    np.testing.assert_allclose(found.slope, np.diff(expected)[0] / 2, rtol=1e-9)


@pytest.mark.parametrize("prior", [0.5, 1e-3])
def test_line_is_the_best(prior):
    scores, same, _ = draw(5, 300, levels=1000)
    logit = np.log(prior / (1 - prior))

    def entropy(slope, intercept):
        logits = slope * scores + intercept + logit
        losses = np.logaddexp(0, np.where(same, -logits, logits))
        return prior * losses[same].mean() + (1 - prior) * losses[~same].mean()

    found = metrics.calibrate(scores, same, prior=prior)
    line, least = found[:2], entropy(*found[:2])
    for change in np.eye(2) * 1e-3:
        up, down = entropy(*(line + change)), entropy(*(line - change))
        assert least < min(up, down)
        # The minimum of the parabola through the three is where we are.
        assert abs(up - down) < 1e-3 * (up + down - 2 * least)
    # Of scores on another scale.
    moved = metrics.calibrate(1e4 * scores - 700, same, prior=prior)
    np.testing.assert_allclose(moved(1e4 * scores - 700), found(scores), rtol=1e-6)


def test_one_pair_that_overlaps_determines_the_line():
    """The slope is then large, and the way there long."""
    scores = np.append(np.linspace(0, 1, 4001), 0.5002)
    same = np.append(np.arange(4001) >= 2000, False)
    found = metrics.calibrate(scores, same)
    assert 1e3 < found.slope < 1e5
    posterior = 1 / (1 + np.exp(np.clip(-found(scores), -700, 700)))
    error = np.where(same, posterior - 1, posterior)
    for feature in (np.ones(4002), scores - 0.5):
        gradient = (error * feature)[same].mean() + (error * feature)[~same].mean()
        assert abs(gradient) < 1e-9


FINE, ALTERNATING = np.arange(4) / 4, np.array([True, False] * 2)


@pytest.mark.parametrize(
    ("error", "match", "function"),
    [
        (
            ValueError,
            r"overlap .* ones in \[0.5, 0.75\] and impostor ones in \[0, 0.25\]",
            lambda: metrics.calibrate(FINE, FINE > 0.3),
        ),
        (
            ValueError,
            "no finite slope is best",
            lambda: metrics.calibrate(-FINE, FINE > 0.3),
        ),
        # At 0.25 there are pairs of both kinds, on either side pairs of one.
        (
            ValueError,
            "no finite slope is best",
            lambda: metrics.calibrate(
                np.array([0.0, 0.25, 0.25]), [False, False, True]
            ),
        ),
        (
            ValueError,
            "no finite slope is best",
            lambda: metrics.calibrate(np.zeros(4), ALTERNATING),
        ),
        (
            ValueError,
            "method must be one of",
            lambda: metrics.calibrate(FINE, ALTERNATING, method="best"),  # pyright: ignore
        ),
        (
            ValueError,
            r"prior must lie in \(0, 1\)",
            lambda: metrics.calibrate(FINE, ALTERNATING, prior=1.0),
        ),
        (
            ValueError,
            'smooth has an effect with method="pav" only',
            lambda: metrics.calibrate(FINE, ALTERNATING, smooth=True),
        ),
        (
            ValueError,
            'prior has an effect with method="logistic" only',
            lambda: metrics.calibrate(FINE, ALTERNATING, method="pav", prior=0.1),
        ),
        (
            ValueError,
            "llr must be finite, got 1 NaN",
            lambda: metrics.cllr(np.array([np.nan, np.inf]), [True, False]),
        ),
        (
            TypeError,
            "llr must be floating",
            lambda: metrics.cllr([1, 2], [True, False]),
        ),
        (ValueError, "no genuine pair", lambda: metrics.cllr(FINE, FINE > 9)),
        (ValueError, "no impostor pair", lambda: metrics.min_cllr(FINE, FINE < 9)),
    ],
)
def test_errors_teach(error, match, function):
    with pytest.raises(error, match=match):
        function()
