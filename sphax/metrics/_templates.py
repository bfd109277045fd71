"""Template pooling (IJB): one direction for all the images of a template."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._checks import as_floating, as_numpy_labels, check_dimensions
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.sphere import direction


class Templates(NamedTuple):
    """One direction per template; see :func:`pool_templates`.

    Attributes:
        embeddings: Unit vectors, float32 at least, ``[t, features]``.
        templates: Numbers of the templates, increasing, integer, ``[t]``.
        rule: What was done, in words.

    Example:
        >>> pooled = sx.metrics.pool_templates(jnp.eye(2), [8, 3], [0, 0])
        >>> print(pooled.templates, pooled.embeddings)
        [3 8] [[0. 1.] [1. 0.]]
    """

    embeddings: jax.Array
    templates: np.ndarray
    rule: str


def pool_templates(
    embeddings: jax.typing.ArrayLike,
    templates: ArrayLike,
    media: ArrayLike,
    *,
    weights: jax.typing.ArrayLike | None = None,
    use_directions: bool = True,
) -> Templates:
    r"""Pools the images of each template into one direction (IJB).

    .. math::
        f_T = \operatorname{normalize}\Big(\sum_{m \in T} \frac{1}{|m|}
            \sum_{i \in m} a_i \hat x_i\Big)

    over the media :math:`m` of a template (a still image, or a video with all its
    frames). Weighted frames are divided by their number, not by the sum of their
    weights, as common implementations do: a single image would otherwise lose its
    weight.

    Where the protocol adds the embedding of the mirrored image, add it beforehand. The
    numbers of templates and media must be concrete arrays; embeddings and weights may
    be traced.

    Args:
        embeddings: :math:`x`, floating, ``[images, features]``.
        templates: Template of each image, integer, ``[images]``.
        media: Medium of each image, integer, ``[images]``. The same number in two
            templates means two media.
        weights: :math:`a`, such as detector scores, floating, ``[images]``; 1 if not
            given.
        use_directions: Whether to add the directions :math:`\hat x`; otherwise
            :math:`x` itself, whose length then acts as a weight.

    Returns:
        :class:`Templates`, with embeddings as a JAX array. A template whose images
        cancel has the zero vector, whose cosine to every vector is 0.

    Raises:
        TypeError: If embeddings or weights are not floating, or numbers not integer.
        ValueError: If shapes do not fit.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # two frames, a still
        >>> sx.metrics.pool_templates(x, [5, 5, 5], [1, 1, 2]).embeddings
        Array([[0.70710677, 0.70710677]], dtype=float32)

    References:
        Maze et al., `IARPA Janus Benchmark - C
        <https://doi.org/10.1109/ICB2018.2018.00033>`_, ICB 2018; the weights are those
        of `insightface's code <https://github.com/deepinsight/insightface>`_.
    """
    x = as_floating("embeddings", embeddings)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(
            f"embeddings must be [images, features] and not empty, got shape {x.shape}."
        )
    check_dimensions("embeddings", x)
    templates = as_numpy_labels("templates", templates, len(x), "embeddings")
    media = as_numpy_labels("media", media, len(x), "embeddings")
    if weights is not None:
        weights = as_floating("weights", weights)
        if weights.shape != (len(x),):
            raise ValueError(
                f"weights must have an entry for each of the {len(x)} embeddings, got"
                f" shape {weights.shape}."
            )
    # Renumbered before they are stacked: int64 and uint64 have no common integer type.
    numbers, templates = np.unique(templates, return_inverse=True)
    media = np.unique(media, return_inverse=True)[1]
    pairs, medium, frames = np.unique(
        np.stack([templates, media]), axis=1, return_inverse=True, return_counts=True
    )
    pooled = _pooled(
        x,
        weights,
        medium.reshape(-1).astype(np.int32),
        frames.astype(np.int32),
        pairs[0].astype(np.int32),
        templates=len(numbers),
        use_directions=use_directions,
    )
    rule = "mean over the frames of a medium, sum over media, normalized"
    rule += "; images by direction" if use_directions else "; images with their length"
    rule += "" if weights is None else "; images multiplied by their weights"
    return Templates(pooled, numbers, rule)


@compiled("templates", "use_directions")
def _pooled(
    x: jax.Array,
    weights: jax.Array | None,
    medium: jax.typing.ArrayLike,
    frames: jax.typing.ArrayLike,
    template: jax.typing.ArrayLike,
    *,
    templates: int,
    use_directions: bool,
) -> jax.Array:
    """Directions of templates.

    Args:
        x: Embeddings, ``[images, features]``.
        weights: Weights of the images, ``[images]``.
        medium: Medium of each image, ``[images]``.
        frames: Number of images of each medium, ``[media]``.
        template: Template of each medium, ``[media]``.
        templates: Number of templates.
        use_directions: See :func:`pool_templates`.
    """
    x = direction(widen(x)) if use_directions else widen(x)
    if weights is not None:
        x = x * weights.astype(x.dtype)[:, None]
    frames = jnp.asarray(frames, x.dtype)
    means = jax.ops.segment_sum(x, medium, len(frames)) / frames[:, None]
    return direction(jax.ops.segment_sum(means, template, templates))
