"""Kernels as rotated frozen neurons: the one construction behind all methods."""

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
)

Where = Callable[[str, jax.Array], bool]
Side = Literal["left", "right", "both"]


def reparameterize(
    parameterization: Parameterization,
    *,
    left: Plan | None,
    right: Plan | None = None,
    start: Start,
    is_shared: bool = False,
    is_rescaled: bool = False,
    is_redrawn: bool = False,
    penalty: Callable[[Any], jax.Array] | None = None,
    where: Where | None,
    neurons: Neurons,
) -> Reparameterization:
    """Functions for ``W = R V P^T D``, with rotations on the sides that have a plan.

    With ``is_redrawn``, `advance` folds the rotations into the neurons and draws the
    plans anew.
    """
    check_start(start)

    def begin(key, kernel, axes):
        sets, n, d = axes.sizes(kernel.shape)
        keys = jax.random.split(key)

        def side(key, plan, size):
            if plan is None:
                return None, None
            order_key, raw_key = jax.random.split(key)
            factors, blocks, block_size = plan.shape(size)
            shape = sets, factors, 1 if is_shared else blocks, block_size
            raw = parameterization.start(raw_key, shape, kernel.dtype)
            return raw, plan.order(order_key, size)

        raw_left, of_left = side(keys[0], left, d)
        raw_right, of_right = side(keys[1], right, n)
        scale = jnp.ones((sets, n), kernel.dtype) if is_rescaled else None
        free = Rotations(raw_left, raw_right, scale)
        return free, FrozenNeurons(kernel, of_left, of_right, axes)

    def init(key, params):
        found = _selected(params, neurons, where)
        free, frozen = {}, {}
        for number, (name, leaf) in enumerate(select(params, found).items()):
            draw_key, own = jax.random.split(jax.random.fold_in(key, number))
            rows = draw(draw_key, start, found[name].rows(leaf))
            kernel = found[name].from_rows(rows, leaf.shape)
            free[name], frozen[name] = begin(own, kernel, found[name])
        return replace(params, free), frozen

    def apply(free, frozen):
        return _with_kernels(
            free,
            frozen,
            lambda rotations, own: rotated_kernel(parameterization, rotations, own),
        )

    def advance(key, free, frozen):
        mask = rotation_mask(free)
        if not is_redrawn:
            return free, frozen, jax.tree.map(lambda _: False, mask)
        fresh, folded = {}, {}
        # In the order that jit gives a dict.
        for number, name in enumerate(sorted(frozen)):
            own = frozen[name]
            kernel = rotated_kernel(
                parameterization, by_path(free, Rotations)[name], own
            )
            own_key = jax.random.fold_in(key, number)
            fresh[name], folded[name] = begin(own_key, kernel, own.axes)
        return _with_kernels(free, fresh, lambda _, new: new), folded, mask

    def no_penalty(free):
        del free
        return jnp.zeros([])

    return Reparameterization(init, apply, advance, penalty or no_penalty)


def rotated_kernel(
    parameterization: Parameterization, rotations: Rotations, frozen: FrozenNeurons
) -> jax.Array:
    """The kernel that rotations make of frozen neurons, in the dtype of these."""
    rows = widen(frozen.axes.rows(frozen.kernel))
    if rotations.left is not None:
        rows = rotate(rows, parameterization.rotations(rotations.left), frozen.left)
    if rotations.right is not None:
        blocks = parameterization.rotations(rotations.right)
        rows = rotate(rows.mT, blocks, frozen.right).mT
    if rotations.scale is not None:
        rows = rows * rotations.scale[..., None]
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


def _with_kernels(free, others, function):
    """``free`` with a function of its rotations, and of others by path, for them."""
    leaves = by_path(free, Rotations)
    turned = {name for name, leaf in leaves.items() if is_rotations(leaf)}
    if turned != set(others):
        raise ValueError(
            "frozen must be that of free, got neurons for"
            f" {listed(others)} and rotations for {listed(turned)}."
        )
    structure = jax.tree.structure(free, is_leaf=is_rotations)
    return structure.unflatten(
        function(leaf, others[name]) if name in turned else leaf
        for name, leaf in leaves.items()
    )
