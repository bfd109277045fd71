"""Several prototypes for a class, of which the nearest counts."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import dot, widen
from sphax.losses import _checks
from sphax.sphere import direction, inner_products, length


@explain_names(OF_LOSSES)
def subcenter_cosines(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Cosines to the nearest sub-centre of every class (sub-center ArcFace).

    :math:`c_j = \max_k \hat x \cdot \hat w_{j,k}`. Only the sub-centre that wins has a
    gradient, of several equal ones the first. :func:`margin_softmax` takes prototypes
    with sub-centres as they are; this is for predictions, and to find examples far from
    the dominant centre of their class (beyond 75 degrees in the paper), which are
    likely mislabelled.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, k, features]``, k sub-centres for each class;
            ``[classes, features]`` for one.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Cosines, ``[..., classes]``, float32 at least; 0 with zero gradient for a zero
        embedding.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> w = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.6, 0.8]]])
        >>> sx.losses.subcenter_cosines(jnp.array([[0.0, 2.0]]), w)
        Array([[1. , 0.8]], dtype=float32)

    References:
        Deng et al., `Sub-center ArcFace
        <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf>`_, ECCV
        2020.
    """
    x, w = _checks.as_operands(embeddings, prototypes, ranks=(2, 3))
    return plain_logits(x, w, normalize="both", precision=precision)


@compiled("normalize", "precision")
def plain_logits(
    x: jax.Array, w: jax.Array, *, normalize: str, precision: jax.lax.PrecisionLike
) -> jax.Array:
    """Logits without margin or scale, ``[..., classes]``."""
    of_x = length(widen(x)) if normalize == "both" else None
    of_w = length(widen(w)) if normalize != "none" else None
    return nearest_products(x, w, of_x, of_w, precision)


def nearest_products(
    x: jax.Array,
    w: jax.Array,
    length_x: jax.Array | None,
    length_w: jax.Array | None,
    precision=None,
) -> jax.Array:
    """:func:`products`; of ``w [classes, k, d]``, with the nearest of the k."""
    if w.ndim == 2:
        return inner_products(x, w, length_x, length_w, precision=precision)
    lengths = None if length_w is None else length_w.ravel()
    rows = w.reshape(-1, w.shape[-1])
    out = inner_products(x, rows, length_x, lengths, precision=precision)
    return _largest(out.reshape(*out.shape[:-1], *w.shape[:2]))


def _largest(cosines: jax.Array) -> jax.Array:
    # A maximum would share the gradient among equal ones.
    places = jnp.arange(cosines.shape[-1]).reshape((1,) * (cosines.ndim - 1) + (-1,))
    wins = places == jnp.argmax(cosines, axis=-1, keepdims=True)
    return jnp.sum(cosines, axis=-1, where=wins)


def nearest_vectors(vectors: jax.Array, own: jax.Array) -> jax.Array:
    """Of ``own [..., k, d]``, the one at the smallest angle to ``vectors [..., d]``."""
    if own.ndim == vectors.ndim:
        return own
    units = direction(jax.lax.stop_gradient(own))
    cosines = dot(units, jax.lax.stop_gradient(vectors)[..., None, :])
    wins = jnp.argmax(cosines, axis=-1)[..., None, None]
    return jnp.take_along_axis(own, wins, axis=-2)[..., 0, :]
