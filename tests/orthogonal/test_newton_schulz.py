"""Newton-Schulz: convergence, and polishing."""

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.orthogonal.definitions import draw, gram_schmidt

so = sx.orthogonal


def test_polish_squares_the_error_and_newton_schulz_converges():
    q = gram_schmidt(draw(10, 16, 9))
    off = np.asarray(q * np.linspace(0.99, 1.01, 9), np.float32)
    before, after = so.orthogonality_error(off), so.orthogonality_error(so.polish(off))
    exact = off.astype(np.float64)
    gram = exact.T @ exact
    np.testing.assert_allclose(before, np.linalg.norm(gram - np.eye(9)), rtol=1e-4)
    assert 0.1 * before**2 < after < before**2
    np.testing.assert_allclose(so.newton_schulz(off * 1e-3), q, atol=1e-5)
    zero, slope = jax.value_and_grad(lambda a: so.newton_schulz(a).sum())(
        jnp.zeros((3, 2))
    )
    assert zero == 0.0
    np.testing.assert_array_equal(slope, np.zeros((3, 2)))
