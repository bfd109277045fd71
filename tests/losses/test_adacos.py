"""The scales of AdaCos."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference

FORMS = {"plain": None, "blocked": 3}
LABELS = np.array([0, 3, 3, 6, 1, 5])


def draw():
    rng = np.random.default_rng(5)
    return rng.normal(size=(6, 4)), rng.normal(size=(7, 4))


def adacos(x, w, labels, scale):
    theta = reference.angles(x, w)
    target = np.arange(len(x)), labels
    powers = np.exp(scale * np.cos(theta))
    powers[target] = 0
    median = np.median(theta[target])
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
