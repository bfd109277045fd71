"""What a margin is: a function psi of the target's angle, with its hyperparameters."""

import abc
import dataclasses
import math
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from sphax import _checks
from sphax._foreign_names import OF_MARGINS
from sphax._numerics import sin2_noise_floor
from sphax.sphere import arcsin


class Target(NamedTuple):
    """What a margin may know of its batch: the target of every example.

    Attributes:
        angle: To the target's prototype, in radians, ``[...]``, float32 at least.
        norm: Length of the embedding, ``[...]``, float32 at least.
        is_kept: Whether the example counts, boolean, ``[...]``.

    Example:
        >>> target = sx.margins.Target(
        ...     jnp.array([0.5, 1.0]), jnp.array([60.0, 20.0]), jnp.full(2, True)
        ... )
        >>> print(sx.margins.MagFace().for_batch(target).margin)
        [0.625 0.485]
    """

    angle: jax.Array
    norm: jax.Array
    is_kept: jax.Array


class Margin(abc.ABC):
    r"""Base of all margins: what becomes of the target's cosine.

    A margin is a frozen dataclass registered as a pytree. Its real hyperparameters are
    leaves: they may be traced, differentiated, scheduled without compiling again, and
    given per example with the shape of the batch.

    Only a call, :math:`\psi`, is required of a margin. What else it may do is asked for
    by :func:`sphax.losses.margin_softmax` in every step, in this order:
    :meth:`update`, :meth:`for_batch`, :meth:`penalty`, :meth:`negatives`.

    Example:
        >>> margin = sx.margins.CosFace(margin=jnp.array([0.1, 0.2]))  # per example
        >>> margin(jnp.array([0.0, 0.0]))
        Array([0.9, 0.8], dtype=float32)
    """

    other_names = OF_MARGINS

    @abc.abstractmethod
    def __call__(self, angle: jax.Array) -> jax.Array:
        r"""Modified cosine of the target, :math:`\psi(\theta)`.

        Args:
            angle: Angle between embedding and target prototype in radians, in
                ``[0, pi]``, floating, ``[...]``.

        Returns:
            What takes the place of the cosine, ``[...]``.
        """

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
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
    def modifies_negatives(self) -> bool:
        """Whether :meth:`negatives` is anything but the identity."""
        return type(self).negatives is not Margin.negatives

    def for_batch(self, target: Target, key: jax.Array | None = None) -> "Margin":
        """The margin of this batch, where it depends on the batch or on chance.

        Args:
            target: The targets of the batch; gradients pass through it.
            key: Of what is drawn.

        Returns:
            A margin whose hyperparameters may have the shape of the batch; here, the
            margin itself.

        Raises:
            ValueError: If the margin draws, and there is no key.
        """
        del target, key
        return self

    def penalty(self, target: Target) -> jax.typing.ArrayLike:
        """What is added to the loss of every example, ``[...]``; here, 0."""
        del target
        return 0.0

    def update(self, target: Target) -> Self:
        """The margin with its running state brought up to this batch.

        Args:
            target: The targets of the batch, without gradient. Examples that are not
                kept count for nothing.

        Returns:
            A margin of the same structure; here, the margin itself.
        """
        del target
        return self

    @property
    def keeps_state(self) -> bool:
        """Whether :meth:`update` is anything but the identity."""
        return type(self).update is not Margin.update


def replace(margin: Any, **leaves: Any) -> Any:
    """A margin with other leaves."""
    return dataclasses.replace(margin, **leaves)


def check_choice(margin: Margin, name: str, choices: tuple[Any, ...]) -> None:
    """Raises a ``ValueError`` if a static field is none of ``choices``."""
    _checks.check_choice(
        f"{type(margin).__name__}: {name}", getattr(margin, name), choices
    )


def per_row(leaf: Any) -> Any:
    """A hyperparameter of shape ``[...]`` made to broadcast with ``[..., classes]``."""
    return jnp.expand_dims(leaf, -1) if jnp.ndim(leaf) else leaf


def arccos(cosines: jax.Array) -> jax.Array:
    """Arc cosine of clipped cosines, with zero gradient next to 1 and -1.

    For the classes other than the target: their angles are not formed from the vectors.
    """
    return math.pi / 2 - arcsin(cosines, sin2_noise_floor(cosines.dtype))
