"""The autoencoder of Figure 1.1, how alike images are, and its experiment."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import (
    _autoencoder,
    _autoencoder_training,
    _data,
    _similarity,
    autoencoder,
    report,
)
from experiments._autoencoder import Autoencoder
from experiments._autoencoder_sources import BASELINES, SOURCES
from experiments._autoencoder_training import Recipe


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_correlation_is_that_of_numpy():
    images, others = draw(3, 4, 5, 2), draw(3, 4, 5, 2, seed=1)
    others[1] = 2.0 - 3.0 * images[1]
    others[2] = 0.5
    found = _similarity.correlation(jnp.asarray(images), jnp.asarray(others))
    expected = np.corrcoef(images[0].ravel(), others[0].ravel())[0, 1]
    np.testing.assert_allclose(found, [expected, -1.0, 0.0], atol=1e-6)


def test_matched_images_have_the_mean_and_contrast_of_the_others():
    images, others = 5.0 * draw(3, 4, 4, 2) - 1.0, draw(3, 4, 4, 2, seed=1)
    images[2] = 0.0
    found = np.asarray(_similarity.matched(jnp.asarray(images), jnp.asarray(others)))
    space = (1, 2, 3)
    np.testing.assert_allclose(found.mean(space), others.mean(space), rtol=1e-5)
    deviations = [*others.std(space)[:2], 0.0]
    np.testing.assert_allclose(found.std(space), deviations, rtol=1e-5)
    slope = others[0].std() / images[0].std()
    expected = slope * (images[0] - images[0].mean()) + others[0].mean()
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_structural_similarity_window_by_window():
    images, others = draw(2, 6, 5, 2), draw(2, 6, 5, 2, seed=1)
    others[1] = images[1]
    expected = np.zeros(2)
    for image, top, left, channel in np.ndindex(2, 4, 3, 2):
        place = image, slice(top, top + 3), slice(left, left + 3), channel
        x, y = images[place].astype(float), others[place].astype(float)
        (xx, xy), (_, yy) = np.cov(x.ravel(), y.ravel())
        c1, c2 = 1e-4, 9e-4
        product = (2 * x.mean() * y.mean() + c1) * (2 * xy + c2)
        expected[image] += product / (
            (x.mean() ** 2 + y.mean() ** 2 + c1) * (xx + yy + c2)
        )
    found = _similarity.structural_similarity(
        jnp.asarray(images), jnp.asarray(others), window=3
    )
    np.testing.assert_allclose(found, expected / 24, rtol=1e-4)
    assert found[1] == pytest.approx(1.0)


@pytest.fixture(autouse=True)
def weights_of_numpy(monkeypatch):
    """JAX takes seconds to compile the draw of one kernel."""

    def init(key, shape, dtype):
        seed = np.asarray(jax.random.key_data(key))
        weights = np.random.default_rng(seed).normal(size=shape)
        return jnp.asarray(weights / np.sqrt(np.prod(shape[:-1])), dtype)

    monkeypatch.setattr(_autoencoder, "_INIT", init)


def decode(model, images):
    """From all sources, compiled."""
    run = nnx.jit(
        lambda model, images: {
            name: model(images, emit=source.emit, everywhere=source.everywhere)
            for name, source in SOURCES.items()
        }
    )
    return run(model, images)


def by_hand(model, images):
    """From each source, by JAX's convolution; pixels are spread by index."""

    def convolve(x, kernel, stride):
        layout = ("NHWC", "HWIO", "NHWC")
        convolution = partial(jax.lax.conv_general_dilated, dimension_numbers=layout)
        return convolution(x, kernel, (stride, stride), "SAME")

    kernels = [conv.kernel[...] for conv in model.encoder]
    back = [conv.kernel[...] for conv in model.decoder]

    def factors(x, kernel):
        lengths = jnp.sqrt(jnp.sum(kernel**2, (0, 1, 2), keepdims=True))
        norms = jnp.sqrt(convolve(x**2, jnp.ones_like(kernel), 2))
        inner = convolve(x, kernel, 2)
        magnitude = lengths * norms
        angle = inner / jnp.where(magnitude > 0, magnitude, 1.0)
        return {"output": inner, "magnitude": magnitude, "angle": angle}

    def spread(x):
        n, height, width, depth = x.shape
        out = np.zeros((n, 2 * height, 2 * width, depth // 4), np.float32)
        for part in range(4):
            row, column = divmod(part, 2)
            narrow = slice(part * depth // 4, (part + 1) * depth // 4)
            out[:, row::2, column::2] = x[..., narrow]
        return out

    found = {}
    for name, source in SOURCES.items():
        early = source.emit if source.everywhere else "output"
        hidden = np.maximum(factors(images, kernels[0])[early], 0.0)
        codes = np.maximum(factors(hidden, kernels[1])[source.emit], 0.0)
        hidden = np.maximum(spread(convolve(codes, back[0], 1)), 0.0)
        found[name] = spread(convolve(hidden, back[1], 1))
    return found


def test_the_decoder_is_given_what_is_asked_for():
    model = Autoencoder((8, 8, 1), (3, 5), rngs=nnx.Rngs(0))
    images = draw(3, 8, 8, 1)
    images[0, :4] = 0.0
    images[2] = 3.0 * images[1]
    found, expected = decode(model, images), by_hand(model, jnp.asarray(images))
    for name in SOURCES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        # The contrast of an image is in all but its angles.
        factor = 1.0 if name.startswith("angle") else 3.0
        np.testing.assert_allclose(
            found[name][2], factor * found[name][1], rtol=1e-4, atol=1e-5
        )


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2 convolutions halve 8 x 6 .* 4 does not"):
        Autoencoder((8, 6, 1), (3, 5), rngs=nnx.Rngs(0))


@pytest.fixture
def few_images(monkeypatch):
    digits = _data.load("digits")
    small = dataclasses.replace(
        digits, test=_data.Images(*(part[:40] for part in digits.test))
    )
    monkeypatch.setattr(_data, "load", lambda name, data_dir: small)
    return small


@pytest.fixture
def config(tmp_path):
    return autoencoder.Config(
        channels=(4, 3),
        steps=4,
        seeds=2,
        checkpoint_every=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )


@pytest.mark.slow
def test_the_experiment_leaves_its_results_and_goes_on_where_it_was_killed(
    config, few_images, monkeypatch
):
    results = autoencoder.train(config)
    path = config.results / "autoencoder_digits.json"
    assert json.loads(path.read_text()) == results
    assert str(config.results.parent) not in path.read_text()
    assert results["recipe"]["channels"] == [4, 3]
    assert list(results["sources"]) == [*SOURCES, *BASELINES]
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(config.checkpoints.iterdir())
    lines = list(autoencoder.table(results))
    assert lines[0].startswith("| decoded from (2 seeds) | correlation |")
    assert lines[2].startswith("| inner product | ")
    text = report.rewrite("<!-- autoencoder_digits -->\n<!-- end -->", config.results)
    assert "`python -m experiments.autoencoder --seeds 2 --channels 4 3" in text

    steps = []
    step = _autoencoder_training._step

    def killed(*arguments):
        steps.append(None)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(_autoencoder_training, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        autoencoder.train(config)
    again = autoencoder.train(config)
    # Three before it was killed, of which two were kept; six after it.
    assert len(steps) == 4 + 6
    assert again["sources"] == results["sources"]

    # The baselines by hand, in float64.
    images = few_images.test.images.astype(float) / 255.0
    mean = few_images.train.images.mean(0) / 255.0
    for name, others in (
        ("mean", np.broadcast_to(mean, images.shape)),
        ("another", np.roll(images, 1, axis=0)),
    ):
        pairs = zip(images, others, strict=True)
        expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in pairs]
        row = results["sources"][name]["correlation"]
        np.testing.assert_allclose(row["means"], np.mean(expected), rtol=1e-5)
        np.testing.assert_allclose(row["deviation"], np.std(expected), rtol=1e-5)


@pytest.mark.usefixtures("few_images")
def test_a_loss_that_is_no_number_is_told(config):
    wild = dataclasses.replace(config, learning_rate=1e38)
    with pytest.raises(FloatingPointError, match=r"seed 0: the loss is nan in step 1"):
        autoencoder.train(wild)


def test_settings_out_of_range_are_refused(config):
    with pytest.raises(ValueError, match="steps must be positive, got 0"):
        dataclasses.replace(config, steps=0)
    with pytest.raises(ValueError, match=r"channels must be one or more numbers"):
        dataclasses.replace(config, channels=())
    with pytest.raises(ValueError, match=r"batch must be at most 898, .*got 1000"):
        autoencoder.train(dataclasses.replace(config, batch=1000))


def test_the_recipe_is_that_of_the_dataset_unless_told_otherwise():
    assert autoencoder.Config().recipe == Recipe((32, 16), 600)
    told = autoencoder.Config(dataset="cifar10", steps=7)
    assert told.recipe == Recipe((32, 64, 64), 7)
