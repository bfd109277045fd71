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
# Two clusters.
NEAR = np.repeat(np.eye(2, 4, dtype=np.float32), 4, axis=0) + 0.2 * POINTS
ROWS, BATCH = ("batch", "features"), ("batch",)
VMF = sx.distributions.VonMisesFisher
POWER = sx.distributions.PowerSpherical
UNIFORM = sx.distributions.SphericalUniform(4)


def moments(distribution):
    """Everything that takes no argument."""
    return (
        distribution.entropy(),
        distribution.log_normalizer(),
        distribution.mean(),
        distribution.mean_resultant_length(),
    )


def mixture(mean, k):
    """One of as many components as there are concentrations."""
    return sx.distributions.Mixture(VMF(mean, k), -0.1 * k)


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
        "distributions.PowerSpherical",
        lambda x, mean, k: POWER(mean, k).log_prob(x),
        (POINTS, MEANS, CONCENTRATIONS),
        (ROWS, ROWS, BATCH),
        (0, 1, 2),
        sharded_like=2,
    ),
    Call(
        "distributions.PowerSpherical[sample]",
        lambda key, mean, k: POWER(mean, k).sample(key),
        (KEY, MEANS, CONCENTRATIONS),
        ((), ROWS, BATCH),
        (1, 2),
        sharded_like=1,
    ),
    Call(
        "distributions.PowerSpherical[moments]",
        lambda mean, k: moments(POWER(mean, k)),
        (MEANS, CONCENTRATIONS),
        (ROWS, BATCH),
        (0, 1),
    ),
    Call(
        "distributions.kl_divergence[power]",
        lambda mean1, k1, mean2, k2: (
            sx.distributions.kl_divergence(VMF(mean1, k1), POWER(mean2, k2)),
            sx.distributions.kl_divergence(POWER(mean1, k1), VMF(mean2, k2)),
        ),
        (MEANS, CONCENTRATIONS, OTHERS, CONCENTRATIONS[::-1]),
        (ROWS, BATCH, ROWS, BATCH),
        (0, 1, 2, 3),
    ),
    Call(
        "distributions.Mixture",
        lambda x, mean, k: (
            mixture(mean, k).log_prob(x),
            mixture(mean, k).responsibilities(x),
        ),
        (POINTS, MEANS, CONCENTRATIONS),
        (ROWS, ("components", "features"), ("components",)),
        (0, 1, 2),
    ),
    Call(
        "distributions.Mixture[sample]",
        lambda key, mean, k: mixture(mean, k).sample(key, (8,)),
        (KEY, MEANS, CONCENTRATIONS),
        ((), ROWS, BATCH),
        (1, 2),
    ),
    Call(
        "distributions.fit_mixture",
        lambda x, weights: sx.distributions.fit_mixture(
            x, 2, key=KEY, weights=weights, iterations=2, block_size=4
        ),
        (NEAR, LENGTHS),
        (ROWS, BATCH),
        (),
    ),
    Call(
        "distributions.spherical_kmeans",
        lambda x, weights: sx.distributions.spherical_kmeans(
            x, 3, key=KEY, restarts=2, weights=weights, block_size=4
        ),
        (POINTS, LENGTHS),
        (ROWS, BATCH),
        (),
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
        "distributions.fit[power]",
        lambda x, weights: sx.distributions.fit(x, family=POWER, weights=weights),
        (NEAR, LENGTHS),
        (ROWS, BATCH),
        (0, 1),
    ),
)

EXEMPT: dict[str, str] = {}
