"""Calls of ``sphax.sphere``."""

import jax

import sphax as sx
from tests.calls._call import Call, normal

X, Y = normal(0, 8, 16), normal(1, 8, 16)
ROWS = ("batch", "features")

CALLS = [
    Call("sphere.normalize", sx.sphere.normalize, (X,), (ROWS,)),
    Call(
        "sphere.cosine_similarity",
        sx.sphere.cosine_similarity,
        (X, Y),
        (ROWS, ROWS),
        (0, 1),
    ),
    Call("sphere.angle", sx.sphere.angle, (X, Y), (ROWS, ROWS), (0, 1)),
    Call(
        "sphere.sample_uniform",
        lambda key: sx.sphere.sample_uniform(key, (8, 4)),
        (jax.random.key(0),),
        ((),),
        (),
    ),
]
EXEMPT: dict[str, str] = {}
