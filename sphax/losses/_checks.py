"""What the objectives ask of their arguments, with errors that teach."""

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_array,
    as_floating,
    as_labels,
    check_count,
    check_dimensions,
)
from sphax._masking import as_weights
from sphax.margins import Margin


def as_operands(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    ranks: tuple[int, ...] = (2,),
    name: str = "prototypes",
) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless ``[..., features]`` and ``[classes, features]``.

    With 3 among the ``ranks``, prototypes ``[classes, k, features]`` are accepted too.
    """
    embeddings = as_embeddings(embeddings)
    prototypes = as_floating(name, prototypes)
    if prototypes.ndim not in ranks or 0 in prototypes.shape[:-1]:
        also = " (or [classes, k, features], with k sub-centres)" if 3 in ranks else ""
        raise ValueError(
            f"{name} must be [classes, features], a row for each class{also}, got"
            f" shape {prototypes.shape}."
        )
    if embeddings.ndim < 1 or embeddings.shape[-1] != prototypes.shape[-1]:
        hint = ""
        if embeddings.ndim and embeddings.shape[-1] == prototypes.shape[0]:
            hint = " A [features, classes] kernel is turned by neurons.to_rows(kernel)."
        raise ValueError(
            f"embeddings must be [..., features] with the features of {name}, got"
            f" embeddings {embeddings.shape} and {name} {prototypes.shape}.{hint}"
        )
    check_dimensions("embeddings", embeddings)
    return embeddings, prototypes


def as_embeddings(x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless floating."""
    array = as_array("embeddings", x)
    if jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"embeddings must be floating, got dtype {array.dtype}; were labels given"
            " in their place?"
        )
    return as_floating("embeddings", array)


def as_batch(
    embeddings: jax.Array,
    labels: jax.typing.ArrayLike,
    where: jax.typing.ArrayLike | None,
) -> tuple[jax.Array, jax.Array | None]:
    """Labels and weights as arrays; raises unless there is one for each embedding."""
    labels = as_labels(labels, embeddings.shape[:-1], "embeddings")
    return labels, as_weights(where, labels.shape, "labels")


def check_margin(margin: Margin, *, has_aux: bool = True) -> None:
    """Raises unless ``margin`` is one, whose state, if it keeps one, is returned."""
    if isinstance(margin, type) and issubclass(margin, Margin):
        raise TypeError(
            f"margin must be a sphax.margins.Margin, got the class: call it, as in"
            f" {margin.__name__}()."
        )
    if isinstance(margin, (int, float)):
        raise TypeError(
            "margin must be a sphax.margins.Margin, got a number; say what it is of, as"
            f" in ArcFace(margin={margin}) or CosFace(margin={margin})."
        )
    if not isinstance(margin, Margin):
        raise TypeError(
            "margin must be a sphax.margins.Margin, such as ArcFace() or NoMargin(),"
            f" got {margin!r}; a function of the angle is wrapped by Psi(function)."
        )
    if margin.keeps_state and not has_aux:
        raise ValueError(
            f"{type(margin).__name__} keeps a running state, which would stand still:"
            " call with has_aux=True and go on with aux.margin."
        )


def check_subcenters(prototypes: jax.Array, normalize: str) -> None:
    """Raises if the nearest of several sub-centres is not told by the angle."""
    if prototypes.ndim == 3 and normalize == "none":
        raise ValueError(
            'sub-centres need normalize="both" or "prototypes": the nearest one is the'
            f" one at the smallest angle; got prototypes {prototypes.shape} and"
            ' normalize="none".'
        )


def check_label_smoothing(label_smoothing: jax.typing.ArrayLike) -> None:
    """Raises unless a scalar and, if a number, in ``[0, 1)``."""
    as_array("label_smoothing", label_smoothing)
    if isinstance(label_smoothing, (int, float)) and not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}.")
    if jnp.shape(label_smoothing) != ():
        raise ValueError(
            f"label_smoothing must be a scalar, got shape {jnp.shape(label_smoothing)}."
        )


def check_scale(
    scale: jax.typing.ArrayLike | None, normalize: str, shape: tuple[int, ...]
) -> None:
    """Raises unless ``scale`` is left out, or usable, positive and of a right shape."""
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


def check_block_size(block_size: int | None) -> None:
    """Raises unless ``block_size``, a number of classes, is left out or positive."""
    if block_size is not None:
        check_count("block_size", block_size)
