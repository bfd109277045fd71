"""Logits of a block of classes, and the product with the target's prototype."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_array, check_choice
from sphax._numerics import dot, widen
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
    block: tuple[jax.Array, jax.Array | None],
    labels: jax.Array,
    *,
    normalize: Normalize,
    is_detached: bool = False,
    is_smoothed: bool = False,
    precision: jax.lax.PrecisionLike,
) -> Terms:
    """Logits of a block of classes, with the margin and, as candidates, without.

    The target's logit is masked with the most negative float, so that it has zero
    weight and gradient.

    Args:
        rows: What the logits depend on beside the classes.
        block: Prototypes, and their lengths if only their directions count.
        labels: Targets, ``[...]``, counted from the first class of the block.
        normalize: Which vectors count by their directions only.
        is_detached: Whether the gradient is that of the logits without the margin.
        is_smoothed: Whether the sum of the logits without the margin is needed.
        precision: Precision of the matrix product.
    """
    prototypes, lengths = block
    products = nearest_products(rows.x, prototypes, rows.lengths, lengths, precision)
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
            w_lengths = length(widen(prototypes))
            logit_scale = logit_scale * jnp.expand_dims(w_lengths, range(labels.ndim))
        plain, modified = logit_scale * cosines, logit_scale * negatives
    is_target = jax.nn.one_hot(labels, plain.shape[-1], dtype=bool)
    lowest = jnp.finfo(plain.dtype).min
    return Terms(
        jnp.where(is_target, lowest, modified),
        jnp.where(is_target, lowest, plain),
        jnp.sum(plain, axis=-1, where=~is_target) if is_smoothed else None,
    )


def sum_over_others(
    term: Callable[[Any, jax.Array], jax.Array],
    parameters: Any,
    x: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    *,
    normalize: Normalize = "both",
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    r"""Sums :math:`\sum_{j \ne y}` of ``term(parameters, products)``, ``[...]``.

    ``products`` is ``[..., classes]``: cosines, products with directions, or plain
    products, as ``normalize`` says. ``term`` is elementwise, has to be finite for the
    target as well, and must not close over arrays that are differentiated.
    """
    terms = partial(_block_sum, term=term, normalize=normalize, precision=precision)
    reduced = reduce_classes(
        terms, (x, parameters), prototypes, labels, blocks, is_sum=True
    )
    return reduced.total


def _block_sum(rows, block, labels, *, term, normalize, precision) -> Terms:
    x, parameters = rows
    x_lengths = length(widen(x)) if normalize == "both" else None
    w_lengths = None if normalize == "none" else length(widen(block))
    products = inner_products(x, block, x_lengths, w_lengths, precision=precision)
    values = term(parameters, products)
    is_target = jax.nn.one_hot(labels, block.shape[0], dtype=bool)
    return Terms(total=jnp.sum(jnp.where(is_target, 0.0, values), axis=-1))


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
    products = products.reshape(*products.shape[:-1], *w.shape[:2])
    # A maximum would share the gradient among equal ones.
    places = jnp.arange(w.shape[1]).reshape((1,) * (products.ndim - 1) + (-1,))
    wins = places == jnp.argmax(products, axis=-1, keepdims=True)
    return jnp.sum(products, axis=-1, where=wins)


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
    x: jax.Array, prototypes: jax.Array, labels: jax.Array, normalize: Normalize
) -> jax.Array:
    """Product with the target's prototype, ``[...]``, from the gathered vectors.

    In half precision the matrix product is not exact enough for it.
    """
    x = widen(x)
    target = prototypes[labels].astype(x.dtype)
    if normalize == "both":
        return jnp.cos(angle(x, target))
    return dot(x, to_direction(target) if normalize == "prototypes" else target)


def proxy_cosines(
    x: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    precision: jax.lax.PrecisionLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cosines to the target, ``[...]``, to all proxies, and which are the target's."""
    lengths = length(widen(x)), length(widen(proxies))
    cosines = inner_products(x, proxies, *lengths, precision=precision)
    is_target = jax.nn.one_hot(labels, proxies.shape[0], dtype=bool)
    return target_products(x, proxies, labels, "both"), cosines, is_target
