"""Calls of ``sphax.optim``: two steps of each transform."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from tests.calls._call import Call, normal
from tests.optim.transforms import TRANSFORMS as COMMON

so = sx.optim
FRAME = np.linalg.qr(normal(0, 16, 8))[0].astype(np.float32)
PARAMS = {
    "conv": {"kernel": normal(1, 2, 2, 8, 16), "bias": normal(2, 16)},
    "dense": {"kernel": FRAME, "bias": normal(3, 8)},
}
GRADS = jax.tree.map(lambda x: normal(4, *x.shape), PARAMS)
AXES = {
    "conv": {"kernel": (None, None, "in", "out"), "bias": ("out",)},
    "dense": {"kernel": ("in", "out"), "bias": ("out",)},
}


def square(rows, key):
    """A penalty that draws from its key."""
    return jnp.sum(rows * jax.random.normal(key, rows.shape))


def steps(make: Callable[[], optax.GradientTransformationExtraArgs]):
    """Updates of two steps of a transform that is made in the call."""

    def function(grads, params):
        transform = make()
        state: Any = transform.init(params)
        for _ in range(2):
            updates, state = transform.update(grads, state, params)
        return updates

    return function


TRANSFORMS: dict[str, Callable[[], optax.GradientTransformationExtraArgs]] = {
    **{name: partial(row.make, **row.hyperparams) for name, row in COMMON.items()},
    "project_to_norm[neuron, injected]": partial(
        optax.inject_hyperparams(so.project_to_norm, static_args=("per",)),
        0.1,
        norm=1.0,
        per="neuron",
    ),
    "add_energy_gradient": partial(so.add_energy_gradient, 1.0, every=2),
    "add_energy_gradient[injected]": partial(
        optax.inject_hyperparams(so.add_energy_gradient), weight=1.0, power=1.5
    ),
    "add_orthogonality_gradient[injected]": partial(
        optax.inject_hyperparams(so.add_orthogonality_gradient), weight=0.1
    ),
    "add_penalty_gradient": partial(
        so.add_penalty_gradient, square, 0.1, key=jax.random.key(0)
    ),
    "decoupled_energy": partial(so.decoupled_energy, optax.sgd(0.1), 0.1, 1.0),
    "riemannian_sgd": partial(so.riemannian_sgd, 0.1, momentum=0.9),
    "riemannian_adam": partial(so.riemannian_adam, 0.1),
    "riemannian_adam[orthogonal, injected]": partial(
        optax.inject_hyperparams(so.riemannian_adam, static_args=("manifold",)),
        0.1,
        manifold="orthogonal",
        mask={"conv": False, "dense": True},
    ),
    "orthogonal_descent": partial(
        so.orthogonal_descent, 0.1, mask={"conv": False, "dense": True}
    ),
    "pion": partial(so.pion, 0.1),
    "pion[alternate, ambient, injected]": partial(
        optax.inject_hyperparams(
            so.pion, static_args=("rotation", "degree", "sides", "moments")
        ),
        0.1,
        sides="alternate",
        moments="ambient",
    ),
    # Of orthonormal neurons, rounding chooses one of the top singular pairs.
    "spectral_sphere": partial(
        so.spectral_sphere, 0.1, mask={"conv": True, "dense": False}
    ),
    "spectral_sphere[zero, initial, injected]": partial(
        optax.inject_hyperparams(
            so.spectral_sphere, static_args=("radius", "multiplier", "nesterov")
        ),
        0.1,
        radius="initial",
        multiplier="zero",
        mask={"conv": False, "dense": True},
    ),
    "stiefel_muon": partial(so.stiefel_muon, 0.1, mask={"conv": False, "dense": True}),
    "stiefel_muon[tangent, injected]": partial(
        optax.inject_hyperparams(
            so.stiefel_muon, static_args=("direction", "dual_steps", "nesterov")
        ),
        0.1,
        direction="tangent",
    ),
}
CALLS = [
    Call(f"optim.{name}", steps(make), (GRADS, PARAMS), (AXES, AXES), (), 1)
    for name, make in TRANSFORMS.items()
]
EXEMPT: dict[str, str] = {}
