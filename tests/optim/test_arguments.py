"""Wrong arguments of all transforms, and what their errors teach."""

from typing import Any

import jax.numpy as jnp
import optax
import pytest

import sphax as sx
from tests.optim.transforms import square

so: Any = sx.optim
SGD = optax.sgd(0.1)
LAYERS: Any = {name: {"kernel": jnp.ones((2, 2))} for name in ("a", "b", "head")}
WIDE: Any = {"kernel": jnp.ones((2, 3))}


def first(transform, params=LAYERS):
    """A call of its first update."""
    return lambda: transform.update(params, transform.init(params), params)


def without_params(transform):
    return lambda: transform.update(LAYERS, transform.init(LAYERS))


# A call, its error, and the message.
WRONG: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: so.scale_by_neuron_norm("1"),
        TypeError,
        "power must be a number, got '1'",
    ),
    (
        lambda: so.keep_params_on_sphere("1"),
        TypeError,
        "radius must be a number, got '1'",
    ),
    (
        lambda: so.keep_params_on_sphere(every="2"),
        TypeError,
        "every must be a number, got '2'",
    ),
    (
        lambda: so.add_energy_gradient("1.0"),
        TypeError,
        "weight must be .* schedule.*, got '1.0'",
    ),
    (
        lambda: so.add_energy_gradient({"a": "1"}),
        TypeError,
        "weight at 'a' must be a number",
    ),
    (
        lambda: so.add_energy_gradient(1.0, power="log"),
        TypeError,
        "power must be .*, got 'log'",
    ),
    (
        lambda: so.add_orthogonality_gradient(1.0, key=0),
        TypeError,
        "key must be .*, got 0",
    ),
    (
        lambda: so.add_penalty_gradient(2.0, 1.0),
        TypeError,
        "penalty must be a function",
    ),
    (
        lambda: so.add_penalty_gradient(len, 1.0, key=0),
        TypeError,
        "key must be a random key",
    ),
    (
        lambda: so.decoupled("adam", 0.1, SGD),
        TypeError,
        "optimizer must be .*, got 'adam'",
    ),
    (
        lambda: so.decoupled_energy(SGD, "0.1", 1.0),
        TypeError,
        "learning_rate must be a number, or",
    ),
    (
        lambda: so.riemannian_sgd("0.1"),
        TypeError,
        "learning_rate must be a number, or a schedule",
    ),
    (
        lambda: so.riemannian_sgd(0.1, momentum="0.9"),
        TypeError,
        "momentum must be a number",
    ),
    (
        lambda: so.riemannian_adam(0.1, b1=None),
        TypeError,
        "b1 must be a number, got None",
    ),
    (
        lambda: so.riemannian_adam(0.1, others="sgd"),
        TypeError,
        "others must be an optimizer",
    ),
    (
        lambda: so.orthogonal_descent(None),
        TypeError,
        "learning_rate must be a number, or",
    ),
    (
        lambda: so.orthogonal_descent(0.1, others=0.1),
        TypeError,
        "others must be an optimizer",
    ),
    (
        lambda: so.project_to_norm("0.1"),
        TypeError,
        "learning_rate must be a number, or",
    ),
    (
        lambda: so.project_to_norm(norm="2"),
        TypeError,
        "norm must be a number or a scalar array, got '2'",
    ),
    (lambda: so.pion(0.1, rms=None), TypeError, "rms must be a number, got None"),
    (lambda: so.pion(0.1, degree=2.0), TypeError, "degree must be an integer, got 2.0"),
    (
        lambda: so.pion(0.1, second_moment=1),
        TypeError,
        "second_moment must be True or False, got 1",
    ),
    (
        lambda: so.keep_params_on_sphere(0.0),
        ValueError,
        "radius must be positive, got 0.0",
    ),
    (
        lambda: so.keep_params_on_sphere(every=0),
        ValueError,
        "every must be a whole number, 1 or more, got 0",
    ),
    (lambda: so.keep_params_on_sphere(every=2.5), ValueError, "1 or more, got 2.5"),
    (
        lambda: so.add_energy_gradient(1.0, every=0),
        ValueError,
        "every must be a whole number",
    ),
    (
        lambda: so.add_energy_gradient(1.0, power=-1.0),
        ValueError,
        "power must be 0 or more",
    ),
    (
        lambda: so.add_energy_gradient(1.0, distance="chord"),
        ValueError,
        "distance must be one of",
    ),
    (
        lambda: so.add_penalty_gradient(square, 1.0, reduce="max"),
        ValueError,
        "reduce must be one of .*'max'",
    ),
    (
        lambda: so.decoupled_energy(SGD, -0.1, 1.0),
        ValueError,
        "learning_rate must not be negative, got -0.1",
    ),
    (
        lambda: so.riemannian_adam(-0.1),
        ValueError,
        "learning_rate must not be negative, got -0.1",
    ),
    (
        lambda: so.riemannian_sgd(0.1, manifold="stiefel"),
        ValueError,
        "manifold must be one of",
    ),
    (
        lambda: so.orthogonal_descent(0.1, step="cayley"),
        ValueError,
        "step must be one of",
    ),
    (
        lambda: so.project_to_norm(-0.1),
        ValueError,
        "learning_rate must not be negative, got -0.1",
    ),
    (lambda: so.project_to_norm(norm=0.0), ValueError, "norm must be positive"),
    (lambda: so.project_to_norm(per="row"), ValueError, "per must be one of .*'row'"),
    (lambda: so.pion(0.1, rotation="taylor"), ValueError, "rotation must be one of"),
    (lambda: so.pion(0.1, degree=0), ValueError, "degree must be 1 or more, got 0"),
    (lambda: so.pion(0.1, sides="left"), ValueError, "sides must be one of"),
    (lambda: so.pion(0.1, moments="w"), ValueError, "moments must be one of"),
    (
        lambda: so.spectral_sphere(0.1, radius="muP"),
        ValueError,
        r"radius must be one of \('mup', 'initial'\), got 'muP'",
    ),
    (
        lambda: so.spectral_sphere(0.1, radius_scale=0.0),
        ValueError,
        "radius_scale must be positive, got 0.0",
    ),
    (
        lambda: so.spectral_sphere(0.1, multiplier=0.0),
        ValueError,
        "multiplier must be one of .*, got 0.0",
    ),
    (
        lambda: so.stiefel_muon(0.1, radius=-1.0),
        ValueError,
        "radius must be positive, got -1.0",
    ),
    (
        lambda: so.stiefel_muon(0.1, direction="best"),
        ValueError,
        "direction must be one of .*, got 'best'",
    ),
    (
        lambda: so.stiefel_muon(0.1, dual_steps=0),
        ValueError,
        "dual_steps must be 1 or more, got 0",
    ),
    # From init: what there is in params.
    (
        lambda: so.orthogonal_descent(0.1).init({"bias": jnp.ones(3)}),
        ValueError,
        "must fit one leaf or more, got bias",
    ),
    (
        lambda: so.pion(0.1).init({"b": {"kernel": jnp.zeros((3, 2))}}),
        ValueError,
        r"got a zero matrix at b/kernel of shape \(3, 2\)",
    ),
    # From update: what goes with params, and errors of the penalty.
    (
        first(so.add_orthogonality_gradient(0.1, kind="hard")),
        ValueError,
        "kind must be one of",
    ),
    (
        first(so.add_penalty_gradient(square, {"head": 1.0})),
        ValueError,
        "got none for a/kernel",
    ),
    (
        first(so.add_penalty_gradient(square, {"": 1.0, "tail": 1.0})),
        ValueError,
        "weight must declare leaves of params, got tail",
    ),
    (
        first(so.riemannian_sgd(0.1, manifold="orthogonal"), WIDE),
        ValueError,
        "transpose a wide one",
    ),
    (
        without_params(so.riemannian_sgd(0.1)),
        ValueError,
        r"update\(updates, state, params\)",
    ),
    (
        without_params(so.orthogonal_descent(0.1)),
        ValueError,
        r"update\(updates, state, params\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), WRONG)
def test_errors_teach(call, error, match):
    with pytest.raises(error, match=match):
        call()
