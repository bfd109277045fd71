"""Proxies: a learned vector stands for the examples of its class."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import divide, widen
from sphax.losses import _checks
from sphax.losses._examples import Examples, as_examples, target_products
from sphax.losses._numbers import as_scalar, check_range
from sphax.sphere import inner_products, length


@explain_names(OF_LOSSES)
def proxy_nca(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 1.0,
    include_target: bool = False,
    where: jax.typing.ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean log-ratio of the target's proxy to the other proxies (Proxy-NCA).

    With :math:`d_j = s\,\|\hat x - \hat p_j\|^2 = 2s\,(1 - \cos\theta_j)`,

    .. math:: L = -\log \frac{e^{-d_y}}{\sum_{j \ne y} e^{-d_j}}.

    The paper leaves the target out of the sum. So do we: the loss has no lower bound of
    0, and its pull to the target does not fade once the target is near. With
    ``include_target`` the sum is over all, as in pytorch-metric-learning: then this is
    :func:`margin_softmax` without a margin at twice the scale.

    Args:
        embeddings: Floating, ``[..., features]``.
        proxies: Floating, ``[classes, features]``, two classes or more.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        scale: :math:`s`, positive, a scalar.
        include_target: Whether the target counts in the denominator.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or proxy has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``scale`` is out of range.

    Example:
        >>> x, proxies, labels = jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 1])
        >>> sx.losses.proxy_nca(x, proxies, labels)  # log(2 e^-2)
        Array(-1.3068528, dtype=float32)

    References:
        Movshovitz-Attias et al., `No Fuss Distance Metric Learning using Proxies
        <https://arxiv.org/abs/1703.07464>`_, ICCV 2017.
    """
    embeddings, proxies = _checks.as_operands(embeddings, proxies, name="proxies")
    labels, where = _checks.as_batch(embeddings, labels, where)
    check_range("scale", scale, 0.0, is_open=True)
    if proxies.shape[0] < 2:
        raise ValueError(f"proxies must be two or more, got shape {proxies.shape}.")
    return _proxy_nca(
        embeddings,
        proxies,
        labels,
        where,
        as_scalar("scale", scale, jnp.result_type(embeddings, proxies, jnp.float32)),
        include_target=include_target,
        precision=precision,
    )


@compiled("include_target", "precision")
def _proxy_nca(
    embeddings: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    *,
    include_target: bool,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    examples, twice = as_examples(embeddings, proxies, labels, where), 2.0 * scale
    own, cosines, is_target = _cosines(examples, proxies, precision)
    # The 1 of every distance cancels.
    rivals = jax.nn.logsumexp(twice * cosines, axis=-1, where=~is_target)
    losses = rivals - twice * own
    if include_target:
        losses = jax.nn.softplus(losses)
    return weighted_mean(losses, examples.weights)


@explain_names(OF_LOSSES)
def proxy_anchor(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 32.0,
    margin: jax.typing.ArrayLike = 0.1,
    where: jax.typing.ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Every proxy gathers its examples and repels all others (Proxy-Anchor).

    With cosines :math:`c_{xp}`, :math:`X_p^+` the examples of the proxy's class,
    :math:`X_p^-` the rest of the batch and :math:`P^+` the proxies with examples,

    .. math::
        L = \frac{1}{|P^+|} \sum_{p \in P^+} \log\Big(
                1 + \sum_{x \in X_p^+} e^{-\alpha (c_{xp} - \delta)}\Big)
            + \frac{1}{|P|} \sum_{p \in P} \log\Big(
                1 + \sum_{x \in X_p^-} e^{\alpha (c_{xp} + \delta)}\Big).

    Hard examples of a proxy get most of its gradient: the loss belongs to the batch and
    is no mean over it. The authors train the proxies at 100 times the learning rate.
    Their code exponentiates as it stands, which overflows in half precision; this one
    does not.

    Args:
        embeddings: Floating, ``[..., features]``; all leading axes are one batch.
        proxies: Floating, ``[classes, features]``, a row for each class.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes the
            loss and its gradients NaN.
        scale: :math:`\alpha`, positive, a scalar.
        margin: :math:`\delta`, a cosine, not negative, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; a weight counts its
            example that many times. Examples of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when no example
        is left. A zero embedding or proxy has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, proxies, labels = jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 1])
        >>> sx.losses.proxy_anchor(x, proxies, labels, scale=1.0, margin=0.0)
        Array(1.1415639, dtype=float32)

    References:
        Kim et al., `Proxy Anchor Loss <https://arxiv.org/abs/2003.13911>`_, CVPR 2020.
    """
    embeddings, proxies = _checks.as_operands(embeddings, proxies, name="proxies")
    labels, where = _checks.as_batch(embeddings, labels, where)
    check_range("scale", scale, 0.0, is_open=True)
    check_range("margin", margin, 0.0)
    dtype = jnp.result_type(embeddings, proxies, jnp.float32)
    return _proxy_anchor(
        embeddings,
        proxies,
        labels,
        where,
        as_scalar("scale", scale, dtype),
        as_scalar("margin", margin, dtype),
        precision=precision,
    )


@compiled("precision")
def _proxy_anchor(
    embeddings: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    margin: jax.Array,
    *,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    examples = as_examples(embeddings, proxies, labels, where)
    own, cosines, is_target = _cosines(examples, proxies, precision)
    pulls = _flat(jnp.where(is_target, -scale * (own[..., None] - margin), 0.0))
    pushes = _flat(scale * (cosines + margin))
    weights, is_target = examples.weights.reshape(-1, 1), _flat(is_target)
    of_own = jnp.where(is_target, weights, 0.0)
    attraction = _log_one_plus_sum(pulls, of_own)
    repulsion = _log_one_plus_sum(pushes, jnp.where(is_target, 0.0, weights))
    present = jnp.sum(jnp.any(of_own > 0.0, axis=0), dtype=attraction.dtype)
    return divide(jnp.sum(attraction), present) + jnp.mean(repulsion)


def _cosines(
    examples: Examples, proxies: jax.Array, precision: jax.lax.PrecisionLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cosines to the target, ``[...]``, to all, and where those are the target's."""
    vectors = examples.embeddings
    lengths = length(widen(vectors)), length(widen(proxies))
    cosines = inner_products(vectors, proxies, *lengths, precision=precision)
    is_target = jax.nn.one_hot(examples.labels, proxies.shape[0], dtype=bool)
    return target_products(examples, proxies, "both"), cosines, is_target


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _log_one_plus_sum(exponents: jax.Array, weights: jax.Array) -> jax.Array:
    """``log(1 + sum(weights * exp(exponents)))`` over the first axis."""
    is_out = weights == 0.0
    # As logarithms, so that the largest term is 1 however small its weight.
    exponents = exponents + jnp.log(jnp.where(is_out, 1.0, weights))
    exponents = jnp.where(is_out, -jnp.inf, exponents)
    # The 1 is the term of exponent 0.
    top = jax.lax.stop_gradient(jnp.max(exponents, axis=0, initial=0.0))
    total = jnp.sum(jnp.exp(exponents - top[None]), axis=0)
    return top + jnp.log1p(jnp.expm1(-top) + total)
