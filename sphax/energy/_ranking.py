"""Semantic ranking: similar classes have prototypes closer to each other."""

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, as_points
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax._numerics import divide
from sphax.energy._uniformity._sets import of_every_set
from sphax.sphere import direction, inner_products


def semantic_ranking(
    points: jax.typing.ArrayLike,
    similarities: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of the order of cosines, given the order of similarities.

    Over all triples of different classes, with :math:`\sigma` the logistic function and
    similarities :math:`s_{ij}`, such as cosines of word vectors,

    .. math::
        R = -\operatorname{mean}_{i, j, k} \begin{cases}
        \log \sigma(\hat x_i \cdot \hat x_j - \hat x_i \cdot \hat x_k)
        & s_{ij} \ge s_{ik} \\
        \log \sigma(\hat x_i \cdot \hat x_k - \hat x_i \cdot \hat x_j)
        & \text{otherwise.}
        \end{cases}

    Two classes that are equally similar to a third one are to be equally far from it.
    The paper adds it to a separation of the prototypes, as :func:`separated_prototypes`
    does. It takes about :math:`n^3` logarithms, in memory of :math:`n^2`.

    Args:
        points: Prototypes, floating, ``[..., n, d]``; their lengths do not count.
        similarities: :math:`s_{ij}`, floating, ``[n, n]``; only the order in each row
            counts, and the diagonal does not. They have no gradient.
        where: Boolean mask or weights of the points, ``[..., n]``; a triple has the
            product of its weights. Points of weight zero are zeroed before anything
            else: a NaN in them, or in their similarities, reaches nothing.

    Returns:
        The mean, ``[...]``, in float32 at least: log 2 for equal cosines, and 0.127 or
        more; 0, with zero gradient, when no triple is left. A zero point has cosine 0
        with zero gradient; NaN if a similarity is.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
        >>> sx.energy.semantic_ranking(x, x @ x.T)
        Array(0.3117, dtype=float32)

    References:
        Mettes, van der Pol, Snoek, `Hyperspherical Prototype Networks
        <https://arxiv.org/abs/1901.10514>`_, NeurIPS 2019.
    """
    points = as_points("points", points)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    return _ranking(points, as_similarities(similarities, points.shape[-2]), where)


def as_similarities(similarities: jax.typing.ArrayLike, n: int) -> jax.Array:
    """Similarities as an array; raises unless floating, ``[n, n]``."""
    array = as_floating("similarities", similarities)
    if array.shape != (n, n):
        raise ValueError(
            f"similarities must be [n, n] = {(n, n)}, a row for each class, got shape"
            f" {array.shape}."
        )
    return array


@compiled()
def _ranking(points, similarities, where):
    def energy(rows, weights):
        units = direction(rows)
        cosines = inner_products(units, units, precision="highest")
        return ranking_of_cosines(cosines, similarities, weights)

    return of_every_set(energy, points, where)


def ranking_of_cosines(
    cosines: jax.Array, similarities: jax.Array, weights: jax.Array
) -> jax.Array:
    """The ranking of one set: cosines and similarities ``[n, n]``, weights ``[n]``."""
    n = len(cosines)
    others = 1.0 - jnp.eye(n, dtype=cosines.dtype)
    weights = weights.astype(cosines.dtype)
    # Whatever is on the diagonal, or in the row or column of a masked class.
    counts = weights[:, None] * weights[None, :] * others != 0.0
    cosines, similarities = (jnp.where(counts, x, 0.0) for x in (cosines, similarities))

    # Again in the backward pass, so that no array of all triples is kept.
    @jax.checkpoint
    def of_anchor(anchor):
        cosine, similarity, of_others = anchor
        gaps = cosine[:, None] - cosine[None, :]
        order = similarity[:, None] - similarity[None, :]
        costs = jax.nn.softplus(jnp.where(order >= 0.0, -gaps, gaps))
        # A difference of infinite similarities is in no order either.
        costs = jnp.where(jnp.isnan(order), jnp.nan, costs)
        pairs = of_others[:, None] * of_others[None, :] * others
        return jnp.sum(pairs * costs), jnp.sum(pairs)

    sums, totals = jax.lax.map(
        of_anchor, (cosines, similarities, weights[None] * others)
    )
    return divide(jnp.sum(weights * sums), jnp.sum(weights * totals))
