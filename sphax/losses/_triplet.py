"""The triplet loss, with its published kinds of mining."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Unpack, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_flag
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import divide
from sphax.losses._core.batch import as_scalar
from sphax.losses._core.pairs import (
    Batch,
    PairOptions,
    Pairs,
    Plan,
    Tile,
    as_pairwise,
    compare,
)
from sphax.losses._core.tiles import Terms

Mining = Literal[
    "all",
    "active",
    "hard",
    "semi_hard",
    "easy",
    "nearest_semi_hard",
    "batch_hard",
    "easy_positive",
    "easy_positive_semi_hard",
]


@explain_names(OF_LOSSES)
def triplet(
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike | None = None,
    *,
    margin: jax.typing.ArrayLike | Literal["soft"] = 0.2,
    soft: bool = False,
    mining: Mining = "all",
    distance: Literal["squared", "euclidean"] = "squared",
    **options: Unpack[PairOptions],
) -> jax.Array:
    r"""Keeps negatives farther away than positives by a margin (triplet loss).

    The mean over the mined triplets of an anchor, a positive and a negative, at
    distances :math:`d_p, d_n` from the anchor, of

    .. math::
        [d_p - d_n + m]_+ \qquad \text{or, softly,} \qquad
        \log\big(1 + e^{d_p - d_n + m}\big).

    =============================  =================================================
    ``mining``                     triplets in the mean
    =============================  =================================================
    ``"all"``                      all
    ``"active"``                   those that cost something, :math:`d_n < d_p + m`
    ``"hard"``                     :math:`d_n \le d_p`
    ``"semi_hard"``                :math:`d_p < d_n < d_p + m`
    ``"easy"``                     :math:`d_n \ge d_p + m`, which only cost softly
    ``"nearest_semi_hard"``        one for each anchor and positive: the nearest
                                   negative beyond :math:`d_p`, or else the farthest
                                   of all
    ``"batch_hard"``               one for each anchor: farthest positive, nearest
                                   negative
    ``"easy_positive"``            one for each anchor: nearest positive, nearest
                                   negative
    ``"easy_positive_semi_hard"``  one for each anchor: nearest positive, and the
                                   nearest negative beyond it, if there is one
    =============================  =================================================

    Three losses are published as semi-hard: ``"semi_hard"`` with ``"squared"`` distance
    (FaceNet) or with ``"euclidean"`` (PyTorch Metric Learning), and
    ``"nearest_semi_hard"`` (TensorFlow Addons). They have different values and
    different gradients. If a network has collapsed into one point, every triplet is
    ``"hard"`` and costs the margin, and none is ``"semi_hard"``. If one positive or
    negative is to be chosen and several are equally near, they share its place.

    The soft form was published for ``"batch_hard"`` with ``"euclidean"`` distance and
    no margin, and for easy positives with cosines, :math:`\log(1 + e^{s_n - s_p})` of
    cosines multiplied by 10: squared distances have a factor of 2 in this place.

    Time is that of the pairs where there is one triplet for each anchor, otherwise it
    is multiplied by the size of the largest class in the batch. Memory is that of the
    pairs, whatever the number of triplets.

    Args:
        embeddings: Rows that count by their directions, floating, ``[n, features]``.
        labels: Any integers, ``[n]``, or sets of labels, boolean, ``[n, classes]``, of
            which a positive pair shares one.
        margin: :math:`m`, not negative, a distance of the kind that is compared;
            ``"soft"`` stands for ``soft=True, margin=0``.
        soft: Whether triplets cost softly.
        mining: Which triplets are in the mean.
        distance: Whether distances of the directions (at most 2) or their squares (at
            most 4) are compared.
        options: What is compared, and how: references, masks, weights, a memory,
            blocks, a mesh axis; see :class:`PairOptions`.

    Returns:
        The loss, ``[]``, float32 at least; 0 with zero gradient if nothing is mined.
        Which triplets are mined has no gradient. A distance has zero gradient where two
        directions coincide. The soft form has a second derivative in reverse mode only
        where there is one triplet for each anchor.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, an option is out of range, the mining needs
            the margin that ``"soft"`` does not have, or no mined triplet can cost
            anything.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> labels = jnp.array([0, 0, 1])  # squared distances 0.8, and 0.4 and 0.08
        >>> sx.losses.triplet(x, labels)
        Array(0.76, dtype=float32)
        >>> sx.losses.triplet(x, labels, mining="batch_hard", margin="soft")
        Array(1.0148, dtype=float32)

    References:
        Schroff et al., `FaceNet <https://arxiv.org/abs/1503.03832>`_, CVPR 2015, Eqs.
        1-4; Hermans et al., `In Defense of the Triplet Loss
        <https://arxiv.org/abs/1703.07737>`_, 2017 (batch hard, soft margin); Xuan et
        al., `Improved Embeddings with Easy Positive Triplet Mining
        <https://arxiv.org/abs/1904.04370>`_, WACV 2020.
    """
    check_choice("mining", mining, get_args(Mining))
    check_choice("distance", distance, ("squared", "euclidean"))
    check_flag("soft", soft)
    if isinstance(margin, str):
        if margin != "soft":
            raise ValueError(f'margin must be a number or "soft", got {margin!r}.')
        if mining in ("active", "semi_hard", "easy"):
            raise ValueError(
                f"mining={mining!r} asks which negatives lie within the margin, and"
                ' margin="soft" has no width; give a number with soft=True, or mine'
                ' "all", "hard" or "batch_hard".'
            )
        margin, soft = 0.0, True
    if mining == "easy" and not soft:
        raise ValueError(
            'mining="easy" takes negatives beyond the margin, which cost nothing unless'
            ' soft=True; give it, or mine "all" or "active".'
        )
    batch, plan = as_pairwise(embeddings, labels, options)
    return _triplet(
        batch,
        as_scalar("margin", margin, batch.dtype, 0.0),
        mining=mining,
        is_soft=bool(soft),
        distance=distance,
        plan=plan,
    )


@compiled("mining", "is_soft", "distance", "plan")
def _triplet(
    batch: Batch,
    margin: jax.Array,
    *,
    mining: Mining,
    is_soft: bool,
    distance: Literal["squared", "euclidean"],
    plan: Plan,
) -> jax.Array:
    def apart(tile):
        return tile.squared_distances if distance == "squared" else tile.distances

    pairs = compare(batch, plan)
    if mining in ("batch_hard", "easy_positive", "easy_positive_semi_hard"):
        positive, negative, is_anchor = _chosen_distances(pairs, mining, apart)
        gap = jnp.where(is_anchor, positive - negative + margin, 0.0)
        losses = jnp.where(is_anchor, _cost(gap, is_soft), 0.0)
        return pairs.mean(losses, is_anchor.astype(losses.dtype))

    def of_anchors(tile, margin, _):
        masks = tile.is_positive, tile.is_negative
        return _sum_triplets(mining, is_soft, apart(tile), *masks, margin)

    return pairs.mean(*pairs.map_anchors(of_anchors, margin))


def _chosen_distances(
    pairs: Pairs, mining: Mining, apart: Callable[[Tile], jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distances of the one positive and negative of each anchor; whether it has both.

    They are chosen by their cosines.
    """
    sign = -1.0 if mining == "batch_hard" else 1.0  # the farthest or nearest positive

    def extremes(tile, *_):
        positives = tile.positives(sign * tile.products)
        return Terms(largest=(positives, tile.negatives(tile.products)))

    positive, negative = pairs.reduce(extremes).largest
    positive = sign * positive
    if mining == "easy_positive_semi_hard":

        def beyond(tile, _, positive, __):
            cosines = tile.negatives(tile.products)
            lowest = jnp.finfo(cosines.dtype).min
            is_nearer = tile.products >= positive[:, None]
            return Terms(largest=jnp.where(is_nearer, lowest, cosines))

        negative = pairs.reduce(beyond, rows=positive).largest

    def at(tile, _, chosen, __):
        def equally_near(mask, cosines):
            # Not `==`: compiled in another sweep, a product may be rounded otherwise.
            # A NaN is chosen, not left out silently.
            error = 8.0 * float(jnp.finfo(cosines.dtype).eps)
            is_chosen = mask & ~(jnp.abs(tile.products - cosines[:, None]) > error)
            return jnp.where(is_chosen, apart(tile), 0.0), tile.count(is_chosen)

        masks = tile.is_positive, tile.is_negative
        return Terms(tuple(map(equally_near, masks, chosen)))

    (positive, is_positive), (negative, is_negative) = pairs.reduce(
        at, rows=(positive, negative)
    ).sums
    is_anchor = (is_positive > 0) & (is_negative > 0)
    return divide(positive, is_positive), divide(negative, is_negative), is_anchor


