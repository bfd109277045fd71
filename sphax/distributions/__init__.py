"""Probability distributions on the unit sphere: densities, samples, estimates."""

from sphax import _discovery

__dir__ = _discovery.dir_of(__name__)
