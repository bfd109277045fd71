"""Which pairs a loss is computed of: masks from labels, mining, and drawn negatives."""

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import as_array, as_floating, check_count, check_key
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax.losses._core.batch import as_scalar, check_range
from sphax.losses._core.pairs import Batch, PairOptions, Plan, as_pairwise, compare


def pair_masks(
    labels: jax.typing.ArrayLike,
    reference_labels: jax.typing.ArrayLike | None = None,
    *,
    self_index: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
    reference_where: jax.typing.ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The positive and the negative pairs that labels make, as two masks.

    The pairs are those that every pairwise loss has for the same labels. Given as
    ``pairs=``, in place of labels, they give the same loss; mining makes other masks of
    them.

    Args:
        labels: Labels of the anchors: any integers, ``[n]``, or sets of labels,
            boolean, ``[n, classes]``, of which a positive pair shares one.
        reference_labels: Labels of the references, of the kind of ``labels``, ``[m]``
            or ``[m, classes]``. Without them, the batch is compared with itself, and no
            row is a pair of itself.
        self_index: The reference that is the anchor itself, integer, ``[n]``; -1 for an
            anchor that is not among them.
        where: Boolean mask or weights of the anchors, ``[n]``; those of weight zero
            have no pair. Without ``reference_labels`` they are no references either.
        reference_where: Which references there are, boolean, ``[m]``.

    Returns:
        ``(is_positive, is_negative)``, boolean, ``[n, m]``; ``[n, n]`` without
        ``reference_labels``. If the ``self_index`` of an anchor is outside of
        ``[-1, m)``, all of its pairs are in both masks, which makes a loss NaN.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, or ``reference_where`` is given without
            ``reference_labels``.

    Example:
        >>> is_positive, is_negative = sx.losses.pair_masks(jnp.array([0, 0, 1]))
        >>> print(is_positive.astype(int))
        [[0 1 0]
         [1 0 0]
         [0 0 0]]
        >>> print(is_negative.astype(int))
        [[0 0 1]
         [0 0 1]
         [1 1 0]]
    """
    if reference_where is not None and reference_labels is None:
        raise ValueError(
            "reference_where must be given with reference_labels; without them the"
            " batch is compared with itself, where masks its rows."
        )
    rows = _rows_of("labels", labels)
    where = as_weights(where, (len(rows),), "the first axis of labels")
    options: PairOptions = {"where": where}
    if reference_labels is not None or self_index is not None:
        if reference_labels is None:
            reference_labels, references = labels, rows
            if where is not None:
                reference_where = where.astype(bool)
        else:
            references = _rows_of("reference_labels", reference_labels)
        options |= {
            "references": references,
            "reference_labels": reference_labels,
            "self_index": self_index,
        }
    if reference_where is not None:
        options["reference_where"] = reference_where
    batch, plan = as_pairwise(rows, labels, options)
    return _pair_masks(batch, plan=plan)


def _rows_of(name: str, labels: jax.typing.ArrayLike) -> np.ndarray:
    """Embeddings for labels that have none, of which nothing is used."""
    if np.ndim(labels) == 0:
        raise ValueError(f"{name} must have an entry for each row, got a scalar.")
    return np.zeros((np.shape(labels)[0], 1), np.float32)


@compiled("plan")
def _pair_masks(batch: Batch, *, plan: Plan) -> tuple[jax.Array, jax.Array]:
    pairs = compare(batch, plan)
    is_positive, is_negative = pairs.map_anchors(
        lambda tile, *_: (tile.is_positive, tile.is_negative)
    )
    if pairs.is_wrong is not None:
        is_positive |= pairs.is_wrong[:, None]
        is_negative |= pairs.is_wrong[:, None]
    return is_positive, is_negative


def mine_multi_similarity(
    similarities: jax.typing.ArrayLike,
    is_positive: jax.typing.ArrayLike,
    is_negative: jax.typing.ArrayLike,
    *,
    margin: jax.typing.ArrayLike = 0.1,
) -> tuple[jax.Array, jax.Array]:
    r"""The pairs of an anchor that others of its pairs contradict (Multi-Similarity).

    A positive pair is kept if it is less similar than the most similar negative pair
    plus the margin, a negative one if it is more similar than the least similar
    positive pair minus the margin:

    .. math::
        s_p < \max_n s_n + \epsilon, \qquad s_n > \min_p s_p - \epsilon.

    Args:
        similarities: Of anchors and references, such as cosines, floating, ``[n, m]``.
        is_positive: Mask of the positive pairs, boolean, ``[n, m]``, as of
            :func:`pair_masks`.
        is_negative: Mask of the negative pairs, boolean, ``[n, m]``.
        margin: :math:`\epsilon`, not negative.

    Returns:
        The masks of the pairs that are kept, ``[n, m]`` each. An anchor that lacks
        positives or negatives keeps no pair. A pair whose similarity is NaN is kept.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or the margin is negative.

    Example:
        >>> masks = sx.losses.pair_masks(jnp.array([0, 0, 0, 1]))
        >>> s = jnp.array([[1.0, 0.9, 0.4, 0.5], *3 * [[0.0] * 4]])
        >>> positives, negatives = sx.losses.mine_multi_similarity(s, *masks)
        >>> print(positives[0], negatives[0])  # 0.4 < 0.5 + 0.1, and 0.5 > 0.4 - 0.1
        [False False  True False] [False False False  True]

    References:
        Wang et al., `Multi-Similarity Loss <https://arxiv.org/abs/1904.06627>`_, CVPR
        2019, Eqs. 10 and 11.
    """
    similarities = _as_matrix("similarities", similarities)
    margin = as_scalar("margin", margin, similarities.dtype, 0.0)
    return _mine_multi_similarity(
        similarities,
        _as_mask("is_positive", is_positive, similarities),
        _as_mask("is_negative", is_negative, similarities),
        margin,
    )


@compiled()
def _mine_multi_similarity(similarities, is_positive, is_negative, margin):
    info = jnp.finfo(similarities.dtype)
    lowest = jnp.min(
        similarities, axis=-1, where=is_positive, initial=float(info.max), keepdims=True
    )
    highest = jnp.max(
        similarities, axis=-1, where=is_negative, initial=float(info.min), keepdims=True
    )
    masks = is_positive, is_negative
    return contradicted(similarities, *masks, lowest, highest, margin)


def contradicted(
    similarities: jax.Array,
    is_positive: jax.Array,
    is_negative: jax.Array,
    lowest: jax.Array,
    highest: jax.Array,
    margin: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The masks without pairs that are clear of the other kind by the margin.

    Given the least similar positive pair of each anchor and its most similar negative
    one, the largest and the lowest number where there is no pair of the kind.
    """
    # Negated comparisons, so that NaN is mined: left out, it would train silently.
    is_far = ~(similarities >= highest + margin)
    is_near = ~(similarities <= lowest - margin)
    return is_positive & is_far, is_negative & is_near


def mine_easy_positive(
    similarities: jax.typing.ArrayLike,
    is_positive: jax.typing.ArrayLike,
    is_negative: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """The nearest positive and the nearest negative of each anchor (easy positive).

    An anchor then learns from the image of its class that resembles it most, and the
    class need not become one cluster.

    Args:
        similarities: Of anchors and references, such as cosines, floating, ``[n, m]``.
        is_positive: Mask of the positive pairs, boolean, ``[n, m]``, as of
            :func:`pair_masks`.
        is_negative: Mask of the negative pairs, boolean, ``[n, m]``.

    Returns:
        The masks of the pairs that are chosen, ``[n, m]`` each, all of several that are
        equally near. An anchor that lacks positives or negatives has no pair. A pair
        whose similarity is NaN is chosen.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> masks = sx.losses.pair_masks(jnp.array([0, 0, 0, 1]))
        >>> s = jnp.array([[1.0, 0.9, 0.4, 0.5], *3 * [[0.0] * 4]])
        >>> positives, negatives = sx.losses.mine_easy_positive(s, *masks)
        >>> print(positives[0], negatives[0])
        [False  True False False] [False False False  True]

    References:
        Xuan et al., `Improved Embeddings with Easy Positive Triplet Mining
        <https://arxiv.org/abs/1904.04370>`_, WACV 2020.
    """
    similarities = _as_matrix("similarities", similarities)
    return _mine_easy_positive(
        similarities,
        _as_mask("is_positive", is_positive, similarities),
        _as_mask("is_negative", is_negative, similarities),
    )


@compiled()
def _mine_easy_positive(similarities, is_positive, is_negative):
    has_both = jnp.any(is_positive, axis=-1) & jnp.any(is_negative, axis=-1)

    def nearest(mask):
        mask &= has_both[:, None]
        highest = jnp.max(
            similarities, axis=-1, where=mask, initial=-jnp.inf, keepdims=True
        )
        # Negated, so that NaN is mined: left out, it would train silently.
        return mask & ~(similarities < highest)

    return nearest(is_positive), nearest(is_negative)


def distance_log_weights(
    distances: jax.typing.ArrayLike,
    is_negative: jax.typing.ArrayLike,
    *,
    features: int,
    cutoff: jax.typing.ArrayLike = 0.5,
    nonzero_cutoff: jax.typing.ArrayLike = 1.4,
) -> jax.Array:
    r"""Logarithms of weights that make all distances of negatives equally likely.

    Points drawn uniformly on a sphere in :math:`d` dimensions have distances :math:`D`
    with density :math:`q`, nearly all of them close to :math:`\sqrt 2`. Weights of one
    over this density (distance-weighted sampling),

    .. math::
        \log w = -(d - 2) \log D' - \tfrac{d - 3}{2} \log(1 - D'^2 / 4), \qquad
        D' = \max(D, D_0),

    favor negatives that are near, but no more those that are nearer than :math:`D_0`.
    The weights themselves exceed what float32 can hold from some 200 features on, and
    those of one anchor have little to do with those of another:
    :func:`sample_negatives` draws from the logarithms, row by row. In high dimensions
    they are steep, and nearly every draw is the nearest negative beyond the cutoff.

    Args:
        distances: Distances of the directions of anchors and references, in ``[0, 2]``,
            floating, ``[n, m]``.
        is_negative: Mask of the negative pairs, boolean, ``[n, m]``, as of
            :func:`pair_masks`.
        features: :math:`d`, the number of features of the embeddings, 2 or more.
        cutoff: :math:`D_0`, in ``(0, 2)``; smaller distances count as this one.
        nonzero_cutoff: Distance from which on the weight is 0, more than ``cutoff``; at
            1.4 and beyond, a negative costs nothing in :func:`margin_loss` by default.

    Returns:
        :math:`\log w`, ``[n, m]``, float32 at least, without gradient and not
        normalized; :math:`-\infty` where the weight is 0, NaN where the distance of a
        negative pair is.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a number is out of range.

    Example:
        >>> distances = jnp.array([[0.0, 0.5, 1.0, 1.2, 1.5]])
        >>> is_negative = jnp.array([[False, True, True, True, True]])
        >>> sx.losses.distance_log_weights(distances, is_negative, features=2)[0]
        Array([     -inf, -0.032269, -0.143841, -0.223144,      -inf], dtype=float32)

    References:
        Wu et al., `Sampling Matters in Deep Embedding Learning
        <https://arxiv.org/abs/1706.07567>`_, ICCV 2017, Eqs. 5 and 6.
    """
    distances = _as_matrix("distances", distances)
    check_count("features", features, least=2)
    check_range("cutoff", cutoff, 0.0, 2.0, is_open=True)
    least = cutoff if isinstance(cutoff, (int, float)) else 0.0
    check_range("nonzero_cutoff", nonzero_cutoff, least, is_open=True)
    return _distance_log_weights(
        distances,
        _as_mask("is_negative", is_negative, distances),
        as_scalar("cutoff", cutoff, distances.dtype),
        as_scalar("nonzero_cutoff", nonzero_cutoff, distances.dtype),
        features=int(features),
    )


@compiled("features")
def _distance_log_weights(distances, is_negative, cutoff, nonzero_cutoff, *, features):
    # Negated, so that NaN stays: left out, it would train silently.
    is_drawn = is_negative & ~(distances >= nonzero_cutoff)
    distances = jnp.where(is_drawn, jnp.maximum(distances, cutoff), 1.0)
    # Antipodes have density 0: what float resolves next to them stands for them.
    rest = jnp.maximum(1.0 - 0.25 * distances**2, jnp.finfo(distances.dtype).eps)
    log_density = (features - 2.0) * jnp.log(distances)
    log_density += 0.5 * (features - 3.0) * jnp.log(rest)
    return jnp.where(is_drawn, -log_density, -jnp.inf)


def sample_negatives(
    key: jax.Array, log_weights: jax.typing.ArrayLike, *, samples: int = 1
) -> jax.Array:
    r"""Draws columns for each row by their weights, with replacement.

    A draw is :math:`\arg\max_k (\log w_k + G_k)` with independent Gumbel noise
    :math:`G`, the column :math:`k` with probability :math:`w_k / \sum_j w_j`. Nothing
    is exponentiated or normalized, so that rows with weights of any size are drawn from
    alike.

    Args:
        key: PRNG key.
        log_weights: Logarithms of the weights up to a constant for each row, such as
            those of :func:`distance_log_weights`, floating, ``[n, m]``;
            :math:`-\infty` for a column that is never drawn.
        samples: Number of draws for each row.

    Returns:
        Drawn columns, int32, ``[n, samples]``; -1 in a row without a weight above 0.
        They are the ``negatives`` of :func:`margin_loss`.

    Raises:
        TypeError: If ``key`` is not a random key, or an argument has the wrong kind of
            dtype.
        ValueError: If shapes do not fit, or ``samples`` is not positive.

    Example:
        >>> log_weights = jnp.array([[0.0, -jnp.inf, 9.0], [-jnp.inf] * 3])
        >>> sx.losses.sample_negatives(jax.random.key(0), log_weights, samples=4)
        Array([[ 2,  2,  2,  2],
               [-1, -1, -1, -1]], dtype=int32)

    References:
        Wu et al., `Sampling Matters in Deep Embedding Learning
        <https://arxiv.org/abs/1706.07567>`_, ICCV 2017, Section 3.2.
    """
    check_key(key)
    check_count("samples", samples)
    return _sample(key, _as_matrix("log_weights", log_weights), samples=int(samples))


@compiled("samples")
def _sample(key, log_weights, *, samples):
    n, m = log_weights.shape
    if m == 0:
        return jnp.full((n, samples), -1, jnp.int32)
    # One after the other: the noise of a draw takes the memory of all pairs.
    drawn = jax.lax.map(
        lambda one: jax.random.categorical(one, log_weights),
        jax.random.split(key, samples),
    )
    is_possible = jnp.any(log_weights != -jnp.inf, axis=-1)
    return jnp.where(is_possible[:, None], drawn.T, -1).astype(jnp.int32)


def _as_matrix(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` without gradient, float32 at least; raises unless floating, ``[n, m]``."""
    array = as_floating(name, x)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be [n, m], a row for each anchor and a column for each"
            f" reference, got shape {array.shape}."
        )
    wide = jnp.promote_types(array.dtype, jnp.float32)
    return jax.lax.stop_gradient(array.astype(wide))


def _as_mask(name: str, mask: jax.typing.ArrayLike, like: jax.Array) -> jax.Array:
    array = as_array(name, mask)
    if array.dtype != jnp.bool_ or array.shape != like.shape:
        raise ValueError(
            f"{name} must be boolean, {like.shape}, an entry for each pair, got"
            f" {array.dtype} of shape {array.shape}."
        )
    return array
