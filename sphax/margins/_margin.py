"""What a margin is: a function psi of the target's angle, with its hyperparameters."""

import abc
import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from sphax import _checks


class Margin(abc.ABC):
    r"""Base of all margins: what becomes of the target's cosine.

    A margin is a frozen dataclass registered as a pytree. Its real hyperparameters are
    leaves: they may be traced, differentiated, scheduled without compiling again, and
    given per example with the shape of the batch.

    Example:
        >>> margin = sx.margins.CosFace(margin=jnp.array([0.1, 0.2]))  # per example
        >>> margin(jnp.array([0.0, 0.0]))
        Array([0.9, 0.8], dtype=float32)
    """

    @abc.abstractmethod
    def __call__(self, angle: jax.Array) -> jax.Array:
        r"""Modified cosine of the target, :math:`\psi(\theta)`.

        Args:
            angle: Angle between embedding and target prototype in radians, in
                ``[0, pi]``, floating, ``[...]``.

        Returns:
            What takes the place of the cosine, ``[...]``.
        """

    def others(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        r"""Modified cosines of the other classes, :math:`\eta(c)`, elementwise.

        Args:
            cosines: Cosines to the classes that are not the target, ``[..., classes]``.
                They may leave [-1, 1] by rounding.
            angle: Angle to the target in radians, ``[...]``.

        Returns:
            What takes the place of the cosines, ``[..., classes]``; here, they
            themselves.
        """
        del angle
        return cosines

    @property
    def edits_others(self) -> bool:
        """Whether :meth:`others` is anything but the identity."""
        return type(self).others is not Margin.others


M = TypeVar("M", bound=type)


def static(*, default: Any) -> Any:
    """A dataclass field that is part of the pytree's structure."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def register(cls: M) -> M:
    """Makes a margin a frozen dataclass and a pytree of its non-static fields."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def store_real(
    margin: Margin, name: str, low: float, high: float = float("inf")
) -> None:
    """Checks a hyperparameter that is a Python number and stores it as a float.

    An integer leaf could not be differentiated and would compile anew. Arrays, tracers
    and the placeholders of pytree transformations pass as they are.

    Raises:
        ValueError: If the number lies outside ``[low, high)``.
    """
    value = getattr(margin, name)
    # JAX passes constants as Python numbers that carry a type of their own.
    if not isinstance(value, (int, float)) or hasattr(value, "aval"):
        return
    if not low <= value < high:
        raise ValueError(
            f"{type(margin).__name__}: {name} must lie in [{low:g}, {high:g}), got"
            f" {value}."
        )
    object.__setattr__(margin, name, float(value))


def check_choice(margin: Margin, name: str, choices: tuple[Any, ...]) -> None:
    """Raises a ``ValueError`` if a static field is none of ``choices``."""
    _checks.check_choice(
        f"{type(margin).__name__}: {name}", getattr(margin, name), choices
    )


def per_row(leaf: Any) -> Any:
    """A hyperparameter of shape ``[...]`` made to broadcast with ``[..., classes]``."""
    return jnp.expand_dims(leaf, -1) if jnp.ndim(leaf) else leaf


@jax.custom_jvp
def arccos(cosines: jax.Array) -> jax.Array:
    """Arc cosine of clipped cosines, with zero gradient where they are 1 or -1.

    For the classes other than the target: their angles are not formed from the vectors.
    Within an ulp of 1 the slope is rounding noise, and the direction that it would
    multiply is about to vanish.
    """
    return jnp.arccos(jnp.clip(cosines, -1.0, 1.0))


@arccos.defjvp
def _arccos_jvp(primals, tangents):
    (cosines,), (change,) = primals, tangents
    square = (1.0 - cosines) * (1.0 + cosines)
    is_end = square < jnp.finfo(cosines.dtype).eps
    slope = -jax.lax.rsqrt(jnp.where(is_end, 1.0, square))
    return arccos(cosines), jnp.where(is_end, 0.0, slope) * change
