"""Scales of the sphere-normalised softmax that follow from the data (AdaCos)."""

import math

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses import _checks
from sphax.losses._blocks import Blocks, as_blocks
from sphax.losses._examples import as_examples
from sphax.losses._negatives import Form, make_rows, negatives
from sphax.losses._target import gather, target_of
from sphax.margins import NoMargin


def adacos_fixed_scale(classes: int) -> float:
    r"""Scale that a number of classes calls for: :math:`\sqrt 2 \ln(C - 1)` (AdaCos).

    With it, the probability of the target is most sensitive to the angle around
    :math:`\pi / 4`, where the other classes are orthogonal.

    Args:
        classes: :math:`C`, at least 3.

    Returns:
        The scale.

    Raises:
        ValueError: If ``classes`` is below 3, where there is none.

    Example:
        >>> sx.losses.adacos_fixed_scale(10_572)
        13.104

    References:
        Zhang et al., `AdaCos <https://arxiv.org/abs/1905.00292>`_, CVPR 2019, Eq. 11.
    """
    if classes < 3:
        raise ValueError(
            f"adacos_fixed_scale: classes must be at least 3, got {classes}."
        )
    return math.sqrt(2.0) * math.log(classes - 1)


@explain_names(OF_LOSSES)
def adacos_dynamic_scale(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    scale: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Scale that a batch calls for, from the one before (AdaCos).

    .. math::
        s = \frac{\ln B}{\cos\min(\pi / 4, \theta_{\mathrm{med}})}, \qquad
        B = \frac{1}{N} \sum_i \sum_{j \ne y_i} e^{s_{\mathrm{old}} \cos\theta_{ij}},

    with the median :math:`\theta_{\mathrm{med}}` of the angles to the targets. It is
    state without gradient, formed before the loss of the same batch; under one ``jit``
    the two share their matrix product. Start from :func:`adacos_fixed_scale`.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, or ``[classes, k, features]``, as
            in :func:`margin_softmax`; at least three classes.
        labels: Integer, ``[...]``, in ``[0, classes)``. Any other makes the scale NaN,
            unless ``where`` masks it.
        scale: :math:`s_{\mathrm{old}}`, a scalar.
        where: Boolean mask or weights, of the shape of ``labels``; an example counts or
            does not.
        block_size: Number of classes handled at a time, as in :func:`margin_softmax`.
        precision: Of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The scale, a scalar, float32 at least; ``scale`` itself if no example counts.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or there are fewer than three classes.

    Example:
        >>> x, labels, scale = jnp.eye(4), jnp.arange(4), 2.0
        >>> scale = sx.losses.adacos_dynamic_scale(x, x, labels, scale)
        >>> print(scale)  # ln 3: the others are orthogonal, the targets at angle 0
        1.0986
        >>> loss = sx.losses.margin_softmax(
        ...     x, x, labels, sx.margins.NoMargin(), scale=scale
        ... )

    References:
        Zhang et al., `AdaCos <https://arxiv.org/abs/1905.00292>`_, CVPR 2019, Eqs. 13
        to 15.
    """
    embeddings, prototypes = _checks.as_operands(embeddings, prototypes, ranks=(2, 3))
    if prototypes.shape[0] < 3:
        raise ValueError(
            "adacos_dynamic_scale: prototypes must be of at least 3 classes, got"
            f" {prototypes.shape[0]}."
        )
    labels, where = _checks.as_batch(embeddings, labels, where)
    _checks.check_scale(scale, "both", ())
    _checks.check_block_size(block_size)
    return _adacos_dynamic_scale(
        embeddings,
        prototypes,
        labels,
        scale,
        where,
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("blocks", "precision")
def _adacos_dynamic_scale(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    scale: jax.typing.ArrayLike,
    where: jax.Array | None,
    *,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    embeddings, prototypes = jax.lax.stop_gradient((embeddings, prototypes))
    if not labels.size:  # where a median does not exist
        return jnp.asarray(scale, jnp.result_type(embeddings, prototypes, jnp.float32))
    examples = as_examples(embeddings, prototypes, labels, where)
    target = target_of(gather(examples, prototypes), examples)
    form = Form("both", is_detached=False, is_smoothed=False, precision=precision)
    old = jax.lax.stop_gradient(jnp.asarray(scale, target.angle.dtype))
    rows = make_rows(form, examples.embeddings, old, target.angle, NoMargin())
    others = negatives(form, blocks, rows, prototypes, examples.labels)
    count = jnp.sum(target.is_kept.astype(old.dtype))
    log_mean = jax.nn.logsumexp(others.log_sum, where=target.is_kept) - jnp.log(count)
    median = jnp.nanmedian(jnp.where(target.is_kept, target.angle, jnp.nan))
    new = log_mean / jnp.cos(jnp.minimum(math.pi / 4, median))
    is_unknown = jnp.any(jnp.isnan(examples.weights))
    return jnp.where(count > 0.0, jnp.where(is_unknown, jnp.nan, new), old)
