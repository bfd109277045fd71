"""Calls of ``sphax.sphere``."""

import jax

import sphax as sx
from tests.calls._call import Call, normal

X, Y, Z = normal(0, 8, 16), normal(1, 8, 16), normal(2, 8, 16)
ROWS = ("batch", "features")


def of_pairs(name):
    """A function of two vectors."""
    return Call(
        f"sphere.{name}", getattr(sx.sphere, name), (X, Y), (ROWS, ROWS), (0, 1)
    )


CALLS = [
    Call("sphere.normalize", sx.sphere.normalize, (X,), (ROWS,)),
    Call("sphere.direction", sx.sphere.direction, (X,), (ROWS,)),
    Call("sphere.length", sx.sphere.length, (X,), (ROWS,)),
    Call(
        "sphere.inverse_stereographic", sx.sphere.inverse_stereographic, (X,), (ROWS,)
    ),
    Call("sphere.angle_to_north_pole", sx.sphere.angle_to_north_pole, (X,), (ROWS,)),
    Call("sphere.arcsin", sx.sphere.arcsin, (0.1 * X,), (ROWS,)),
    Call(
        "sphere.inner_products",
        sx.sphere.inner_products,
        (X, Y),
        (ROWS, ("classes", "features")),
        (0, 1),
    ),
    Call(
        "sphere.cosine_similarity",
        sx.sphere.cosine_similarity,
        (X, Y),
        (ROWS, ("classes", "features")),
        (0, 1),
    ),
    *map(of_pairs, ("angle", "project_to_tangent", "exp_map", "log_map", "retract")),
    Call(
        "sphere.parallel_transport",
        sx.sphere.parallel_transport,
        (X, Y, Z),
        (ROWS, ROWS, ROWS),
        (0, 1, 2),
    ),
    Call(
        "sphere.sample_uniform",
        lambda key: sx.sphere.sample_uniform(key, (8, 4)),
        (jax.random.key(0),),
        ((),),
        (),
    ),
]
EXEMPT: dict[str, str] = {}
