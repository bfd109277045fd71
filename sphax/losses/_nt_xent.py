"""NT-Xent, SimCLR's loss: cross-entropy of one positive among all negatives."""

from typing import Unpack

import jax

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Plan,
    as_pairwise,
    compare,
    mean_cross_entropy,
)


@explain_names(OF_LOSSES)
def nt_xent(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    scale: jax.typing.ArrayLike = 10.0,
    **options: Unpack[PairOptions],
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
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        scale: :math:`\gamma`, positive, one over the temperature. SimCLR has 10 on
            ImageNet, 2 on CIFAR-10.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

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
    batch, plan = as_pairwise(embeddings, labels, options)
    scale = as_scalar("scale", scale, batch.dtype, 0.0, is_open=True)
    return _nt_xent(batch, scale, plan=plan)


@compiled("plan")
def _nt_xent(batch: Batch, scale: jax.Array, *, plan: Plan) -> jax.Array:
    pairs = compare(batch, plan)
    return mean_cross_entropy(lambda tile, scale: scale * tile.products, pairs, scale)
