"""Cross-entropies that pick an anchor's positives out among its negatives."""

from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import divide
from sphax.losses._memory import MemoryBank
from sphax.losses._numbers import as_scalar, check_range
from sphax.losses._pairs import Batch, Pairs, as_pairwise, compare, log_sum_exp


@explain_names(OF_LOSSES)
def n_pair(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    regularization: jax.typing.ArrayLike = 0.002,
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Cross-entropy of plain inner products, with a penalty on lengths (N-pair loss).

    The mean over all positive pairs of an anchor :math:`x` and a row :math:`x_p` of its
    class, with :math:`x_n` the rows of other classes, of

    .. math::
        \log\Big(1 + \sum_n e^{x \cdot x_n - x \cdot x_p}\Big) + \lambda \|x\|^2.

    The paper tells anchors from positives, and compares an anchor with one row of every
    other class. Labels do not tell, so that here every row is an anchor in its turn and
    every row of another class a negative. Nothing is normalised.

    Args:
        embeddings: Rows, floating, ``[n, features]``.
        labels: Any integers, ``[n]``.
        regularization: :math:`\lambda`, not negative.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no pair, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a positive
        pair; NaN where a product leaves the range, from lengths of 1e19 on in float32.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.n_pair(x, jnp.array([0, 0, 1]))  # log(1 + 1 / e) + 0.002
        Array(0.31526, dtype=float32)

    References:
        Sohn, `Improved Deep Metric Learning with Multi-class N-pair Loss Objective
        <https://papers.nips.cc/paper/6200>`_, NeurIPS 2016.
    """
    check_range("regularization", regularization, 0.0)
    batch = as_pairwise(embeddings, labels, where, memory)
    weight = as_scalar("regularization", regularization, batch.dtype)
    return _n_pair(batch, weight, precision=precision)


@compiled("precision")
def _n_pair(
    batch: Batch, weight: jax.Array, *, precision: jax.lax.PrecisionLike
) -> jax.Array:
    pairs = compare(batch, precision, normalize=False)
    lengths = pairs.mean(
        jnp.diagonal(pairs.products) * pairs.positives, pairs.positives
    )
    return _mean_over_pairs(pairs.products, pairs) + weight * lengths


@explain_names(OF_LOSSES)
def nt_xent(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Cross-entropy of one positive among all negatives (NT-Xent, SimCLR's loss).

    The mean over all positive pairs, with :math:`s_p, s_n` the cosines of the anchor to
    its positive and to the rows of other classes, of

    .. math::
        -\log \frac{e^{\gamma s_p}}{e^{\gamma s_p} + \sum_n e^{\gamma s_n}}.

    The anchor's other positives are not in the denominator, which they are in
    :func:`supervised_contrastive`. SimCLR has two views of every image: label both by
    the index of the image.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``.
        scale: :math:`\gamma`, positive, one over the temperature. SimCLR has 10 on
            ImageNet, 2 on CIFAR-10.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no pair, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient without a positive
        pair. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``scale``, as a number, is not positive.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.nt_xent(x, jnp.array([0, 0, 1]), scale=1.0)  # log(1 + 1 / e)
        Array(0.31326, dtype=float32)

    References:
        Chen et al., `SimCLR <https://arxiv.org/abs/2002.05709>`_, ICML 2020, Eq. 1.
    """
    check_range("scale", scale, 0.0, is_open=True)
    batch = as_pairwise(embeddings, labels, where, memory)
    scale = as_scalar("scale", scale, batch.dtype)
    return _nt_xent(batch, scale, precision=precision)


@compiled("precision")
def _nt_xent(
    batch: Batch, scale: jax.Array, *, precision: jax.lax.PrecisionLike
) -> jax.Array:
    pairs = compare(batch, precision)
    return _mean_over_pairs(scale * pairs.products, pairs)


def _mean_over_pairs(logits: jax.Array, pairs: Pairs) -> jax.Array:
    """Mean over the positive pairs of ``log(1 + sum_n exp(logit_n - logit_p))``."""
    negatives = log_sum_exp(logits, pairs.is_negative)
    losses = jax.nn.softplus(negatives[:, None] - logits)
    totals = jnp.sum(losses, axis=-1, where=pairs.is_positive)
    return pairs.mean(totals, pairs.positives)


@explain_names(OF_LOSSES)
def supervised_contrastive(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    mean: Literal["out", "in"] = "out",
    anchors: Literal["paired", "all"] = "paired",
    where: jax.typing.ArrayLike | None = None,
    memory: MemoryBank | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Cross-entropy of all positives among all others (supervised contrastive loss).

    For an anchor with the positives :math:`P` and all other rows :math:`A`, positives
    included, the mean over the positives is taken outside or inside the logarithm:

    .. math::
        L_\text{out} = -\frac{1}{|P|} \sum_{p \in P}
        \log \frac{e^{\gamma s_p}}{\sum_{a \in A} e^{\gamma s_a}}, \qquad
        L_\text{in} = -\log \frac{1}{|P|} \sum_{p \in P}
        \frac{e^{\gamma s_p}}{\sum_{a \in A} e^{\gamma s_a}}.

    The paper finds the former better; :math:`L_\text{in} \le L_\text{out}`, and they
    agree for one positive. The loss is the mean over the anchors that have a positive.
    The authors' code divides by the number of all anchors (``anchors="all"``), which
    makes the loss smaller the more classes have one row only. It also multiplies by
    :math:`\tau / 0.07`, with :math:`\tau = 1 / \gamma`; that is left to the caller.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``.
        scale: :math:`\gamma`, positive, one over the temperature.
        mean: Where the mean over the positives is taken.
        anchors: Which anchors are counted, those with a positive or all.
        where: Boolean mask or weights of the anchors, ``[n]``. Rows of weight zero are
            in no pair, and a NaN in them reaches nothing.
        memory: Rows of earlier batches, which serve as further negatives.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if no anchor has a
        positive. A zero row has cosine 0 to all and no gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.supervised_contrastive(x, jnp.array([0, 0, 1]), scale=1.0)
        Array(0.31326, dtype=float32)

    References:
        Khosla et al., `Supervised Contrastive Learning
        <https://arxiv.org/abs/2004.11362>`_, NeurIPS 2020, Eqs. 2 and 3.
    """
    check_choice("mean", mean, ("out", "in"))
    check_choice("anchors", anchors, ("paired", "all"))
    check_range("scale", scale, 0.0, is_open=True)
    batch = as_pairwise(embeddings, labels, where, memory)
    scale = as_scalar("scale", scale, batch.dtype)
    return _supervised_contrastive(
        batch, scale, mean=mean, anchors=anchors, precision=precision
    )


@compiled("mean", "anchors", "precision")
def _supervised_contrastive(
    batch: Batch,
    scale: jax.Array,
    *,
    mean: Literal["out", "in"],
    anchors: Literal["paired", "all"],
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    pairs = compare(batch, precision)
    logits = scale * pairs.products
    count, positives = pairs.positives, log_sum_exp(logits, pairs.is_positive)
    # log(sum over A / sum over P): a small loss keeps its digits.
    losses = jax.nn.softplus(log_sum_exp(logits, pairs.is_negative) - positives)
    if mean == "out":
        average = divide(jnp.sum(logits, axis=-1, where=pairs.is_positive), count)
        losses = losses + positives - average
    else:
        losses = losses + jnp.log(jnp.maximum(count, 1.0))
    is_paired = count > 0
    counted = is_paired if anchors == "paired" else jnp.full_like(is_paired, True)
    return pairs.mean(jnp.where(is_paired, losses, 0.0), counted.astype(losses.dtype))
