"""What the objectives ask of their arguments, with errors that teach."""

import numbers

import jax
import jax.numpy as jnp

from sphax._checks import as_floating
from sphax.margins import Margin


def as_operands(
    embeddings: jax.typing.ArrayLike, prototypes: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless ``[..., features]`` and ``[classes, features]``."""
    embeddings = as_floating("embeddings", embeddings)
    prototypes = as_floating("prototypes", prototypes)
    if prototypes.ndim != 2 or prototypes.shape[0] < 1:
        raise ValueError(
            "prototypes must be [classes, features], a row for each class, got shape"
            f" {prototypes.shape}."
        )
    if embeddings.ndim < 1 or embeddings.shape[-1] != prototypes.shape[1]:
        hint = ""
        if embeddings.ndim and embeddings.shape[-1] == prototypes.shape[0]:
            hint = " A [features, classes] kernel is turned by sphere.neurons(kernel)."
        raise ValueError(
            "embeddings must be [..., features] with the features of prototypes, got"
            f" embeddings {embeddings.shape} and prototypes {prototypes.shape}.{hint}"
        )
    return embeddings, prototypes


def check_margin(margin: Margin) -> None:
    """Raises unless ``margin`` is one."""
    if not isinstance(margin, Margin):
        raise TypeError(
            "margin must be a sphax.margins.Margin, such as ArcFace() or NoMargin(),"
            f" got {margin!r}; a function of the angle is wrapped by Psi(function)."
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
    if isinstance(scale, (int, float)) and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}.")
    if jnp.shape(scale) not in ((), shape):
        raise ValueError(
            f"scale must be a scalar or have the shape of labels, {shape}, got"
            f" {jnp.shape(scale)}."
        )


def as_weights(
    where: jax.typing.ArrayLike | None, shape: tuple[int, ...]
) -> jax.Array | None:
    """``where`` as an array; raises unless a mask or weights of the right shape."""
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_ and not jnp.issubdtype(where.dtype, jnp.floating):
        raise TypeError(
            f"where must be a boolean mask or floating weights, got {where.dtype}."
        )
    if where.shape != shape:
        raise ValueError(
            f"where must have the shape of labels, {shape}, got {where.shape}."
        )
    return where


def check_block_size(block_size: int | None) -> None:
    """Raises unless ``block_size`` is left out or a positive integer."""
    if block_size is None:
        return
    if not isinstance(block_size, numbers.Integral) or block_size < 1:
        raise ValueError(
            "block_size must be None or a positive integer, the number of classes"
            f" handled at a time, got {block_size!r}."
        )
