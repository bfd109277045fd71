"""Probability distributions on the unit sphere: densities, samples, estimates."""

from sphax import _discovery
from sphax.distributions._uniform import SphericalUniform as SphericalUniform
from sphax.distributions._von_mises_fisher import VonMisesFisher as VonMisesFisher

__dir__ = _discovery.dir_of(__name__)
