"""Arguments as arrays, with errors that teach, as several packages ask for them."""

import numbers
import reprlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sphax._norms import bounded

_FLOATING = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)


def as_array(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless JAX can make one of it."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array or a number, got {reprlib.repr(x)}."
        ) from error


def as_floating(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless floating, of 16 bits or more."""
    array = as_array(name, x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}.")
    if array.dtype not in _FLOATING:
        raise TypeError(
            f"{name} must be float16, bfloat16, float32 or float64, got dtype"
            f" {array.dtype}; cast it first."
        )
    # Two gradients that are in its short range need not have a sum that is.
    return bounded(array) if array.dtype == jnp.float16 else array


def check_dimensions(name: str, array: jax.Array) -> None:
    """Raises if the last axis, along which vectors lie, has no entries."""
    if array.ndim and array.shape[-1] == 0:
        raise ValueError(
            f"{name} must have vectors with one entry or more on the last axis, got"
            f" shape {array.shape}."
        )


def check_key(key: object, name: str = "key") -> None:
    """Raises unless ``key`` is a random key, of the new kind or the old."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32
    ):
        raise TypeError(
            f"{name} must be a random key, such as jax.random.key(0), got"
            f" {reprlib.repr(key)}."
        )


def check_static(name: str, value: object) -> None:
    """Raises if ``value``, on which shapes or loops depend, is traced."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be known when the function is compiled, got a traced value;"
            f" mark it static: jax.jit(..., static_argnames={name!r})."
        )


def check_count(name: str, value: object) -> None:
    """Raises unless ``value`` is a positive integer that is known at compile time."""
    check_static(name, value)
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")


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
    for name, array in zip(vectors, arrays, strict=True):
        check_dimensions(name, array)
    return arrays


def _are_vectors(shapes: list[tuple[int, ...]]) -> bool:
    if () in shapes or len({shape[-1] for shape in shapes}) > 1:
        return False
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def as_integers(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless integer, of values that JAX keeps.

    JAX narrows NumPy's 64-bit integers without a word unless its own are switched on.
    """
    array = _as_given(x)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integer, got dtype {array.dtype}.")
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    if kept != array.dtype and array.size:
        low, high, info = array.min(), array.max(), jnp.iinfo(kept)
        if low < info.min or high > info.max:
            raise ValueError(
                f"{name} must fit in {kept} unless JAX has 64-bit types, got dtype"
                f" {array.dtype} with values from {low} to {high}; renumber them, or"
                ' call jax.config.update("jax_enable_x64", True) first.'
            )
    return jnp.asarray(array, kept)


def _as_given(x: jax.typing.ArrayLike) -> jax.Array | np.ndarray:
    """An array in which nothing has been narrowed yet."""
    is_of_jax = any(
        isinstance(leaf, jax.Array) or hasattr(leaf, "__jax_array__")
        for leaf in jax.tree.leaves(x)
    )
    return jnp.asarray(x) if is_of_jax else np.asarray(x)


def as_labels(
    labels: jax.typing.ArrayLike,
    shape: tuple[int, ...],
    of: str,
    *,
    name: str = "labels",
) -> jax.Array:
    """``labels`` as an array; raises unless integer, of shape ``of`` less one axis.

    Compare them by :func:`are_equal`, or as classes by :func:`as_classes`: a comparison
    in the type of one side may narrow the other.
    """
    array = as_integers(name, labels)
    if array.shape != shape:
        raise ValueError(
            f"{name} must have the shape of {of} without its last axis, {shape}, got"
            f" {array.shape}."
        )
    return array


def as_classes(labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """Integer labels as int32 in ``[0, classes)``, 0 for others, and whether they are.

    The labels may have any integer dtype, wider or narrower than the classes need.
    """
    last = min(classes - 1, jnp.iinfo(labels.dtype).max)
    is_class = (labels >= 0) & (labels <= last)
    return jnp.where(is_class, labels, 0).astype(jnp.int32), is_class


def are_equal(x: jax.Array, y: jax.Array) -> jax.Array:
    """Whether integers are equal as numbers, of two dtypes as well, elementwise.

    JAX has no type for int32 and uint32 together, and takes one for the other.
    """
    widest = max(jnp.iinfo(x.dtype).bits, jnp.iinfo(y.dtype).bits)
    signed = [jnp.issubdtype(z.dtype, jnp.signedinteger) for z in (x, y)]
    common = jnp.dtype(f"{'int' if all(signed) else 'uint'}{widest}")
    is_equal = x.astype(common) == y.astype(common)
    if signed[0] != signed[1]:
        is_equal &= (x if signed[0] else y) >= 0
    return is_equal


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")
