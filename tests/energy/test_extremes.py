"""Energies of sets that are empty, collapsed, or of vectors very long or short."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

se = sx.energy
N, D = 4, 3
POLES = np.random.default_rng(0).normal(size=(2, D))
PROJECTION = np.random.default_rng(1).normal(size=(2, 2, D)).astype(np.float32)
LABELS = np.array([0, 2])


def at_poles(function, **options):
    """Its energy, after a few steps."""
    return lambda x: function(x, jnp.asarray(POLES, x.dtype), steps=3, **options)[0]


def of_classes(function, **options):
    """Labels of two classes, or none where there are no classes."""
    return lambda x: function(x, LABELS[: len(x)], **options)


def learned(function, **options):
    """The energy under a projection that has learned from fixed points."""

    def energy(x):
        projection = function(jax.lax.stop_gradient(x), PROJECTION, **options)
        return se.compressive_energy(x, projection)

    return energy


# Energies of points alone, whose lengths do not count. A new energy joins by a row.
ENERGIES = {
    "full space": se.hyperspherical_energy,
    "steep, half": partial(
        se.hyperspherical_energy, power=3.0, half_space=True, distance="geodesic"
    ),
    "others": lambda x: se.hyperspherical_energy(
        x, others=x, self_index=np.arange(len(x))
    ),
    "no others": lambda x: se.hyperspherical_energy(x, others=x[:0]),
    "class, all": of_classes(se.class_energy, power=2.0),
    "class, present": of_classes(se.class_energy, against="present"),
    "no labels": lambda x: se.class_energy(x, LABELS[:0]),
    "inter-class": of_classes(se.inter_class_energy),
    "pairwise": of_classes(se.inter_class_energy, kind="pairwise"),
    "compressive": partial(se.compressive_energy, projection=PROJECTION),
    "angle preserving": learned(se.angle_preserving_projection),
    "adversarial": learned(se.adversarial_projection, learning_rate=1e-5),
    "covering": at_poles(se.covering),
    "hard covering": at_poles(se.covering, sharpness=None),
    "polarization": at_poles(se.polarization),
    "determinant": se.max_gram_determinant,
    "determinant, half": partial(se.max_gram_determinant, half_space=True),
    "resultant": se.resultant_length,
    "separation": se.separation,
    "uniformity": se.uniformity,
    "alignment": lambda x: se.alignment(x, x[::-1]),
    "coherence": partial(sx.orthogonal.orthogonality_penalty, kind="mutual_coherence"),
    "directions": partial(sx.orthogonal.orthogonality_penalty, normalize=True),
}
# Those of no points that are not zero: n - d of more vectors than dimensions is.
POINTS = np.random.default_rng(2).normal(size=(N, D))
LENGTHS = {
    "huge": 1e30,
    "tiny": 1e-30,
    "mixed": np.array([[1e30], [1e-30], [1.0], [1e-10]]),
}
SINGULAR = {
    "collapsed": np.ones((N, D)),
    "opposite": np.ones((N, D)) * [[1], [-2], [3], [-1]],
    "zero": np.zeros((N, D)),
    "one zero": np.eye(N, D),
    "close": POINTS * [[1], [1], [1], [0]] + POINTS[:1] * [[0], [0], [0], [1.001]],
}


@pytest.mark.parametrize("name", ENERGIES)
def test_any_length_and_any_collapse(name):
    step = jax.jit(jax.value_and_grad(ENERGIES[name]))
    value, gradient = step(np.float32(POINTS))
    for case, lengths in LENGTHS.items():
        same, slope = step(np.float32(POINTS * lengths))
        np.testing.assert_allclose(same, value, rtol=2e-4, atol=1e-6, err_msg=case)
        # The slope in the logarithm of the length is the same.
        np.testing.assert_allclose(
            slope * np.float64(lengths), gradient, rtol=5e-3, atol=1e-3, err_msg=case
        )
    for case, points in SINGULAR.items():
        found = step(np.float32(points))
        assert all(np.all(np.isfinite(x)) for x in found), case


@pytest.mark.parametrize("name", ENERGIES)
def test_no_points_have_no_energy(name):
    value, gradient = jax.jit(jax.value_and_grad(ENERGIES[name]))(jnp.zeros((0, D)))
    assert value.dtype == jnp.float32
    assert float(value) == 0.0
    assert gradient.shape == (0, D)


@pytest.mark.parametrize(
    "name", ["full space", "class, all", "compressive", "pairwise"]
)
def test_float16_gradients_are_in_its_range(name):
    """Those of close pairs, of short vectors, and of both."""
    step = jax.jit(jax.value_and_grad(ENERGIES[name]))
    for points in (SINGULAR["close"], POINTS * 1e-5, SINGULAR["close"] * 1e-4):
        value, gradient = step(jnp.float16(points))
        assert value.dtype == jnp.float32
        assert np.all(np.isfinite(value))
        assert gradient.dtype == jnp.float16
        assert np.all(np.isfinite(np.float32(gradient)))
        assert np.any(gradient)
