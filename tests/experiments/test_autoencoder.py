"""The autoencoder study: factors of codes, how alike images are, and a short run."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.autoencoder import config, report, train
from experiments.autoencoder.__main__ import parse
from experiments.autoencoder.config import SOURCES
from experiments.common import images, runs, store


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_correlation_is_that_of_numpy():
    images, others = draw(3, 4, 5, 2), draw(3, 4, 5, 2, seed=1)
    others[1] = 2.0 - 3.0 * images[1]
    others[2] = 0.5
    found = train.correlation(jnp.asarray(images), jnp.asarray(others))
    expected = np.corrcoef(images[0].ravel(), others[0].ravel())[0, 1]
    np.testing.assert_allclose(found, [expected, -1.0, 0.0], atol=1e-6)


def test_matched_images_have_the_mean_and_contrast_of_the_others():
    images, others = 5.0 * draw(3, 4, 4, 2) - 1.0, draw(3, 4, 4, 2, seed=1)
    images[2] = 0.0
    found = np.asarray(train.matched(jnp.asarray(images), jnp.asarray(others)))
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
    found = train.structural_similarity(
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

    monkeypatch.setattr(train, "_INIT", init)


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
        early = source.factor if source.everywhere else "output"
        hidden = np.maximum(factors(images, kernels[0])[early], 0.0)
        codes = np.maximum(factors(hidden, kernels[1])[source.factor], 0.0)
        hidden = np.maximum(spread(convolve(codes, back[0], 1)), 0.0)
        found[name] = spread(convolve(hidden, back[1], 1))
    return found


def test_the_decoder_is_given_the_factor_that_is_named():
    model = train.Autoencoder((8, 8, 1), (3, 5), rngs=nnx.Rngs(0))
    images = draw(3, 8, 8, 1)
    images[0, :4] = 0.0
    images[2] = 3.0 * images[1]
    expected = by_hand(model, jnp.asarray(images))
    decode = nnx.jit(
        lambda model, images: {
            name: model(images, factor=source.factor, everywhere=source.everywhere)
            for name, source in SOURCES.items()
        }
    )
    found = decode(model, images)
    for name in SOURCES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        # The contrast of an image is in all but its angles.
        factor = 1.0 if name.startswith("angle") else 3.0
        np.testing.assert_allclose(
            found[name][2], factor * found[name][1], rtol=1e-4, atol=1e-5
        )


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2 convolutions halve 8 x 6 .* 4 does not"):
        train.Autoencoder((8, 6, 1), (3, 5), rngs=nnx.Rngs(0))


@pytest.fixture
def few(monkeypatch):
    digits = images.load("digits")
    test = images.Images(*(part[:40] for part in digits.test))
    small = dataclasses.replace(digits, test=test)
    monkeypatch.setattr(train, "load", lambda name, data_dir: small)
    return small


def test_three_steps_are_stored_and_repeat_themselves(tmp_path, few):
    chosen = config.Config(runs=tmp_path, channels=(4, 3), steps=3, seeds=2)
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "autoencoder") or {}) for run in planned]
    metrics = found[0][1]["metrics"]
    assert set(metrics) == {"sources", "images", "decoded"}
    assert metrics["sources"].keys() == {*SOURCES, "mean", "another"}
    assert metrics["decoded"].keys() == SOURCES.keys()
    assert runs.unpack(metrics["decoded"]["angle"]).shape == (12, 8, 8, 1)
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "digits-images.png").stat().st_size > 10_000
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("| decoded from (2 seeds) | correlation |")
    assert lines[2].startswith("| inner product | ")
    # Runs of before have neither images nor a deviation over them.
    before = {"images": None, "decoded": None, "sources": {}}
    for name, row in metrics["sources"].items():
        values = {"mean": row["ssim"]["mean"], "deviation": None}
        before["sources"][name] = {"correlation": values, "ssim": values}
    old = [(run, record | {"metrics": before}) for run, record in found]
    report.draw(chosen, old, tmp_path / "nothing is written")
    mean = metrics["sources"]["mean"]["ssim"]["mean"]
    assert (
        f"| *the mean image* | {mean:.3f} |  | " in list(report.table(chosen, old))[7]
    )

    assert found[1][1]["metrics"]["sources"] != metrics["sources"]
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/autoencoder") or {}
    assert again["metrics"] == metrics

    # The baselines by hand, in float64.
    pixels = few.test.images.astype(float) / 255.0
    average = few.train.images.mean(0) / 255.0
    for name, others in (
        ("mean", np.broadcast_to(average, pixels.shape)),
        ("another", np.roll(pixels, 1, axis=0)),
    ):
        pairs = zip(pixels, others, strict=True)
        expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in pairs]
        row = metrics["sources"][name]["correlation"]
        np.testing.assert_allclose(row["mean"], np.mean(expected), rtol=1e-5)
        np.testing.assert_allclose(row["deviation"], np.std(expected), rtol=1e-5)


def test_the_settings_are_those_of_the_dataset():
    digits, cifar = parse([]), parse(["--dataset", "cifar10", "--steps", "7"])
    assert (digits.channels, digits.steps, digits.seeds) == ((32, 16), 600, 5)
    assert (cifar.channels, cifar.steps, cifar.group) == ((32, 64, 64), 7, "cifar10")
    with pytest.raises(ValueError, match="--channels must be one or more numbers"):
        config.Config(channels=())
