"""Reparameterization of a params pytree: each kernel as rotated frozen neurons."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import check_key
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax._paths import by_path, listed
from sphax.neurons import Axes, Neurons, find, replace, select
from sphax.reparam._blocks import Blocks, block_rotate, shape_in_words
from sphax.reparam._maps import OrthogonalMap
from sphax.reparam._neuron_init import NeuronInit, check_neuron_init, draw_neurons

Where = Callable[[str, jax.Array], bool]
Side = Literal["left", "right"]

# Rotations may have this many times the entries of their kernel, unless allow_large.
_LARGEST = 4


class Rotations(NamedTuple):
    """The arrays that are trained in place of one kernel.

    Raw arrays are ``[sets, factors, blocks, b, b]``: one matrix for each set of neurons
    (a kernel is one set unless it has batch axes), for each factor of the product and
    each of its blocks. The method maps it to an orthogonal matrix. Raw arrays are
    float32 at least, whatever the dtype of the kernel is. Only entries above the
    diagonal count for ``"cayley"``, ``"cayley_neumann"`` and ``"exponential"``;
    ``"householder"`` has pairs of rows, ``[..., 2 * (b // 2), b]``.

    Attributes:
        left: Raw arrays of the rotation of the space of the neurons; ``None`` if there
            is no such rotation, or if it is tied to that of another kernel.
        right: Raw arrays of the rotation that mixes the neurons, likewise.
        scale: Factor of each neuron, ``[sets, n]``, float32 at least, or ``None``.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4))}
        >>> blocks = sx.reparam.orthogonal(block_size=4)
        >>> free, _ = blocks.init(jax.random.key(0), params)
        >>> free["kernel"].left.shape
        (1, 1, 2, 4, 4)
    """

    left: Any = None
    right: Any = None
    scale: Any = None


class FrozenNeurons(NamedTuple):
    """The neurons of one kernel, which are not trained, and the coordinates to rotate.

    Attributes:
        kernel: The neurons, in the layout of the kernel.
        left: Coordinates of a neuron that go into each block, integer,
            ``[factors, blocks, b]``; ``None`` if blocks take them in order.
        right: Indices of the neurons that go into each block, likewise.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4))}
        >>> _, frozen = sx.reparam.orthogonal().init(jax.random.key(0), params)
        >>> frozen["kernel"].kernel.shape
        (8, 4)
    """

    kernel: jax.Array
    left: jax.Array | None
    right: jax.Array | None


Frozen = dict[str, FrozenNeurons]


class Reparameterization(NamedTuple):
    """Pure functions between params and the arrays that are trained in their place.

    An optimizer trains ``free``, which has the containers and leaves of params, except
    that :class:`Rotations` replace the kernels. ``frozen`` has the
    :class:`FrozenNeurons` of these kernels, by path.

    Attributes:
        init: ``init(key, params) -> (free, frozen)``.
        apply: ``apply(free, frozen) -> params``, differentiable.
        advance: ``advance(key, free, frozen) -> (free, frozen, was_reset)``, to be
            called every so many steps. Methods that periodically merge their rotations
            into the neurons and resample them do so here; for all others it does
            nothing. Params do not change. ``was_reset`` has a boolean for each leaf of
            ``free``: whether it was reset, so that the moments of an optimizer no
            longer belong to it; see :func:`reset_moments`.
        penalty: ``penalty(free) -> scalar``, to be added to the loss; zero except for
            relaxed methods.

    All random draws depend on the given keys only: a run that resumes continues bit by
    bit if the key of ``advance`` is ``jax.random.fold_in(key, step)``.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
        >>> training = sx.reparam.orthogonal()
        >>> free, frozen = training.init(jax.random.key(0), params)
        >>> free["kernel"].left.shape, free["bias"].shape
        ((1, 1, 1, 8, 8), (4,))
        >>> jax.tree.map(jnp.shape, training.apply(free, frozen))
        {'bias': (4,), 'kernel': (8, 4)}
    """

    init: Callable[[jax.Array, Any], tuple[Any, Frozen]]
    apply: Callable[[Any, Frozen], Any]
    advance: Callable[[jax.Array, Any, Frozen], tuple[Any, Frozen, Any]]
    penalty: Callable[[Any], jax.Array]

    def merge(self, free: Any, frozen: Frozen) -> Any:
        """Returns the plain params, for inference once training is over."""
        return self.apply(free, frozen)


def per_kernel(
    to_matrix: OrthogonalMap,
    left: Blocks | None,
    right: Blocks | None = None,
    *,
    neuron_init: NeuronInit,
    rescale: bool = False,
    tie: bool = False,
    redraw: bool = False,
    penalty: Callable[[Any], jax.Array] | None = None,
    allow_large: bool,
    where: Where | None,
    neurons: Neurons,
) -> Reparameterization:
    """Makes ``W = R V P' D`` of every kernel: all methods of this package.

    Args:
        to_matrix: Maps raw arrays to the blocks of ``R`` and ``P``.
        left: The blocks of ``R``, which rotates the space of the neurons, if there is
            one.
        right: The blocks of ``P``, which mixes the neurons, if there is one.
        neuron_init: The frozen neurons ``V``.
        rescale: Whether to learn ``D``, a factor for each neuron.
        tie: Whether kernels share the raw arrays of the same shape; not with
            ``redraw``.
        redraw: Whether ``advance`` merges the rotations into the neurons and resamples
            the blocks.
        penalty: ``penalty(free)``; by default zero.
        allow_large: Whether rotations may have many more entries than their kernel.
        where: Says of a path and its leaf whether to reparameterize it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.
    """
    check_neuron_init(neuron_init)
    if where is not None and not callable(where):
        raise TypeError(
            "where must be a function of a path and a leaf, such as lambda path,"
            f" leaf: path.startswith('conv'), got {where!r}."
        )
    sides: dict[Side, Blocks] = {}
    if left is not None:
        sides["left"] = left
    if right is not None:
        sides["right"] = right

    def init(key, params):
        check_key(key, "key, the first argument of init,")
        # A single neuron, or dimension, has nothing to be rotated against.
        axes = find(params, neurons, at_least=2, where=where)
        kernels = select(params, axes)
        shapes = {
            name: _raw_shapes(sides, axes[name], kernel.shape)
            for name, kernel in kernels.items()
        }
        shapes = _without_misfits(shapes, kernels)
        if not allow_large:
            _check_sizes(shapes, kernels)
        entries = {name: (kernels[name], i) for i, name in enumerate(shapes)}
        fixed = {
            name: _Fixed(axes[name], to_matrix, left, right, rescale, neuron_init)
            for name in shapes
        }
        made = map_alike(_init_kernel, entries, fixed, key)
        free = {name: rotations for name, (rotations, _) in made.items()}
        frozen = {name: neurons for name, (_, neurons) in made.items()}
        if tie:
            for (name, side), owner in _owners(shapes).items():
                if owner != name:
                    free[name] = free[name]._replace(**{side: None})
        return replace(params, free), frozen

    def apply(free, frozen):
        return replace_rotations(free, rotated(free, frozen))

    def advance(key, free, frozen):
        check_key(key, "key, the first argument of advance,")
        mask = rotation_mask(free)
        if not redraw:
            return free, frozen, jax.tree.map(lambda _: False, mask)
        kernels, axes = rotated(free, frozen), axes_of(frozen)
        # In the order that jit gives a dict.
        entries = {name: (kernels[name], i) for i, name in enumerate(sorted(frozen))}
        fixed = {
            name: _Fixed(axes[name], to_matrix, left, right, rescale, None)
            for name in frozen
        }
        made = map_alike(_init_kernel, entries, fixed, key)
        rotations = {name: rotations for name, (rotations, _) in made.items()}
        merged = {name: neurons for name, (_, neurons) in made.items()}
        return replace_rotations(free, rotations), merged, mask

    def axes_of(frozen):
        # Found again by path and shape, since states hold arrays only.
        kernels = {name: leaf.kernel for name, leaf in frozen.items()}
        return find(kernels, neurons, partial=True)

    def rotated(free, frozen):
        """The rotated kernels, by path."""
        rotations = rotations_by_path(free)
        if rotations.keys() != frozen.keys():
            raise ValueError(
                "frozen must be that of free, got neurons for"
                f" {listed(frozen)} and rotations for {listed(rotations)}."
            )
        # First all matrices, so that a tied one is made once.
        raw = {
            (name, side): array
            for name, leaf in rotations.items()
            for side in ("left", "right")
            if (array := getattr(leaf, side)) is not None
        }
        matrices = map_alike(OrthogonalMap.__call__, raw, dict.fromkeys(raw, to_matrix))
        axes = axes_of(frozen)
        if tie:
            shapes = {
                name: _raw_shapes(sides, axes[name], frozen[name].kernel.shape)
                for name in rotations
            }
            for place, owner in _owners(shapes).items():
                matrices[place] = matrices[owner, place[1]]
        entries = {
            name: (
                matrices.get((name, "left")),
                matrices.get((name, "right")),
                leaf.scale,
                frozen[name],
            )
            for name, leaf in rotations.items()
        }
        return map_alike(_apply_kernel, entries, axes)

    return Reparameterization(init, apply, advance, penalty or _no_penalty)


class _Fixed(NamedTuple):
    """What is static about a kernel: those with the same share what is compiled."""

    axes: Axes
    to_matrix: OrthogonalMap
    left: Blocks | None
    right: Blocks | None
    rescale: bool
    neuron_init: NeuronInit | None


def _init_kernel(fixed: _Fixed, entry, key):
    """Rotations and frozen neurons; without ``neuron_init``, the kernel is frozen."""
    kernel, number = entry
    key = jax.random.fold_in(key, number)
    if fixed.neuron_init is not None:
        draw_key, key = jax.random.split(key)
        rows = draw_neurons(draw_key, fixed.neuron_init, fixed.axes.rows(kernel))
        kernel = fixed.axes.from_rows(rows, kernel.shape)
    sets, n, d = fixed.axes.sizes(kernel.shape)

    def init_side(key, blocks, size):
        if blocks is None:
            return None, None
        order_key, raw_key = jax.random.split(key)
        shape = sets, *blocks.shape(size)
        raw = fixed.to_matrix.init(raw_key, shape, kernel.dtype)
        return raw, blocks.order(order_key, size)

    left_key, right_key = jax.random.split(key)
    left, left_order = init_side(left_key, fixed.left, d)
    right, right_order = init_side(right_key, fixed.right, n)
    scale = jnp.ones((sets, n), widen(kernel).dtype) if fixed.rescale else None
    frozen = FrozenNeurons(kernel, left_order, right_order)
    return Rotations(left, right, scale), frozen


def _apply_kernel(axes: Axes, entry):
    """``W = R V P' D``, given the blocks of ``R`` and ``P``, in the dtype of ``V``."""
    left, right, scale, frozen = entry
    rows = widen(axes.rows(frozen.kernel))
    if left is not None:
        rows = block_rotate(rows, left, frozen.left)
    if right is not None:
        rows = block_rotate(rows.mT, right, frozen.right).mT
    if scale is not None:
        rows = rows * scale[..., None]
    kernel = axes.from_rows(rows, frozen.kernel.shape)
    return kernel.astype(frozen.kernel.dtype)


