"""Sums over the examples of every class."""

import jax
import jax.numpy as jnp


def class_sums(
    x: jax.Array, labels: jax.Array, weights: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Weighted sums of the rows of each class, and the sums of their weights.

    A weight of NaN, of an example without a class, makes all sums NaN.

    Args:
        x: Rows, ``[..., d]``, float32 at least.
        labels: Classes, ``[...]``, each in ``[0, classes)``.
        weights: ``[...]``, of the dtype of ``x``.
        classes: Number of classes.

    Returns:
        Sums ``[classes, d]`` and weights ``[classes]``.
    """
    weights, labels = weights.ravel(), labels.ravel()
    rows = weights[:, None] * x.reshape(-1, x.shape[-1])
    sums = jnp.zeros((classes, x.shape[-1]), x.dtype).at[labels].add(rows)
    counts = jnp.zeros(classes, x.dtype).at[labels].add(weights)
    return jnp.where(jnp.isnan(jnp.sum(weights)), jnp.nan, sums), counts
