"""Householder reflections: zero rows."""

import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.orthogonal.definitions import draw, householder

so = sx.orthogonal


def test_a_zero_row_reflects_nothing():
    v = draw(4, 3, 4)
    v[1] = 0.0
    np.testing.assert_allclose(
        so.householder(jnp.float32(v)), householder(v[[0, 2]]), atol=1e-6
    )
