"""Calls of ``sphax.distributions``."""

import jax
import numpy as np

import sphax as sx
from tests.calls._call import Call, normal

MEANS, OTHERS = normal(0, 8, 4), normal(1, 8, 4)
CONCENTRATIONS = np.geomspace(0.1, 100.0, 8).astype(np.float32)
LENGTHS = np.linspace(0.1, 0.9, 8).astype(np.float32)
KEY = jax.random.key(0)
POINTS = normal(2, 8, 4)
ROWS, BATCH = ("batch", "features"), ("batch",)
VMF = sx.distributions.VonMisesFisher
UNIFORM = sx.distributions.SphericalUniform(4)


def moments(vmf):
    """Everything that takes no argument."""
    return (
        vmf.entropy(),
        vmf.log_normalizer(),
        vmf.mean(),
        vmf.mean_resultant_length(),
    )


CALLS: tuple[Call, ...] = (
    Call(
        "distributions.VonMisesFisher",
        lambda x, mean, k: VMF(mean, k).log_prob(x),
        (POINTS, MEANS, CONCENTRATIONS),
        (ROWS, ROWS, BATCH),
        (0, 1, 2),
        sharded_like=2,
    ),
    Call(
        "distributions.VonMisesFisher[sample]",
        lambda key, mean, k: VMF(mean, k).sample(key),
        (KEY, MEANS, CONCENTRATIONS),
        ((), ROWS, BATCH),
        (1, 2),
        sharded_like=1,
    ),
    Call(
        "distributions.VonMisesFisher[moments]",
        lambda mean, k: moments(VMF(mean, k)),
        (MEANS, CONCENTRATIONS),
        (ROWS, BATCH),
        (0, 1),
    ),
    Call(
        "distributions.SphericalUniform",
        UNIFORM.log_prob,
        (POINTS,),
        (ROWS,),
    ),
    Call(
        "distributions.SphericalUniform[sample]",
        lambda key: (UNIFORM.sample(key, (8,)), *moments(UNIFORM)),
        (KEY,),
        ((),),
        (),
    ),
    Call(
        "distributions.kl_divergence",
        lambda mean1, k1, mean2, k2: sx.distributions.kl_divergence(
            VMF(mean1, k1), VMF(mean2, k2)
        ),
        (MEANS, CONCENTRATIONS, OTHERS, CONCENTRATIONS[::-1]),
        (ROWS, BATCH, ROWS, BATCH),
        (0, 1, 2, 3),
        sharded_like=1,
    ),
    Call(
        "distributions.kl_divergence[uniform]",
        lambda mean, k: (
            sx.distributions.kl_divergence(VMF(mean, k), UNIFORM),
            sx.distributions.kl_divergence(UNIFORM, VMF(mean, k)),
        ),
        (MEANS, CONCENTRATIONS),
        (ROWS, BATCH),
        (0, 1),
    ),
    Call(
        "distributions.concentration_of",
        lambda lengths: sx.distributions.concentration_of(lengths, 4),
        (LENGTHS,),
        (BATCH,),
        sharded_like=0,
    ),
    Call(
        "distributions.fit",
        lambda x, weights: sx.distributions.fit(
            x, weights=weights, where=LENGTHS > 0.3, correct_bias=True
        ),
        (POINTS, LENGTHS),
        (ROWS, BATCH),
        (0, 1),
    ),
    Call(
        "distributions.spherical_kmeans",
        lambda points, weights: sx.distributions.spherical_kmeans(
            points, 3, key=KEY, restarts=2, weights=weights, block_size=8
        ),
        (normal(3, 16, 4), abs(normal(1, 16))),
        (ROWS, ("batch",)),
        (),
    ),
)

EXEMPT: dict[str, str] = {}
