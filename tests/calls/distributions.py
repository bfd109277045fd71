"""Calls of ``sphax.distributions``."""

import jax

import sphax as sx
from tests.calls._call import Call, normal

POINTS = normal(0, 16, 4)
ROWS = ("batch", "features")
KEY = jax.random.key(0)

CALLS: tuple[Call, ...] = (
    Call(
        "distributions.spherical_kmeans",
        lambda points, weights: sx.distributions.spherical_kmeans(
            points, 3, key=KEY, restarts=2, weights=weights, block_size=8
        ),
        (POINTS, abs(normal(1, 16))),
        (ROWS, ("batch",)),
        (),
    ),
)

EXEMPT: dict[str, str] = {}
