"""Sub-centers and label smoothing of the margin softmax."""

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
    target = np.arange(6), LABELS
    modified[target] = row.psi(theta[target])
    return 8.0 * modified


def log_sum_exp(logits):
    top = logits.max(1)
    return np.log(np.exp(logits - top[:, None]).sum(1)) + top


@pytest.mark.parametrize(
    ("name", "form"), [("arcface", "plain"), ("spherefacer2", "blocked")]
)
@pytest.mark.usefixtures("x64")
def test_the_nearest_subcenter_counts_and_has_the_gradient(name, form):
    def definition(x, w):
        logits = logits_of(MARGINS[name], nearest_angles(x, w))
        return (log_sum_exp(logits) - logits[np.arange(6), LABELS]).mean()

    check(step_of(name, form), definition, *draw(3))


@pytest.mark.usefixtures("x64")
def test_weight_normalized_subcenters():
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


@pytest.mark.parametrize("place", range(3))
def test_a_nan_in_any_subcenter_is_not_passed_over(place):
    x, w = draw(3)
    w[4, place, 0] = np.nan
    cosines = sx.losses.subcenter_cosines(jnp.asarray(x), jnp.asarray(w))
    assert np.isnan(cosines[:, 4]).all()
    assert np.isfinite(np.delete(cosines, 4, axis=1)).all()


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


# Blocked forms with smoothed labels are compared with plain ones in
# test_margin_softmax.py.
@pytest.mark.parametrize(
    ("name", "form"),
    [("none", "plain"), ("spherefacer2", "plain"), ("arcface", "blocked")],
)
@pytest.mark.usefixtures("x64")
def test_smoothed_labels_keep_the_margin_on_the_targets_share(name, form):
    def definition(x, w):
        theta = reference.angles(x, w)
        logits, plain = logits_of(MARGINS[name], theta), 8.0 * np.cos(theta)
        target = logits[np.arange(6), LABELS]
        return (log_sum_exp(logits) - 0.8 * target - 0.2 * plain.mean(1)).mean()

    check(step_of(name, form, label_smoothing=0.2), definition, *draw())


@pytest.mark.usefixtures("x64")
def test_smoothed_labels_of_subcenters_and_of_plain_products():
    def with_subcenters(x, w):
        theta = nearest_angles(x, w)
        logits = logits_of(MARGINS["arcface"], theta)
        target = logits[np.arange(6), LABELS]
        smooth = 8.0 * np.cos(theta).mean(1)
        return (log_sum_exp(logits) - 0.9 * target - 0.1 * smooth).mean()

    check(step_of("arcface", label_smoothing=0.1), with_subcenters, *draw(2))

    def softmax(x, w):
        logits = x @ w.T
        target = logits[np.arange(6), LABELS]
        return (log_sum_exp(logits) - 0.9 * target - 0.1 * logits.mean(1)).mean()

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


@pytest.mark.parametrize("normalize", ["both", "prototypes", "none"])
@pytest.mark.usefixtures("x64")
def test_class_logits_are_those_without_a_margin(normalize):
    """Their cross-entropy is the margin softmax without a margin."""
    x, w = draw()
    scale = 5.0 if normalize == "both" else None
    logits = sx.losses.class_logits(x, w, normalize=normalize, scale=scale)
    expected = sx.losses.margin_softmax_per_example(
        x, w, LABELS, sx.margins.NoMargin(), normalize=normalize, scale=scale
    )
    losses = log_sum_exp(np.asarray(logits)) - logits[np.arange(6), LABELS]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_scales_of_class_logits():
    x, w = (jnp.asarray(a, jnp.float32) for a in draw(2))
    cosines = sx.losses.subcenter_cosines(x, w)
    logits = sx.losses.class_logits
    np.testing.assert_allclose(logits(x, w), 64.0 * cosines, rtol=1e-6)
    each = np.linspace(1.0, 9.0, 6)
    found = logits(x, w, scale=each)
    np.testing.assert_allclose(found, each[:, None] * cosines, rtol=1e-6)
    with pytest.raises(ValueError, match="scale must be a scalar or"):
        logits(x, w, scale=each[:2])
    with pytest.raises(ValueError, match="scale has no effect"):
        logits(x, w, scale=3.0, normalize="prototypes")
    with pytest.raises(ValueError, match="sub-centers need normalize"):
        logits(x, w, normalize="none")
