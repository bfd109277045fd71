"""Running statistics of the margins that keep a state.

The loss updates the state by the batch before the margin is used, and returns it in
``aux.margin`` for the next step.
"""

import jax
import jax.numpy as jnp

from sphax.margins._margin import Target


def batch_sum(
    values: jax.Array, target: Target, axis_name: str | tuple[str, ...] | None
) -> jax.Array:
    """Sum over the kept examples, of all devices along ``axis_name`` if given."""
    total = jnp.sum(values, where=target.is_kept)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def moved_average(old: jax.typing.ArrayLike, new: jax.Array, rate) -> jax.Array:
    """``old`` moved towards ``new``, without gradient; unchanged if ``new`` is NaN."""
    # One bad batch would poison the state for good.
    step = jnp.where(jnp.isfinite(new), rate * (new - old), 0.0)
    return jax.lax.stop_gradient(jnp.asarray(old) + step)
