"""Resetting the moments of an optimizer whose params were reset."""

from typing import Any

import jax.numpy as jnp
import optax


def reset_moments(
    optimizer: optax.GradientTransformation, state: Any, was_reset: Any
) -> Any:
    r"""Resets the moments of an optimizer to zero where its params were reset.

    All arrays of the state in the structure of params count as moments. Step counts are
    kept, since other params share them: once the bias corrections of Adam have faded,
    its first step is :math:`(1 - b_1) / \sqrt{1 - b_2}` times the learning rate.

    Args:
        optimizer: The transform of the state.
        state: Its state for ``free``.
        was_reset: Booleans in the structure of ``free``, as ``advance`` returns them.

    Returns:
        The state, structure and dtypes unchanged.

    Example:
        >>> import optax
        >>> adam, params = optax.adam(0.1), {"a": jnp.ones(2), "b": jnp.ones(2)}
        >>> _, state = adam.update(params, adam.init(params), params)
        >>> was_reset = {"a": True, "b": False}
        >>> sx.reparam.reset_moments(adam, state, was_reset)[0].mu
        {'a': Array([0., 0.], dtype=float32), 'b': Array([0.1, 0.1], dtype=float32)}
    """

    def is_masked(moment):  # a param that belongs to another transform
        return isinstance(moment, optax.MaskedNode)

    def reset(moment, was_reset):
        if is_masked(moment):
            return moment
        return jnp.where(was_reset, jnp.zeros_like(moment), moment)

    return optax.tree.map_params(optimizer, reset, state, was_reset, is_leaf=is_masked)
