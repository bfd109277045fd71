"""No margin, and user-defined margins."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register
from sphax.margins._margin import Margin


@register
class NoMargin(Margin):
    r"""No margin: :math:`\psi(\theta) = \cos\theta`.

    The ordinary softmax (``normalize="none"``), the weight-normalized one
    (``"prototypes"``) and the sphere-normalized one (``"both"``; NormFace, COCO).

    Example:
        >>> sx.margins.NoMargin()(jnp.array([0.0, jnp.pi]))
        Array([ 1., -1.], dtype=float32)

    References:
        Wang et al., `NormFace <https://arxiv.org/abs/1704.06369>`_, ACM MM 2017.
    """

    def __call__(self, angle: jax.Array) -> jax.Array:
        return jnp.cos(angle)


# Not by `register`: it may have any number of leaves, and these may be any pytrees.
@jax.tree_util.register_pytree_node_class
class Psi(Margin):
    r"""A user-defined margin: any function of the target's angle.

    Keep :math:`\psi(\theta) < \cos\theta` on :math:`(0, \pi]` and :math:`\psi`
    decreasing: the first makes a margin, the second keeps the target attractive.

    Args:
        function: ``function(angle, *leaves)``, from angles in radians ``[...]`` to
            modified cosines ``[...]``, in jnp operations. Define it once: it is part of
            the pytree's structure, so that a new lambda in every step recompiles.
        *leaves: Its hyperparameters, pytrees of arrays or numbers, which may be traced
            and differentiated.

    Raises:
        TypeError: If ``function`` is not callable.

    Example:
        >>> halfway = sx.margins.Psi(lambda angle: jnp.cos(angle) - angle / jnp.pi)
        >>> halfway(jnp.array([0.0, jnp.pi / 2, jnp.pi]))
        Array([ 1. , -0.5, -2. ], dtype=float32)
    """

    def __init__(self, function: Callable[..., jax.Array], *leaves: Any):
        if not callable(function):
            raise TypeError(
                "Psi: function must be callable as function(angle, *leaves), got"
                f" {function!r}."
            )
        self.function = function
        self.leaves = leaves

    def __call__(self, angle: jax.Array) -> jax.Array:
        return self.function(angle, *self.leaves)

    def tree_flatten(self):
        """Leaves, and the function as structure."""
        return self.leaves, self.function

    @classmethod
    def tree_unflatten(cls, function, leaves):
        """Inverse of :meth:`tree_flatten`."""
        return cls(function, *leaves)
