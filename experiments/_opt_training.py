"""Trains what stands in the place of params, and records what becomes of these.

A step is a pure function of the state and its batch; batches and all that is drawn
follow from the seed and the step alone. So a run that starts again from a checkpoint
computes what it would have computed.
"""

import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments import _checkpoints, _layers
from experiments._opt_problems import Problem, is_hidden
from experiments._opt_recipes import Recipe
from experiments._progress import Report

# Finite in three dimensions too, which the first layer of a PointNet has.
_POWER = 1.0


class State(NamedTuple):
    """What a step changes, and what a method redraws every so many steps."""

    free: Any
    frozen: Any
    rest: Any  # running statistics
    optimizer: Any


class Setting(NamedTuple):
    """What a step is compiled for. All seeds of a run share it."""

    graph: Any
    recipe: Recipe
    loss: Callable[[Any, Any], jax.Array]


class Curves(NamedTuple):
    """Records of one run, the first being before its first step.

    Attributes:
        loss: Mean over the steps since the record before, ``[records - 1]``.
        error: On some of the test examples, and in the last record on all of them, in
            percent, ``[records]``.
        energy: Of each hidden layer, ``[records, layers]``.
    """

    loss: np.ndarray
    error: np.ndarray
    energy: np.ndarray

    def keep(self, record: int, measured: Any) -> None:
        """Writes what :func:`_measure` found."""
        self.error[record], self.energy[record] = jax.device_get(measured)


def fit(
    problem: Problem, recipe: Recipe, seed: int, folder: pathlib.Path, report: Report
) -> Curves:
    """Trains one seed from where ``folder`` stopped.

    Args:
        problem: What is to be learned.
        recipe: How.
        seed: Of the network, its batches, and all that is drawn.
        folder: Of the checkpoints.
        report: Told the number of steps done and their losses, now and then.

    Raises:
        FloatingPointError: If the loss is not a number; says in which step.
    """
    setting, noise, first = _start(problem, recipe, seed)
    begun, (state, curves) = _checkpoints.restore(folder, first) or (0, first)
    curves = Curves(*map(np.array, curves))  # what is restored cannot be written to
    report(begun, {})
    batches = problem.batches(recipe, seed, begun)
    for done in range(begun, recipe.steps, recipe.every):
        if done == 0:
            curves.keep(0, _measure(setting, problem, state, noise, problem.glance))
        losses = []
        for count in range(done, min(done + recipe.every, recipe.steps)):
            key = jax.random.fold_in(jax.random.key(seed), count)
            if recipe.redraws_at(count):
                state = _redraw(recipe, state, key)
            state, loss = _step(setting, state, noise, next(batches), key)
            losses.append(loss)
        losses, record = np.array(losses), done // recipe.every
        _check_finite(losses, done, recipe, seed)
        curves.loss[record] = losses.mean()
        is_last = done + recipe.every >= recipe.steps
        asked = problem.test if is_last else problem.glance
        curves.keep(record + 1, _measure(setting, problem, state, noise, asked))
        report(len(losses), {"loss": losses})
        if recipe.saves_after(done):
            _checkpoints.save(folder, done + len(losses), (state, curves))
    return curves


def _start(problem: Problem, recipe: Recipe, seed: int):
    """Setting, streams of noise, and state and empty curves before the first step."""
    # Streams apart: they are set to a key in every step, and are no part of the state.
    parts = nnx.split(problem.network(seed), nnx.Param, nnx.RngState, ...)
    graph, params, noise, rest = parts
    free, frozen = _init(recipe, jax.random.key(seed), params)
    state = State(free, frozen, rest, recipe.optimizer.init(free))
    records = -(-recipe.steps // recipe.every)
    curves = Curves(
        np.zeros(records),
        np.zeros(records + 1),
        np.zeros((records + 1, len(_hidden(params)))),
    )
    return Setting(graph, recipe, problem.loss), noise, (state, curves)


def _hidden(params: Any) -> dict[str, jax.Array]:
    """Neurons as rows, by the path of their layer, of all layers but the last."""
    rows = _layers.neurons(params)
    return {path: neurons for path, neurons in rows.items() if is_hidden(path)}


@partial(jax.jit, static_argnums=0)
def _init(recipe, key, params):
    return recipe.training.init(key, params)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(setting, state, noise, batch, key):
    training, optimizer = setting.recipe.training, setting.recipe.optimizer

    def objective(free):
        params = training.apply(free, state.frozen)
        network = nnx.merge(setting.graph, params, noise, state.rest, copy=True)
        network.train()
        nnx.reseed(network, dropout=key)
        loss = setting.loss(network, batch)
        *_, rest = nnx.split(network, nnx.Param, nnx.RngState, ...)
        return loss + training.penalty(free), (loss, rest)

    gradients, (loss, rest) = jax.grad(objective, has_aux=True)(state.free)
    updates, moments = optimizer.update(gradients, state.optimizer, state.free)
    free = optax.apply_updates(state.free, updates)
    return State(free, state.frozen, rest, moments), loss


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _redraw(recipe, state, key):
    free, frozen, moved = recipe.training.advance(key, state.free, state.frozen)
    moments = sx.reparam.reset_moments(recipe.optimizer, state.optimizer, moved)
    return State(free, frozen, state.rest, moments)


def _measure(setting: Setting, problem: Problem, state: State, noise: Any, asked: Any):
    """Error, and energies of the hidden layers."""
    params = _merge(setting.recipe, state.free, state.frozen)
    # Apart, so that one compiled function serves all methods.
    return _look(setting.graph, problem.error, params, noise, state.rest, asked)


@partial(jax.jit, static_argnums=0)
def _merge(recipe, free, frozen):
    return recipe.training.merge(free, frozen)


@partial(jax.jit, static_argnums=(0, 1))
def _look(graph, error, params, noise, rest, test):
    network = nnx.merge(graph, params, noise, rest, copy=True)
    network.eval()
    energies = [
        sx.energy.hyperspherical_energy(rows, power=_POWER)
        for rows in _hidden(params).values()
    ]
    return error(network, test), jnp.stack(energies)


def _check_finite(losses, done, recipe, seed):
    if not np.isfinite(losses).all():
        place = int(np.argmin(np.isfinite(losses)))
        raise FloatingPointError(
            f"{recipe.title}, seed {seed}: the loss is {losses[place]} in step"
            f" {done + place}. Lower --learning-rate or --rotation-rate."
        )
