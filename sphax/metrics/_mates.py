"""The mate of each probe in a gallery, from scores or from embeddings tile by tile."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_comparable, as_finite, as_numpy_labels, check_count
from sphax._compiled import compiled
from sphax.metrics._tiles import (
    Exclude,
    as_exclusion,
    as_set,
    check_alike,
    check_cosines,
    directions,
    dtype_of_cosines,
    in_blocks,
)
from sphax.sphere import inner_products

# Templates in a tile for each of its probes.
_WIDTH = 4
# Blocks of probes that are on the device together. Each tile of the gallery is
# gathered once for all of them.
_BLOCKS = 16


class Mates(NamedTuple):
    """The mate of each probe in a gallery; see :func:`find_mates`.

    :func:`cmc`, :func:`dir_at_far` and :func:`tpir_at_fpir` take it in the place of
    scores and labels.

    Attributes:
        is_mated: Whether the gallery has the identity of the probe, boolean,
            ``[probes]``.
        score: Largest score of the mate's templates, ``[probes]``; of no meaning for
            probes without a mate.
        rank: Number of identities that score at least as high as the mate, itself
            included, integer, ``[probes]``; of no meaning for probes without a mate.
        best: Largest score of any template, ``[probes]``; minus infinity if there is no
            template to compare with.
        identities: Number of identities in the gallery.

    Example:
        >>> x, labels = jnp.array([[1.0, 0.0], [0.6, 0.8]]), [7, 8]
        >>> mates = sx.metrics.find_mates(x, [8, 5], x, labels)
        >>> print(mates.is_mated, mates.rank[0], mates.identities)
        [ True False] 2 2
    """

    is_mated: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    best: np.ndarray
    identities: int


def find_mates(
    probes: jax.typing.ArrayLike,
    probe_labels: ArrayLike,
    gallery: jax.typing.ArrayLike,
    gallery_labels: ArrayLike,
    *,
    exclude: Exclude | None = None,
    block_size: int = 1024,
    precision: jax.lax.PrecisionLike = "highest",
) -> Mates:
    """Score and rank of each probe's mate in a gallery, from embeddings.

    What :func:`cmc`, :func:`dir_at_far` and :func:`tpir_at_fpir` need to know of the
    scores, which are the cosines of all probes and templates: too many to hold for a
    large gallery. They are computed tile by tile on the device, and only three numbers
    of each probe are kept.

    The score of an identity is the largest of its templates. A probe's rank is the
    number of identities that score at least as high as its mate, including the mate. A
    tie counts against the probe: an identity with a copy of the mate's template has the
    rank before it. The mate itself is known by its label, not by its score.

    Host code: concrete arrays, not under ``jit``. NumPy arrays stay on the host, and
    tiles of them are sent to the device; JAX arrays stay on their device. On an
    accelerator a larger ``block_size``, such as 4096, keeps it busy.

    Args:
        probes: Vectors, floating, ``[probes, features]``; they need not be unit.
        probe_labels: Identity of each probe, integer, ``[probes]``.
        gallery: Templates, dtype of ``probes``, ``[gallery, features]``; see
            :func:`pool_templates`.
        gallery_labels: Identity of each template, integer, ``[gallery]``.
        exclude: Pairs that do not exist: integer ``[pairs, 2]``, each the index of a
            probe and of a template; or a function of both indices, NumPy arrays ``[p,
            1]`` and ``[1, g]``, that returns booleans ``[p, g]``, True for such pairs.
            An identity without another template does not exist for the probe.
        block_size: Number of probes in a tile, which has four times as many templates:
            memory is a few arrays of ``4 block_size**2`` numbers.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        A :class:`Mates`. Scores are float32 at least; a zero vector has cosine 0 to
        everything.

    Raises:
        TypeError: If vectors are not floating or labels not integer.
        ValueError: If shapes do not fit or a cosine is NaN.

    Example:
        The first template is a picture of the first probe itself:

        >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> mates = sx.metrics.find_mates(x[:1], [7], x, [7, 8, 7], exclude=[[0, 0]])
        >>> print(mates.rank, mates.score)
        [2] [0.]
        >>> sx.metrics.cmc(mates).rates
        array([0., 1.])
    """
    check_count("block_size", block_size)
    x, labels = as_set("probes", probes, "probe_labels", probe_labels)
    w, known = as_set("gallery", gallery, "gallery_labels", gallery_labels)
    check_alike("probes", x, "gallery", w)
    excluded = as_exclusion(exclude, len(x), len(w))
    labels, known = as_comparable(labels, known)
    order = np.argsort(known, kind="stable")
    identities, sorted_identities = np.unique(known[order], return_inverse=True)
    mate = np.searchsorted(identities, labels).clip(max=len(identities) - 1)
    mate = np.where(identities[mate] == labels, mate, -1)
    tiles = _as_tiles(order, sorted_identities, _WIDTH * block_size)
    # Probes of one identity, or of identities side by side, are in one block, so that
    # a block has few templates of mates.
    blocks = in_blocks(np.argsort(mate, kind="stable"), block_size)

    score, best = np.empty((2, len(x)), dtype_of_cosines(x))
    rank = np.empty(len(x), np.int64)
    for start in range(0, len(blocks), _BLOCKS):
        rows = blocks[start : start + _BLOCKS]
        found = _compare(x, rows, mate, w, tiles, excluded, precision)
        score[rows], rank[rows], best[rows] = found
    check_cosines("probes and gallery", best)
    is_mated = score > -np.inf
    # By the definition of the rank, whatever the rounding of the mate's score.
    best = np.where(is_mated & (rank == 1), score, best)
    return Mates(is_mated, score, rank, best, len(identities))


class _Tiles(NamedTuple):
    """The gallery sorted by identity and cut into tiles, wherever identities end.

    The last template is repeated to fill the last tile.
    """

    templates: np.ndarray  # indices of templates, [tiles, width]
    identities: np.ndarray  # number of the identity of each, [tiles, width]
    words: list["_Words"]  # what is said of the 32-bit words of each tile


class _Words(NamedTuple):
    """Words of 32 templates of a tile, whose first template is the lowest bit."""

    number: np.ndarray  # from 0, through all tiles
    ends: np.ndarray  # bits: last template of its identity
    tail: np.ndarray  # bits: templates of the identity with which the word ends
    since: np.ndarray  # word in which the identity begins with which this word begins


def _as_tiles(order: np.ndarray, identities: np.ndarray, size: int) -> _Tiles:
    """The gallery in the given order, in which the identities are sorted numbers."""
    templates = in_blocks(order, size, 32)
    identities = in_blocks(identities, size, 32)
    flat = identities.ravel()
    by_word = flat.reshape(-1, 32)
    is_last = np.append(flat[1:] != flat[:-1], True)
    words = (
        np.arange(len(by_word), dtype=np.int32),
        _as_bits(is_last.reshape(-1, 32)),
        _as_bits(by_word == by_word[:, -1:]),
        (np.searchsorted(flat, by_word[:, 0]) // 32).astype(np.int32),
    )
    of_tiles = zip(*(x.reshape(len(templates), -1) for x in words), strict=True)
    return _Tiles(templates, identities, [_Words(*each) for each in of_tiles])


def _as_bits(flags: np.ndarray) -> np.ndarray:
    """32 flags on the last axis as the bits of a number, the first being the lowest."""
    numbers = np.packbits(flags, axis=-1, bitorder="little").view("<u4")
    return numbers[..., 0].astype(np.uint32)


def _compare(x, blocks, mate, gallery, tiles, excluded, precision):
    """Score and rank of the mate, and the largest score, for some blocks of probes."""
    vectors = [directions(x, rows) for rows in blocks]
    scores = [
        _mate_scores(probes, rows, mate[rows], gallery, tiles, excluded, precision)
        for probes, rows in zip(vectors, blocks, strict=True)
    ]
    last = np.searchsorted(tiles.identities.ravel(), mate[blocks], "right") - 1
    last = last.astype(np.int32)  # position of the mate's last template
    size = blocks.shape[1]
    nothing = np.zeros(size, np.int32), np.full(size, -np.inf, vectors[0].dtype)
    states: list[tuple] = [(*nothing, np.full(size, -1, np.int32))] * len(blocks)
    for templates, words in zip(tiles.templates, tiles.words, strict=True):
        # In this order, bit b of all words is a slice of the columns.
        columns = templates.reshape(-1, 32).T.ravel()
        tile = directions(gallery, columns)
        # The host would be far ahead of the device, with many tiles in memory.
        jax.block_until_ready(states)
        for i, rows in enumerate(blocks):
            mask = None if excluded is None else excluded(rows, columns)
            states[i] = _count(
                states[i],
                vectors[i],
                tile,
                scores[i],
                last[i],
                words,
                mask,
                precision=precision,
            )
    others, best, _ = map(np.stack, zip(*jax.device_get(states), strict=True))
    return np.stack(jax.device_get(scores)), 1 + others, best


def _mate_scores(probes, rows, mate, gallery, tiles, excluded, precision):
    """Largest score of each mate's templates, minus infinity without a mate.

    The templates are put in tiles as wide as those in which they are compared: products
    of one shape give two equal vectors equal scores, and so a tie.
    """
    best = np.full(len(rows), -np.inf, probes.dtype)
    own = np.flatnonzero(np.isin(tiles.identities, mate))
    width = tiles.templates.shape[1]
    for places in np.resize(own, (-(-len(own) // width), width)):
        columns = tiles.templates.ravel()[places]
        best = _best_of_mate(
            best,
            probes,
            directions(gallery, columns),
            mate.astype(np.int32),
            tiles.identities.ravel()[places].astype(np.int32),
            None if excluded is None else excluded(rows, columns),
            precision=precision,
        )
    return best


@compiled("precision")
def _best_of_mate(best, probes, tile, mate, identities, excluded, *, precision):
    scores = inner_products(probes, tile, precision=precision)
    is_own = mate[:, None] == identities[None, :]
    if excluded is not None:
        is_own &= ~excluded
    return jnp.maximum(best, jnp.max(jnp.where(is_own, scores, -jnp.inf), axis=1))


@compiled("precision")
def _count(state, probes, tile, score, last, words, excluded, *, precision):
    """What is known of the probes after one more tile: three numbers of each.

    They are the number of other identities that score at least as high as the mate, the
    largest score, and the last word that ends with an identity which, in this word, has
    a template that does.

    It matters only whether any template of an identity reaches the mate's score. The
    answers, yes or no, are packed in words of 32 bits, in which the templates of an
    identity lie side by side: from then on there is little to do. All ones but for the
    last bit of an identity are added to its bits. This carries into the last bit if any
    other bit is set.
    """
    others, best, latest = state
    scores = inner_products(probes, tile, precision=precision)
    grid = scores.reshape(len(probes), 32, -1)
    if excluded is not None:
        grid = jnp.where(excluded.reshape(grid.shape), -jnp.inf, grid)
    best = jnp.maximum(best, grid.max(axis=1).max(axis=1))
    threshold = jnp.where(score == -jnp.inf, jnp.inf, score)
    bit = jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)
    is_hit = grid >= threshold[:, None, None]
    hits = jnp.sum(jnp.where(is_hit, bit[None, :, None], 0), axis=1, dtype=jnp.uint32)

    # Whether the identity with which a word begins was hit in an earlier word.
    number, ends, tail, since = (x[None, :] for x in words)
    hit = jnp.where(hits & tail != 0, number, -1)
    hit = jnp.concatenate([latest[:, None], hit], axis=1)
    latest = jax.lax.cummax(hit, axis=1)
    carry = (latest[:, :-1] >= since).astype(jnp.uint32)

    carried = (hits & ~ends) + ~ends + carry
    # The mate itself is left out by its place: its score may differ by rounding.
    own = (last >= 0)[:, None] & (last[:, None] // 32 == number)
    own = jnp.where(own, bit[last % 32][:, None], 0)
    found = jax.lax.population_count((carried | hits) & ends & ~own)
    others = others + jnp.sum(found.astype(jnp.int32), axis=1, dtype=jnp.int32)
    return others, best, latest[:, -1]


def mates_of_scores(
    scores: ArrayLike, probe_labels: ArrayLike, gallery_labels: ArrayLike
) -> Mates:
    """The mate of each probe from a matrix of scores, compared in their own dtype."""
    scores = as_finite("scores", scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be [probes, gallery], got shape {scores.shape}.")
    probes = as_numpy_labels(
        "probe_labels", probe_labels, len(scores), "probes of scores"
    )
    gallery = as_numpy_labels(
        "gallery_labels", gallery_labels, scores.shape[1], "gallery columns of scores"
    )
    probes, gallery = as_comparable(probes, gallery)
    order = np.argsort(gallery, kind="stable")
    identities, first = np.unique(gallery[order], return_index=True)
    scores = np.maximum.reduceat(scores[:, order], first, axis=1)
    column = np.searchsorted(identities, probes).clip(max=len(identities) - 1)
    mate = np.take_along_axis(scores, column[:, None], 1)
    return Mates(
        identities[column] == probes,
        mate[:, 0],
        np.count_nonzero(scores >= mate, axis=1),
        scores.max(axis=1),
        len(identities),
    )
