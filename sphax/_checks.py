"""Checks of arguments, whose errors name the argument and say what to do."""

import numbers
import reprlib
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sphax._numerics import bounded

_FLOATING = (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)


def as_array(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises if JAX cannot convert it."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array or a number, got {reprlib.repr(x)}."
        ) from error


def as_floating(name: str, x: jax.typing.ArrayLike) -> jax.Array:
    """``x`` as an array; raises unless floating with 16 bits or more."""
    array = as_array(name, x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}.")
    if array.dtype not in _FLOATING:
        raise TypeError(
            f"{name} must be float16, bfloat16, float32 or float64, got dtype"
            f" {array.dtype}; cast it first."
        )
    # The range of float16 is short: the sum of two gradients may exceed it.
    return bounded(array) if array.dtype == jnp.float16 else array


def check_dimensions(name: str, array: jax.Array) -> None:
    """Raises if the vectors, on the last axis, have no entries."""
    if array.ndim and array.shape[-1] == 0:
        raise ValueError(
            f"{name} must have vectors with one entry or more on the last axis, got"
            f" shape {array.shape}."
        )


def check_instance(name: str, value: object, kind: type, example: str) -> None:
    """Raises unless ``value`` is an instance of ``kind``, a public class of sphax."""
    if not isinstance(value, kind):
        package = kind.__module__.split(".")[1]
        raise TypeError(
            f"{name} must be a sphax.{package}.{kind.__name__}, such as {example}, got"
            f" {value!r}."
        )


def check_sizes(owner: str, **sizes: object) -> None:
    """Raises unless all sizes are positive integers."""
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(
                f"{owner}: {name} must be a positive integer, got {size!r}."
            )


def check_key(key: object, name: str = "key") -> None:
    """Raises unless ``key`` is a single random key, typed or of dtype uint32."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.ndim == 0:
                return
            raise ValueError(f"{name} must be a single key, got shape {key.shape}.")
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return  # as jax.random.PRNGKey makes them
    raise TypeError(
        f"{name} must be a random key, such as jax.random.key(0), got {shown(key)}."
    )


def check_count(
    name: str, value: object, least: int = 1, *, may_be_traced: bool = False
) -> None:
    """Raises unless ``value`` is an integer, ``least`` or more.

    With ``may_be_traced``, an integer scalar array passes as well.
    """
    if isinstance(value, jax.Array):
        if not may_be_traced:
            raise TypeError(
                f"{name} must be a Python integer, known when the function is compiled,"
                " since shapes or loops depend on it, got an array; under jax.jit, mark"
                f" it static: static_argnames={name!r}."
            )
        if value.ndim or not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(
                f"{name} must be an integer, got {value.dtype} of shape {value.shape}."
            )
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {shown(value)}.")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}.")


def check_flag(name: str, value: object) -> None:
    """Raises unless ``value`` is True or False."""
    if isinstance(value, jax.Array):
        raise TypeError(
            f"{name} must be True or False, known when the function is compiled, got an"
            f" array; under jax.jit, mark it static: static_argnames={name!r}."
        )
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}.")


def check_number(name: str, value: object, *, others: str = "") -> None:
    """Raises unless ``value`` is a number or an array.

    Args:
        name: Name of the argument.
        value: The value passed by the caller, of any type.
        others: What else the argument may be, for the message.
    """
    is_number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array))
    if isinstance(value, bool) or not is_number:
        raise TypeError(f"{name} must be a number{others}, got {shown(value)}.")


def check_number_or_schedule(name: str, value: object) -> None:
    """Raises unless ``value`` is a number, or a schedule (a function of the step)."""
    if not callable(value):
        check_number(name, value, others=", or a schedule, a function of the step")


def is_number(value: object, name: str) -> TypeGuard[float]:
    """Whether ``value`` is a Python number, whose range can be checked.

    Raises unless it is a Python number or a floating scalar array.
    """
    check_number(name, value, others=" or a scalar array")
    if isinstance(value, (jax.Array, np.ndarray)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be floating, got dtype {value.dtype}; as a Python number"
                " it may be an integer."
            )
        if value.ndim:
            raise ValueError(f"{name} must be a scalar, got shape {value.shape}.")
        return False
    # JAX passes constants as Python numbers with a type, which may be traced.
    return not hasattr(value, "aval")


def check_range(
    name: str,
    value: object,
    low: float,
    high: float | None = None,
    *,
    exclude_low: bool = False,
    include_high: bool = False,
) -> None:
    """Raises unless ``value`` is a number in ``[low, high)``, or a scalar array.

    The range is checked for Python numbers only; values of arrays are not known while
    a function is traced.

    Args:
        name: Name of the argument.
        value: The value passed by the caller, of any type.
        low: Smallest number allowed.
        high: End of the range; infinity requires a finite number, None allows
            every number from ``low`` on.
        exclude_low: Whether ``low`` itself is not allowed.
        include_high: Whether ``high`` itself is allowed.
    """
    if not is_number(value, name):
        return
    is_above = value > low if exclude_low else value >= low
    if high is None:
        if not is_above:
            least = f"{low:g} or more"
            if exclude_low:
                least = f"more than {low:g}" if low else "positive"
            raise ValueError(f"{name} must be {least}, got {value}.")
    elif not (is_above and (value <= high if include_high else value < high)):
        left, right = "(" if exclude_low else "[", "]" if include_high else ")"
        raise ValueError(
            f"{name} must lie in {left}{low:g}, {high:g}{right}, got {value}."
        )


def shown(value: object) -> str:
    """A value for an error message: itself if it is short, otherwise its type."""
    is_short = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if is_short else type(value).__name__


def as_vectors(**vectors: jax.typing.ArrayLike) -> list[jax.Array]:
    """The arguments as arrays; raises unless they are floating vectors that fit.

    The last axis must have the same length in all of them; other axes must broadcast.
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
    """``x`` as an array; raises unless integer, with values that JAX can represent.

    Unless 64-bit types are enabled, JAX silently narrows NumPy's 64-bit integers.
    """
    is_jax = any(
        isinstance(leaf, jax.Array) or hasattr(leaf, "__jax_array__")
        for leaf in jax.tree.leaves(x)
    )
    # NumPy narrows nothing.
    array = jnp.asarray(x) if is_jax else np.asarray(x)
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


