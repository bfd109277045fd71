"""Adversarial attacks, what is measured under them, and whether to believe it."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from experiments import (
    _attackers,
    _attacks,
    _data,
    _networks,
    _robustness,
    _training,
    report,
    robustness,
)
from experiments._attackers import Target, Threat
from experiments._robustness_recipes import Config

EPS = 0.1


def logistic(weights, signs, images):
    """The loss of two classes, of labels +1 and -1."""
    return jnp.logaddexp(0.0, -signs * (images @ weights - 0.5))


def waves(frequencies, images):
    """A loss with many maxima within a ball."""
    return jnp.sum(jnp.sin(images * frequencies), axis=-1)


@pytest.fixture
def pixels():
    """Twelve rows of five, some at the ends of their range."""
    return jnp.asarray(
        np.random.default_rng(0).choice([0.0, 0.02, 0.4, 0.7, 1.0], (12, 5))
    )


@pytest.fixture
def linear():
    rng = np.random.default_rng(1)
    weights, signs = rng.normal(size=5), rng.choice([-1.0, 1.0], 12)
    return jax.tree_util.Partial(logistic, *map(jnp.float32, (weights, signs)))


@pytest.fixture
def wavy():
    frequencies = jnp.asarray(np.random.default_rng(2).uniform(20, 90, (1, 5)))
    return jax.tree_util.Partial(waves, frequencies.astype(jnp.float32))


def attacks(eps, key):
    options = dict(eps=eps, step=0.25 * eps)
    return {
        "noise": lambda loss, images: _attacks.noise(images, key=key, eps=eps),
        "fgsm": partial(_attacks.fgsm, eps=eps),
        "bim": partial(_attacks.bim, steps=10, **options),
        "pgd": partial(_attacks.pgd, key=key, steps=10, restarts=2, **options),
    }


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd"])
def test_attacks_find_the_maximum_of_a_linear_model(name, linear, pixels, key):
    weights, signs = (np.asarray(part, np.float64) for part in linear.args)
    centres = np.asarray(pixels, np.float64)
    low, high = np.maximum(centres - EPS, 0.0), np.minimum(centres + EPS, 1.0)
    # Against the class, pixel by pixel: the corner of the box where the score is least.
    worst = np.where(signs[:, None] * weights < 0.0, high, low)
    found = attacks(EPS, key)[name](linear, pixels)
    np.testing.assert_allclose(found, worst, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["noise", "fgsm", "bim", "pgd"])
def test_attacks_stay_within_ball_and_range(name, dtype, wavy, pixels, key):
    images = pixels.astype(dtype)
    found = attacks(EPS, key)[name](wavy, images)
    assert found.dtype == dtype
    assert found.shape == images.shape
    moves = np.asarray(found, np.float64) - np.asarray(images, np.float64)
    # The edge of the ball is rounded to the dtype.
    assert np.max(np.abs(moves)) <= EPS + float(jnp.finfo(dtype).eps)
    assert np.max(np.abs(moves)) > 0.5 * EPS
    assert jnp.min(found) >= 0.0
    assert jnp.max(found) <= 1.0


@pytest.mark.parametrize("name", ["noise", "fgsm", "bim", "pgd"])
def test_at_radius_zero_nothing_moves(name, wavy, pixels, key):
    found = attacks(0.0, key)[name](wavy, pixels)
    np.testing.assert_array_equal(found, pixels)


def test_more_restarts_and_steps_never_weaken_the_attack(wavy, pixels, key):
    def strength(steps, restarts):
        attack = partial(_attacks.pgd, key=key, eps=EPS, step=0.02)
        found = attack(wavy, pixels, steps=steps, restarts=restarts)
        return np.asarray(wavy(found))

    by_restarts = [strength(5, number) for number in (1, 2, 6)]
    by_steps = [
        np.asarray(wavy(pixels)),
        *(strength(number, 1) for number in (1, 3, 9)),
    ]
    for losses in (by_restarts, by_steps):
        assert np.all(np.diff(losses, axis=0) >= 0.0)
        assert np.max(losses[-1] - losses[0]) > 0.1


def test_bim_is_the_path_from_the_image(wavy, pixels):
    options = dict(eps=EPS, step=0.03)
    points = _attacks.path(wavy, pixels, pixels, **options)
    for steps, point in zip((1, 2, 3), points, strict=False):
        found = _attacks.bim(wavy, pixels, steps=steps, **options)
        np.testing.assert_array_equal(found, point)


def test_noise_is_uniform_in_the_ball(key):
    found = _attacks.noise(jnp.full((1000, 4), 0.5), key=key, eps=EPS)
    quantiles = np.quantile(np.asarray(found), [0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(quantiles, [0.4, 0.45, 0.5, 0.55, 0.6], atol=5e-3)


def test_a_sweep_over_eps_compiles_once(pixels, key):
    traces = []

    def counted(scale, images):
        traces.append(1)
        return jnp.sum(scale * images, axis=-1)

    for eps in (0.01, 0.1, 0.3):
        loss = jax.tree_util.Partial(counted, jnp.float32(eps))
        for attack in attacks(eps, key).values():
            attack(loss, pixels)
    assert len(traces) == 1


def test_wrong_arguments_are_refused(wavy, pixels, key):
    with pytest.raises(TypeError, match="images must be floating.*got dtype uint8"):
        _attacks.fgsm(wavy, pixels.astype(jnp.uint8), eps=EPS)
    with pytest.raises(ValueError, match="eps must not be negative, got -1"):
        _attacks.noise(pixels, key=key, eps=-1)
    with pytest.raises(ValueError, match="steps must be positive, got 0"):
        _attacks.bim(wavy, pixels, eps=EPS, step=0.1, steps=0)
    attack = partial(_attacks.pgd, key=key, eps=EPS, step=0.1)
    with pytest.raises(ValueError, match="restarts must be positive, got 0"):
        attack(wavy, pixels, steps=1, restarts=0)


def scores(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.fixture
def target():
    """A linear model of three classes, and images that it has mostly right."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(16, 3)).astype(np.float32)
    images = rng.uniform(size=(70, 4, 4, 1)).astype(np.float32)
    model = jax.tree_util.Partial(scores, jnp.asarray(weights))
    labels = np.argmax(images.reshape(70, 16) @ weights, axis=-1)
    labels[:3] = (labels[:3] + 1) % 3
    return Target(model, images, labels, 32)


