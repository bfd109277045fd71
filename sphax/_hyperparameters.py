"""Frozen dataclasses of hyperparameters, whose real ones are leaves of a pytree."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from sphax._foreign_names import explain_names

# The smallest normal number stands for an open lower end at 0.
POSITIVE = float(jnp.finfo(jnp.float32).tiny)

C = TypeVar("C", bound=type)


def static(*, default: Any, kw_only: bool = False) -> Any:
    """A dataclass field that is part of the pytree's structure."""
    return dataclasses.field(
        default=default, kw_only=kw_only, metadata={"static": True}
    )


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def register(cls: C) -> C:
    """Makes a class a frozen dataclass and a pytree of its non-static fields.

    If the class has ``other_names``, its constructor explains them; see
    :func:`sphax._foreign_names.explain_names`.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    made.__init__ = explain_names(getattr(made, "other_names", {}))(made.__init__)
    leaves, fixed = leaf_names(made), static_names(made)
    keys = tuple(map(jax.tree_util.GetAttrKey, leaves))

    def flatten(of):
        return tuple(getattr(of, name) for name in leaves), tuple(
            getattr(of, name) for name in fixed
        )

    def flatten_with_keys(of):
        values, structure = flatten(of)
        return tuple(zip(keys, values, strict=True)), structure

    def unflatten(structure, values):
        return made(**dict(zip((*leaves, *fixed), (*values, *structure), strict=True)))

    # Not `register_dataclass`: in jaxlib 0.10.2 two structures of its are equal,
    # whatever their classes, if they have as many leaves and the same static fields.
    # Their hashes differ, but now and then `jit` runs what it compiled for the other.
    jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
    return made


def leaf_names(cls: Any) -> list[str]:
    """Names of the fields that are leaves."""
    return [f.name for f in dataclasses.fields(cls) if not f.metadata.get("static")]


def static_names(cls: Any) -> list[str]:
    """Names of the fields that are part of the structure."""
    return [f.name for f in dataclasses.fields(cls) if f.metadata.get("static")]


def store_real(
    owner: object,
    name: str,
    low: float,
    high: float = float("inf"),
    *,
    is_closed: bool = False,
) -> None:
    """Checks a hyperparameter that is a Python number and stores it as a float.

    An integer leaf could not be differentiated and would compile anew. Arrays, tracers
    and the placeholders of pytree transformations pass as they are.

    Raises:
        TypeError: If it is a string.
        ValueError: If the number lies outside ``[low, high)``, or ``[low, high]``.
    """
    value = getattr(owner, name)
    if isinstance(value, str):
        raise TypeError(
            f"{type(owner).__name__}: {name} must be a number or an array, got"
            f" {value!r}."
        )
    # JAX passes constants as Python numbers that carry a type of their own.
    if not isinstance(value, (int, float)) or hasattr(value, "aval"):
        return
    if not (low <= value < high or (is_closed and value == high)):
        raise ValueError(
            f"{type(owner).__name__}: {name} must lie in [{low:g},"
            f" {high:g}{']' if is_closed else ')'}, got {value}."
        )
    object.__setattr__(owner, name, float(value))
