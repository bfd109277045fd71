"""The arguments of an objective: checked first, masked once compiled."""

import math

import jax
import jax.numpy as jnp

from sphax import _checks
from sphax._checks import (
    as_array,
    as_classes,
    as_floating,
    as_labels,
    check_dimensions,
)
from sphax._masking import as_weights, zero_masked


def as_operands(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    ranks: tuple[int, ...] = (2,),
    name: str = "prototypes",
) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless ``[..., features]`` and ``[classes, features]``.

    With 3 among the ``ranks``, prototypes ``[classes, k, features]`` are accepted too,
    and alone if it is the only one.
    """
    embeddings = as_embeddings(embeddings)
    prototypes = as_floating(name, prototypes)
    if prototypes.ndim not in ranks or 0 in prototypes.shape[:-1]:
        expected = {
            (2,): "[classes, features], a row for each class",
            (3,): "[classes, k, features], k centers for each class",
            (2, 3): "[classes, features], a row for each class (or [classes, k,"
            " features], with k sub-centers)",
        }[ranks]
        raise ValueError(f"{name} must be {expected}, got shape {prototypes.shape}.")
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


def as_embeddings(x: jax.typing.ArrayLike, *, name: str = "embeddings") -> jax.Array:
    """``x`` as an array; raises unless floating."""
    array = as_array(name, x)
    if jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be floating, got dtype {array.dtype}; were labels given in"
            " their place?"
        )
    return as_floating(name, array)


def as_rows(x: jax.typing.ArrayLike, *, name: str = "embeddings") -> jax.Array:
    """``x`` as an array; raises unless floating, ``[n, features]``."""
    rows = as_embeddings(x, name=name)
    if rows.ndim != 2:
        raise ValueError(
            f"{name} must be [n, features], one batch (jax.vmap takes several), got"
            f" shape {rows.shape}."
        )
    check_dimensions(name, rows)
    return rows


def as_batch(
    embeddings: jax.Array,
    labels: jax.typing.ArrayLike,
    where: jax.typing.ArrayLike | None,
) -> tuple[jax.Array, jax.Array | None]:
    """Labels and weights as arrays; raises unless there is one for each embedding."""
    labels = as_labels(labels, embeddings.shape[:-1], "embeddings")
    return labels, as_weights(where, labels.shape, "labels")


def as_scalar(
    name: str,
    x: jax.typing.ArrayLike,
    dtype: jax.typing.DTypeLike,
    low: float | None = None,
    high: float = math.inf,
    *,
    is_open: bool = False,
) -> jax.Array:
    """A hyperparameter as an array of the dtype; raises unless real and a scalar.

    With ``low``, a Python number has to lie in ``[low, high)``, or ``(low, high)``.
    """
    if low is not None:
        check_range(name, x, low, high, is_open=is_open)
    array = as_array(name, x)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar, got shape {array.shape}.")
    if not jnp.isrealobj(array):
        raise TypeError(f"{name} must be real, got dtype {array.dtype}.")
    return array.astype(dtype)


def check_range(
    name: str,
    x: jax.typing.ArrayLike,
    low: float,
    high: float = math.inf,
    *,
    is_open: bool = False,
) -> None:
    """Checks Python numbers alone: arrays may have any real dtype and value."""
    if isinstance(x, (int, float)):
        _checks.check_range(name, x, low, high, exclude_low=is_open)


def masked_batch(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    classes: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Embeddings, labels and weights with which class-wise objectives compute.

    Returns:
        Embeddings, zero where the weight is, in the dtype of both operands together;
        labels that are classes, 0 in the place of others, safe to gather by; and
        weights ``[...]``, NaN where an example that counts has an unknown label: a
        weighted mean is then NaN, with its gradients.
    """
    dtype = jnp.promote_types(embeddings.dtype, prototypes.dtype)
    embeddings = zero_masked(embeddings, where).astype(dtype)
    weights = jnp.ones(labels.shape) if where is None else where
    weights = weights.astype(jnp.promote_types(dtype, jnp.float32))
    labels, is_known = as_classes(labels, classes)
    weights = jnp.where(is_known | (weights == 0.0), weights, jnp.nan)
    return embeddings, labels, weights
