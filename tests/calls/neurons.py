"""Calls of ``sphax.neurons``."""

import jax

import sphax as sx
from tests.calls._call import Call, normal

KERNEL, ROWS = normal(0, 2, 2, 8, 16), normal(1, 16, 32)
PARAMS = {"conv": {"kernel": KERNEL}}

CALLS = [
    Call(
        "neurons.to_rows",
        sx.neurons.to_rows,
        (KERNEL,),
        ((None, None, "in", "out"),),
    ),
    Call(
        "neurons.from_rows",
        lambda rows: sx.neurons.from_rows(rows, (2, 2, 8, 16)),
        (ROWS,),
        (("out", "features"),),
    ),
    Call(
        "neurons.select",
        lambda params: sx.neurons.select(params, sx.neurons.find(params)),
        (PARAMS,),
        ((None, None, "in", "out"),),
    ),
    Call(
        "neurons.replace",
        lambda params, kernel: sx.neurons.replace(
            params, {"conv/kernel": jax.numpy.sin(kernel)}
        ),
        (PARAMS, KERNEL),
        ((None, None, "in", "out"), (None, None, "in", "out")),
        (0, 1),
    ),
]
EXEMPT = {
    "neurons.of": "reads what a model says of itself, and computes nothing",
    "neurons.find": "looks at paths and shapes; select and replace are called with it",
    "neurons.Axes": "static: what find returns",
    "neurons.NeuronDimensions": "static: a declaration",
    "neurons.Declarations": "static: what of returns",
    "neurons.Neurons": "an alias for types",
}
