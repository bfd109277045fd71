"""The uniform distribution on the sphere."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import check_count, check_key
from sphax._compiled import compiled
from sphax._hyperparameters import register, static
from sphax.distributions._symmetric import as_points, as_shape
from sphax.sphere import sample_uniform


@register
class SphericalUniform:
    r"""Uniform distribution on the unit sphere :math:`S^{d-1}`.

    Its density is :math:`1 / |S^{d-1}|`, with the surface
    :math:`|S^{d-1}| = 2 \pi^{d/2} / \Gamma(d/2)`. It has no parameters to learn;
    :class:`VonMisesFisher` with concentration 0 is the same distribution.

    Args:
        dimension: :math:`d` of the space that contains the sphere, 2 or more.

    Raises:
        TypeError: If ``dimension`` is not an integer.
        ValueError: If ``dimension`` is less than 2.

    Example:
        >>> uniform = sx.distributions.SphericalUniform(3)
        >>> print(uniform.entropy())  # log(4 pi)
        2.5310242
        >>> uniform.sample(jax.random.key(0), (5,)).shape
        (5, 3)
    """

    dimension: int = static()

    def __post_init__(self):
        check_count("SphericalUniform: dimension", self.dimension, 2)

    def log_prob(self, points: jax.typing.ArrayLike) -> jax.Array:
        r"""Log density at points, :math:`-\log|S^{d-1}|`.

        Args:
            points: Floating, ``[..., d]``; only their directions would count.

        Returns:
            Equal log densities, ``[...]``, in float32 at least, with zero gradient; NaN
            for a vector with a NaN.
        """
        return _log_prob(as_points(points, self.dimension))

    def sample(self, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        """Random points.

        Args:
            key: Random key.
            shape: Shape of the sample.

        Returns:
            Unit vectors, ``[*shape, d]``, in JAX's default floating dtype.
        """
        check_key(key)
        full = (*as_shape(shape), self.dimension)
        return sample_uniform(key, full, jnp.result_type(float))

    def entropy(self) -> jax.Array:
        r"""Differential entropy, :math:`\log|S^{d-1}|`, a scalar."""
        return jnp.asarray(log_surface(self.dimension))

    def log_normalizer(self) -> jax.Array:
        r"""Logarithm of the density's constant, :math:`-\log|S^{d-1}|`, a scalar."""
        return jnp.asarray(-log_surface(self.dimension))

    def mean(self) -> jax.Array:
        """The expected point, zero, ``[d]``."""
        return jnp.zeros(self.dimension)

    def mean_resultant_length(self) -> jax.Array:
        """Length of the expected point, 0, a scalar."""
        return jnp.zeros(())


@compiled()
def _log_prob(points):
    dtype = jnp.promote_types(points.dtype, jnp.float32)
    is_point = ~jnp.any(jnp.isnan(points), axis=-1)
    return jnp.where(is_point, -log_surface(points.shape[-1]), jnp.nan).astype(dtype)


def log_surface(dimension: int) -> float:
    r"""Logarithm of the surface :math:`|S^{d-1}|` of the unit sphere."""
    half = dimension / 2
    return math.log(2.0) + half * math.log(math.pi) - math.lgamma(half)
