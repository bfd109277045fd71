"""Kernels as rotated frozen neurons: the one construction behind all methods."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_key
from sphax._compiled import map_alike
from sphax._numerics import widen
from sphax._paths import by_path, listed
from sphax.neurons import Axes, Neurons, find, replace, select
from sphax.reparam._blocks import Plan, rotate
from sphax.reparam._describe import in_words
from sphax.reparam._frozen import FrozenNeurons, NeuronInit, check_neuron_init, draw
from sphax.reparam._reparameterization import Frozen, Reparameterization
from sphax.reparam._rotations import (
    Parameterization,
    Rotations,
    is_rotations,
    rotation_mask,
    rotations_by_path,
)
from sphax.reparam._tied import Shapes, tie, untie

# Rotations may have so many times the entries of their kernel, unless told so.
_LARGEST = 4

Where = Callable[[str, jax.Array], bool]
Side = Literal["left", "right", "both"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Construction:
    """``W = R V P^T D``, with rotations on the sides that have a plan.

    With ``is_redrawn``, `advance` folds the rotations into the neurons and draws the
    plans anew; it is not for those that are tied.
    """

    parameterization: Parameterization
    left: Plan | None
    right: Plan | None = None
    neuron_init: NeuronInit
    share_blocks: bool = False
    tie: bool = False
    rescale: bool = False
    is_redrawn: bool = False
    allow_large: bool
    where: Where | None
    neurons: Neurons

    def __post_init__(self):
        """Checks the hyperparameters."""
        check_neuron_init(self.neuron_init)
        if self.where is not None and not callable(self.where):
            raise TypeError(
                "where must be a function of a path and a leaf, such as lambda path,"
                f" leaf: path.startswith('conv'), got {self.where!r}."
            )

    def functions(
        self, penalty: Callable[[Any], jax.Array] | None = None
    ) -> Reparameterization:
        """What the functions of this package return."""
        return Reparameterization(
            self._init, self._apply, self._advance, penalty or _no_penalty
        )

    def _init(self, key, params):
        check_key(key, "key, the first argument of init,")
        # A single neuron, or dimension, has nothing to be rotated against.
        found = find(params, self.neurons, at_least=2, where=self.where)
        leaves = select(params, found)
        shapes = _without_misfits(self._shapes(found, leaves), leaves)
        if not self.allow_large:
            _check_sizes(leaves, shapes)
        entries = {name: (leaves[name], i) for i, name in enumerate(shapes)}
        fixed = {name: (found[name], self._kind()) for name in shapes}
        begun = map_alike(_draw_and_begin, entries, fixed, key)
        free = {name: rotations for name, (rotations, _) in begun.items()}
        frozen = {name: neurons for name, (_, neurons) in begun.items()}
        if self.tie:
            free = tie(free, shapes)
        return replace(params, free), frozen

    def _apply(self, free, frozen):
        return in_place(free, self._kernels(free, frozen))

    def _advance(self, key, free, frozen):
        check_key(key, "key, the first argument of advance,")
        mask = rotation_mask(free)
        if not self.is_redrawn:
            return free, frozen, jax.tree.map(lambda _: False, mask)
        kernels, axes = self._kernels(free, frozen), self._axes(frozen)
        # In the order that jit gives a dict.
        entries = {name: (kernels[name], i) for i, name in enumerate(sorted(frozen))}
        fixed = {name: (axes[name], self._kind()) for name in frozen}
        begun = map_alike(_begin_anew, entries, fixed, key)
        fresh = {name: rotations for name, (rotations, _) in begun.items()}
        folded = {name: neurons for name, (_, neurons) in begun.items()}
        return in_place(free, fresh), folded, mask

    def _kind(self) -> "Construction":
        """Without what says which leaves: what is compiled for one fits others."""
        return dataclasses.replace(self, where=None, neurons=None)

    def _axes(self, frozen: Frozen) -> dict[str, Axes]:
        """Those that `init` found: by path and shape, states hold arrays only."""
        kernels = {name: own.kernel for name, own in frozen.items()}
        return find(kernels, self.neurons, partial=True)

    def _kernels(self, free, frozen) -> dict[str, jax.Array]:
        """The rotated kernels, by path."""
        rotations, axes = _rotations_of(free, frozen), self._axes(frozen)
        matrices = self.parameterization.matrices(rotations)
        if self.tie:
            kernels = {name: own.kernel for name, own in frozen.items()}
            matrices = untie(matrices, self._shapes(axes, kernels))
        entries = {name: (matrices[name], frozen[name]) for name in rotations}
        return map_alike(_rotate, entries, axes)

    def _shapes(
        self, found: dict[str, Axes], kernels: dict[str, jax.Array]
    ) -> dict[str, Any]:
        def of(name, axes):
            sets, n, d = axes.sizes(kernels[name].shape)
            sides = {"left": (self.left, d), "right": (self.right, n)}
            return {
                side: self.shape(plan, sets, size)
                for side, (plan, size) in sides.items()
                if plan is not None
            }

        return {name: of(name, axes) for name, axes in found.items()}

    def shape(self, plan: Plan, sets: int, size: int) -> tuple[int, ...] | None:
        """Of the raw arrays of a side, but for the last axis."""
        blocks = plan.shape(size)
        if blocks is None:
            return None
        factors, count, block_size = blocks
        return sets, factors, 1 if self.share_blocks else count, block_size


def _draw_and_begin(fixed, entry, key):
    """Rotations and frozen neurons in the place of a leaf."""
    (axes, kind), (leaf, number) = fixed, entry
    draw_key, own = jax.random.split(jax.random.fold_in(key, number))
    rows = draw(draw_key, kind.neuron_init, axes.rows(leaf))
    return _begin(kind, axes, own, axes.from_rows(rows, leaf.shape))


def _begin_anew(fixed, entry, key):
    (axes, kind), (kernel, number) = fixed, entry
    return _begin(kind, axes, jax.random.fold_in(key, number), kernel)


def _begin(kind, axes, key, kernel):
    sets, n, d = axes.sizes(kernel.shape)
    keys = jax.random.split(key)
    left, order = _begin_side(kind, keys[0], kind.left, sets, d, kernel.dtype)
    right, right_order = _begin_side(kind, keys[1], kind.right, sets, n, kernel.dtype)
    scale = jnp.ones((sets, n), widen(kernel).dtype) if kind.rescale else None
    return Rotations(left, right, scale), FrozenNeurons(kernel, order, right_order)


def _begin_side(kind, key, plan, sets, size, dtype):
    """Raw arrays, and the coordinates in their blocks."""
    if plan is None:
        return None, None
    order_key, raw_key = jax.random.split(key)
    raw = kind.parameterization.start(raw_key, kind.shape(plan, sets, size), dtype)
    return raw, plan.order(order_key, size)


def _rotate(axes, entry):
    matrices, frozen = entry
    return rotated_kernel(matrices, frozen, axes)


def _without_misfits(
    shapes: dict[str, Any], leaves: dict[str, jax.Array]
) -> dict[str, Shapes]:
    """Without kernels whose sizes have no such blocks; raises if none is left."""
    fitting = {name: own for name, own in shapes.items() if None not in own.values()}
    if not fitting:
        sizes = ", ".join(f"{name or 'params'} {leaves[name].shape}" for name in shapes)
        raise ValueError(
            "block_size, or a smaller one of 2 or more, must divide the dimension of"
            " neurons, together with factors if there are any, in one kernel or more,"
            f" got {sizes}."
        )
    return fitting


def _check_sizes(kernels: dict[str, jax.Array], shapes: dict[str, Shapes]) -> None:
    """Raises if there are rotations of many more entries than their kernel."""
    large = {}
    for name, sides in shapes.items():
        blocks = {side: (*raw, raw[-1]) for side, raw in sides.items()}
        entries = sum(math.prod(raw) for raw in blocks.values())
        if entries > _LARGEST * kernels[name].size:
            large[name] = entries, blocks
    if large:
        name, (entries, blocks) = max(large.items(), key=lambda item: item[1][0])
        sides = ", ".join(f"{side} {in_words(raw)}" for side, raw in blocks.items())
        others = [other for other in large if other != name]
        raise ValueError(
            f"rotations of {name or 'params'} of shape {kernels[name].shape} would have"
            f" {entries} entries ({sides}), {entries / kernels[name].size:.1f} times"
            f" those of the kernel, more than {_LARGEST}: make blocks smaller by"
            " block_size, declare its axes by neurons if these are others, rotate the"
            " other side, leave it out by where, or say allow_large=True."
            f"{f' The same holds for {listed(others)}.' if others else ''}"
        )


def _no_penalty(free):
    del free
    return jnp.zeros([])


def rotated_kernel(matrices: Rotations, frozen: FrozenNeurons, axes: Axes) -> jax.Array:
    """The kernel that matrices make of frozen neurons, in the dtype of these."""
    rows = widen(axes.rows(frozen.kernel))
    if matrices.left is not None:
        rows = rotate(rows, matrices.left, frozen.left)
    if matrices.right is not None:
        rows = rotate(rows.mT, matrices.right, frozen.right).mT
    if matrices.scale is not None:
        rows = rows * matrices.scale[..., None]
    kernel = axes.from_rows(rows, frozen.kernel.shape)
    return kernel.astype(frozen.kernel.dtype)


def _rotations_of(free: Any, frozen: Frozen) -> dict[str, Rotations]:
    """The rotations of ``free``, by path; raises unless they are of these neurons."""
    rotations = rotations_by_path(free)
    if rotations.keys() != frozen.keys():
        raise ValueError(
            "frozen must be that of free, got neurons for"
            f" {listed(frozen)} and rotations for {listed(rotations)}."
        )
    return rotations


def in_place(free: Any, others: dict[str, Any]) -> Any:
    """``free`` with others, by path, in the place of its rotations."""
    structure = jax.tree.structure(free, is_leaf=is_rotations)
    leaves = by_path(free, Rotations)
    return structure.unflatten(others.get(name, leaf) for name, leaf in leaves.items())
