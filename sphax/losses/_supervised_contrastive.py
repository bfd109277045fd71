"""The supervised contrastive loss: all positives among all other rows."""

from typing import Literal, Unpack

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
    mean_log_loss,
    softmax_terms,
)


@explain_names(OF_LOSSES)
def supervised_contrastive(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    mean: Literal["out", "in"] = "out",
    anchors: Literal["paired", "all"] = "paired",
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Cross-entropy of all positives among all others (supervised contrastive loss).

    For an anchor with the positives :math:`P` and all other rows :math:`A`, positives
    included, the mean over the positives is taken outside or inside the logarithm:

    .. math::
        L_\text{out} = -\frac{1}{|P|} \sum_{p \in P}
        \log \frac{e^{\gamma s_p}}{\sum_{a \in A} e^{\gamma s_a}}, \qquad
        L_\text{in} = -\log \frac{1}{|P|} \sum_{p \in P}
        \frac{e^{\gamma s_p}}{\sum_{a \in A} e^{\gamma s_a}}.

    The paper finds the first one better; :math:`L_\text{in} \le L_\text{out}`, and they
    agree for one positive. The loss is the mean over the anchors that have a positive.
    The authors' code divides by the number of all anchors (``anchors="all"``), which
    makes the loss smaller the more classes have one row only. It also multiplies by
    :math:`\tau / 0.07`, with :math:`\tau = 1 / \gamma`; that is left to the caller.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        scale: :math:`\gamma`, positive, one over the temperature.
        mean: Where the mean over the positives is taken.
        anchors: Which anchors are counted in the mean: those with a positive, or all.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

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
    batch, plan = as_pairwise(embeddings, labels, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    return _supervised_contrastive(batch, scale, mean=mean, anchors=anchors, plan=plan)


@compiled("mean", "anchors", "plan")
def _supervised_contrastive(
    batch: Batch,
    scale: jax.Array,
    *,
    mean: Literal["out", "in"],
    anchors: Literal["paired", "all"],
    plan: Plan,
) -> jax.Array:
    pairs = compare(batch, plan)
    found = pairs.reduce(softmax_terms, scale)
    (_, count), (positives, negatives), _ = found
    if mean == "out":
        losses = mean_log_loss(found)
    else:
        losses = jax.nn.softplus(negatives - positives)
        losses = losses + jnp.log(jnp.maximum(count, 1.0))
    is_paired = count > 0
    counted = is_paired if anchors == "paired" else jnp.full_like(is_paired, True)
    return pairs.mean(jnp.where(is_paired, losses, 0.0), counted.astype(losses.dtype))
