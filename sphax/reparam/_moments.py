"""Optimizer states after their params were set back."""

from typing import Any

import jax.numpy as jnp
import optax


def reset_moments(
    optimizer: optax.GradientTransformation, state: Any, moved: Any
) -> Any:
    r"""Sets the moments of an optimizer back to zero where its params were set back.

    All arrays of the state that follow the params count as moments. Counts of steps
    stay, since other params share them: Adam, past its bias corrections, then makes a
    first step of :math:`(1 - b_1) / \sqrt{1 - b_2}` times the learning rate.

    Args:
        optimizer: The transform that the state is of.
        state: Its state, for ``free``.
        moved: Booleans in the structure of ``free``, as ``advance`` returns them.

    Returns:
        The state, structure and dtypes unchanged.

    Example:
        >>> import optax
        >>> adam, params = optax.adam(0.1), {"a": jnp.ones(2), "b": jnp.ones(2)}
        >>> _, state = adam.update(params, adam.init(params), params)
        >>> moved = {"a": True, "b": False}
        >>> sx.reparam.reset_moments(adam, state, moved)[0].mu
        {'a': Array([0., 0.], dtype=float32), 'b': Array([0.1, 0.1], dtype=float32)}
    """

    def reset(moment, is_moved):
        if _is_masked(moment):
            return moment
        return jnp.where(is_moved, jnp.zeros_like(moment), moment)

    return optax.tree.map_params(optimizer, reset, state, moved, is_leaf=_is_masked)


def _is_masked(moment: Any) -> bool:
    """Whether it stands for a param that another transform has."""
    return isinstance(moment, optax.MaskedNode)