def as_labels(
    labels: jax.typing.ArrayLike,
    shape: tuple[int, ...],
    of: str,
    *,
    name: str = "labels",
) -> jax.Array:
    """``labels`` as an array; raises unless integer and of the given shape.

    Compare them by :func:`are_equal`, or convert them by :func:`as_classes`: ``==``
    may narrow one of its sides to the type of the other.

    Args:
        labels: Integers of any dtype.
        shape: The shape that they must have.
        of: Name of the array that has this shape and one more axis, for the message.
        name: Name of the argument.
    """
    array = as_integers(name, labels)
    if array.shape != shape:
        raise ValueError(
            f"{name} must have the shape of {of} without its last axis, {shape}, got"
            f" {array.shape}."
        )
    return array


def as_classes(labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """Labels as int32 in ``[0, classes)``, and a mask of the labels in this range.

    Labels outside become 0. They may have any integer dtype, wide or narrow.
    """
    last = min(classes - 1, jnp.iinfo(labels.dtype).max)
    is_class = (labels >= 0) & (labels <= last)
    return jnp.where(is_class, labels, 0).astype(jnp.int32), is_class


def are_equal(x: jax.Array, y: jax.Array) -> jax.Array:
    """Whether integers are equal as numbers, elementwise, also in two dtypes.

    JAX has no common type for int32 and uint32, and would convert one to the other.
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


def as_points(name: str, points: jax.typing.ArrayLike) -> jax.Array:
    """``points`` as an array; raises unless floating, ``[..., n, d]``, d not 0."""
    points = as_floating(name, points)
    if points.ndim < 2:
        raise ValueError(f"{name} must be [..., n, d], got shape {points.shape}.")
    check_dimensions(name, points)
    return points


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises if any value is NaN or infinite, and says how many."""
    broken = array.size - np.count_nonzero(np.isfinite(array))
    if broken:
        missing = np.count_nonzero(np.isnan(array))
        raise ValueError(
            f"{name} must be finite, got {missing} NaN and {broken - missing} infinite"
            f" of {array.size} values."
        )


def as_finite(name: str, x: ArrayLike) -> np.ndarray:
    """``x`` as a NumPy array; raises unless floating, finite and not empty.

    In float32 or float64, whichever holds its values.
    """
    array = np.asarray(x)
    # JAX's test, since NumPy does not count bfloat16 as floating.
    if not jnp.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    check_finite(name, array)
    return array


def as_numpy_labels(name: str, labels: ArrayLike, length: int, of: str) -> np.ndarray:
    """``labels`` as a NumPy array; raises unless integer, one for each of ``of``."""
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integer, got dtype {array.dtype}.")
    if array.shape != (length,):
        raise ValueError(
            f"{name} must have an entry for each of the {length} {of}, got shape"
            f" {array.shape}."
        )
    return array


def as_comparable(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NumPy integers of two dtypes, renumbered if no integer dtype holds both.

    NumPy compares int64 with uint64 in float64, which rounds numbers above 2**53.
    """
    if np.issubdtype(np.result_type(x, y), np.integer):
        return x, y
    # Python's integers have no limit.
    exact = np.concatenate([x.astype(object), y.astype(object)])
    numbers = np.unique(exact, return_inverse=True)[1]
    return numbers[: len(x)], numbers[len(x) :]
