"""Rates of the protocol BLUFR."""

import numpy as np
import pytest

import sphax as sx

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(1, 6), 4)


def made(gallery):
    """A trial in which all images are tested."""
    test = RNG.permutation(20)
    probes = np.setdiff1d(test, gallery)
    return sx.data.BLUFRTrial(test[:0], test, np.array(gallery), probes)


def test_rates_are_means_minus_deviations():
    """By loops over pairs and probes, from the protocol's words."""
    trials = [made([0, 4, 8]), made([3, 7, 15])]
    x = RNG.normal(size=(20, 3)) + 1.5 * np.eye(3)[LABELS % 3]
    found = sx.metrics.blufr(
        x.astype(np.float32), LABELS, trials, vr_far=0.1, dir_far=0.3
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines, rates = unit @ unit.T, []
    for trial in trials:
        pairs = [(i, j) for i in trial.test for j in trial.test if i < j]
        genuine = [cosines[i, j] for i, j in pairs if LABELS[i] == LABELS[j]]
        impostors = [cosines[i, j] for i, j in pairs if LABELS[i] != LABELS[j]]
        allowed = sorted(impostors)[-int(0.1 * len(impostors)) - 1]
        vr = np.mean(np.array(genuine) > allowed)
        known = np.isin(LABELS[trial.probes], LABELS[trial.gallery])
        scores = cosines[np.ix_(trial.probes, trial.gallery)]
        alarms = np.sort(scores[~known].max(1))
        threshold = alarms[-int(0.3 * len(alarms)) - 1]
        nearest = LABELS[trial.gallery][scores.argmax(1)] == LABELS[trial.probes]
        rates.append([vr, np.mean((nearest & (scores.max(1) > threshold))[known])])
    expected = np.array(rates)
    assert ((expected > 0) & (expected < 1)).all()
    np.testing.assert_allclose(found.vr_per_trial, expected[:, 0])
    np.testing.assert_allclose(found.dir_per_trial, expected[:, 1])
    means = expected.mean(0) - np.abs(np.diff(expected, axis=0)[0]) / np.sqrt(2)
    np.testing.assert_allclose([found.vr, found.dir], means)
    assert "standard deviation (N - 1) over 2 trials" in found.rule
    one = sx.metrics.blufr(x, LABELS, trials[:1], vr_far=1e-9)
    assert np.isnan([one.vr, one.vr_per_trial[0]]).all()
    with pytest.raises(ValueError, match="trials must be one or more"):
        sx.metrics.blufr(x, LABELS, [])
