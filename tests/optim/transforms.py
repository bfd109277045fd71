"""The transforms that the common tests run over, with what they do: add a row."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sphax as sx
from sphax.neurons import NeuronDimensions

PROTOTYPES = {"head/prototypes": NeuronDimensions(index_axis=0)}


class Row(NamedTuple):
    """A transform with some of its hyperparameters, and what it does to rows."""

    make: Callable[..., optax.GradientTransformationExtraArgs]
    hyperparams: dict[str, Any]
    definition: Callable  # (updates, params) to updates, [n, d], in NumPy


def lengths(w):
    return np.linalg.norm(w, axis=1, keepdims=True)


def to_norm(u, w, rate, norm, norm_of):
    moved = w + rate * norm * u / norm_of(u)
    return norm * moved / norm_of(moved) - w


def orthogonality_descent(
    learning_rate, weight, *, neurons=None, mask=None, allow_empty=False
):
    """The decoupled form, beside an optimizer that does nothing."""
    regularizer = sx.optim.add_orthogonality_gradient(
        weight, neurons=neurons, mask=mask, allow_empty=allow_empty
    )
    return sx.optim.decoupled(optax.identity(), learning_rate, regularizer)


TRANSFORMS = {
    "project_gradients_to_tangent": Row(
        sx.optim.project_gradients_to_tangent,
        {},
        lambda u, w: u - np.sum(u * w, 1, keepdims=True) * w / lengths(w) ** 2,
    ),
    "scale_by_neuron_norm": Row(
        sx.optim.scale_by_neuron_norm,
        {"power": 1.7},
        lambda u, w: lengths(w) ** 1.7 * u,
    ),
    "keep_params_on_sphere": Row(
        sx.optim.keep_params_on_sphere,
        {"radius": 1.5},
        lambda u, w: 1.5 * (w + u) / lengths(w + u) - w,
    ),
    "project_to_norm": Row(
        partial(sx.optim.project_to_norm, per="neuron"),
        {"learning_rate": 0.3, "norm": 1.5},
        lambda u, w: to_norm(u, w, 0.3, 1.5, lengths),
    ),
    "project_to_norm[matrix]": Row(
        sx.optim.project_to_norm,
        {"learning_rate": 0.3},
        lambda u, w: to_norm(u, w, 0.3, np.linalg.norm(w), np.linalg.norm),
    ),
    "add_orthogonality_gradient": Row(
        sx.optim.add_orthogonality_gradient,
        {"weight": 0.1},
        lambda u, w: u + 0.4 * (w @ w.T - np.eye(len(w))) @ w,
    ),
    "decoupled": Row(
        orthogonality_descent,
        {"learning_rate": 0.5, "weight": 0.1},
        lambda u, w: u - 0.2 * (w @ w.T - np.eye(len(w))) @ w,
    ),
}
each_transform = pytest.mark.parametrize("name", TRANSFORMS)


def make(name, **kwargs):
    row = TRANSFORMS[name]
    return row.make(**{"neurons": PROTOTYPES, **row.hyperparams, **kwargs})


def draw(seed, dtype: Any = np.float32):
    rng = np.random.default_rng(seed)
    shapes = {
        "conv": {"kernel": (2, 2, 2, 4), "bias": (4,)},
        "dense": {"kernel": (6, 3)},
        "head": {"prototypes": (5, 4)},
    }
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def start(transform, params) -> tuple[Any, Any]:
    """The update, compiled, and the state before the first."""
    return jax.jit(transform.update), transform.init(params)


def applied(params, updates) -> Any:
    return optax.apply_updates(params, updates)


def expected(name, updates, params):
    """The definition, for each leaf in its own layout."""
    of_rows = TRANSFORMS[name].definition

    def of_kernel(u, w):
        u, w = (np.asarray(x, np.float64).reshape(-1, x.shape[-1]).T for x in (u, w))
        return of_rows(u, w).T

    conv = of_kernel(updates["conv"]["kernel"], params["conv"]["kernel"])
    dense = of_kernel(updates["dense"]["kernel"], params["dense"]["kernel"])
    return {
        "conv": {"kernel": conv.reshape(2, 2, 2, 4), "bias": updates["conv"]["bias"]},
        "dense": {"kernel": dense},
        "head": {
            "prototypes": of_rows(
                np.asarray(updates["head"]["prototypes"], np.float64),
                np.asarray(params["head"]["prototypes"], np.float64),
            )
        },
    }


def close(actual, desired, **kwargs):
    kwargs = {"rtol": 1e-6, "atol": 1e-6, **kwargs}
    compare = partial(np.testing.assert_allclose, **kwargs)
    jax.tree.map(compare, actual, desired)


def run(transform, updates, params, **extra_args) -> Any:
    """One update from a new state, compiled as one piece."""

    @jax.jit
    def step(updates, params):
        state = transform.init(params)
        return transform.update(updates, state, params, **extra_args)

    return step(updates, params)


def square(rows, key):
    """A penalty whose gradient is the neurons themselves."""
    del key
    return 0.5 * jnp.sum(rows**2)