def _no_penalty(free):
    del free
    return jnp.zeros([])


# Raw arrays of a kernel, by side, without their last axis: sets, factors, blocks, b.
# None where no block size fits.
Shapes = dict[Side, tuple[int, ...] | None]


def _raw_shapes(
    sides: dict[Side, Blocks], axes: Axes, shape: tuple[int, ...]
) -> Shapes:
    sets, n, d = axes.sizes(shape)
    shapes: Shapes = {}
    for side, blocks in sides.items():
        fitting = blocks.shape(d if side == "left" else n)
        shapes[side] = None if fitting is None else (sets, *fitting)
    return shapes


def _owners(shapes: dict[str, Shapes]) -> dict[tuple[str, Side], str]:
    """The first kernel, by path, that has a raw array of the same side and shape."""
    firsts, owners = {}, {}
    for name in sorted(shapes):
        for side, shape in shapes[name].items():
            owners[name, side] = firsts.setdefault((side, shape), name)
    return owners


def _without_misfits(
    shapes: dict[str, Shapes], kernels: dict[str, jax.Array]
) -> dict[str, Shapes]:
    """Without kernels that no block size fits; raises if none is left."""
    fitting = {
        name: sides for name, sides in shapes.items() if None not in sides.values()
    }
    if not fitting:
        sizes = ", ".join(
            f"{name or 'params'} {kernels[name].shape}" for name in shapes
        )
        raise ValueError(
            "block_size, or a smaller one of 2 or more, must divide the dimension of"
            " neurons, together with factors if there are any, in one kernel or more,"
            f" got {sizes}."
        )
    return fitting


