"""Kernels as rotated frozen neurons: the one construction behind all methods."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._norms import widen
from sphax._paths import by_path, listed
from sphax.neurons import Axes, Neurons, find, replace, select
from sphax.reparam._blocks import Plan, rotate
from sphax.reparam._describe import in_words
from sphax.reparam._frozen import FrozenNeurons, Start, check_start, draw
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
    start: Start
    is_shared: bool = False
    is_tied: bool = False
    is_rescaled: bool = False
    is_redrawn: bool = False
    allow_large: bool
    where: Where | None
    neurons: Neurons

    def __post_init__(self):
        """Checks the hyperparameters."""
        check_start(self.start)

    def functions(
        self, penalty: Callable[[Any], jax.Array] | None = None
    ) -> Reparameterization:
        """What the functions of this room return."""
        return Reparameterization(
            self._init, self._apply, self._advance, penalty or _no_penalty
        )

    def _init(self, key, params):
        # A single neuron, or dimension, has nothing to be rotated against.
        found = find(params, self.neurons, at_least=2, where=self.where)
        leaves = select(params, found)
        shapes = self._shapes(found, leaves)
        if not self.allow_large:
            _check_sizes(leaves, shapes)
        free: dict[str, Any] = {}
        frozen: Frozen = {}
        for number, (name, leaf) in enumerate(leaves.items()):
            draw_key, own = jax.random.split(jax.random.fold_in(key, number))
            rows = draw(draw_key, self.start, found[name].rows(leaf))
            kernel = found[name].from_rows(rows, leaf.shape)
            free[name], frozen[name] = self._begin(own, kernel, found[name])
        if self.is_tied:
            free = tie(free, shapes)
        return replace(params, free), frozen

    def _axes(self, frozen: Frozen) -> dict[str, Axes]:
        """Those that `init` found: by path and shape, states hold arrays only."""
        kernels = {name: own.kernel for name, own in frozen.items()}
        return find(kernels, self.neurons, partial=True)

    def _apply(self, free, frozen):
        raw = _rotations_of(free, frozen)
        matrices = {
            name: self.parameterization.matrices(own) for name, own in raw.items()
        }
        axes = self._axes(frozen)
        if self.is_tied:
            kernels = {name: own.kernel for name, own in frozen.items()}
            matrices = untie(matrices, self._shapes(axes, kernels))
        kernels = {
            name: rotated_kernel(matrices[name], frozen[name], axes[name])
            for name in raw
        }
        return in_place(free, kernels)

    def _advance(self, key, free, frozen):
        mask = rotation_mask(free)
        if not self.is_redrawn:
            return free, frozen, jax.tree.map(lambda _: False, mask)
        raw, fresh, folded = _rotations_of(free, frozen), {}, {}
        axes = self._axes(frozen)
        # In the order that jit gives a dict.
        for number, name in enumerate(sorted(frozen)):
            matrices = self.parameterization.matrices(raw[name])
            kernel = rotated_kernel(matrices, frozen[name], axes[name])
            own = jax.random.fold_in(key, number)
            fresh[name], folded[name] = self._begin(own, kernel, axes[name])
        return in_place(free, fresh), folded, mask

    def _begin(self, key, kernel, axes):
        sets, n, d = axes.sizes(kernel.shape)
        keys = jax.random.split(key)
        left, order = self._side(keys[0], self.left, sets, d, kernel.dtype)
        right, right_order = self._side(keys[1], self.right, sets, n, kernel.dtype)
        scale = jnp.ones((sets, n), kernel.dtype) if self.is_rescaled else None
        frozen = FrozenNeurons(kernel, order, right_order)
        return Rotations(left, right, scale), frozen

    def _side(self, key, plan, sets, size, dtype):
        """Raw arrays, and the coordinates in their blocks."""
        if plan is None:
            return None, None
        order_key, raw_key = jax.random.split(key)
        shape = self._shape(plan, sets, size)
        raw = self.parameterization.start(raw_key, shape, dtype)
        return raw, plan.order(order_key, size)

    def _shapes(
        self, found: dict[str, Axes], kernels: dict[str, jax.Array]
    ) -> dict[str, Shapes]:
        def of(name, axes):
            sets, n, d = axes.sizes(kernels[name].shape)
            sides = {"left": (self.left, d), "right": (self.right, n)}
            return {
                side: self._shape(plan, sets, size)
                for side, (plan, size) in sides.items()
                if plan is not None
            }

        return {name: of(name, axes) for name, axes in found.items()}

    def _shape(self, plan, sets, size):
        factors, blocks, block_size = plan.shape(size)
        return sets, factors, 1 if self.is_shared else blocks, block_size


def _check_sizes(kernels: dict[str, jax.Array], shapes: dict[str, Shapes]) -> None:
    """Raises if there are rotations of many more entries than their kernel."""
    large = {}
    for name, kernel in kernels.items():
        blocks = {side: (*raw, raw[-1]) for side, raw in shapes[name].items()}
        entries = sum(math.prod(raw) for raw in blocks.values())
        if entries > _LARGEST * kernel.size:
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
