"""Calls of ``sphax.reparam``."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import sphax as sx
from tests.calls._call import Call, normal

sr: Any = sx.reparam
KEY = jax.random.key(0)
PARAMS = {
    "conv": {"kernel": normal(0, 2, 2, 8, 8), "bias": normal(1, 8)},
    "dense": {"kernel": normal(2, 8, 16), "bias": normal(3, 16)},
}
AXES = {
    "conv": {"kernel": (None, None, "in", "out"), "bias": ("out",)},
    "dense": {"kernel": ("in", "out"), "bias": ("out",)},
}
TRAININGS = {
    "orthogonal": sr.orthogonal(neuron_init="given"),
    "orthogonal[both, tied]": sr.orthogonal(side="both", block_size=8, tie=True),
    "orthogonal[exponential]": sr.orthogonal(method="exponential", block_size=8),
    "stochastic_orthogonal": sr.stochastic_orthogonal(),
    "relaxed_orthogonal": sr.relaxed_orthogonal(block_size=8),
    "oft": sr.oft(block_size=8, share_blocks=True, bound=0.1),
    "boft": sr.boft(block_size=4, factors=2),
    "poet": sr.poet(block_size=8),
}


def cycle(training, key, params):
    """All functions of a reparameterization, once."""
    free, frozen = training.init(key, params)
    params = training.apply(free, frozen)
    penalty = training.penalty(free)
    free, frozen, _ = training.advance(key, free, frozen)
    return params, penalty, training.merge(free, frozen)


def learned(key, training):
    """``free`` and ``frozen`` after some training."""
    free, frozen = training.init(key, PARAMS)
    leaves, structure = jax.tree.flatten(free)
    leaves = [np.asarray(x) + normal(i, *x.shape) for i, x in enumerate(leaves)]
    return structure.unflatten(leaves), frozen


def applied(training):
    """A row of a rotated kernel, differentiated in what is trained."""
    free, frozen = learned(KEY, training)
    return (
        lambda free: training.apply(free, frozen)["dense"]["kernel"],
        (free,),
        ((),),
    )


def reset(moments):
    """The moments of an optimizer after all params were reset."""
    state = optax.TraceState(moments)
    was_reset = jax.tree.map(lambda _: True, moments)
    return sr.reset_moments(optax.trace(0.9), state, was_reset).trace


X, KERNEL = normal(4, 8, 16), normal(5, 16, 8)
ROWS, IN_OUT = ("batch", "features"), ("features", "out")
RAW, FACTORS = 0.3 * normal(6, 4, 6), 0.3 * normal(7, 2, 4, 4, 4)
MIRRORS, OUTER = normal(8, 4, 16), normal(9, 2, 8)
BASIS = np.linalg.qr(normal(10, 16, 4))[0]
ADAPTERS = (
    sr.BlockRotation(RAW, dimension=16, bound=0.5),
    sr.ButterflyRotation(FACTORS),
    sr.Reflections(MIRRORS),
    sr.SubspaceRotation(RAW[0], BASIS),
)
BOTH = sr.ButterflyRotation(FACTORS, scale=normal(11, 8)), sr.Reflections(OUTER)


def adapted(x, kernel, adapters, scale, bias):
    """A layer with adapters on both sides of a kernel of integers."""
    return sr.adapt(
        x,
        kernel,
        adapters[0],
        kernel_scale=scale,
        bias=bias,
        output_adapter=adapters[1],
    )


FREE, _ = learned(KEY, TRAININGS["boft"])
CALLS = [
    *(
        Call(
            f"reparam.{name}",
            partial(cycle, training),
            (KEY, PARAMS),
            ((), AXES),
            (1,),
        )
        for name, training in TRAININGS.items()
    ),
    Call("reparam.orthogonal[rotations]", *applied(TRAININGS["orthogonal"])),
    Call(
        "reparam.multiplicative_dropout",
        lambda key, free: sr.multiplicative_dropout(key, free, 0.5),
        (KEY, FREE),
        ((), ()),
        (1,),
    ),
    Call(
        "reparam.rotate",
        lambda x, adapters: [sr.rotate(x, each) for each in adapters],
        (X, ADAPTERS),
        (ROWS, ()),
        (0, 1),
    ),
    Call(
        "reparam.adapt",
        adapted,
        (X, np.asarray(40 * KERNEL, np.int8), BOTH, normal(12, 8), normal(13, 8)),
        (ROWS, IN_OUT, (), ("out",), ("out",)),
        (0, 2, 4),
    ),
    Call(
        "reparam.merge_adapter",
        lambda kernel, adapters: sr.merge_adapter(
            kernel, adapters[0], output_adapter=adapters[1]
        ),
        (KERNEL, BOTH),
        (IN_OUT, ()),
        (0, 1),
    ),
    Call(
        "reparam.from_peft",
        lambda u: sr.from_peft({"a.hra_u": u}, {"peft_type": "HRA"}),
        (MIRRORS,),
        is_host=True,
    ),
    Call(
        "reparam.to_peft",
        lambda raw: sr.to_peft({"a": sr.BlockRotation(raw, dimension=16)})[0],
        (RAW,),
        is_host=True,
    ),
    Call("reparam.reset_moments", reset, (PARAMS,), (AXES,), (), 0),
]
EXEMPT: dict[str, str] = {
    **{
        f"reparam.{type(adapter).__name__}": "an adapter; reparam.rotate applies it"
        for adapter in ADAPTERS
    },
    "reparam.adapters": "it calls a function given for each kernel",
    "reparam.rotation_matrix": "reparam.rotate of the rows of the identity",
    "reparam.describe": "it reads shapes, in Python",
    "reparam.Description": "what describe returns",
    "reparam.LeafDescription": "what describe returns",
    "reparam.rotation_mask": "it makes Python booleans of a structure",
}
