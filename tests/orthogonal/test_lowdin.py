"""Löwdin orthogonalization: ill-conditioned matrices."""

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.orthogonal.definitions import draw, gram_schmidt

so = sx.orthogonal


def test_lowdin_of_ill_conditioned_matrices():
    """Checks the symmetric factor, since the orthogonal one is not determined."""
    n, polar = 48, jax.jit(so.lowdin)
    left, right = gram_schmidt(draw(5, n, n)), gram_schmidt(draw(6, n, n))
    spectra = {
        "1e6": np.logspace(0, -6, n),
        "singular": np.arange(n) / n,
        "rank two": np.arange(n) < 2,
        "huge": 1e30 * np.linspace(1, 2, n),
    }
    for name, values in spectra.items():
        a = np.asarray((left * values) @ right.T, np.float32)
        q = np.asarray(polar(a), np.float64)
        h = q.T @ (a / np.abs(values).max())
        assert np.linalg.norm(q.T @ q - np.eye(n)) < 1e-5, name
        assert np.linalg.norm(h - h.T) < 1e-5, name
        assert np.linalg.eigvalsh(h).min() > -1e-5, name
    # Triangular, with an inverse that overflows.
    q = np.asarray(polar(jnp.float32(-np.triu(np.ones((n, n))) * 30)), np.float64)
    assert np.linalg.norm(q.T @ q - np.eye(n)) < 1e-5
