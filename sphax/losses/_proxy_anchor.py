"""Proxy-Anchor: every proxy attracts its examples and repels all others."""

import jax
import jax.numpy as jnp

from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import divide, widen
from sphax.losses._core.batch import as_batch, as_operands, as_scalar, masked_batch
from sphax.losses._core.class_logits import class_masks
from sphax.sphere import angle, inner_products, length


@explain_names(OF_LOSSES)
def proxy_anchor(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 32.0,
    margin: jax.typing.ArrayLike = 0.1,
    where: jax.typing.ArrayLike | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
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

    Hard examples of a proxy get most of its gradient. The loss is one of the whole
    batch, not a mean over its examples. The authors train the proxies at 100 times the
    learning rate. Their code overflows in half precision; this does not.

    Args:
        embeddings: Floating, ``[..., features]``; all leading axes are one batch.
        proxies: Floating, ``[classes, features]``, one row per class.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes the
            loss and its gradients NaN.
        scale: :math:`\alpha`, positive, a scalar.
        margin: :math:`\delta`, a cosine, not negative, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; a weight counts its
            example that many times. Examples of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

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
    embeddings, proxies = as_operands(embeddings, proxies, name="proxies")
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, proxies, jnp.float32)
    return _proxy_anchor(
        embeddings,
        proxies,
        labels,
        where,
        as_scalar("scale", scale, dtype, 0.0, is_open=True),
        as_scalar("margin", margin, dtype, 0.0),
        classes=as_class_axis(class_axis, num_classes, len(proxies), "proxies"),
        precision=precision,
    )


@compiled("classes", "precision")
def _proxy_anchor(
    embeddings: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    margin: jax.Array,
    *,
    classes: Classes,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, proxies, labels, where, classes.number
    )
    x, proxies = vary_alike(x, proxies)
    # Every class needs the targets of its own examples alone.
    target = jnp.cos(angle(x, classes.take(proxies, labels).astype(x.dtype)))
    lengths = length(widen(x)), length(widen(proxies))
    cosines = inner_products(x, proxies, *lengths, precision=precision)
    is_target, is_other = class_masks(labels, classes.start(), classes.rows, classes)
    pulls = jnp.where(is_target, -scale * (target[..., None] - margin), 0.0)
    pushes = scale * (cosines + margin)
    # All leading axes are one batch, [n, classes].
    pulls, pushes, is_target, is_other = (
        values.reshape(-1, classes.rows)
        for values in (pulls, pushes, is_target, is_other)
    )
    weights = weights.reshape(-1, 1)
    positive_weights = jnp.where(is_target, weights, 0.0)
    attraction = _log_one_plus_sum(pulls, positive_weights)
    repulsion = _log_one_plus_sum(pushes, jnp.where(is_other, weights, 0.0))
    has_examples = jnp.any(positive_weights > 0.0, axis=0)
    present = jnp.sum(has_examples, dtype=attraction.dtype)
    attraction, present, repulsion = classes.sum(
        (jnp.sum(attraction), present, jnp.sum(repulsion))
    )
    return divide(attraction, present) + repulsion / classes.number


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
