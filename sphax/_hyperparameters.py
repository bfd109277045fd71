"""Frozen dataclasses of hyperparameters as pytrees, with the real ones as leaves."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from sphax._checks import check_range
from sphax._foreign_names import explain_names

# The smallest positive hyperparameter: the smallest normal number.
POSITIVE = float(jnp.finfo(jnp.float32).tiny)

C = TypeVar("C", bound=type)


def static(*, default: Any = dataclasses.MISSING, kw_only: bool = False) -> Any:
    """A dataclass field that is part of the pytree's structure."""
    return dataclasses.field(
        default=default, kw_only=kw_only, metadata={"static": True}
    )


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def register(cls: C) -> C:
    """Makes a class a frozen dataclass, and a pytree with its non-static fields.

    The constructor explains the argument names in the class's ``other_names``, if it
    has any; see :func:`sphax._foreign_names.explain_names`.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    made.__init__ = explain_names(getattr(made, "other_names", {}))(made.__init__)
    leaves, fixed = leaf_names(made), static_names(made)
    keys = tuple(map(jax.tree_util.GetAttrKey, leaves))

    def flatten(instance):
        values = tuple(getattr(instance, name) for name in leaves)
        return values, tuple(getattr(instance, name) for name in fixed)

    def flatten_with_keys(instance):
        values, structure = flatten(instance)
        return tuple(zip(keys, values, strict=True)), structure

    def unflatten(structure, values):
        # Past the constructor and its checks: pytree functions put anything in place of
        # leaves, such as their names, which Orbax takes for those of its files.
        instance = object.__new__(made)
        for name, value in zip((*leaves, *fixed), (*values, *structure), strict=True):
            object.__setattr__(instance, name, value)
        return instance

    # Not `register_dataclass`: with it, in jaxlib 0.10.2, the structures of two classes
    # are equal if they have the same number of leaves and equal static fields. Their
    # hashes differ, yet `jit` sometimes runs what it compiled for the other class.
    jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
    return made


def leaf_names(cls: Any) -> list[str]:
    """Names of the fields that are leaves."""
    return [f.name for f in dataclasses.fields(cls) if not f.metadata.get("static")]


def static_names(cls: Any) -> list[str]:
    """Names of the fields that are part of the pytree's structure."""
    return [f.name for f in dataclasses.fields(cls) if f.metadata.get("static")]


def store_real(
    owner: object,
    name: str,
    low: float,
    high: float = float("inf"),
    *,
    is_closed: bool = False,
) -> None:
    """Checks a hyperparameter that is a Python number, and stores it as a float.

    An integer leaf could not be differentiated, and would be compiled separately.
    Arrays, tracers and the placeholders of pytree transformations stay as they are.

    Raises:
        TypeError: If it is a string.
        ValueError: If a number lies outside ``[low, high)``, or ``[low, high]`` if
            ``is_closed``.
    """
    value = getattr(owner, name)
    if isinstance(value, str):
        raise TypeError(
            f"{type(owner).__name__}: {name} must be a number or an array, got"
            f" {value!r}."
        )
    # JAX passes constants as Python numbers with a type, which must not change.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or hasattr(value, "aval"):
        return
    label = f"{type(owner).__name__}: {name}"
    check_range(label, value, low, high, include_high=is_closed)
    object.__setattr__(owner, name, float(value))
