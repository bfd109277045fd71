"""KoLeo: embeddings keep a distance from their nearest neighbor in the batch."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import check_count
from sphax._class_axis import vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, weighted_mean, zero_masked
from sphax._numerics import widen
from sphax.losses._core.batch import as_rows
from sphax.sphere import direction, inner_products, length


@explain_names(OF_LOSSES)
def koleo(
    embeddings: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean negative logarithm of the distance to the nearest neighbor (KoLeo).

    .. math::
        L = -\operatorname{mean}_i \log \rho_i, \qquad
        \rho_i = \min_{j \ne i} \|\hat x_i - \hat x_j\|

    It spreads embeddings over the sphere: up to constants, this is the estimate of
    their entropy by Kozachenko and Leonenko. DINOv2 adds it with weight 0.1, with
    neighbors among the images of one device; here neighbors are in the batch given.

    The neighbor is the row with the largest cosine, the first of equal ones. The
    distance is formed from the two vectors, so that it has its digits where cosines
    have none: below 1e-3 in float32, where the choice between two such neighbors is a
    matter of rounding. The published code adds 1e-8 to the distance and to each
    difference; here distances are :math:`\max(\rho_i, \delta)`, with :math:`\delta`
    four times the epsilon of the embeddings' dtype, 5e-7 in float32.

    Args:
        embeddings: Floating, ``[n, features]``.
        where: Boolean mask or weights, ``[n]``. Rows of weight zero are no neighbors
            and are zeroed before anything else: a NaN in them reaches nothing.
        block_size: Number of rows that are compared with as many at a time; ``None``
            for all at once. The blocked form keeps no array of ``n x n``.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.
            It is that of the choice of neighbors alone.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, for less than two
        rows. The gradient passes to both ends of a distance and not through the choice
        of the neighbor; it is zero at a distance below :math:`\delta`. Zero rows have
        no direction and are left out.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or ``block_size`` is below 1.

    Example:
        >>> sx.losses.koleo(jnp.eye(4))  # distances of sqrt(2)
        Array(-0.34657356, dtype=float32)

    References:
        Sablayrolles et al., `Spreading vectors for similarity search
        <https://arxiv.org/abs/1806.03198>`_, ICLR 2019, Eq. 1; Oquab et al., `DINOv2
        <https://arxiv.org/abs/2304.07193>`_, TMLR 2024.
    """
    embeddings = as_rows(embeddings)
    where = as_weights(
        where, embeddings.shape[:1], "embeddings without their last axis"
    )
    if block_size is not None:
        check_count("block_size", block_size)
    return _koleo(embeddings, where, block_size=block_size, precision=precision)


@compiled("block_size", "precision")
def _koleo(
    embeddings: jax.Array,
    where: jax.Array | None,
    *,
    block_size: int | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    n = len(embeddings)
    if not n:  # where no row could be gathered
        return jnp.zeros((), jnp.promote_types(embeddings.dtype, jnp.float32))
    x = zero_masked(embeddings, where)
    wide = widen(x)
    weights = jnp.ones(n, wide.dtype) if where is None else where.astype(wide.dtype)
    # Zero rows among them; NaN is kept, and loud.
    weights = jnp.where(length(jax.lax.stop_gradient(wide)) == 0.0, 0.0, weights)
    is_kept = weights != 0.0
    size = n if block_size is None else min(block_size, n)
    neighbors = _nearest(jax.lax.stop_gradient(x), is_kept, size, precision)
    unit = direction(wide)
    distances = length(unit - unit[neighbors])
    least = 4.0 * float(jnp.finfo(embeddings.dtype).eps)
    is_near = distances <= least
    logarithms = jnp.log(jnp.where(is_near, 1.0, distances))
    losses = -jnp.where(is_near, math.log(least), logarithms)
    has_neighbor = jnp.sum(is_kept, dtype=jnp.int32) > 1
    return weighted_mean(losses, jnp.where(has_neighbor, weights, 0.0))


def _nearest(
    x: jax.Array, is_kept: jax.Array, size: int, precision: jax.lax.PrecisionLike
) -> jax.Array:
    """Numbers of the other rows with the largest cosine, by tiles of ``size**2``."""
    n = len(x)
    missing = -n % size
    x = jnp.pad(x, ((0, missing), (0, 0)))
    is_kept = jnp.pad(is_kept, (0, missing))
    numbers = jnp.arange(len(x), dtype=jnp.int32)
    x, is_kept, numbers = vary_alike(x, is_kept, numbers)
    blocks = jax.tree.map(
        lambda a: a.reshape(-1, size, *a.shape[1:]),
        (x, length(widen(x)), is_kept, numbers),
    )

    def of_rows(rows):
        x, lengths, _, own = rows

        def compare(best, others):
            y, y_lengths, is_kept, numbers = others
            cosines = inner_products(x, y, lengths, y_lengths, precision=precision)
            is_pair = is_kept[None, :] & (own[:, None] != numbers[None, :])
            cosines = jnp.where(is_pair, cosines, -jnp.inf)
            largest = jnp.max(cosines, axis=-1)
            found = numbers[jnp.argmax(cosines, axis=-1)]
            is_nearer = largest > best[0]
            best = (
                jnp.where(is_nearer, largest, best[0]),
                jnp.where(is_nearer, found, best[1]),
            )
            return best, None

        start = jnp.full_like(lengths, -jnp.inf), jnp.zeros_like(own)
        (_, found), _ = jax.lax.scan(compare, start, blocks)
        return found

    return jax.lax.map(of_rows, blocks).reshape(-1)[:n]
