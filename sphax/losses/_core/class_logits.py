"""Logits of a block of classes, and the product with the target's prototype."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_array, check_choice
from sphax._class_axis import Classes
from sphax._numerics import dot, first_largest, widen
from sphax.losses._core.blocked import Blocks, Terms, reduce_classes
from sphax.margins import Margin
from sphax.sphere import angle, direction, inner_products, length
from sphax.sphere import normalize as to_direction

Normalize = Literal["both", "prototypes", "none"]

# CosFace's and ArcFace's.
DEFAULT_SCALE = 64.0


def check_normalize(normalize: object, *, has_subcenters: bool = False) -> None:
    """Raises unless ``normalize`` is one of the three, and fits sub-centers."""
    check_choice("normalize", normalize, ("both", "prototypes", "none"))
    if has_subcenters and normalize == "none":
        raise ValueError(
            'sub-centers need normalize="both" or "prototypes": the nearest one is the'
            ' one at the smallest angle; got normalize="none".'
        )


def check_scale(
    scale: jax.typing.ArrayLike | None, normalize: str, shape: tuple[int, ...]
) -> None:
    """Raises unless ``scale`` is None, or usable, positive and of a right shape."""
    if scale is None:
        return
    if normalize != "both":
        raise ValueError(
            f"scale has no effect with normalize={normalize!r}, where the embedding's"
            ' length takes its place; leave it out or use normalize="both".'
        )
    as_array("scale", scale)
    if isinstance(scale, (int, float)) and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}.")
    if jnp.shape(scale) not in ((), shape):
        raise ValueError(
            f"scale must be a scalar or have the shape of labels, {shape}, got"
            f" {jnp.shape(scale)}."
        )


class Rows(NamedTuple):
    """What the logits of the other classes depend on, example by example."""

    x: jax.Array  # embeddings, [..., features]
    lengths: jax.Array | None  # of x, if only its directions count
    logit_scale: jax.Array  # what a cosine is multiplied by; [] or [...]
    angle: jax.Array  # to the target, [...]
    margin: Margin | None  # if it modifies the other classes


def block_logits(
    rows: Rows,
    prototypes: jax.Array,
    labels: jax.Array,
    start: jax.typing.ArrayLike,
    *,
    classes: Classes,
    normalize: Normalize,
    is_detached: bool = False,
    is_smoothed: bool = False,
    precision: jax.lax.PrecisionLike,
) -> Terms:
    """Logits of a block of classes, with the margin and, as candidates, without.

    Logits of the target, and of rows that stand for no class, are masked with the most
    negative float, so that they have zero weight and gradient.

    Args:
        rows: What the logits depend on beside the classes.
        prototypes: Of the block, ``[size, ...]``.
        labels: Targets, ``[...]``.
        start: First class of the block.
        classes: How many classes there are.
        normalize: Which vectors count by their directions only.
        is_detached: Whether the gradient is that of the logits without the margin.
        is_smoothed: Whether the sum of the logits without the margin is needed.
        precision: Precision of the matrix product.
    """
    # Of the block, not of all classes: their derivative is an array like prototypes.
    lengths = length(widen(prototypes))
    by_direction = rows.margin is not None or normalize != "none"
    products = nearest_products(
        rows.x, prototypes, rows.lengths, lengths if by_direction else None, precision
    )
    logit_scale = jnp.broadcast_to(rows.logit_scale, rows.angle.shape)[..., None]
    if rows.margin is None:
        plain = logit_scale * products if normalize == "both" else products
        modified = plain
    else:
        cosines = products
        negatives = rows.margin.negatives(cosines, rows.angle)
        if is_detached:
            negatives = cosines + jax.lax.stop_gradient(negatives - cosines)
        if normalize == "none":
            logit_scale = logit_scale * jnp.expand_dims(lengths, range(labels.ndim))
        plain, modified = logit_scale * cosines, logit_scale * negatives
    _, is_other = class_masks(labels, start, len(prototypes), classes)
    lowest = jnp.finfo(plain.dtype).min
    return Terms(
        jnp.where(is_other, modified, lowest),
        jnp.where(is_other, plain, lowest),
        jnp.sum(plain, axis=-1, where=is_other) if is_smoothed else None,
    )


def class_masks(
    labels: jax.Array, start: jax.typing.ArrayLike, size: int, classes: Classes
) -> tuple[jax.Array, jax.Array]:
    """Which of ``size`` rows from class ``start`` on are the target and other classes.

    Both are ``[..., size]``; a row that stands for no class is neither.
    """
    numbers = start + jnp.arange(size, dtype=jnp.int32)
    numbers = jnp.expand_dims(numbers, range(labels.ndim))
    is_target = numbers == labels[..., None]
    is_other = ~is_target
    if classes.is_padded:
        is_other &= numbers < classes.number
    return is_target, is_other


def sum_over_others(
    term: Callable[[Any, jax.Array], jax.Array],
    parameters: Any,
    x: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    *,
    classes: Classes,
    normalize: Normalize = "both",
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    r"""Sums :math:`\sum_{j \ne y}` of ``term(parameters, products)``, ``[...]``.

    ``products`` is ``[..., classes]``: cosines, products with directions, or plain
    products, as ``normalize`` says. ``term`` is elementwise, has to be finite for the
    target as well, and must not close over arrays that are differentiated.
    """
    terms = partial(
        _block_sum,
        term=term,
        classes=classes,
        normalize=normalize,
        precision=precision,
    )
    reduced = reduce_classes(
        terms, (x, parameters), prototypes, labels, classes, blocks, is_sum=True
    )
    return reduced.total


def _block_sum(
    rows, block, labels, start, *, term, classes, normalize, precision
) -> Terms:
    x, parameters = rows
    x_lengths = length(widen(x)) if normalize == "both" else None
    w_lengths = None if normalize == "none" else length(widen(block))
    products = inner_products(x, block, x_lengths, w_lengths, precision=precision)
    values = term(parameters, products)
    _, is_other = class_masks(labels, start, len(block), classes)
    return Terms(total=jnp.sum(jnp.where(is_other, values, 0.0), axis=-1))


def nearest_products(
    x: jax.Array,
    w: jax.Array,
    x_lengths: jax.Array | None,
    w_lengths: jax.Array | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    """:func:`inner_products`; for ``w [classes, k, d]``, with the nearest of the k."""
    if w.ndim == 2:
        return inner_products(x, w, x_lengths, w_lengths, precision=precision)
    w_lengths = None if w_lengths is None else w_lengths.ravel()
    rows = w.reshape(-1, w.shape[-1])
    products = inner_products(x, rows, x_lengths, w_lengths, precision=precision)
    # A maximum would share the gradient among equal ones.
    return first_largest(products.reshape(*products.shape[:-1], *w.shape[:2]))


def nearest_subcenter(x: jax.Array, w: jax.Array) -> jax.Array:
    """The one of ``w [..., k, d]`` at the smallest angle to ``x [..., d]``.

    ``w [..., d]`` is returned as it is.
    """
    if w.ndim == x.ndim:
        return w
    directions = direction(jax.lax.stop_gradient(w))
    cosines = dot(directions, jax.lax.stop_gradient(x)[..., None, :])
    wins = jnp.argmax(cosines, axis=-1)[..., None, None]
    return jnp.take_along_axis(w, wins, axis=-2)[..., 0, :]


def target_products(
    x: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    normalize: Normalize,
    classes: Classes,
) -> jax.Array:
    """Product with the target's prototype, ``[...]``, from the vectors themselves.

    In half precision the matrix product is not exact enough for it. Inside
    ``shard_map``, arguments have to vary alike.
    """
    x = widen(x)
    target = classes.take(prototypes, labels).astype(x.dtype)
    if normalize == "both":
        return jnp.cos(classes.from_owners(angle(x, target), labels))
    target = to_direction(target) if normalize == "prototypes" else target
    return classes.from_owners(dot(x, target), labels)
