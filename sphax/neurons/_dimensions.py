"""The axes of a leaf that count its neurons, and the axes along each neuron."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from sphax._compiled import compiled

# One axis or several axes.
AxisLike = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuronDimensions:
    """Which axes of a leaf count its neurons, and which axes run along each neuron.

    Each index of ``batch_axis`` is a separate set of neurons, such as a head of an
    attention kernel or a layer of a stack. Negative axes count from the end. Every axis
    of the leaf is in exactly one of the three; ``vector_axis`` or ``batch_axis`` may be
    None for all remaining axes (as the batch axes are in
    :class:`optax.contrib.MuonDimensionNumbers`).

    ==========================================  ===================================
    Leaf                                        Declaration
    ==========================================  ===================================
    dense ``[in, out]``,                        ``NeuronDimensions()``
    convolution ``[*window, in, out]``,
    depthwise ``[*window, 1, out]``
    attention, query, key and value             ``NeuronDimensions(batch_axis=-2)``
    ``[in, heads, head_dim]``
    attention, output                           ``NeuronDimensions()``
    ``[heads, head_dim, out]``
    stack ``[layers, in, out]``                 ``NeuronDimensions(batch_axis=0)``
    prototypes, embeddings ``[n, features]``    ``NeuronDimensions(index_axis=0)``
    ==========================================  ===================================

    Args:
        index_axis: Axis that counts the neurons, or a tuple of axes.
        vector_axis: Axis along a neuron, or a tuple of axes; ``None`` for all axes that
            are not index or batch axes.
        batch_axis: Axis that counts sets of neurons, or a tuple of axes. ``None`` means
            no axis if ``vector_axis`` is ``None``, otherwise all axes that are not
            index or vector axes.
        count: Number of neurons in each set, if those after them are padding, as
            prototypes have that lie on several devices; None for all.

    Example:
        >>> query = sx.neurons.NeuronDimensions(batch_axis=1)  # [in, heads, head_dim]
        >>> sx.neurons.to_rows(jnp.zeros((64, 8, 4)), query).shape
        (8, 4, 64)
        >>> params = {"query": {"kernel": jnp.ones((64, 8, 4))}}
        >>> tx = sx.optim.project_gradients_to_tangent(neurons={"query/kernel": query})
        >>> state = tx.init(params)
    """

    index_axis: AxisLike = -1
    vector_axis: AxisLike | None = None
    batch_axis: AxisLike | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Axes:
    """All axes of one leaf, counted from the start, as :func:`find` returns them.

    ``batch``, ``index`` and ``vector`` are tuples of axes; each axis is in one of them.
    ``count`` is the number of neurons in each set, if not all that there are.

    Example:
        >>> params = {"kernel": jnp.ones((3, 3, 16, 32)), "bias": jnp.ones(32)}
        >>> axes = sx.neurons.find(params)["kernel"]
        >>> axes.vector, axes.sizes((3, 3, 16, 32))
        ((0, 1, 2), (1, 32, 144))
    """

    batch: tuple[int, ...]
    index: tuple[int, ...]
    vector: tuple[int, ...]
    count: int | None = None

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Number of sets, neurons in each set, and dimensions of each neuron."""
        sets, n, d = self._all(shape)
        return sets, n if self.count is None else self.count, d

    def rows(self, leaf: jax.Array) -> jax.Array:
        """The neurons as rows, ``[sets, n, d]``."""
        rows = leaf.transpose(sum(self._groups(), ())).reshape(*self._all(leaf.shape))
        return rows if self.count is None else _first(rows, size=self.count)

    def from_rows(self, rows: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The leaf of the given shape with these neurons, ``[sets, n, d]``.

        What is no neuron is 0.
        """
        order = sum(self._groups(), ())
        if self.count is not None:
            sets, n, d = self._all(shape)
            rows = _with_zeros(rows.reshape(sets, self.count, d), size=n)
        rows = rows.reshape([shape[axis] for axis in order])
        return rows.transpose(sorted(range(len(order)), key=order.__getitem__))

    def _all(self, shape):
        return tuple(math.prod(shape[i] for i in axes) for axes in self._groups())

    def _groups(self):
        return self.batch, self.index, self.vector


@compiled("size")
def _first(rows: jax.Array, *, size: int) -> jax.Array:
    return rows[:, :size]


@compiled("size")
def _with_zeros(rows: jax.Array, *, size: int) -> jax.Array:
    return jnp.pad(rows, ((0, 0), (0, size - rows.shape[1]), (0, 0)))


def axes_of(
    dimensions: NeuronDimensions, shape: tuple[int, ...], name: str = ""
) -> Axes:
    """The axes declared for a leaf; raises if the leaf does not have them."""
    axes = fitting_axes(dimensions, len(shape))
    if axes is not None and axes.count is not None:
        _, n, _ = dataclasses.replace(axes, count=None).sizes(shape)
        if not 0 < axes.count <= n:
            raise ValueError(
                f"{dimensions} declares {axes.count} neurons, but {name or 'a leaf'} of"
                f" shape {shape} has {n}."
            )
    if axes is None:
        raise ValueError(
            f"{dimensions} does not fit {name or 'a leaf'} of shape {shape}: axes must"
            " exist, be different, have every axis among them, and leave one or more to"
            " the vector."
        )
    return axes


def fitting_axes(dimensions: NeuronDimensions, ndim: int) -> Axes | None:
    """The axes declared for a leaf of rank ``ndim``; None if it does not have them."""
    index = _from_start(dimensions.index_axis, ndim)
    vector = _from_start(dimensions.vector_axis, ndim)
    batch = _from_start(dimensions.batch_axis, ndim)
    if dimensions.vector_axis is None:
        vector = tuple(axis for axis in range(ndim) if axis not in index + batch)
    elif dimensions.batch_axis is None:
        batch = tuple(axis for axis in range(ndim) if axis not in index + vector)
    # A permutation has every axis once: none is declared twice, and all exist.
    if not vector or sorted(batch + index + vector) != list(range(ndim)):
        return None
    return Axes(batch, index, vector, dimensions.count)


def _from_start(axes: AxisLike | None, ndim: int) -> tuple[int, ...]:
    if axes is None:
        return ()
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(axis + ndim if axis < 0 else axis for axis in axes)
