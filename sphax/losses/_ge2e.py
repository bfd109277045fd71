"""GE2E: every embedding against the centroids of the classes of its batch."""

from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import are_equal, check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean, zero_masked
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_batch, as_rows, as_scalar
from sphax.sphere import direction, inner_products, length

Form = Literal["softmax", "contrast"]


@explain_names(OF_LOSSES, w="it is called scale", b="it is called bias")
def ge2e(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    bias: jax.typing.ArrayLike = -5.0,
    form: Form = "softmax",
    where: jax.typing.ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Every embedding against the centroids of the batch (generalized end-to-end).

    With the centroid :math:`c_j` of class :math:`j`, the mean of the directions of its
    rows, :math:`c_y` without row :math:`i` itself, and
    :math:`z_{ij} = w \cos(x_i, c_j) + b`, the loss of a row is

    .. math::
        L_i = -\log \frac{e^{z_{iy}}}{\sum_j e^{z_{ij}}} \quad \text{(softmax)}, \qquad
        L_i = 1 - \sigma(z_{iy}) + \max_{j \ne y} \sigma(z_{ij}) \quad
            \text{(contrast)}.

    The loss is the mean over the rows whose class has two rows or more; classes of one
    row are centroids for the others. The authors take ``"softmax"`` where the text of
    an utterance is free, and ``"contrast"`` where it is fixed.

    Args:
        embeddings: Floating, ``[n, features]``.
        labels: Class, integer, ``[n]``; any integers.
        scale: :math:`w`, learned, positive, a scalar.
        bias: :math:`b`, learned, a scalar. It cancels in ``"softmax"``.
        form: ``"softmax"`` or ``"contrast"``.
        where: Boolean mask or weights, ``[n]``. A row has its weight in the mean, and
            counts once in its centroid; rows of weight zero are in no centroid and are
            zeroed before anything else: a NaN in them reaches nothing.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when no class has
        two rows. A zero embedding or centroid has cosine 0 with zero gradient. With a
        single class, ``"softmax"`` is 0, and ``"contrast"`` has no maximum.

    Raises:
        TypeError: If an argument has the wrong kind of dtype, such as boolean label
            sets, which have no centroids.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> sx.losses.ge2e(x, jnp.array([0, 0, 1, 1]), form="contrast")
        Array(0.116229, dtype=float32)

    References:
        Wan et al., `Generalized End-to-End Loss for Speaker Verification
        <https://arxiv.org/abs/1710.10467>`_, ICASSP 2018, Eqs. 5 to 10.
    """
    embeddings = as_rows(embeddings)
    check_choice("form", form, ("softmax", "contrast"))
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
    return _ge2e(
        embeddings,
        labels,
        where,
        as_scalar("scale", scale, dtype, 0.0, is_open=True),
        as_scalar("bias", bias, dtype),
        form=form,
        precision=precision,
    )


@compiled("form", "precision")
def _ge2e(
    embeddings: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    *,
    form: Form,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    unit = direction(widen(zero_masked(embeddings, where)))
    weights = jnp.ones(labels.shape) if where is None else where
    weights = weights.astype(unit.dtype)
    is_kept = weights != 0.0
    is_same = are_equal(labels[:, None], labels[None, :]) & is_kept[None, :]
    is_mate = is_same & ~jnp.eye(len(labels), dtype=bool)
    # A centroid has the direction of the sum. The own one is not that of the class
    # minus the row, where little but rounding might be left.
    own, of_classes = (
        jnp.matmul(mask.astype(unit.dtype), unit, precision=jax.lax.Precision.HIGHEST)
        for mask in (is_mate, is_same)
    )
    target = scale * dot(unit, direction(own))
    lengths = length(unit), length(of_classes)
    cosines = inner_products(unit, of_classes, *lengths, precision=precision)
    # Each class stands in the column of its first row.
    is_column = is_kept & ~jnp.any(jnp.tril(is_mate, -1), axis=-1)
    is_other = is_column[None, :] & ~is_same
    others = jnp.where(is_other, scale * cosines, jnp.finfo(unit.dtype).min)
    if form == "softmax":
        losses = jax.nn.softplus(jax.nn.logsumexp(others, axis=-1) - target)
    else:
        rival = jnp.max(others, axis=-1, initial=-jnp.inf)
        losses = 1.0 - jax.nn.sigmoid(target + bias) + jax.nn.sigmoid(rival + bias)
    has_mate = jnp.any(is_mate, axis=-1)
    return weighted_mean(losses, jnp.where(has_mate, weights, 0.0))
