"""Almost-orthogonal rescaling: definition, bound, singular points."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

so = sx.orthogonal


def definition(w):
    """Columns over the roots of the sums of their overlaps, ``[m, n]``."""
    return w / np.sqrt(np.sum(np.abs(w.T @ w), axis=0))


def patches(kernel, space):
    """The matrix of the whole correlation: kernels at all places that touch images."""
    *window, channels, filters = kernel.shape
    outer = [n + k - 1 for n, k in zip(space, window, strict=True)]
    out = np.zeros((*outer, filters, *space, channels))
    for at, tap in itertools.product(np.ndindex(*outer), np.ndindex(*window)):
        to = [a + t - k + 1 for a, t, k in zip(at, tap, window, strict=True)]
        if all(0 <= p < n for p, n in zip(to, space, strict=True)):
            out[(*at, slice(None), *to, slice(None))] += kernel[tap].T
    return out.reshape(int(np.prod(outer)) * filters, -1)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_columns_and_bound(scale):
    w = np.random.default_rng(0).normal(size=(2, 5, 8))
    found = so.almost_orthogonal((scale * w).astype(np.float32))
    expected = [definition(part) for part in w]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    assert np.max(np.linalg.norm(found, 2, axis=(-2, -1))) <= 1.0
    q = np.linalg.qr(w[0].T)[0].astype(np.float32)
    np.testing.assert_allclose(so.almost_orthogonal(3.0 * q), q, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "space"), [((3, 2, 2, 3), (5, 5)), ((2, 3, 2), (7,))]
)
def test_kernels_are_rescaled_as_columns_far_from_the_border(shape, space, x64):
    kernel = np.random.default_rng(0).normal(size=shape)
    channels = shape[-2]
    columns = definition(patches(kernel, space))
    middle = np.ravel_multi_index([n // 2 for n in space], space) * channels
    expected = columns[:, middle : middle + channels]
    found = np.asarray(so.almost_orthogonal_kernel(kernel))
    rescaled = patches(found, space)
    np.testing.assert_allclose(
        rescaled[:, middle : middle + channels], expected, atol=1e-14
    )
    assert np.linalg.norm(rescaled, 2) <= 1.0


def test_zero_columns_stay_zero_with_zero_gradient():
    w = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    w[:, 1] = 0.0
    for function in so.almost_orthogonal_kernel, lambda x: so.almost_orthogonal(x.mT):
        for x in w, 0.0 * w:
            value, gradient = jax.value_and_grad(
                lambda x, function=function: jnp.sum(jnp.sin(function(x)))
            )(jnp.asarray(x))
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradient))
            np.testing.assert_array_equal(gradient[:, 1], np.zeros((3, 4)))


def test_errors():
    with pytest.raises(ValueError, match=r"matrix must be \[..., m, n\], got shape"):
        so.almost_orthogonal(jnp.ones(3))
    with pytest.raises(ValueError, match=r"kernel must be \[\*window, channels, filt"):
        so.almost_orthogonal_kernel(jnp.ones((3, 2)))