def test_losses_by_hand():
    logits = np.array([[2.0, 0.5, 3.0], [1.0, 4.0, 4.0]])
    labels = jnp.array([0, 1])
    model = jax.tree_util.Partial(lambda logits, images: logits, jnp.float32(logits))
    entropy = np.log(np.exp(logits).sum(-1)) - np.array([2.0, 4.0])
    found = _attackers.cross_entropy(model, labels, jnp.zeros(2))
    np.testing.assert_allclose(found, entropy, rtol=1e-6)
    np.testing.assert_allclose(
        _attackers.margin(model, labels, jnp.zeros(2)), [1.0, 0.0], rtol=1e-6
    )


def test_batches_cover_every_image_once(target):
    moved = target.attacked(Threat(EPS).fgsm)
    assert moved.shape == target.images.shape
    whole = target._replace(batch=70).attacked(Threat(EPS).fgsm)
    np.testing.assert_allclose(moved, whole, atol=1e-6)
    assert target.accuracy(target.images) == pytest.approx(100.0 * 67 / 70)
    assert target.accuracy(moved) < target.accuracy(target.images)
    few = target.first(3)
    assert few.accuracy(few.images) == 0.0


def outcome(target, transferred):
    found = _robustness.measure(target, Threat(EPS), transferred, checked=64)
    failed = {name for name, check in found["checks"].items() if not check["passed"]}
    return found, failed


def test_checks_pass_for_a_linear_model(target):
    transferred = _robustness.transfer(target, Threat(EPS), 64)
    found, failed = outcome(target, transferred)
    assert failed == set()
    assert list(found["accuracy"]) == list(_robustness.ATTACKS)
    assert found["accuracy"]["all"] == min(found["accuracy"].values())
    # What is transferred from a model to itself is BIM.
    assert found["accuracy"]["bim"] == found["accuracy"]["transfer"]
    assert found["by_radius"]["pgd"][0] == pytest.approx(100.0 * 61 / 64)
    assert found["by_radius"]["pgd"][-1] == 0.0
    surface = np.array(found["surface"])
    assert surface.shape == (9, 9)
    assert np.all(np.diff(surface, axis=1) > 0.0)


def test_checks_fire_for_a_model_that_masks_its_gradient(target):
    transferred = _robustness.transfer(target, Threat(EPS), 64)
    # The same predictions, but so certain that the loss is flat in float32.
    masked = target._replace(
        model=jax.tree_util.Partial(scores, 1e6 * target.model.args[0])
    )
    found, failed = outcome(masked, transferred)
    assert {"noise", "transfer", "direction"} <= failed
    assert found["accuracy"]["fgsm"] > found["accuracy"]["margin"] + 10.0
    assert found["accuracy"]["all"] <= found["accuracy"]["margin"]


