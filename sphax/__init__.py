"""Deep learning on the hypersphere in JAX."""

from sphax import sphere as sphere
