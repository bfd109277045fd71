"""Random orthogonal matrices: moments of the Haar measure."""

from functools import partial

import jax
import numpy as np

import sphax as sx

so = sx.orthogonal


def test_random_matrices_are_uniform(key):
    sampler = jax.jit(partial(so.random_orthogonal, shape=(4000, 3, 3)))
    q = np.asarray(sampler(key), np.float64)
    special = np.asarray(
        so.random_orthogonal(key, (4000, 3, 3), special=True), np.float64
    )
    gram = np.einsum("kji,kjl->kil", q, q)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), q.shape), atol=1e-6)
    assert abs(np.linalg.det(q).mean()) < 0.05
    np.testing.assert_allclose(np.linalg.det(special), 1.0, rtol=1e-5)
    for sample in (q, special):
        # Moments of the Haar measure, within four standard errors.
        assert np.abs(sample.mean(0)).max() < 4 * (1 / 3 / 4000) ** 0.5
        np.testing.assert_allclose((sample**2).mean(0), 1 / 3, atol=0.02)
        np.testing.assert_allclose((sample**4).mean(0), 1 / 5, atol=0.02)
        trace = np.trace(sample, axis1=1, axis2=2)
        np.testing.assert_allclose((trace**2).mean(), 1.0, atol=0.08)