@pytest.fixture
def tiny(monkeypatch):
    """One convolution of four filters, and few digits."""
    stage = sx.networks.Stage(4, 1)
    monkeypatch.setattr(
        _networks,
        "design",
        lambda name, shape, width: sx.networks.Design(shape, (stage,), features=8),
    )
    digits = _data.load("digits")
    small = dataclasses.replace(
        digits, test=_data.Images(*(part[:70] for part in digits.test))
    )
    monkeypatch.setattr(_data, "load", lambda name, data_dir: small)
    return small


@pytest.fixture
def config(tmp_path):
    return Config(
        operators=("plain",),
        seeds=1,
        steps=2,
        images=70,
        checked=64,
        restarts=1,
        inner_steps=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )


@pytest.mark.slow
def test_the_experiment_resumes_and_leaves_its_results(config, tiny, monkeypatch):
    measured, told = [], _robustness.measure

    def killed_at_second(*arguments):
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return told(*arguments)

    monkeypatch.setattr(_robustness, "measure", killed_at_second)
    with pytest.raises(KeyboardInterrupt):
        robustness.train(config)
    results = robustness.train(config)
    assert len(measured) == 3
    path = config.results / "robustness_digits.json"
    assert json.loads(path.read_text()) == results
    assert str(config.results.parent) not in path.read_text()
    assert list(results["models"]) == ["natural", "adversarial"]
    assert results["models"]["natural"] != results["models"]["adversarial"]
    for ending in ("_curves.png", "_surface.png"):
        assert config.result(ending).stat().st_size > 10_000
    assert not list(config.checkpoints.iterdir())
    lines = list(robustness.tables(results))
    (run,) = results["models"]["natural"]["plain"]
    accuracy = [f"{value:.1f}" for value in run["accuracy"].values()]
    assert f"| natural | Plain | {' | '.join(accuracy)} |" in lines
    assert "robustness" in report._TABLES
    assert robustness.train(config)["models"] == results["models"]


@pytest.mark.slow
def test_training_batches_are_attacked_within_the_ball(config, tiny):
    setting, state = _training.initial(
        config.run("plain"),
        _networks.design("small", tiny.shape, 1.0),
        robustness.METHOD,
        10,
        0,
    )
    batch = _data.Images(*(part[:64] for part in tiny.train))
    arguments = setting, state, batch, jnp.asarray(tiny.mean), jax.random.key(0)
    model = _attackers.classifier(setting, state, tiny.mean)
    same = _attackers.natural(*arguments)
    np.testing.assert_array_equal(same.images, batch.images)
    moved = _attackers.adversarial(EPS, 2)(*arguments)
    moves = np.asarray(moved.images) - batch.images
    assert 0.9 * EPS < np.max(np.abs(moves)) / 255.0 <= EPS * (1.0 + 1e-5)
    labels = jnp.asarray(batch.labels)
    before, after = (
        jnp.mean(_attackers.cross_entropy(model, labels, jnp.asarray(x.images) / 255.0))
        for x in (same, moved)
    )
    assert after > before


def test_operators_of_one_form_are_not_taken_for_one_another(config, tiny):
    # Both have a radius and a factor, and what is compiled for one must not serve both.
    structures = []
    for operator in ("ball-cosine", "tanh-cosine"):
        design = _networks.design("small", tiny.shape, 1.0)
        arguments = config.run(operator), design, robustness.METHOD, 10, 0
        model = _attackers.classifier(*_training.initial(*arguments), tiny.mean)
        structures.append(jax.tree.structure(model))
    assert structures[0] != structures[1]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be positive, got 0"):
        Config(steps=0)
    with pytest.raises(ValueError, match=r"eps must be in \(0, 1\].*got 8; divide"):
        Config(eps=8)
    with pytest.raises(ValueError, match="operators must name at least one"):
        Config(operators=())
    with pytest.raises(ValueError, match="operators must be plain.*got 'cube'"):
        Config(operators=("plain", "cube"))


def test_settings_follow_the_images():
    assert Config().size.eps == 0.1
    cifar = Config(dataset="cifar10", seeds=2)
    assert cifar.size.eps == pytest.approx(8 / 255)
    assert cifar.threat.step == pytest.approx(2 / 255)
    assert cifar.size.seeds == 2
    assert cifar.result(".json").name == "robustness_cifar10.json"
    # More runs do not change those there are.
    assert Config(seeds=5, operators=("plain",)).digest == Config().digest
    assert Config(inner_steps=7).digest != Config().digest
