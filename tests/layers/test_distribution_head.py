"""The head that turns features into a distribution."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx

X = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def test_parameters_are_those_of_two_dense_layers():
    for family in (sx.distributions.VonMisesFisher, sx.distributions.PowerSpherical):
        head = sx.layers.DistributionHead(
            8, 3, family=family, min_concentration=0.5, rngs=nnx.Rngs(0)
        )
        found = head(jnp.asarray(X))
        assert isinstance(found, family)
        assert (found.batch_shape, found.dimension) == ((5,), 3)
        mean = X @ np.asarray(head.mean_direction.kernel[...])
        raw = X @ np.asarray(head.concentration.kernel[...])[:, 0]
        np.testing.assert_allclose(found.mean_direction, mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            found.concentration, np.logaddexp(0.0, raw) + 0.5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 1}, "dimension must be 2 or more, got 1"),
        ({"family": sx.distributions.SphericalUniform}, "family must be one of"),
        ({"min_concentration": -1.0}, "min_concentration must be 0 or more"),
    ],
)
def test_errors(options, message):
    arguments = {"dimension": 3} | options
    with pytest.raises(ValueError, match=message):
        sx.layers.DistributionHead(8, **arguments, rngs=nnx.Rngs(0))
