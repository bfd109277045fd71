"""Margins applied to cosines that already exist."""

import jax
import jax.numpy as jnp

from sphax._checks import as_classes, as_floating, as_labels
from sphax._numerics import widen
from sphax.margins._margin import Margin, arccos


def margin_logits(
    cosines: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    scale: jax.typing.ArrayLike = 64.0,
) -> jax.Array:
    r"""Logits with a margin on the target, from cosines alone.

    :math:`z_y = s\,\psi(\arccos c_y)` and :math:`z_j = s\,\eta(c_j)`. For inspection
    and for cosines that come from elsewhere; train with
    :func:`sphax.losses.margin_softmax`. A cosine has lost the angle below 3e-4
    (float32): the gradient with respect to it, right elsewhere, is set to zero there
    (for :math:`\cos(\theta + m)` it would be infinite), which takes the pull of the
    target away from exactly the best embeddings.

    Args:
        cosines: Floating, ``[..., classes]``; values beyond [-1, 1] are clipped.
        labels: Target classes, integer of any width, ``[...]``, in ``[0, classes)``.
            Another label makes its row NaN.
        margin: Margin :math:`\psi, \eta`.
        scale: :math:`s`, positive.

    Returns:
        Logits, shape and dtype of ``cosines``.

    Raises:
        TypeError: If ``cosines`` is not floating or ``labels`` not integer.
        ValueError: If the shape of ``labels`` is not that of ``cosines`` without its
            last axis, or labels in NumPy's 64 bits do not fit in JAX's 32.

    Example:
        >>> cosines = jnp.array([[0.5, 0.1]])
        >>> margin = sx.margins.ArcFace()
        >>> sx.margins.margin_logits(cosines, jnp.array([0]), margin, scale=1.0)
        Array([[0.0236, 0.1   ]], dtype=float32)
    """
    cosines = as_floating("cosines", cosines)
    labels = as_labels(labels, cosines.shape[:-1], "cosines")
    exact = widen(cosines)
    classes, is_known = as_classes(labels, cosines.shape[-1])
    is_target = jax.nn.one_hot(classes, cosines.shape[-1], dtype=bool)
    target = arccos(jnp.sum(exact, axis=-1, where=is_target))
    modified = jnp.where(
        is_target, margin(target)[..., None], margin.negatives(exact, target)
    )
    known = jnp.where(is_known[..., None], 1.0, jnp.nan)
    return (jnp.asarray(scale) * known * modified).astype(cosines.dtype)
