"""States of transforms and reparameterizations that are saved and restored."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import sphax as sx

KEY = jax.random.key(3)


def draw(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def params_of(seed=0):
    """Two kernels with orthonormal columns, one of them in Flax's dict of layers."""
    q = [np.linalg.qr(draw(8, 4, seed=seed + i))[0] for i in range(2)]
    return {"a": {"kernel": jnp.asarray(q[0])}, "b": {"kernel": jnp.asarray(q[1])}}


def random_penalty(rows, key):
    return jnp.sum(rows * jax.random.normal(key, rows.shape))


TRANSFORMS: dict[str, Callable[[], optax.GradientTransformationExtraArgs]] = {
    "project_gradients_to_tangent": sx.optim.project_gradients_to_tangent,
    "scale_by_neuron_norm": sx.optim.scale_by_neuron_norm,
    "keep_params_on_sphere": partial(sx.optim.keep_params_on_sphere, every=2),
    "add_energy_gradient": partial(sx.optim.add_energy_gradient, 1.0, every=2),
    "add_orthogonality_gradient": partial(
        sx.optim.add_orthogonality_gradient, 0.1, kind="spectral", key=KEY
    ),
    "add_penalty_gradient": partial(
        sx.optim.add_penalty_gradient, random_penalty, 0.1, key=KEY
    ),
    "decoupled_energy": partial(
        sx.optim.decoupled_energy, optax.adam(0.1), optax.linear_schedule(1, 0, 9), 1.0
    ),
    "orthogonal_descent": partial(sx.optim.orthogonal_descent, 0.1),
    "pion": partial(sx.optim.pion, 0.1, second_moment=False),
    "project_to_norm": partial(sx.optim.project_to_norm, 0.1),
    "riemannian_sgd": partial(sx.optim.riemannian_sgd, 0.1, momentum=0.9),
    "riemannian_adam": partial(sx.optim.riemannian_adam, 0.1),
    "spectral_sphere": partial(sx.optim.spectral_sphere, 0.1, radius="initial"),
    "stiefel_muon": partial(sx.optim.stiefel_muon, 0.1),
}
REPARAMETERIZATIONS = {
    "orthogonal": partial(sx.reparam.orthogonal, side="both", tie=True),
    "stochastic_orthogonal": sx.reparam.stochastic_orthogonal,
    "relaxed_orthogonal": sx.reparam.relaxed_orthogonal,
    "oft": partial(sx.reparam.oft, block_size=4, rescale=True),
    "boft": partial(sx.reparam.boft, block_size=2),
    "poet": partial(sx.reparam.poet, block_size=4),
}


def through_bytes(state, folder):
    del folder
    saved = flax.serialization.to_bytes(state)
    return flax.serialization.from_bytes(jax.tree.map(jnp.zeros_like, state), saved)


def through_pickle(state, folder):
    del folder
    return pickle.loads(pickle.dumps(state))


def through_orbax(state, folder):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state", jax.eval_shape(lambda: state))


WAYS = {"bytes": through_bytes, "pickle": through_pickle, "orbax": through_orbax}


def same(actual, desired):
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    jax.tree.map(np.testing.assert_array_equal, actual, desired)


def test_every_transform_and_method_has_a_row():
    """Every function annotated to return a transform or a reparameterization."""
    for package, rows, returned in (
        (sx.optim, TRANSFORMS, "GradientTransformation"),
        (sx.reparam, REPARAMETERIZATIONS, "Reparameterization"),
    ):
        public = {
            name
            for name, member in vars(package).items()
            if returned in str(getattr(member, "__annotations__", {}).get("return"))
        }
        assert public - {"decoupled"} == rows.keys()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_continues_from_a_restored_state(name, tmp_path):
    transform, params = TRANSFORMS[name](), params_of()
    step: Any = jax.jit(transform.update)
    _, state = step(params_of(2), transform.init(params), params)
    expected = step(params_of(4), state, params)
    for way, restored in WAYS.items():
        same(step(params_of(4), restored(state, tmp_path / way), params), expected)


@pytest.mark.parametrize("name", REPARAMETERIZATIONS)
def test_a_method_continues_from_a_restored_state(name, tmp_path):
    training = REPARAMETERIZATIONS[name]()
    free, frozen = training.init(KEY, params_of())
    free = jax.tree.map(lambda x: x + draw(*x.shape, seed=1), free)
    state: Any = {"free": free, "frozen": frozen}

    @jax.jit
    def after(state):
        advanced = training.advance(KEY, **state)
        return training.merge(**state), advanced

    expected = after(state)
    for way, restored in WAYS.items():
        same(after(restored(state, tmp_path / way)), expected)
