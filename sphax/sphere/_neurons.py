"""Kernels in Flax layout as sets of directions."""

import math

import jax


def neurons(kernel: jax.Array) -> jax.Array:
    """Output neurons of a kernel in Flax layout, as rows.

    Args:
        kernel: ``[in, out]`` or ``[*window, in, out]``.

    Returns:
        ``[out, fan_in]``; window axes first, input features fastest.

    Raises:
        ValueError: If ``kernel`` has fewer than two axes.

    Example:
        >>> sx.sphere.neurons(jnp.zeros((3, 3, 16, 32))).shape
        (32, 144)
    """
    if kernel.ndim < 2:
        raise ValueError(
            "kernel must have the layout [in, out] or [*window, in, out], got shape"
            f" {kernel.shape}."
        )
    return kernel.reshape(-1, kernel.shape[-1]).T


def from_neurons(rows: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Kernel in Flax layout whose output neurons are the rows given.

    The inverse of :func:`neurons`: ``from_neurons(neurons(kernel), kernel.shape)`` is
    ``kernel``.

    Args:
        rows: ``[out, fan_in]``.
        shape: Shape of the kernel, ``(in, out)`` or ``(*window, in, out)``.

    Returns:
        Kernel of shape ``shape``, dtype of ``rows``.

    Raises:
        ValueError: If ``rows`` does not have the neurons that ``shape`` asks for.

    Example:
        >>> sx.sphere.from_neurons(jnp.zeros((32, 144)), (3, 3, 16, 32)).shape
        (3, 3, 16, 32)
    """
    expected = (shape[-1], math.prod(shape[:-1]))
    if rows.shape != expected:
        raise ValueError(
            f"rows must be {expected} for a kernel of shape {shape}, got {rows.shape}."
        )
    return rows.T.reshape(shape)
