"""Arguments as arrays, with errors that teach, as several rooms ask for them."""

import jax
import jax.numpy as jnp


def as_floating(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless it is floating."""
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}.")
    return array


def as_vectors(**vectors: jax.typing.ArrayLike) -> list[jax.Array]:
    """The arguments as arrays; raises unless floating, of one length on the last axis.

    Their other axes must broadcast.
    """
    arrays = [as_floating(name, x) for name, x in vectors.items()]
    shapes = [array.shape for array in arrays]
    if not _are_vectors(shapes):
        named = (f"{name} {s}" for name, s in zip(vectors, shapes, strict=True))
        raise ValueError(
            f"{' and '.join(vectors)} must have vectors of one length on the last axis,"
            f" and other axes that broadcast, got {', '.join(named)}."
        )
    return arrays


def _are_vectors(shapes: list[tuple[int, ...]]) -> bool:
    if () in shapes or len({shape[-1] for shape in shapes}) > 1:
        return False
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def as_labels(
    labels: jax.typing.ArrayLike, shape: tuple[int, ...], of: str
) -> jax.Array:
    """``labels`` as an array; raises unless integer, of shape ``of`` less one axis."""
    array = jnp.asarray(labels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"labels must be integer, got dtype {array.dtype}.")
    if array.shape != shape:
        raise ValueError(
            f"labels must have the shape of {of} without its last axis, {shape}, got"
            f" {array.shape}."
        )
    return array


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")
