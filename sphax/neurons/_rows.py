"""Kernels as rows, one for each neuron, and back."""

import jax

from sphax._compiled import compiled
from sphax.neurons._dimensions import Axes, NeuronDimensions, axes_of

_LAST_AXIS = NeuronDimensions()


def to_rows(kernel: jax.Array, dimensions: NeuronDimensions = _LAST_AXIS) -> jax.Array:
    """Neurons of a kernel, as rows.

    Args:
        kernel: By default in Flax layout, ``[in, out]`` or ``[*window, in, out]``.
        dimensions: Which axes count the neurons and run along them.

    Returns:
        ``[*batch, n, d]``, such as ``[out, fan_in]``: ``n`` neurons of ``d`` dimensions
        for each entry of the batch axes, if there are any. Several index axes, or
        vector axes, are one in the order declared: by default window axes first, input
        features fastest. Dtype of ``kernel``.

    Raises:
        ValueError: If ``kernel`` does not have the axes declared, or fewer than two.

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
    """Kernel whose neurons are the rows given.

    The inverse of :func:`to_rows`: ``from_rows(to_rows(kernel), kernel.shape)`` is
    ``kernel``.

    Args:
        rows: ``[*batch, n, d]``, such as ``[out, fan_in]``.
        shape: Shape of the kernel, such as ``(*window, in, out)``.
        dimensions: Which axes of it count the neurons and run along them.

    Returns:
        Kernel of shape ``shape``, dtype of ``rows``.

    Raises:
        ValueError: If ``rows`` does not have the neurons that ``shape`` asks for, or a
            kernel of this shape does not have the axes declared.

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
