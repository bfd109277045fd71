"""What the functions of this package return."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sphax.reparam._frozen import FrozenNeurons

Frozen = dict[str, FrozenNeurons]


class Reparameterization(NamedTuple):
    """Pure functions between params and what is trained in their place.

    ``free`` is what an optimizer trains. It has the containers of params, whatever they
    are, and all of its leaves, but for the kernels: in their places are
    :class:`Rotations`. ``frozen`` has the neurons of these kernels, by path.

    Attributes:
        init: ``init(key, params) -> (free, frozen)``.
        apply: ``apply(free, frozen) -> params``, differentiable.
        advance: ``advance(key, free, frozen) -> (free, frozen, moved)``, to be called
            every so many steps: where a method has the rotations absorbed and drawn
            anew, it does that, and does nothing elsewhere. Params stay the same.
            ``moved`` has a boolean for each leaf of ``free``: whether it was set back,
            so that the moments of an optimizer are no longer its own; see
            :func:`reset_moments`.
        penalty: ``penalty(free) -> scalar``, to be added to the loss; zero unless a
            method is relaxed.

    All draws are functions of the keys given: if the one of ``advance`` is
    ``jax.random.fold_in(key, step)``, a run that resumes goes on bit by bit.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
        >>> training = sx.reparam.orthogonal()
        >>> free, frozen = training.init(jax.random.key(0), params)
        >>> free["kernel"].left.shape, free["bias"].shape
        ((1, 1, 1, 8, 8), (4,))
        >>> jax.tree.map(jnp.shape, training.apply(free, frozen))
        {'bias': (4,), 'kernel': (8, 4)}
    """

    init: Callable[[jax.Array, Any], tuple[Any, Frozen]]
    apply: Callable[[Any, Frozen], Any]
    advance: Callable[[jax.Array, Any, Frozen], tuple[Any, Frozen, Any]]
    penalty: Callable[[Any], jax.Array]

    def merge(self, free: Any, frozen: Frozen) -> Any:
        """The plain params, once training is over: inference knows of nothing else."""
        return self.apply(free, frozen)
