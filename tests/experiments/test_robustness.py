"""Adversarial attacks, what is measured under them, and whether to believe it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from experiments.common import classifier, images, lipschitz, networks, store
from experiments.common.margins import MARGINS
from experiments.common.operators import operator
from experiments.robustness import attacks, config, report, train
from experiments.robustness.__main__ import parse
from experiments.robustness.config import RADII

EPS = 0.1
ATTACKS = {
    "noise": attacks.noise,
    "fgsm": attacks.fgsm,
    "bim": attacks.bim,
    "pgd": partial(attacks.pgd, steps=10, restarts=2),
}


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
def wavy():
    frequencies = jnp.asarray(np.random.default_rng(2).uniform(20, 90, (1, 5)))
    return jax.tree_util.Partial(waves, frequencies.astype(jnp.float32))


def test_attacks_find_the_maximum_of_a_linear_model(pixels, key):
    rng = np.random.default_rng(1)
    weights, signs = rng.normal(size=5), rng.choice([-1.0, 1.0], 12)
    linear = jax.tree_util.Partial(logistic, *map(jnp.float32, (weights, signs)))
    centers = np.asarray(pixels, np.float64)
    low, high = np.maximum(centers - EPS, 0.0), np.minimum(centers + EPS, 1.0)
    # Against the class, pixel by pixel: the corner of the box where the score is least.
    worst = np.where(signs[:, None] * weights < 0.0, high, low)
    for name in ("fgsm", "bim", "pgd"):
        found = ATTACKS[name](linear, pixels, key, EPS)
        np.testing.assert_allclose(found, worst, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_within_ball_and_range(name, dtype, wavy, pixels, key):
    images = pixels.astype(dtype)
    found = ATTACKS[name](wavy, images, key, EPS)
    assert (found.dtype, found.shape) == (dtype, images.shape)
    moves = np.asarray(found, np.float64) - np.asarray(images, np.float64)
    # The edge of the ball is rounded to the dtype.
    assert np.max(np.abs(moves)) <= EPS + float(jnp.finfo(dtype).eps)
    assert np.max(np.abs(moves)) > 0.5 * EPS
    assert jnp.min(found) >= 0.0
    assert jnp.max(found) <= 1.0
    np.testing.assert_array_equal(ATTACKS[name](wavy, images, key, 0.0), images)


def test_more_restarts_and_steps_never_weaken_the_attack(wavy, pixels, key):
    def strength(steps, restarts):
        attack = partial(attacks.pgd, step=0.2, steps=steps, restarts=restarts)
        return np.asarray(wavy(attack(wavy, pixels, key, EPS)))

    by_restarts = [strength(5, number) for number in (1, 2, 6)]
    by_steps = [np.asarray(wavy(pixels)), *(strength(n, 1) for n in (1, 3, 9))]
    for losses in (by_restarts, by_steps):
        assert np.all(np.diff(losses, axis=0) >= 0.0)
        assert np.max(losses[-1] - losses[0]) > 0.1


def test_bim_is_the_path_from_the_image(wavy, pixels, key):
    points = attacks.path(wavy, pixels, pixels, EPS, step=0.3)
    for steps, point in zip((1, 2, 3), points, strict=False):
        found = attacks.bim(wavy, pixels, key, EPS, step=0.3, steps=steps)
        np.testing.assert_array_equal(found, point)


def test_noise_is_uniform_in_the_ball(wavy, key):
    found = attacks.noise(wavy, jnp.full((1000, 4), 0.5), key, EPS)
    quantiles = np.quantile(np.asarray(found), [0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(quantiles, [0.4, 0.45, 0.5, 0.55, 0.6], atol=5e-3)


def test_a_sweep_over_eps_compiles_once(pixels, key):
    traces = []

    def counted(scale, images):
        traces.append(1)
        return jnp.sum(scale * images, axis=-1)

    for eps in (0.01, 0.1, 0.3):
        loss = jax.tree_util.Partial(counted, jnp.float32(eps))
        for attack in ATTACKS.values():
            attack(loss, pixels, key, eps)
    assert len(traces) == 1


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
    return train.Target(model, images, labels, 32)


def test_losses_by_hand():
    logits = np.array([[2.0, 0.5, 3.0], [1.0, 4.0, 4.0]])
    labels = jnp.array([0, 1])
    model = jax.tree_util.Partial(lambda logits, images: logits, jnp.float32(logits))
    entropy = np.log(np.exp(logits).sum(-1)) - np.array([2.0, 4.0])
    found = train.cross_entropy(model, labels, jnp.zeros(2))
    np.testing.assert_allclose(found, entropy, rtol=1e-6)
    margins = train.margin(model, labels, jnp.zeros(2))
    np.testing.assert_allclose(margins, [1.0, 0.0], rtol=1e-6)


def test_batches_cover_every_image_once(target):
    moved = target.attacked(attacks.fgsm, EPS)
    assert moved.shape == target.images.shape
    whole = target._replace(batch=70).attacked(attacks.fgsm, EPS)
    np.testing.assert_allclose(moved, whole, atol=1e-6)
    assert target.accuracy(target.images) == pytest.approx(100.0 * 67 / 70)
    assert target.accuracy(moved) < target.accuracy(target.images)
    few = target.first(3)
    assert few.accuracy(few.images) == 0.0


def measured(target, source):
    """What is measured under attacks that ``source`` gave, and what fails."""
    few = source.first(64)
    moved = [few.attacked(attacks.bim, radius * EPS) for radius in RADII]
    chosen = config.Config(eps=EPS, checked=64)
    found = train.measure(target, chosen, source.attacked(attacks.bim, EPS), moved)
    limits = {key: limit for key, (_, limit) in report._CHECKS.items()}
    assert found["checks"].keys() == limits.keys()
    return found, {key for key, x in found["checks"].items() if x > limits[key]}


def test_checks_pass_for_a_linear_model(target):
    found, failed = measured(target, target)
    assert failed == set()
    assert found["accuracy"]["all"] == min(found["accuracy"].values())
    # The attack of a model on itself is BIM.
    assert found["accuracy"]["bim"] == found["accuracy"]["transfer"]
    assert found["by_radius"]["pgd"][0] == pytest.approx(100.0 * 61 / 64)
    assert found["by_radius"]["pgd"][-1] == 0.0
    surface = np.array(found["surface"])
    assert surface.shape == (9, 9)
    assert np.all(np.diff(surface, axis=1) > 0.0)


def test_checks_fire_for_a_model_that_masks_its_gradient(target):
    # The same predictions, but so certain that the loss is flat in float32.
    model = jax.tree_util.Partial(scores, 1e6 * target.model.args[0])
    found, failed = measured(target._replace(model=model), target)
    assert {"noise", "transfer", "direction"} <= failed
    assert found["accuracy"]["fgsm"] > found["accuracy"]["margin"] + 10.0
    assert found["accuracy"]["all"] <= found["accuracy"]["margin"]


@pytest.fixture
def tiny(monkeypatch):
    """One convolution of four filters, and few digits."""
    stage = sx.networks.Stage(4, 1)

    def design(name, shape):
        return sx.networks.Design(shape, (stage,), features=8)

    digits = images.load("digits")
    test = images.Images(*(part[:70] for part in digits.test))
    small = dataclasses.replace(digits, test=test)
    monkeypatch.setattr(networks, "design", design)
    monkeypatch.setattr(train, "load", lambda name, data_dir: small)
    monkeypatch.setattr(train, "_TRANSFERRED", {})
    return small


def short(tmp_path, **settings):
    usual = dict(operators=("plain",), seeds=1, steps=2, images=70, checked=64)
    usual |= {"restarts": 1, "inner_steps": 2, "runs": tmp_path}
    return dataclasses.replace(config.preset("digits"), **usual | settings)


@pytest.mark.slow
def test_two_steps_are_stored_and_repeat_themselves(tmp_path, tiny):
    chosen = short(tmp_path)
    planned = config.planned(chosen)
    assert [run.method for run in planned] == ["natural-plain", "adversarial-plain"]
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "robustness") or {}) for run in planned]
    natural, adversarial = (record["metrics"] for _, record in found)
    assert set(natural) == {"accuracy", "by_radius", "by_steps", "surface", "checks"}
    assert list(natural["accuracy"]) == list(report._ATTACKS)
    assert natural != adversarial
    report.draw(chosen, found, tmp_path)
    for figure in ("digits-curves.png", "digits-surface.png"):
        assert (tmp_path / figure).stat().st_size > 10_000
    lines = list(report.table(chosen, found))
    accuracy = [f"{value:.1f}" for value in natural["accuracy"].values()]
    assert f"| natural | Plain | {' | '.join(accuracy)} |" in lines
    train._TRANSFERRED.clear()
    store.complete(planned[:1], train.train, tmp_path / "again")
    again = store.load(planned[0], tmp_path / "again/robustness") or {}
    assert again["metrics"] == natural
    with pytest.raises(ValueError, match="--images must be at most 70, the number of"):
        store.complete(
            config.planned(short(tmp_path, images=71)), train.train, tmp_path
        )


def initial(chosen, tiny, name):
    design = networks.design("small", tiny.shape)
    conv = operator(name).conv
    return classifier.initial(chosen, design, MARGINS["softmax"], 10, 0, conv)


@pytest.mark.slow
def test_training_batches_are_attacked_within_the_ball(tmp_path, tiny):
    setting, state = initial(short(tmp_path), tiny, "plain")
    batch = images.Images(*(part[:64] for part in tiny.train))
    mean, key = jnp.asarray(tiny.mean), jax.random.key(0)
    moved = train.adversarial(EPS, 2, setting, state, batch, mean, key)
    moves = np.asarray(moved.images) - batch.images
    assert 0.9 * EPS < np.max(np.abs(moves)) / 255.0 <= EPS * (1.0 + 1e-5)
    model, labels = train._model(setting, state, mean), jnp.asarray(batch.labels)
    before, after = (
        jnp.mean(train.cross_entropy(model, labels, jnp.asarray(x.images) / 255.0))
        for x in (batch, moved)
    )
    assert after > before


def test_operators_of_one_form_have_different_models(tmp_path, tiny):
    """Both have a radius and a factor: what is compiled for one must not serve both."""
    structures = [
        jax.tree.structure(
            train._model(*initial(short(tmp_path), tiny, name), tiny.mean)
        )
        for name in ("ball-cosine", "tanh-cosine")
    ]
    assert structures[0] != structures[1]


def test_what_is_certified_no_attack_lowers(tiny, tmp_path):
    """A network before training, whose labels are its own predictions."""
    design = lipschitz.design(tiny.shape)
    chosen = short(tmp_path, operators=(config.OWN,))
    setting, state = classifier.initial(chosen, design, MARGINS["softmax"], 10, 0)
    model = nnx.merge(setting.graph, state.params, state.rest)
    assert abs(lipschitz.constant(model.network) - 1.0) < 1e-5
    pixels = jnp.asarray(tiny.test.images[:16], jnp.float32) / 255.0
    logits = train._model(setting, state, tiny.mean)
    labels = np.argmax(logits(pixels), axis=-1)
    shares = lipschitz.certified(model, logits(pixels), labels, 1e-6)
    assert 100.0 == shares[-1] > shares[2]
    radii = sx.metrics.certified_radius(
        logits(pixels), labels, prototypes=model.head.prototypes[...]
    )
    loss = jax.tree_util.Partial(train.margin, logits, labels)
    slope = jax.grad(lambda x: jnp.sum(loss(x)))(pixels)
    units = sx.sphere.normalize(slope.reshape(16, -1)).reshape(pixels.shape)
    for factor, all_keep in (0.99, True), (30.0, False):
        moved = pixels + factor * jnp.expand_dims(radii, (1, 2, 3)) * units
        kept = np.argmax(logits(moved), axis=-1) == labels
        assert np.all(kept) == all_keep


def row(worst, passed=True):
    checks = dict.fromkeys(report._CHECKS, 0.0 if passed else 3.0)
    accuracy = dict.fromkeys(report._ATTACKS, worst)
    return {"accuracy": accuracy, "checks": checks, "certified": [90.0, 80.0, 7.0, 0.0]}


def test_tables_say_which_operators_differ_and_which_checks_fail():
    chosen = config.Config(operators=("plain", "sphere-cosine", config.OWN))
    provenance = {"device": "cpu", "versions": {"jax": "0.10"}, "seconds": 1.0}
    found = []
    for run in config.planned(chosen):
        is_low = run.method == "natural-sphere-cosine"
        worst = run.seed + (-20.0 + 0.1 * run.seed**2 if is_low else 30.0)
        record = {"metrics": row(worst, not is_low), "provenance": provenance}
        found.append((run, record))
    lines = list(report.table(chosen, found))
    assert lines[0] == "Accuracy, % (3 seeds; eps = 0.1):"
    (verdict,) = (line for line in lines if line.startswith("Under the worst of all"))
    assert "better: none; worse: SphereConv, cosine, natural (-49.83)." in verdict
    spread = " | ".join(f"{x:.1f} ± 0.0" for x in (90, 80, 7, 0))
    assert (
        f"| natural | Length-preserving | 31.0 ± 1.0 | {spread} | 31.0 ± 1.0 |" in lines
    )
    checks = " | ".join(["**3.0**"] * 5 + ["3.0"])
    assert f"| natural | SphereConv, cosine | {checks} |" in lines


def test_the_settings_are_those_of_the_dataset():
    digits, cifar = parse([]), parse(["--dataset", "cifar10", "--seeds", "2"])
    assert (digits.eps, len(digits.operators), digits.restarts) == (0.1, 6, 2)
    assert (cifar.eps, cifar.seeds, cifar.images) == (8 / 255, 2, 1_000)
    assert config.preset("mnist").eps == 0.3
    assert cifar.eps * attacks.STEP == pytest.approx(2 / 255)
    # More runs do not change those that there are.
    more = config.planned(config.Config(seeds=5, operators=("plain",)))
    assert {run.digest for run in more} < {run.digest for run in config.planned(digits)}
