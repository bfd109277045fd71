"""Mixtures of distributions on the sphere."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_instance, check_key
from sphax._compiled import compiled
from sphax._hyperparameters import register
from sphax._numerics import widen
from sphax.distributions._symmetric import RotationallySymmetric, as_points, as_shape
from sphax.sphere import inner_products, length


@register
class Mixture:
    r"""Mixture of distributions of one family on the unit sphere.

    .. math::
        p(x) = \sum_{j=1}^K \alpha_j\, p_j(x)

    A mixture is a pytree with the parameters of its components and the logarithms of
    its weights as leaves.

    Densities take the cosines of all points and mean directions from one matrix product
    at the highest precision, without an array ``[n, K, d]``. So a log density has an
    absolute error of about :math:`\kappa` times the epsilon of the dtype: for
    concentrations above 1e4 and close points, compute in float64.

    Args:
        components: :class:`VonMisesFisher` or :class:`PowerSpherical` distributions
            with a batch ``[K]``.
        log_weights: :math:`\log \alpha`, floating, ``[K]``; normalized in use, so that
            a constant added to all changes nothing.

    Raises:
        TypeError: If ``components`` are no such distributions, or ``log_weights`` not
            floating.
        ValueError: If the shapes do not fit.

    Example:
        >>> two = sx.distributions.VonMisesFisher(jnp.eye(2), 5.0)
        >>> mixture = sx.distributions.Mixture(two, jnp.log(jnp.array([0.5, 0.5])))
        >>> print(mixture.responsibilities(jnp.array([[2.0, 0.0], [1.0, 1.0]])))
        [[0.9933072  0.00669285]
         [0.5        0.5       ]]
        >>> mixture.sample(jax.random.key(0), (3,)).shape
        (3, 2)
    """

    components: RotationallySymmetric
    log_weights: jax.Array

    def __post_init__(self):
        check_instance(
            "Mixture: components",
            self.components,
            RotationallySymmetric,
            "VonMisesFisher(mean_directions, concentrations)",
        )
        log_weights = as_floating("Mixture: log_weights", self.log_weights)
        batch = self.components.batch_shape
        if len(batch) != 1 or log_weights.shape != batch:
            raise ValueError(
                "Mixture: components must have a batch [K], and log_weights this shape,"
                f" got a batch {batch} and log_weights {log_weights.shape}."
            )
        object.__setattr__(self, "log_weights", log_weights)

    @property
    def dimension(self) -> int:
        """Number of entries of a point."""
        return self.components.dimension

    def log_prob(self, points: jax.typing.ArrayLike) -> jax.Array:
        """Log density at the directions of points.

        Args:
            points: Floating, ``[..., d]``.

        Returns:
            Log densities, ``[...]``, in float32 at least.

        Raises:
            TypeError: If ``points`` is not floating.
            ValueError: If ``points`` have another dimension.
        """
        return _log_prob(self, as_points(points, self.dimension))

    def responsibilities(self, points: jax.typing.ArrayLike) -> jax.Array:
        r"""Probability of each component given a point.

        :math:`\alpha_j p_j(x) / p(x)`.

        Args:
            points: Floating, ``[..., d]``.

        Returns:
            Probabilities, ``[..., K]``, in float32 at least.

        Raises:
            TypeError: If ``points`` is not floating.
            ValueError: If ``points`` have another dimension.
        """
        return _responsibilities(self, as_points(points, self.dimension))

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        """Random points, differentiable in the parameters of the components.

        The gradient of an average over the sample has no part for ``log_weights``,
        whose choice of a component is discrete.

        Args:
            key: Random key.
            shape: Shape of the sample.

        Returns:
            Unit vectors, ``[*shape, d]``, in float32 at least.

        Raises:
            TypeError: If ``key`` is not a random key, or ``shape`` not integers.
        """
        check_key(key)
        return _sample(self, key, shape=as_shape(shape))


@compiled()
def _log_prob(mixture, points):
    return jax.nn.logsumexp(_log_joint(mixture, points), axis=-1)


@compiled()
def _responsibilities(mixture, points):
    return jax.nn.softmax(_log_joint(mixture, points), axis=-1)


@compiled("shape")
def _sample(mixture, key, *, shape):
    of_label, of_point = jax.random.split(key)
    labels = jax.random.categorical(of_label, mixture.log_weights, shape=shape)
    components = mixture.components
    mean = jnp.broadcast_to(
        components.mean_direction, (*components.batch_shape, mixture.dimension)
    )
    k = jnp.broadcast_to(components.concentration, components.batch_shape)
    return type(components)(mean[labels], k[labels]).sample(of_point)


def _log_joint(mixture: Mixture, points: jax.Array) -> jax.Array:
    """``log (alpha_j p_j(x))``, ``[..., K]``."""
    mean, _ = mixture.components.parameters()
    mean = jnp.broadcast_to(mean, (*mixture.components.batch_shape, mean.shape[-1]))
    x = widen(points)
    wide = jnp.promote_types(x.dtype, mean.dtype)
    x = x.astype(wide)
    cosines = inner_products(x, mean.astype(wide), length(x), precision="highest")
    gap = 1.0 - jnp.clip(cosines, -1.0, 1.0)
    logs = mixture.components.log_density(gap, 2.0 - gap)
    log_weights = jax.nn.log_softmax(widen(mixture.log_weights)).astype(wide)
    return logs + log_weights.reshape((1,) * (logs.ndim - 1) + log_weights.shape)