def _cost(gap: jax.Array, is_soft: bool) -> jax.Array:
    """Hinge or soft hinge of ``d_ap - d_an + margin``."""
    return jax.nn.softplus(gap) if is_soft else jax.nn.relu(gap)


# The loop below has no derivative in reverse mode. It adds up the derivatives of the
# costs with respect to the margin and to every distance as well: for hinges these count
# the triplets that cost something, in all and by the distance that they contain.
@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _sum_triplets(
    mining: Mining,
    is_soft: bool,
    distances: jax.Array,
    is_positive: jax.Array,
    is_negative: jax.Array,
    margin: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Costs and numbers of the mined triplets of every anchor, ``[n]`` each."""
    sums = _loop_over_positives(
        mining, is_soft, distances, is_positive, is_negative, margin
    )
    return sums.costs, sums.counts


@_sum_triplets.defjvp
def _sum_triplets_jvp(mining, is_soft, primals, tangents):
    d_distances, _, _, d_margin = tangents
    sums = _loop_over_positives(mining, is_soft, *primals)
    d_costs = (
        jnp.sum(sums.distance_slopes * d_distances, axis=-1)
        + sums.margin_slopes * d_margin
    )
    return (sums.costs, sums.counts), (d_costs, jnp.zeros_like(sums.counts))


class _Sums(NamedTuple):
    """Sums over the triplets so far, in the memory that the pairs take."""

    positive: jax.Array  # column of each anchor's next positive, [n]; m after the last
    costs: jax.Array  # of the mined triplets, [n]
    counts: jax.Array  # of the mined triplets, [n]
    margin_slopes: jax.Array  # derivatives of the costs by the margin, [n]
    distance_slopes: jax.Array  # and by the distances, [n, m]


def _loop_over_positives(
    mining, is_soft, distances, is_positive, is_negative, margin
) -> _Sums:
    """Iteration r pairs each anchor with its r-th positive and all negatives."""
    m = distances.shape[1]
    # Floating, exact below 2^24: LLVM of jaxlib 0.10.2 cannot compile, for AVX-512
    # ("Cannot select ... SUBV_BROADCAST_LOAD"), the choice of float64 numbers by a row
    # of eight int32 that equal a column of eight.
    columns = jnp.arange(m, dtype=distances.dtype)[None, :]

    def next_positive(after):
        is_ahead = is_positive & (columns > after[:, None])
        return jnp.min(columns, axis=-1, where=is_ahead, initial=m)

    def add_positive(sums: _Sums) -> _Sums:
        this = sums.positive.astype(jnp.int32)
        near = jnp.take_along_axis(
            distances, this[:, None], axis=1, mode="fill", fill_value=0.0
        )
        gap = near - distances + margin
        has_positive = sums.positive < m
        mined = _mined(
            mining, distances, near, gap, is_negative & has_positive[:, None]
        )
        slope = jax.nn.sigmoid(gap) if is_soft else (gap > 0).astype(gap.dtype)
        slopes = jnp.sum(mined * slope, axis=-1)
        # Positives of their anchors by vmap: rows may lie on several devices.
        distance_slopes = jax.vmap(lambda row, i, x: row.at[i].add(x, mode="drop"))(
            sums.distance_slopes - mined * slope, this, slopes
        )
        return _Sums(
            next_positive(sums.positive),
            sums.costs + jnp.sum(mined * _cost(gap, is_soft), axis=-1),
            sums.counts + jnp.sum(mined, axis=-1),
            sums.margin_slopes + slopes,
            distance_slopes,
        )

    zeros = jnp.sum(jnp.zeros_like(distances), axis=-1)
    start = _Sums(
        next_positive(zeros - 1.0), zeros, zeros, zeros, jnp.zeros_like(distances)
    )
    if m == 0:  # no column to index
        return start
    return jax.lax.while_loop(
        lambda sums: jnp.any(sums.positive < m), add_positive, start
    )


def _mined(mining, distances, near, gap, is_candidate) -> jax.Array:
    """Weight of every negative for a pair at distance ``near``: 1 if it is mined.

    Negatives that tie for one place share it.
    """
    # Negated comparisons, so that NaN is mined: left out, it would train silently.
    is_beyond = ~(distances <= near)
    is_within_margin = ~(gap <= 0)
    if mining == "all":
        return is_candidate.astype(distances.dtype)
    if mining == "active":
        return (is_candidate & is_within_margin).astype(distances.dtype)
    if mining == "easy":
        return (is_candidate & ~(gap > 0)).astype(distances.dtype)
    if mining == "hard":
        return (is_candidate & ~(distances > near)).astype(distances.dtype)
    if mining == "semi_hard":
        is_mined = is_candidate & is_beyond & is_within_margin
        return is_mined.astype(distances.dtype)
    # "nearest_semi_hard": the nearest candidate beyond, else the farthest of all.
    nearest = jnp.min(
        distances, axis=-1, where=is_candidate & is_beyond, initial=jnp.inf
    )
    farthest = jnp.max(distances, axis=-1, where=is_candidate, initial=-jnp.inf)
    chosen = jnp.where(nearest == jnp.inf, farthest, nearest)[:, None]
    differs = (distances < chosen) | (distances > chosen)
    mined = (is_candidate & ~differs).astype(distances.dtype)
    return mined / jnp.maximum(jnp.sum(mined, axis=-1, keepdims=True), 1.0)
