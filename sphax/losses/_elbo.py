"""Bounds of the likelihood of autoencoders whose latent variables lie on a sphere."""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_instance
from sphax._compiled import compiled
from sphax._masking import as_weights, weighted_mean
from sphax._numerics import widen
from sphax.distributions import (
    PowerSpherical,
    SphericalUniform,
    VonMisesFisher,
    kl_divergence,
)
from sphax.losses._core.batch import as_scalar

Posterior = VonMisesFisher | PowerSpherical
Prior = VonMisesFisher | PowerSpherical | SphericalUniform


def negative_elbo(
    log_likelihoods: jax.typing.ArrayLike,
    posterior: Posterior,
    *,
    prior: Prior | None = None,
    weight: jax.typing.ArrayLike = 1.0,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Negative evidence lower bound of a hyperspherical variational autoencoder.

    .. math::
        L = \operatorname{mean}_i\bigl[ \beta\,
        \mathrm{KL}(q(z \mid x_i) \,\|\, p(z)) - \log p(x_i \mid z_i) \bigr],
        \qquad z_i \sim q(z \mid x_i)

    The divergence is in closed form; from a uniform prior it does not depend on the
    mean direction, so that codes may lie anywhere. The expectation of the likelihood is
    estimated by points ``posterior.sample(key)``, through which the gradient passes.

    Args:
        log_likelihoods: :math:`\log p(x_i \mid z_i)` of the examples, given points from
            their posteriors, floating, ``[...]``; a mean over several points, or one.
        posterior: :math:`q(z \mid x_i)`, a batch ``[...]`` of distributions, as a
            :class:`sphax.layers.DistributionHead` gives.
        prior: :math:`p(z)`; by default the uniform distribution on the sphere.
        weight: :math:`\beta` of the divergence, a scalar; 1 is the bound.
        where: Boolean mask or weights of examples, ``[...]``.

    Returns:
        The loss, a scalar in float32 at least; 0 when nothing is left to average.

    Raises:
        TypeError: If an argument has the wrong kind.
        ValueError: If shapes do not fit.

    Example:
        >>> posterior = sx.distributions.VonMisesFisher(jnp.eye(3), 1.0)
        >>> sx.losses.negative_elbo(jnp.array([-1.0, -2.0, -3.0]), posterior)
        Array(2.151596, dtype=float32)

    References:
        Davidson et al., `Hyperspherical Variational Auto-Encoders
        <https://arxiv.org/abs/1804.00891>`_, UAI 2018.
    """
    values = as_floating("log_likelihoods", log_likelihoods)
    _check_posterior(posterior, values.shape, "log_likelihoods")
    prior = SphericalUniform(posterior.dimension) if prior is None else prior
    where = as_weights(where, values.shape, "log_likelihoods")
    weight = as_scalar("weight", weight, jnp.promote_types(values.dtype, jnp.float32))
    return _negative_elbo(values, kl_divergence(posterior, prior), weight, where)


@compiled()
def _negative_elbo(values, divergences, weight, where):
    terms = weight * divergences - widen(values)
    if where is not None:
        terms = jnp.where(where.astype(bool), terms, 0.0)
    return weighted_mean(terms, where)


def importance_weighted_elbo(
    log_likelihoods: jax.typing.ArrayLike,
    posterior: Posterior,
    points: jax.typing.ArrayLike,
    *,
    prior: Prior | None = None,
) -> jax.Array:
    r"""Lower bound of the log likelihood of each example, tight for many samples.

    .. math::
        \log \frac1K \sum_{k=1}^K
        \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Args:
        log_likelihoods: :math:`\log p(x \mid z_k)`, floating, ``[K, ...]``.
        posterior: :math:`q(z \mid x)`, a batch ``[...]`` of distributions.
        points: :math:`z_k`, floating, ``[K, ..., d]``, as
            ``posterior.sample(key, (K,))`` gives.
        prior: :math:`p(z)`; by default the uniform distribution on the sphere.

    Returns:
        Bounds, ``[...]``, in float32 at least; in expectation they rise with ``K``.

    Raises:
        TypeError: If an argument has the wrong kind.
        ValueError: If shapes do not fit, or there is no sample.

    Example:
        >>> posterior = sx.distributions.VonMisesFisher(jnp.eye(3), 0.0)
        >>> points = posterior.sample(jax.random.key(0), (7,))
        >>> print(sx.losses.importance_weighted_elbo(
        ...     jnp.full((7, 3), -2.0), posterior, points
        ... ))
        [-2. -2. -2.]

    References:
        Burda et al., `Importance Weighted Autoencoders
        <https://arxiv.org/abs/1509.00519>`_, ICLR 2016.
    """
    values = as_floating("log_likelihoods", log_likelihoods)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(
            "log_likelihoods must be [K, ...] with one sample or more, got shape"
            f" {values.shape}."
        )
    _check_posterior(posterior, values.shape[1:], "log_likelihoods without samples")
    prior = SphericalUniform(posterior.dimension) if prior is None else prior
    change = prior.log_prob(points) - posterior.log_prob(points)
    if change.shape != values.shape:
        raise ValueError(
            "points must have the shape of log_likelihoods and one axis more,"
            f" {(*values.shape, posterior.dimension)}, got {jnp.shape(points)}."
        )
    return _log_mean(values, change)


@compiled()
def _log_mean(values, change):
    total = jax.nn.logsumexp(widen(values) + change, axis=0)
    return total - jnp.log(jnp.asarray(len(values), total.dtype))


def _check_posterior(posterior: Posterior, shape: tuple[int, ...], of: str) -> None:
    if not isinstance(posterior, PowerSpherical):
        example = "VonMisesFisher(mean_direction, concentration)"
        check_instance("posterior", posterior, VonMisesFisher, example)
    if posterior.batch_shape != shape:
        raise ValueError(
            f"posterior must be a batch of the shape of {of}, {shape}, got"
            f" {posterior.batch_shape}."
        )