def _check_sizes(shapes: dict[str, Shapes], kernels: dict[str, jax.Array]) -> None:
    """Raises if rotations have many more entries than their kernel."""
    large = {}
    for name, raw_shapes in shapes.items():
        blocks = {side: (*raw, raw[-1]) for side, raw in raw_shapes.items() if raw}
        entries = sum(math.prod(raw) for raw in blocks.values())
        if entries > _LARGEST * kernels[name].size:
            large[name] = entries, blocks
    if large:
        name, (entries, blocks) = max(large.items(), key=lambda item: item[1][0])
        sides = ", ".join(
            f"{side} {shape_in_words(raw)}" for side, raw in blocks.items()
        )
        others = [other for other in large if other != name]
        raise ValueError(
            f"rotations of {name or 'params'} of shape {kernels[name].shape} would have"
            f" {entries} entries ({sides}), {entries / kernels[name].size:.1f} times"
            f" those of the kernel, more than {_LARGEST}: make blocks smaller by"
            " block_size, declare its axes by neurons if these are others, rotate the"
            " other side, leave it out by where, or say allow_large=True."
            f"{f' The same holds for {listed(others)}.' if others else ''}"
        )


def is_rotations(x: Any) -> bool:
    """Whether ``x`` stands for a kernel."""
    return isinstance(x, Rotations)


