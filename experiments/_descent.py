"""Optimisers of networks with operators: what decays, and what is kept orthogonal."""

from functools import partial
from typing import Any, Literal

import jax
import optax

import sphax as sx

Update = Literal["momentum", "adam"]


def regularized(
    optimizer: optax.GradientTransformation,
    *,
    has_length: bool,
    weight_decay: float,
    decay_norms: bool,
    orthogonality: float,
    of_directions: bool,
) -> optax.GradientTransformation:
    """The optimiser, of gradients with decay and orthogonality as parts of them.

    Args:
        optimizer: What turns gradients into updates.
        has_length: Whether the length of a filter counts. If so, filters decay like
            other kernels; if not, they are kept orthogonal.
        weight_decay: Weight of the decay.
        decay_norms: Whether scales and shifts of normalisations decay too.
        orthogonality: Weight of the penalty.
        of_directions: Whether it is of the directions of the filters alone.
    """
    decays = partial(decaying, has_length=has_length, norms=decay_norms)
    decay = optax.add_decayed_weights(weight_decay, mask=decays)
    if has_length or not orthogonality:
        return optax.chain(decay, optimizer)
    penalty = sx.optim.add_orthogonality_gradient(
        orthogonality, normalize=of_directions, precision="highest", mask=filters
    )
    return optax.chain(decay, penalty, optimizer)


def filters(params: Any) -> Any:
    """Which parameters are filters of the operator: not those of a shortcut."""
    return jax.tree.map_with_path(_is_filter, params)


def decaying(params: Any, *, has_length: bool, norms: bool) -> Any:
    """Which parameters decay, if those of a normalisation may do so too.

    Args:
        params: The parameters.
        has_length: Whether the length of a filter counts. If not, filters are left out.
        norms: Whether scales and shifts decay beside kernels.
    """

    def decays(path, leaf):
        if _is_filter(path, leaf):
            return has_length
        return leaf.ndim >= 2 or (
            norms and not {"scale", "bias"}.isdisjoint(_names(path))
        )

    return jax.tree.map_with_path(decays, params)


def _is_filter(path: Any, leaf: Any) -> bool:
    return leaf.ndim == 4 and "shortcut" not in _names(path)


def _names(path: Any) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator="/").split("/")
