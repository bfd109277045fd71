"""The study of variational autoencoders: its Gaussian code, and a short run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.common import images, runs, store
from experiments.vae import config, report, train
from experiments.vae.__main__ import parse


def test_the_gaussian_code_is_that_of_scipy():
    rng = np.random.default_rng(0)
    mean, log_deviation = rng.normal(size=(2, 3, 4)).astype(np.float32) / 2
    posterior = train.Gaussian(jnp.asarray(mean), jnp.asarray(log_deviation))
    codes = posterior.sample(jax.random.key(0), (5000,))
    assert codes.shape == (5000, 3, 4)
    deviation = np.exp(log_deviation.astype(float))
    np.testing.assert_allclose(codes.mean(0), mean, atol=4 * deviation.max() / 70)
    np.testing.assert_allclose(codes.std(0), deviation, rtol=0.1)
    ratio = scipy.stats.norm.logpdf(codes).sum(-1)
    ratio -= scipy.stats.norm.logpdf(codes, mean, deviation).sum(-1)
    found = posterior.log_ratio(codes)
    np.testing.assert_allclose(found, ratio, rtol=1e-3, atol=1e-3)
    # The divergence is the mean of the negative log ratio.
    errors = ratio.std(0) / 70
    assert np.all(np.abs(posterior.divergence() + ratio.mean(0)) < 4 * errors)


@pytest.fixture
def few(monkeypatch):
    digits = images.load("digits")
    train_set, test = (
        images.Images(*(part[:number] for part in split))
        for split, number in ((digits.train, 120), (digits.test, 30))
    )
    small = dataclasses.replace(digits, train=train_set, test=test)
    monkeypatch.setattr(train, "load", lambda name, data_dir: small)


def test_three_steps_are_stored_and_repeat_themselves(tmp_path, few):
    chosen = config.Config(
        runs=tmp_path,
        latents=("gaussian", "von-mises-fisher"),
        dimensions=(2,),
        hidden=(6, 5),
        steps=3,
        samples=20,
        seeds=2,
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "vae") or {}) for run in planned]
    for (run, record), size in zip(found, (2, 2, 3, 3), strict=True):
        metrics = record["metrics"]
        assert np.isfinite(metrics["likelihood"])
        # One bound is below the other, and nats of 64 pixels are few.
        assert -70 < metrics["elbo"] < metrics["likelihood"] < 0 < metrics["divergence"]
        means = runs.unpack(metrics["means"]).astype(float)
        assert means.shape == (30, size)
        if run.config.latents == ("von-mises-fisher",):
            np.testing.assert_allclose(np.linalg.norm(means, axis=-1), 1, atol=2e-3)
    report.draw(chosen, found, tmp_path)
    for name in ("measures", "codes"):
        assert (tmp_path / f"quick-digits-{name}.png").stat().st_size > 10_000
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("| degrees of freedom | code (2 seeds) | log likelihood")
    assert lines[2].startswith("| 2 | Gaussian | ")
    store.complete(planned[-2:], train.train, tmp_path / "again")
    again = store.load(planned[-1], tmp_path / "again/vae") or {}
    assert again["metrics"] == found[-1][1]["metrics"]


def test_settings():
    quick, mnist = parse([]), parse(["--preset", "mnist", "--steps", "7"])
    assert (quick.dataset, quick.dimensions) == ("digits", (2, 5, 10, 20))
    assert (mnist.dataset, mnist.steps, mnist.group) == ("mnist", 7, "mnist-mnist")
    assert len(config.planned(quick)) == 3 * 4 * quick.seeds
    with pytest.raises(ValueError, match="--dimensions must be one or more"):
        config.Config(dimensions=())
    with pytest.raises(ValueError, match="--samples must be a multiple of 10"):
        config.Config(samples=25)
