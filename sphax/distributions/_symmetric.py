"""Distributions that are symmetric about a mean direction: what they share."""

import abc
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sphax._checks import as_floating, as_vectors, check_count, check_key
from sphax._compiled import compiled
from sphax._hyperparameters import store_real
from sphax._numerics import dot, widen
from sphax.distributions._tangent_normal import tangent_normal
from sphax.sphere import direction


class RotationallySymmetric(abc.ABC):
    r"""Base class of distributions whose density depends on :math:`\mu^\top x` alone.

    A distribution is a frozen dataclass registered as a pytree, with the parameters as
    leaves. Subclasses are dataclasses with these two fields; ``mean_direction`` and
    ``concentration`` broadcast against each other, and together they give the batch
    ``[*batch]`` of distributions.

    Subclasses implement :meth:`log_density`, :meth:`angles`, :meth:`log_normalizer`,
    :meth:`mean_resultant_length` and :meth:`entropy`.
    """

    mean_direction: jax.Array
    concentration: jax.typing.ArrayLike
    other_names = {
        "mu": "it is called mean_direction",
        "loc": "it is called mean_direction",
        "kappa": "it is called concentration",
        "scale": "it is called concentration",
    }

    def __post_init__(self):
        owner = type(self).__name__
        mean = as_floating(f"{owner}: mean_direction", self.mean_direction)
        if mean.ndim == 0 or mean.shape[-1] < 2:
            raise ValueError(
                f"{owner}: mean_direction must have vectors of two entries or more on"
                f" the last axis, got shape {mean.shape}."
            )
        object.__setattr__(self, "mean_direction", mean)
        store_real(self, "concentration", 0.0)
        if isinstance(self.concentration, float):
            return
        concentration = as_floating(f"{owner}: concentration", self.concentration)
        try:
            jnp.broadcast_shapes(mean.shape[:-1], concentration.shape)
        except ValueError as error:
            raise ValueError(
                f"{owner}: concentration must broadcast against mean_direction without"
                f" its last axis, {mean.shape[:-1]}, got {concentration.shape}."
            ) from error
        check_not_negative(f"{owner}: concentration", concentration)
        object.__setattr__(self, "concentration", concentration)

    @property
    def dimension(self) -> int:
        """Number of entries of a point."""
        return self.mean_direction.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of distributions."""
        return jnp.broadcast_shapes(
            jnp.shape(self.mean_direction)[:-1], jnp.shape(self.concentration)
        )

    def parameters(self) -> tuple[jax.Array, jax.Array]:
        """Unit mean directions ``[..., d]`` and concentrations ``[...]`` that are used.

        With batch axes of equal number, in float32 at least; a concentration is NaN
        where it is negative.
        """
        kind = jnp.result_type(self.mean_direction, self.concentration)
        wide = jnp.promote_types(kind, jnp.float32)
        mean = direction(widen(self.mean_direction)).astype(wide)
        k = jnp.asarray(self.concentration)
        k = (widen(k) if jnp.issubdtype(k.dtype, jnp.floating) else k).astype(wide)
        rank = max(mean.ndim - 1, k.ndim)
        k = jnp.where(k >= 0.0, k, jnp.nan)
        return with_rank(mean, rank + 1), with_rank(k, rank)

    def concentrations(self) -> jax.Array:
        """The concentrations of all distributions, ``[*batch]``; see above."""
        return jnp.broadcast_to(self.parameters()[1], self.batch_shape)

    @abc.abstractmethod
    def log_density(self, gap: jax.Array, opposite: jax.Array) -> jax.Array:
        r"""Log density where :math:`1 - \mu^\top x` is ``gap``.

        ``opposite`` is :math:`1 + \mu^\top x`, without cancellation. Both are in
        float32 at least, and broadcast against the concentrations of
        :meth:`parameters`. :meth:`log_prob` calls this.
        """

    @abc.abstractmethod
    def angles(self, key: jax.Array, k: jax.Array) -> jax.Array:
        r"""Random angles :math:`\arccos \mu^\top x`, in radians.

        For concentrations ``k``, ``[...]``, with their derivative in ``k``.
        :meth:`sample` calls this.
        """

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """Differential entropy, ``[*batch]``, in float32 at least."""

    @abc.abstractmethod
    def log_normalizer(self) -> jax.Array:
        """Logarithm of the constant of the density, ``[*batch]``."""

    @abc.abstractmethod
    def mean_resultant_length(self) -> jax.Array:
        r"""Expected cosine to the mean direction, :math:`E[\mu^\top x]`."""

    def log_prob(self, points: jax.typing.ArrayLike) -> jax.Array:
        """Log density at the directions of points.

        Args:
            points: Floating, ``[..., d]``; their leading axes broadcast against the
                batch of the distribution. Points ``[n, 1, d]`` and distributions
                ``[K]`` give ``[n, K]``.

        Returns:
            Log densities with respect to the surface of the unit sphere, ``[...]``, in
            float32 at least. A zero vector, as a point or a mean direction, acts as
            orthogonal to all others, with zero gradient.

        Raises:
            TypeError: If ``points`` is not floating.
            ValueError: If ``points`` have another dimension, or do not broadcast.
        """
        points = as_points(points, self.dimension)
        try:
            jnp.broadcast_shapes(points.shape[:-1], self.batch_shape)
        except ValueError as error:
            raise ValueError(
                "points without their last axis must broadcast against the batch of"
                f" distributions, {self.batch_shape}, got {points.shape[:-1]}; for the"
                " densities of each point under each distribution, give [n, 1, d]."
            ) from error
        return _log_prob(self, points)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        r"""Random points, differentiable with respect to both parameters.

        With the angle :math:`\theta` to the mean direction and a random direction
        :math:`v` around it, :math:`x = \cos\theta\, \mu + \sin\theta\, v`. Its
        derivative in the concentration is implicit: that of :math:`\theta` at a fixed
        quantile, or of the two gamma variables that determine :math:`\theta`. Its
        derivative in :math:`\mu` is the rotation that moves :math:`\mu`. The gradient
        of an average of a smooth function of the sample is an unbiased estimate of the
        gradient of its expectation. Second derivatives are not supported.

        Args:
            key: Random key.
            shape: Shape of the sample from each distribution.

        Returns:
            Unit vectors, ``[*shape, *batch, d]``, in float32 at least; uniform on the
            sphere where the mean direction is zero.

        Raises:
            TypeError: If ``key`` is not a random key, or ``shape`` not integers.
        """
        check_key(key)
        return _sample(self, key, shape=as_shape(shape))

    def mean(self) -> jax.Array:
        r"""Expected point, :math:`E[x] = E[\mu^\top x]\, \mu`, ``[*batch, d]``."""
        return _mean(self)


@compiled()
def _log_prob(distribution, points):
    mean, k = distribution.parameters()
    rank = max(points.ndim - 1, k.ndim)
    wide = jnp.promote_types(points.dtype, mean.dtype)
    x = with_rank(direction(widen(points)).astype(wide), rank + 1)
    mean = with_rank(mean, rank + 1).astype(wide)
    return distribution.log_density(cosine_gap(x, mean), cosine_gap(x, -mean))


@compiled("shape")
def _sample(distribution, key, *, shape):
    mean, k = distribution.parameters()
    full = (*shape, *distribution.batch_shape)
    of_angle, of_tangent = jax.random.split(key)
    angle = distribution.angles(of_angle, jnp.broadcast_to(k, full))
    mean = jnp.broadcast_to(mean, (*full, mean.shape[-1]))
    return tangent_normal(mean, angle, of_tangent)


@compiled()
def _mean(distribution):
    mean, _ = distribution.parameters()
    return distribution.mean_resultant_length()[..., None] * mean


def cosine_gap(x: jax.Array, y: jax.Array) -> jax.Array:
    r"""One minus the cosine of vectors that are unit or zero, :math:`|x - y|^2 / 2`.

    Accurate for close vectors, whose cosine rounds to 1; 1 where a vector is zero.
    """
    difference = x - y
    missing = [jnp.all(v == 0.0, axis=-1).astype(difference.dtype) for v in (x, y)]
    return 0.5 * (dot(difference, difference) + missing[0] + missing[1])


def aligned(
    p: RotationallySymmetric, q: RotationallySymmetric
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mean directions ``[..., d]`` and concentrations ``[...]`` of two, broadcast."""
    (mean1, k1), (mean2, k2) = p.parameters(), q.parameters()
    batch = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    wide = jnp.promote_types(mean1.dtype, mean2.dtype)
    return (
        with_rank(mean1, len(batch) + 1).astype(wide),
        with_rank(mean2, len(batch) + 1).astype(wide),
        jnp.broadcast_to(k1, batch).astype(wide),
        jnp.broadcast_to(k2, batch).astype(wide),
    )


def with_rank(x: jax.Array, rank: int) -> jax.Array:
    """``x`` with axes of length 1 in front, so that it has ``rank`` axes."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def as_points(points: jax.typing.ArrayLike, dimension: int) -> jax.Array:
    """``points`` as an array; raises unless floating, ``[..., dimension]``."""
    (array,) = as_vectors(points=points)
    if array.shape[-1] != dimension:
        raise ValueError(
            f"points must have {dimension} entries on the last axis, as the"
            f" distribution's mean direction or dimension has, got shape {array.shape}."
        )
    return array


def as_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` as a tuple; raises unless it is a sequence of integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"shape must be a tuple of integers, got {shape!r}.")
    for size in shape:
        check_count("shape: each size", size, 0)
    return tuple(shape)


def check_not_negative(name: str, x: jax.Array) -> None:
    """Raises if ``x`` is known and has a negative entry."""
    if not isinstance(x, Tracer) and x.is_fully_addressable:
        lowest = np.min(np.asarray(x), initial=0.0)
        if lowest < 0.0:
            raise ValueError(f"{name} must not be negative, got {lowest:g}.")
