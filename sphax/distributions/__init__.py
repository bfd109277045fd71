"""Probability distributions on the unit sphere: densities, samples, estimates."""

from sphax import _discovery
from sphax.distributions._spherical_kmeans import SphericalKMeans as SphericalKMeans
from sphax.distributions._spherical_kmeans import spherical_kmeans as spherical_kmeans

__dir__ = _discovery.dir_of(__name__)
