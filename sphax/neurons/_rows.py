"""Conversion of kernels to matrices with one row per neuron, and back."""

import jax

from sphax._compiled import compiled
from sphax.neurons._dimensions import Axes, NeuronDimensions, axes_of

_LAST_AXIS = NeuronDimensions()


def to_rows(kernel: jax.Array, dimensions: NeuronDimensions = _LAST_AXIS) -> jax.Array:
    """The neurons of a kernel as rows.

    Args:
        kernel: Any dtype, by default in Flax layout, ``[in, out]`` or
            ``[*window, in, out]``.
        dimensions: Which axes count the neurons, and which run along them.

    Returns:
        ``[*batch, n, d]``, such as ``[out, fan_in]``: ``n`` neurons of ``d`` dimensions
        for each index of the batch axes. Several index axes, or several vector axes,
        are flattened in the order declared: by default window axes first, with input
        features varying fastest. Dtype of ``kernel``.

    Raises:
        ValueError: If ``kernel`` does not have the declared axes, or fewer than two.

    Example:
        >>> sx.neurons.to_rows(jnp.zeros((3, 3, 16, 32))).shape
        (32, 144)
        >>> heads = sx.neurons.NeuronDimensions(batch_axis=1)
        >>> sx.neurons.to_rows(jnp.zeros((64, 8, 4)), heads).shape
        (8, 4, 64)
    """
    return _to_rows(kernel, axes=axes_of(dimensions, kernel.shape, "kernel"))


@compiled("axes")
def _to_rows(kernel: jax.Array, *, axes: Axes) -> jax.Array:
    return axes.rows(kernel).reshape(_rows_shape(axes, kernel.shape))


def from_rows(
    rows: jax.Array,
    shape: tuple[int, ...],
    dimensions: NeuronDimensions = _LAST_AXIS,
) -> jax.Array:
    """The kernel with the given neurons, the inverse of :func:`to_rows`.

    ``from_rows(to_rows(kernel), kernel.shape)`` is ``kernel``.

    Args:
        rows: ``[*batch, n, d]``, such as ``[out, fan_in]``.
        shape: Shape of the kernel, such as ``(*window, in, out)``.
        dimensions: Which axes of it count the neurons, and which run along them.

    Returns:
        Kernel of shape ``shape``, dtype of ``rows``.

    Raises:
        ValueError: If the shape of ``rows`` is not that of the neurons of such a
            kernel, or a kernel of this shape does not have the declared axes.

    Example:
        >>> sx.neurons.from_rows(jnp.zeros((32, 144)), (3, 3, 16, 32)).shape
        (3, 3, 16, 32)
    """
    shape = tuple(shape)
    axes = axes_of(dimensions, shape, "kernel")
    expected = _rows_shape(axes, shape)
    if rows.shape != expected:
        raise ValueError(
            f"rows must be {expected} for a kernel of shape {shape}, got {rows.shape}."
        )
    return _from_rows(rows, axes=axes, shape=shape)


@compiled("axes", "shape")
def _from_rows(rows: jax.Array, *, axes: Axes, shape: tuple[int, ...]) -> jax.Array:
    return axes.from_rows(rows, shape)


def _rows_shape(axes: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    _, n, d = axes.sizes(shape)
    return *(shape[axis] for axis in axes.batch), n, d
