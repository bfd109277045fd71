"""Sub-centres, label smoothing and AdaCos's scales."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.margins.tables import MARGINS

FORMS = {"plain": None, "blocked": 3}
LABELS = np.array([0, 3, 3, 6, 1, 5])


def draw(*shape):
    rng = np.random.default_rng(5)
    return rng.normal(size=(6, 4)), rng.normal(size=(7, *shape, 4))


def step_of(name, form="plain", scale: float | None = 8.0, **kwargs):
    loss = partial(
        sx.losses.margin_softmax,
        margin=MARGINS[name].margin,
        scale=scale,
        block_size=FORMS[form],
        **kwargs,
    )
    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def check(step, definition, x, w):
    """Value and both gradients against a definition in float64."""
    value, gradients = step(jnp.asarray(x), jnp.asarray(w), jnp.asarray(LABELS))
    np.testing.assert_allclose(value, definition(x, w), rtol=1e-12)
    expected = (
        reference.numerical_gradient(lambda x: definition(x, w), x),
        reference.numerical_gradient(lambda w: definition(x, w), w),
    )
    for gradient, numerical in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


def nearest_angles(x, w):
    flat = reference.angles(x, w.reshape(-1, w.shape[-1]))
    return flat.reshape(len(x), len(w), -1).min(-1)


def logits_of(row, theta):
    modified = row.eta(theta)
    own = np.arange(6), LABELS
    modified[own] = row.psi(theta[own])
    return 8.0 * modified


def log_sum_exp(logits):
    top = logits.max(1)
    return np.log(np.exp(logits - top[:, None]).sum(1)) + top


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["arcface", "spherefacer2"])
@pytest.mark.usefixtures("x64")
def test_the_nearest_subcenter_counts_and_has_the_gradient(name, form):
    def definition(x, w):
        logits = logits_of(MARGINS[name], nearest_angles(x, w))
        return (log_sum_exp(logits) - logits[np.arange(6), LABELS]).mean()

    check(step_of(name, form), definition, *draw(3))


@pytest.mark.usefixtures("x64")
def test_weight_normalised_subcenters():
    def definition(x, w):
        lengths = np.linalg.norm(x, axis=1)[:, None]
        logits = lengths / 8.0 * logits_of(MARGINS["cosface"], nearest_angles(x, w))
        return (log_sum_exp(logits) - logits[np.arange(6), LABELS]).mean()

    step = step_of("cosface", scale=None, normalize="prototypes")
    check(step, definition, *draw(2))


def test_one_subcenter_is_a_prototype():
    x, w = (jnp.asarray(a, jnp.float32) for a in draw())
    expected = step_of("arcface")(x, w, jnp.asarray(LABELS))
    value, gradients = step_of("arcface")(x, w[:, None], jnp.asarray(LABELS))
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradients[1][:, 0], expected[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_of_equal_subcenters_the_first_has_the_gradient(form):
    x, w = (jnp.asarray(a, jnp.float32) for a in draw())
    twins = jnp.stack([w, w], axis=1)
    _, (_, gradient) = step_of("arcface", form)(x, twins, jnp.asarray(LABELS))
    assert np.all(np.asarray(gradient[:, 1]) == 0)
    assert np.all(np.abs(np.asarray(gradient[:, 0])).sum(-1) > 0)


def test_subcenter_cosines_predict():
    x, w = draw(3)
    cosines = sx.losses.subcenter_cosines(x.reshape(2, 3, 4), w)
    np.testing.assert_allclose(
        cosines, np.cos(nearest_angles(x, w)).reshape(2, 3, 7), atol=1e-6
    )
    with pytest.raises(ValueError, match=r"or \[classes, k, features\]"):
        sx.losses.subcenter_cosines(x, w[None])
    with pytest.raises(ValueError, match="sub-centers need normalize"):
        sx.losses.margin_softmax(x, w, LABELS, sx.margins.NoMargin(), normalize="none")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["arcface", "spherefacer2", "none"])
@pytest.mark.usefixtures("x64")
def test_smoothed_labels_keep_the_margin_on_the_targets_share(name, form):
    def definition(x, w):
        theta = reference.angles(x, w)
        logits, plain = logits_of(MARGINS[name], theta), 8.0 * np.cos(theta)
        own = logits[np.arange(6), LABELS]
        return (log_sum_exp(logits) - 0.8 * own - 0.2 * plain.mean(1)).mean()

    check(step_of(name, form, label_smoothing=0.2), definition, *draw())


@pytest.mark.usefixtures("x64")
def test_smoothed_labels_of_subcenters_and_of_plain_products():
    def with_subcenters(x, w):
        theta = nearest_angles(x, w)
        logits = logits_of(MARGINS["arcface"], theta)
        own = logits[np.arange(6), LABELS]
        smooth = 8.0 * np.cos(theta).mean(1)
        return (log_sum_exp(logits) - 0.9 * own - 0.1 * smooth).mean()

    check(step_of("arcface", label_smoothing=0.1), with_subcenters, *draw(2))

    def softmax(x, w):
        logits = x @ w.T
        own = logits[np.arange(6), LABELS]
        return (log_sum_exp(logits) - 0.9 * own - 0.1 * logits.mean(1)).mean()

    step = step_of("none", scale=None, normalize="none", label_smoothing=0.1)
    check(step, softmax, *draw())


def test_label_smoothing_may_be_traced():
    x, w = (jnp.asarray(a, jnp.float32) for a in draw())
    loss = partial(
        sx.losses.margin_softmax, x, w, LABELS, MARGINS["arcface"].margin, scale=8.0
    )
    traced = jax.jit(lambda share: loss(label_smoothing=share))
    np.testing.assert_allclose(traced(0.2), loss(label_smoothing=0.2), rtol=1e-6)
    np.testing.assert_allclose(traced(0.0), loss(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\)"):
        loss(label_smoothing=1.0)
    with pytest.raises(ValueError, match="label_smoothing must be a scalar"):
        loss(label_smoothing=jnp.ones(6))


def adacos(x, w, labels, scale):
    theta = reference.angles(x, w)
    own = np.arange(len(x)), labels
    powers = np.exp(scale * np.cos(theta))
    powers[own] = 0
    median = np.median(theta[own])
    return np.log(powers.sum(1).mean()) / np.cos(min(np.pi / 4, median))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_dynamic_scale(form):
    x, w = draw()
    scale_of = jax.jit(partial(sx.losses.adacos_dynamic_scale, block_size=FORMS[form]))
    scale = scale_of(jnp.asarray(x), jnp.asarray(w), jnp.asarray(LABELS), 3.0)
    np.testing.assert_allclose(scale, adacos(x, w, LABELS, 3.0), rtol=1e-12)
    # Near its prototypes, the median is the angle that counts.
    near = w[LABELS] + 0.1 * x
    scale = scale_of(jnp.asarray(near), jnp.asarray(w), jnp.asarray(LABELS), 3.0)
    np.testing.assert_allclose(scale, adacos(near, w, LABELS, 3.0), rtol=1e-12)
    keep = np.array([True, False, True, True, False, True])
    masked = scale_of(
        jnp.asarray(x).at[1].set(jnp.nan),
        jnp.asarray(w),
        jnp.asarray(LABELS).at[4].set(-1),
        3.0,
        where=jnp.asarray(keep),
    )
    np.testing.assert_allclose(masked, adacos(x[keep], w, LABELS[keep], 3.0))


def test_dynamic_scale_is_state_without_gradient_and_never_silent():
    x, w = (jnp.asarray(a, jnp.float32) for a in draw())
    scale_of = sx.losses.adacos_dynamic_scale
    slopes = jax.grad(scale_of, (0, 1, 3))(x, w, jnp.asarray(LABELS), 3.0)
    assert all(np.all(np.asarray(slope) == 0) for slope in slopes)
    wrong = jnp.asarray(LABELS).at[2].set(7)
    assert np.isnan(float(scale_of(x, w, wrong, 3.0)))
    nothing = scale_of(x, w, wrong, 3.0, where=jnp.zeros(6, bool))
    assert float(nothing) == 3.0
    empty = jax.value_and_grad(scale_of)(x[:0], w, jnp.asarray(LABELS[:0]), 3.0)
    assert float(empty[0]) == 3.0
    assert empty[1].shape == (0, 4)
    with pytest.raises(ValueError, match="at least 3 classes, got 2"):
        scale_of(x, w[:2], LABELS, 3.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        scale_of(x, w, LABELS, 0.0)


@pytest.mark.parametrize(
    ("classes", "scale"), [(10, 3.107), (10_572, 13.104), (93_431, 16.186)]
)
def test_fixed_scale_at_the_published_numbers_of_classes(classes, scale):
    assert sx.losses.adacos_fixed_scale(classes) == pytest.approx(scale, abs=5e-4)


def test_fixed_scale_needs_three_classes():
    with pytest.raises(ValueError, match="classes must be 3 or more, got 2"):
        sx.losses.adacos_fixed_scale(2)
