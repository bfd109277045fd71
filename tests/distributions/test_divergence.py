"""Divergences between von Mises-Fisher distributions."""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import sphax as sx
from tests.distributions.test_von_mises_fisher import PROMISED, exact

VMF = sx.distributions.VonMisesFisher
kl_divergence = sx.distributions.kl_divergence
# Near pairs, pairs far apart, and all scales.
CONCENTRATIONS = (1e-3, 1.3e-3, 0.5, 0.51, 8.0, 31.9, 1000.0, 1000.5, 1e5)
PAIRS = np.array(list(itertools.product(CONCENTRATIONS, repeat=2)))


@functools.cache
def reference(dimension, k1, k2):
    """Divergence at equal mean directions, and its derivatives, in 50 digits."""
    with mpmath.workdps(50):
        psi1, _, mean1, slope1, *_ = exact(dimension, k1)
        psi2, _, mean2, *_ = exact(dimension, k2)
        step = mpmath.mpf(k2) - mpmath.mpf(k1)
        return psi2 - psi1 - step * mean1, -step * slope1, mean2 - mean1, mean1


@functools.partial(jax.jit, static_argnums=3)
def values_and_slopes(k1, k2, mean2, dimension):
    mean1 = jnp.zeros(dimension, k1.dtype).at[0].set(1)

    def divergence(k1, k2):
        return kl_divergence(VMF(mean1, k1), VMF(mean2, k2))

    values, pull_back = jax.vjp(divergence, k1, k2)
    return values, *pull_back(jnp.ones_like(values))


@pytest.mark.parametrize(
    ("dimension", "dtype"),
    [
        (2, jnp.float32),
        (512, jnp.float64),
        pytest.param(2, jnp.float64, marks=pytest.mark.slow),
        pytest.param(64, jnp.float32, marks=pytest.mark.slow),
        pytest.param(2048, jnp.float32, marks=pytest.mark.slow),
    ],
)
def test_divergences_and_their_gradients(dimension, dtype, x64):
    k1, k2 = (jnp.asarray(k, dtype) for k in PAIRS.T)
    mean = jnp.zeros(dimension, dtype).at[0].set(1)
    turned = mean.at[1].set(0.02)  # 1 - cosine is 2e-4
    gap = 1 - 1 / mpmath.sqrt(1 + mpmath.mpf(float(turned[1])) ** 2)
    aligned, (apart, *_) = (
        [x.tolist() for x in values_and_slopes(k1, k2, mean2, dimension)]
        for mean2 in (mean, turned)
    )
    for i, (a, b) in enumerate(zip(k1.tolist(), k2.tolist(), strict=True)):
        value, of_first, of_second, mean_cosine = reference(dimension, a, b)
        if a == b:
            assert aligned[0][i] == aligned[1][i] == aligned[2][i] == 0.0
        else:
            assert abs(aligned[0][i] / value - 1) < PROMISED[dtype], (a, b)
            assert abs(aligned[1][i] / of_first - 1) < PROMISED[dtype], (a, b)
            assert abs(aligned[2][i] / of_second - 1) < PROMISED[dtype], (a, b)
        total = value + b * mean_cosine * gap
        assert abs(apart[i] / total - 1) < PROMISED[dtype], (a, b)


def test_equal_distributions():
    """Exactly zero, with zero gradient in all parameters."""
    mean, k = jnp.asarray([0.3, -0.4, 0.1]), jnp.asarray(7.0)

    @jax.jit
    def value_and_grad(mean1, k1, mean2, k2):
        return jax.value_and_grad(
            lambda *of: kl_divergence(VMF(of[0], of[1]), VMF(of[2], of[3])),
            (0, 1, 2, 3),
        )(mean1, k1, mean2, k2)

    value, gradients = value_and_grad(mean, k, 2.0 * mean, k)
    assert value == 0.0
    assert all(np.all(np.asarray(g) == 0.0) for g in gradients)
    # Zero mean directions are orthogonal to all; concentrations may be zero.
    for arguments in (
        (0.0 * mean, k, mean, k),
        (mean, 0.0 * k, mean, k),
        (mean, k, 0.0 * mean, 0.0 * k),
        (-mean, k, mean, k),
    ):
        value, gradients = value_and_grad(*arguments)
        assert value > 0.0
        assert all(np.all(np.isfinite(g)) for g in gradients)


def test_batches_broadcast():
    means = jnp.eye(4)
    p, q = VMF(means[:2, None], 3.0), VMF(means, jnp.arange(4.0))
    found = kl_divergence(p, q)
    assert found.shape == (2, 4)
    alone = kl_divergence(VMF(means[1], 3.0), VMF(means[2], 2.0))
    np.testing.assert_allclose(found[1, 2], alone, rtol=1e-6)
    uniform = sx.distributions.SphericalUniform(4)
    assert kl_divergence(uniform, uniform) == 0.0
    for pair in ((uniform, q), (q, uniform)):
        assert jax.eval_shape(kl_divergence, *pair).shape == (4,)


def test_errors():
    vmf, uniform = VMF(jnp.ones(3), 1.0), sx.distributions.SphericalUniform(3)
    with pytest.raises(TypeError, match=r"types .*\(VonMisesFisher, Sph.*int\)"):
        kl_divergence(vmf, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="same dimension, got 4 and 3"):
        kl_divergence(VMF(jnp.ones(4), 1.0), uniform)
    with pytest.raises(ValueError, match=r"broadcast, got \(2,\) and \(3,\)"):
        kl_divergence(VMF(jnp.ones((2, 3)), 1.0), VMF(jnp.ones((3, 3)), 1.0))
