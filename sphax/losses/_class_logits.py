"""Logits that predict: without a margin, with the nearest of several sub-centers."""

import jax
import jax.numpy as jnp

from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._numerics import widen
from sphax.losses._core.batch import as_operands
from sphax.losses._core.class_logits import (
    DEFAULT_SCALE,
    Normalize,
    check_normalize,
    check_scale,
    nearest_products,
)
from sphax.sphere import length


@explain_names(OF_LOSSES)
def class_logits(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Normalize = "both",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""The logits of :func:`margin_softmax` without its margin, for prediction.

    They are :math:`s \cos\theta_j`, :math:`x \cdot \hat w_j` or :math:`x \cdot w_j`, as
    ``normalize`` is ``"both"``, ``"prototypes"`` or ``"none"``.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        prototypes: :math:`w`, floating, ``[classes, features]``, one row per class; or
            ``[classes, k, features]``, with k sub-centers, of which the nearest counts.
        scale: :math:`s`, positive, a scalar or of the shape ``[...]``; 64 if not given.
            For ``normalize="both"`` alone.
        normalize: Which vectors count by their direction only.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Logits, ``[..., classes]``, float32 at least; 0, with zero gradient, where a
        direction is needed and does not exist.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, w = jnp.array([[3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0]])
        >>> sx.losses.class_logits(x, w, scale=10.0)
        Array([[6., 8.]], dtype=float32)
        >>> sx.losses.class_logits(x, w, normalize="none")
        Array([[6., 4.]], dtype=float32)
    """
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(2, 3))
    check_normalize(normalize, has_subcenters=prototypes.ndim == 3)
    check_scale(scale, normalize, embeddings.shape[:-1])
    if scale is None and normalize == "both":
        scale = DEFAULT_SCALE
    return _class_logits(
        embeddings, prototypes, scale, normalize=normalize, precision=precision
    )


@explain_names(OF_LOSSES)
def subcenter_cosines(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Cosines to the nearest sub-center of every class (sub-center ArcFace).

    :math:`c_j = \max_k \hat x \cdot \hat w_{j,k}`. Only the sub-center that wins has a
    gradient, the first of several equal ones. :func:`margin_softmax` takes prototypes
    with sub-centers as they are; this is for predictions. Examples far from the
    dominant sub-center of their class are found by :func:`angles_to_dominant`.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, k, features]``, k sub-centers for each class;
            ``[classes, features]`` for one.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

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
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(2, 3))
    return _class_logits(
        embeddings, prototypes, None, normalize="both", precision=precision
    )


@compiled("normalize", "precision")
def _class_logits(
    x: jax.Array,
    w: jax.Array,
    scale: jax.typing.ArrayLike | None,
    *,
    normalize: Normalize,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x_lengths = length(widen(x)) if normalize == "both" else None
    w_lengths = length(widen(w)) if normalize != "none" else None
    logits = nearest_products(x, w, x_lengths, w_lengths, precision)
    if scale is None:
        return logits
    scale = jnp.asarray(scale, logits.dtype)
    return (scale[..., None] if scale.ndim else scale) * logits
