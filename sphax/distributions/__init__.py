"""Probability distributions on the unit sphere: densities, samples, estimates."""

from sphax import _discovery
from sphax.distributions._divergence import kl_divergence as kl_divergence
from sphax.distributions._fit import concentration_of as concentration_of
from sphax.distributions._fit import fit as fit
from sphax.distributions._fit_mixture import MixtureFit as MixtureFit
from sphax.distributions._fit_mixture import fit_mixture as fit_mixture
from sphax.distributions._mixture import Mixture as Mixture
from sphax.distributions._power_spherical import PowerSpherical as PowerSpherical
from sphax.distributions._spherical_kmeans import SphericalKMeans as SphericalKMeans
from sphax.distributions._spherical_kmeans import spherical_kmeans as spherical_kmeans
from sphax.distributions._uniform import SphericalUniform as SphericalUniform
from sphax.distributions._von_mises_fisher import VonMisesFisher as VonMisesFisher

__dir__ = _discovery.dir_of(__name__)
