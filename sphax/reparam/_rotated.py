"""Kernels as rotated frozen neurons: the one construction behind all methods."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._neurons import (
    Found,
    Neurons,
    by_path,
    find_neurons,
    listed,
    replace,
    select,
)
from sphax._norms import widen
from sphax.reparam._blocks import Plan, rotate
from sphax.reparam._frozen import FrozenNeurons, Start, check_start, draw
from sphax.reparam._reparameterization import Reparameterization
from sphax.reparam._rotations import (
    Parameterization,
    Rotations,
    is_rotations,
    rotation_mask,
    rotations_by_path,
)
from sphax.reparam._tied import Shapes, tie, untie

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
        found = _selected(params, self.neurons, self.where)
        free: dict[str, Any] = {}
        frozen: dict[str, FrozenNeurons] = {}
        for number, (name, leaf) in enumerate(select(params, found).items()):
            draw_key, own = jax.random.split(jax.random.fold_in(key, number))
            rows = draw(draw_key, self.start, found[name].rows(leaf))
            kernel = found[name].from_rows(rows, leaf.shape)
            free[name], frozen[name] = self._begin(own, kernel, found[name])
        if self.is_tied:
            free = tie(free, self._shapes(frozen))
        return replace(params, free), frozen

    def _apply(self, free, frozen):
        raw = _rotations_of(free, frozen)
        matrices = {
            name: self.parameterization.matrices(own) for name, own in raw.items()
        }
        if self.is_tied:
            matrices = untie(matrices, self._shapes(frozen))
        kernels = {name: rotated_kernel(matrices[name], frozen[name]) for name in raw}
        return in_place(free, kernels)

    def _advance(self, key, free, frozen):
        mask = rotation_mask(free)
        if not self.is_redrawn:
            return free, frozen, jax.tree.map(lambda _: False, mask)
        raw, fresh, folded = _rotations_of(free, frozen), {}, {}
        # In the order that jit gives a dict.
        for number, name in enumerate(sorted(frozen)):
            matrices = self.parameterization.matrices(raw[name])
            kernel = rotated_kernel(matrices, frozen[name])
            own = jax.random.fold_in(key, number)
            fresh[name], folded[name] = self._begin(own, kernel, frozen[name].axes)
        return in_place(free, fresh), folded, mask

    def _begin(self, key, kernel, axes):
        sets, n, d = axes.sizes(kernel.shape)
        keys = jax.random.split(key)
        left, order = self._side(keys[0], self.left, sets, d, kernel.dtype)
        right, right_order = self._side(keys[1], self.right, sets, n, kernel.dtype)
        scale = jnp.ones((sets, n), kernel.dtype) if self.is_rescaled else None
        frozen = FrozenNeurons(kernel, order, right_order, axes)
        return Rotations(left, right, scale), frozen

    def _side(self, key, plan, sets, size, dtype):
        """Raw arrays, and the coordinates in their blocks."""
        if plan is None:
            return None, None
        order_key, raw_key = jax.random.split(key)
        shape = self._shape(plan, sets, size)
        raw = self.parameterization.start(raw_key, shape, dtype)
        return raw, plan.order(order_key, size)

    def _shapes(self, frozen: dict[str, FrozenNeurons]) -> dict[str, Shapes]:
        def of(own):
            sets, n, d = own.axes.sizes(own.kernel.shape)
            sides = {"left": (self.left, d), "right": (self.right, n)}
            return {
                side: self._shape(plan, sets, size)
                for side, (plan, size) in sides.items()
                if plan is not None
            }

        return {name: of(own) for name, own in frozen.items()}

    def _shape(self, plan, sets, size):
        factors, blocks, block_size = plan.shape(size)
        return sets, factors, 1 if self.is_shared else blocks, block_size


def _no_penalty(free):
    del free
    return jnp.zeros([])


def rotated_kernel(matrices: Rotations, frozen: FrozenNeurons) -> jax.Array:
    """The kernel that matrices make of frozen neurons, in the dtype of these."""
    rows = widen(frozen.axes.rows(frozen.kernel))
    if matrices.left is not None:
        rows = rotate(rows, matrices.left, frozen.left)
    if matrices.right is not None:
        rows = rotate(rows.mT, matrices.right, frozen.right).mT
    if matrices.scale is not None:
        rows = rows * matrices.scale[..., None]
    kernel = frozen.axes.from_rows(rows, frozen.kernel.shape)
    return kernel.astype(frozen.kernel.dtype)


def _selected(params: Any, neurons: Neurons, where: Where | None) -> Found:
    # A single neuron, or dimension, has nothing to be rotated against.
    found = find_neurons(params, neurons, at_least=2)
    leaves = select(params, found)
    chosen = {
        name: axes
        for name, axes in found.items()
        if where is None or where(name, leaves[name])
    }
    if not chosen:
        raise ValueError(f"where must choose one or more kernels of {listed(found)}.")
    return chosen


def _rotations_of(free: Any, frozen: dict[str, FrozenNeurons]) -> dict[str, Rotations]:
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
