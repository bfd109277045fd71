"""The dominant sub-center of each class, and how far examples are from it."""

from typing import Literal, overload

import jax
import jax.numpy as jnp

from sphax._checks import as_classes, as_integers, as_labels
from sphax._compiled import compiled
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_operands
from sphax.sphere import angle, direction


@overload
def dominant_subcenters(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    has_aux: Literal[False] = False,
) -> jax.Array: ...


@overload
def dominant_subcenters(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    has_aux: Literal[True],
) -> tuple[jax.Array, jax.Array]: ...


def dominant_subcenters(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    has_aux: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The sub-center of each class that is nearest to most of its examples.

    After a training with several sub-centers, clean examples of a class gather around
    one of them, and noisy ones around the others. Keep the dominant ones as the
    prototypes of the next training, and leave out examples far from them, see
    :func:`angles_to_dominant`.

    Each example is compared with the sub-centers of its own class alone, one
    sub-center after the other: in memory of ``[..., features]``, whatever the number of
    classes.

    Args:
        prototypes: Floating, ``[classes, k, features]``, k sub-centers for each class.
        embeddings: Of a whole training set, floating, ``[..., features]``.
        labels: Integer, ``[...]``. An example whose label is not in ``[0, classes)``
            counts for no class, and neither does a zero embedding.
        has_aux: Whether to return ``(dominant, counts)``.

    Returns:
        Numbers of the sub-centers, int32, ``[classes]``, the lowest of several equal
        ones; 0 for a class without examples. With ``has_aux``, also how many examples
        of the class are nearest to each of its sub-centers, int32, ``[classes, k]``; -1
        for a class without examples.

    Raises:
        TypeError: If prototypes or embeddings are not floating, or labels not integer.
        ValueError: If shapes do not fit.

    Example:
        >>> w = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]])
        >>> x = jnp.array([[0.1, 2.0], [0.2, 1.0], [3.0, 1.0]])
        >>> labels = jnp.zeros(3, int)
        >>> dominant, counts = sx.losses.dominant_subcenters(w, x, labels, has_aux=True)
        >>> print(dominant, counts.tolist())
        [1 0] [[1, 2], [-1, -1]]
        >>> w[jnp.arange(2), dominant]
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)

    References:
        Deng et al., `Sub-center ArcFace
        <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf>`_, ECCV
        2020, Sec. 3.4.
    """
    prototypes, embeddings, labels = _as_arrays(prototypes, embeddings, labels)
    dominant, counts = _dominant(prototypes, embeddings, labels)
    return (dominant, counts) if has_aux else dominant


def angles_to_dominant(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    dominant: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Angle of each example to the dominant sub-center of its class, in radians.

    Examples beyond 75 degrees are outliers in the paper: probably labeled wrongly, or
    too bad to tell. It trains again without them.

    Args:
        prototypes: Floating, ``[classes, k, features]``, k sub-centers for each class.
        embeddings: Floating, ``[..., features]``.
        labels: Integer, ``[...]``.
        dominant: Number of each class's dominant sub-center, integer, ``[classes]``; by
            default, :func:`dominant_subcenters` of these examples. Give it where they
            are one batch of many.

    Returns:
        Angles in ``[0, pi]``, as of :func:`sphax.sphere.angle`, accurate at both ends,
        ``[...]``, float32 at least; pi / 2 for a zero embedding, NaN where the label or
        the number of the sub-center does not exist.

    Raises:
        TypeError: If prototypes or embeddings are not floating, or labels or
            ``dominant`` not integer.
        ValueError: If shapes do not fit.

    Example:
        >>> w = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
        >>> x = jnp.array([[0.0, 2.0], [3.0, 4.0], [0.0, 1.0], [4.0, 0.0]])
        >>> angles = sx.losses.angles_to_dominant(w, x, jnp.zeros(4, int))
        >>> print(jnp.degrees(angles))
        [ 0.     36.8699  0.     90.    ]
        >>> print(angles < jnp.radians(75))
        [ True  True  True False]

    References:
        Deng et al., `Sub-center ArcFace
        <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf>`_, ECCV
        2020, Sec. 3.4.
    """
    prototypes, embeddings, labels = _as_arrays(prototypes, embeddings, labels)
    if dominant is not None:
        dominant = as_integers("dominant", dominant)
        if dominant.shape != prototypes.shape[:1]:
            raise ValueError(
                "dominant must have a number for each of the"
                f" {prototypes.shape[0]} classes, got shape {dominant.shape}."
            )
    return _angles(prototypes, embeddings, labels, dominant)


def _as_arrays(
    prototypes: jax.typing.ArrayLike,
    embeddings: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three as arrays; raises unless they fit."""
    if jnp.ndim(prototypes) != 3:
        raise ValueError(
            "prototypes must be [classes, k, features], with k sub-centers for each"
            f" class, got shape {jnp.shape(prototypes)}."
        )
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(3,))
    return (
        prototypes,
        embeddings,
        as_labels(labels, embeddings.shape[:-1], "embeddings"),
    )


@compiled()
def _dominant(
    w: jax.Array, x: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    classes, is_class = as_classes(labels, len(w))
    unit = direction(widen(x))

    def cosines(centers):
        return dot(direction(widen(centers[classes])), unit)

    nearest = jnp.argmax(jax.lax.map(cosines, jnp.moveaxis(w, 1, 0)), axis=0)
    is_counted = is_class & jnp.any(unit != 0.0, axis=-1)
    counts = jnp.zeros(w.shape[:2], jnp.int32)
    counts = counts.at[classes, nearest].add(is_counted.astype(jnp.int32))
    is_seen = jnp.any(counts > 0, axis=1)
    dominant = jnp.argmax(counts, axis=1).astype(jnp.int32)
    return dominant, jnp.where(is_seen[:, None], counts, -1)


@compiled()
def _angles(
    w: jax.Array, x: jax.Array, labels: jax.Array, dominant: jax.Array | None
) -> jax.Array:
    if dominant is None:
        dominant, _ = _dominant(*jax.lax.stop_gradient((w, x)), labels)
    dominant, is_center = as_classes(dominant, w.shape[1])
    classes, is_class = as_classes(labels, len(w))
    centers = jnp.take_along_axis(w, dominant[:, None, None], axis=1)[:, 0]
    is_known = is_class & is_center[classes]
    return jnp.where(is_known, angle(x, centers[classes]), jnp.nan)
