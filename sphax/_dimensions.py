"""The axes of a leaf: which count its neurons, and which run along each of them."""

import dataclasses
import math

import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuronDimensions:
    """Which axes of a leaf count its neurons, and which run along each of them.

    Negative axes count from the end. All axes in neither are batch axes, such as the
    heads of an attention kernel: each of their entries is a set of neurons of its own
    (as in :class:`optax.contrib.MuonDimensionNumbers`).

    Transforms, and energies of params, take ``neurons``: a pytree with a
    ``NeuronDimensions`` at the path of a leaf, or of a subtree for all its leaves,
    nested as in ``{"head": {"prototypes": ...}}`` or with paths as in
    ``{"head/prototypes": ...}``; a single one for all of params; or a callable that
    makes such a pytree of params. Leaves named ``kernel``, of rank two and above, need
    none: their last axis is the index, as in Flax. To leave a leaf out of a transform,
    use ``mask``.

    Args:
        index_axis: Axis that counts the neurons, or several.
        vector_axis: Axis along a neuron, or several; ``None`` stands for all others.

    Example:
        >>> prototypes = sx.optim.NeuronDimensions(index_axis=0)  # [classes, features]
        >>> # [features, heads, head_features], each head on its own
        >>> query = sx.optim.NeuronDimensions(index_axis=2, vector_axis=0)
        >>> tangent = sx.optim.project_to_tangent(
        ...     neurons={"head/prototypes": prototypes, "attention/query/kernel": query}
        ... )
    """

    index_axis: int | tuple[int, ...] = -1
    vector_axis: int | tuple[int, ...] | None = None


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Axes:
    """All axes of one leaf, counted from the start: static, a part of the state."""

    batch: tuple[int, ...]
    index: tuple[int, ...]
    vector: tuple[int, ...]

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of sets, of neurons in each, and of dimensions."""
        return tuple(math.prod(shape[i] for i in axes) for axes in self._groups())

    def rows(self, leaf: jax.Array) -> jax.Array:
        """The neurons as rows, ``[batch, n, d]``."""
        return leaf.transpose(sum(self._groups(), ())).reshape(*self.sizes(leaf.shape))

    def from_rows(self, rows: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The leaf of the shape given that has these neurons."""
        order = sum(self._groups(), ())
        rows = rows.reshape([shape[axis] for axis in order])
        return rows.transpose(sorted(range(len(order)), key=order.__getitem__))

    def _groups(self):
        return self.batch, self.index, self.vector


def axes_of(dimensions: NeuronDimensions, shape: tuple[int, ...], name: str) -> Axes:
    """The axes declared for a leaf; raises if it has no such axes."""
    ndim = len(shape)
    index, vector = dimensions.index_axis, dimensions.vector_axis
    index = _from_start(index, ndim)
    if vector is None:
        vector = tuple(axis for axis in range(ndim) if axis not in index)
    vector = _from_start(vector, ndim)
    batch = tuple(axis for axis in range(ndim) if axis not in index + vector)
    # Any axis that is declared twice, or is not there, shows in the permutation.
    if not vector or sorted(batch + index + vector) != list(range(ndim)):
        raise ValueError(
            f"{dimensions} does not fit {name or 'params'} of shape {shape}: axes must"
            " exist, be different, and leave one or more to the vector."
        )
    return Axes(batch, index, vector)


def _from_start(axes: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(axis + ndim if axis < 0 else axis for axis in axes)