def rotations_by_path(free: Any) -> dict[str, Rotations]:
    """The rotations in ``free``, by the paths of their kernels."""
    leaves = by_path(free, Rotations)
    return {name: leaf for name, leaf in leaves.items() if is_rotations(leaf)}


def replace_rotations(free: Any, leaves: dict[str, Any]) -> Any:
    """``free`` with other leaves, given by path, in place of its rotations."""
    structure = jax.tree.structure(free, is_leaf=is_rotations)
    given = by_path(free, Rotations)
    return structure.unflatten(leaves.get(name, leaf) for name, leaf in given.items())


def rotation_mask(free: Any) -> Any:
    """Which leaves of ``free`` are raw arrays of rotations.

    For :func:`optax.masked` and :func:`optax.partition`: to exclude rotations from
    weight decay, or to give them a separate optimizer. The factors of neurons, which
    some methods train too, are not raw arrays.

    Args:
        free: ``free`` as ``init`` returns it.

    Returns:
        Booleans in the structure of ``free``.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
        >>> free, _ = sx.reparam.orthogonal().init(jax.random.key(0), params)
        >>> sx.reparam.rotation_mask(free)
        {'bias': False, 'kernel': Rotations(left=True, right=None, scale=None)}
    """

    def mask(leaf):
        if not is_rotations(leaf):
            return False
        everything = jax.tree.map(lambda _: True, leaf)
        return everything._replace(scale=None if leaf.scale is None else False)

    return jax.tree.map(mask, free, is_leaf=is_rotations)
