"""The base class of margins, and the target that a margin sees."""

import abc
import math
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from sphax._foreign_names import OF_MARGINS
from sphax._numerics import sin2_noise_floor
from sphax.sphere import arcsin


class Target(NamedTuple):
    """What a margin may know of a batch: the target of every example.

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


# Hooks that cost something or change what a loss returns, and what announces them.
_ANNOUNCED_BY = {"negatives": "modifies_negatives", "update": "keeps_state"}


class Margin(abc.ABC):
    r"""Base class of all margins, which modify the cosine of the target.

    A margin is a frozen dataclass registered as a pytree. Its real hyperparameters are
    leaves: they may be traced, differentiated, scheduled without compiling again, and
    given per example with the shape of the batch.

    Subclasses must implement ``__call__``, the function :math:`\psi`.
    :func:`sphax.losses.margin_softmax` calls the optional hooks in this order:
    :meth:`update`, :meth:`for_batch`, :meth:`penalty`, :meth:`negatives`. A subclass
    that overrides :meth:`negatives` or :meth:`update` sets the class attribute that
    announces it.

    Attributes:
        modifies_negatives: Whether :meth:`negatives` is not the identity; False unless
            the subclass sets it.
        keeps_state: Whether :meth:`update` is not the identity; False unless the
            subclass sets it.

    Raises:
        TypeError: Where a subclass is defined that overrides :meth:`negatives` or
            :meth:`update` without setting its attribute.

    Example:
        >>> margin = sx.margins.CosFace(margin=jnp.array([0.1, 0.2]))  # per example
        >>> margin(jnp.array([0.0, 0.0]))
        Array([0.9, 0.8], dtype=float32)
    """

    other_names = OF_MARGINS
    modifies_negatives = False
    keeps_state = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for hook, flag in _ANNOUNCED_BY.items():
            is_overridden = getattr(cls, hook) is not getattr(Margin, hook)
            # False is the default; a property of the subclass is not False.
            if is_overridden and getattr(cls, flag) is False:
                raise TypeError(
                    f"{cls.__name__} overrides {hook}: set {flag} = True in the class,"
                    " or the losses would not call it."
                )

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
            What takes the place of the cosines, ``[..., classes]``; by default, the
            cosines themselves.
        """
        del angle
        return cosines

    def for_batch(self, target: Target, key: jax.Array | None = None) -> "Margin":
        """The margin for one batch, if it depends on the batch or is random.

        Args:
            target: The targets of the batch; gradients pass through it.
            key: Random key, for margins that draw.

        Returns:
            A margin whose hyperparameters may have the shape of the batch; by default,
            the margin itself.

        Raises:
            ValueError: If the margin draws, and there is no key.
        """
        del target, key
        return self

    def penalty(self, target: Target) -> jax.typing.ArrayLike:
        """What is added to the loss of every example, ``[...]``; by default, 0."""
        del target
        return 0.0

    def update(self, target: Target) -> Self:
        """The margin with its running state updated by this batch.

        Args:
            target: The targets of the batch, without gradient. Examples that are not
                kept count for nothing.

        Returns:
            A margin of the same structure; by default, the margin itself.
        """
        del target
        return self


def expand_last(leaf: Any) -> Any:
    """A hyperparameter of shape ``[...]`` made to broadcast with ``[..., classes]``."""
    return jnp.expand_dims(leaf, -1) if jnp.ndim(leaf) else leaf


def arccos(cosines: jax.Array) -> jax.Array:
    """Arc cosine of clipped cosines, with zero gradient next to 1 and -1.

    For the classes other than the target: their angles are not formed from the vectors.
    """
    return math.pi / 2 - arcsin(cosines, sin2_noise_floor(cosines.dtype))
