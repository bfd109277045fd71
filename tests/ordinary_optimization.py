"""Values and gradients as XLA's ordinary optimization leaves them.

The other tests switch most of it off, for time, and fusion is what could undo care in
rounding. ``test_ordinary_optimization.py`` runs this file in a process of its own.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.margins.tables import sphereface

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(8, 16)), RNG.normal(size=(24, 16))
LABELS = np.arange(8) * 3 % 24
PAIRED = np.array([0, 0, 1, 1, 2, 2, 3, 3])
COS = (X / np.linalg.norm(X, axis=1)[:, None]) @ (
    X / np.linalg.norm(X, axis=1)[:, None]
).T
GOLDEN = (1 + 5**0.5) / 2
ICOSAHEDRON = np.array(
    [
        np.roll([0.0, a, b * GOLDEN], shift)
        for shift in range(3)
        for a in (-1, 1)
        for b in (-1, 1)
    ]
)
EPS = float(np.finfo(np.float32).eps)


def softmax(margin, **options):
    return lambda x, w: sx.losses.margin_softmax(x, w, LABELS, margin, **options)


def energy_of(points, power):
    """Mean over ordered pairs, by the definition."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    i, j = np.triu_indices(len(unit), 1)
    return np.mean(np.linalg.norm(unit[i] - unit[j], axis=1) ** -power)


def nt_xent(scale=10.0):
    """Every row's positive against its negatives."""
    others = ~np.eye(8, dtype=bool) & (PAIRED[:, None] != PAIRED)
    positive = COS[np.arange(8), np.arange(8) ^ 1]
    negative = (np.exp(scale * COS) * others).sum(1)
    return np.mean(np.log1p(negative / np.exp(scale * positive)))


def supervised_contrastive(scale=10.0):
    others = ~np.eye(8, dtype=bool)
    positive = COS[np.arange(8), np.arange(8) ^ 1]
    total = (np.exp(scale * COS) * others).sum(1)
    return np.mean(np.log(total) - scale * positive)


def orthogonality(function):
    def error(raw):
        q = function(raw)
        return jnp.max(jnp.abs(q.mT @ q - jnp.eye(q.shape[-1])))

    return error


NEAR = np.array([[1.0, 0.0, 0.0], [math.cos(1e-3), math.sin(1e-3), 0.0]])
A = RNG.normal(size=(5, 5))
BASIS = np.eye(2, 3)
COLLAPSED = np.ones((8, 4))

# Name: function of float32 arrays, these arrays, the right value, relative and absolute
# tolerance.
CASES = {
    "normalize": (sx.sphere.normalize, (X,), reference.directions(X), 4 * EPS, 0),
    "normalize huge": (sx.sphere.normalize, ([3e19, 4e19],), [0.6, 0.8], 4 * EPS, 0),
    "normalize zero, gradient": (
        jax.grad(lambda x: sx.sphere.normalize(x).sum()),
        ([[0.0, 0.0], [0.0, 2.0]],),
        [[0.0, 0.0], [0.5, 0.0]],
        4 * EPS,
        0,
    ),
    "angle": (sx.sphere.angle, (X, W[:8]), np.diag(reference.angles(X, W)), 1e-6, 0),
    "angle small": (sx.sphere.angle, ([1.0, 0.0], [1.0, 1e-7]), 1e-7, 1e-6, 0),
    "angle small, gradient": (
        jax.grad(sx.sphere.angle),
        ([1.0, 0.0], [1.0, 1e-7]),
        [0.0, -1.0],
        1e-6,
        1e-6,
    ),
    "angle of equal vectors, gradient": (
        jax.grad(lambda x: sx.sphere.angle(x, 3.0 * x).sum()),
        (X,),
        np.zeros_like(X),
        0,
        0,
    ),
    "angle huge": (
        sx.sphere.angle,
        ([1e20, 0.0], [0.0, 1e20]),
        math.pi / 2,
        4 * EPS,
        0,
    ),
    "log map after exponential map": (
        lambda p, v: sx.sphere.log_map(p, sx.sphere.exp_map(p, v)),
        ([1.0, 0.0, 0.0], [0.0, 3e-4, -4e-4]),
        [0.0, 3e-4, -4e-4],
        1e-5,
        1e-9,
    ),
    "ArcFace": (
        softmax(sx.margins.ArcFace(), scale=4.0),
        (X, W),
        reference.margin_softmax(
            X,
            W,
            LABELS,
            lambda a: np.where(
                a < math.pi - 0.5, np.cos(a + 0.5), np.cos(a) - 1 + np.cos(0.5)
            ),
            scale=4.0,
        ).mean(),
        2e-6,
        0,
    ),
    "ArcFace blocked": (
        softmax(sx.margins.ArcFace(beyond="pure"), scale=4.0, block_size=7),
        (X, W),
        reference.margin_softmax(
            X, W, LABELS, lambda a: np.cos(a + 0.5), scale=4.0
        ).mean(),
        2e-6,
        0,
    ),
    "SphereFace": (
        softmax(sx.margins.SphereFace(m=4), normalize="prototypes"),
        (X, W),
        reference.margin_softmax(
            X, W, LABELS, sphereface(4), normalize="prototypes"
        ).mean(),
        2e-6,
        0,
    ),
    "L-Softmax": (
        softmax(sx.margins.SphereFace(m=2), normalize="none"),
        (X, W),
        reference.margin_softmax(X, W, LABELS, sphereface(2), normalize="none").mean(),
        2e-6,
        0,
    ),
    "small losses keep their digits": (
        lambda x: sx.losses.margin_softmax_per_example(
            x, x, np.arange(2), sx.margins.NoMargin(), scale=40.0
        ),
        (BASIS,),
        [math.exp(-40.0)] * 2,
        1e-5,
        0,
    ),
    "softmax at angle 0, gradient": (
        jax.grad(
            lambda x: sx.losses.margin_softmax(
                x, BASIS.astype(np.float32), np.arange(2), sx.margins.CosFace()
            )
        ),
        (BASIS,),
        # The other class alone has s e^(s m - s) / 2, on the other axis.
        64.0
        / 2
        / (1 + math.exp(64.0 * 0.65))
        * np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        1e-4,
        0,
    ),
    "NT-Xent": (lambda x: sx.losses.nt_xent(x, PAIRED), (X,), nt_xent(), 5e-6, 0),
    "supervised contrastive": (
        lambda x: sx.losses.supervised_contrastive(x, PAIRED, scale=10.0),
        (X,),
        supervised_contrastive(),
        5e-6,
        0,
    ),
    "triplet, collapsed": (
        lambda x: sx.losses.triplet(x, PAIRED, mining="hard"),
        (COLLAPSED,),
        0.2,
        1e-6,
        0,
    ),
    "energy of the icosahedron": (
        lambda x: sx.energy.hyperspherical_energy(x, power=1.0),
        (ICOSAHEDRON,),
        49.165253058 / 66,  # Thomson's problem, published
        1e-6,
        0,
    ),
    "energy in tiles": (
        lambda x: sx.energy.hyperspherical_energy(x, power=2.0, block_size=7),
        (W,),
        energy_of(W, 2),
        2e-6,
        0,
    ),
    "energy of close points": (
        lambda x: sx.energy.hyperspherical_energy(x, power=2.0),
        (NEAR,),
        energy_of(NEAR.astype(np.float32).astype(np.float64), 2),
        1e-4,
        0,
    ),
    "energy of coincident points": (
        lambda x: sx.energy.hyperspherical_energy(x, power=1.0),
        ([[1.0, 2.0], [2.0, 4.0]],),
        1 / (4 * EPS),
        1e-5,
        0,
    ),
    "geodesic energy": (
        lambda x: sx.energy.hyperspherical_energy(x, power=1.0, distance="geodesic"),
        (np.eye(3),),
        2 / math.pi,
        2e-6,
        0,
    ),
    "energy gradient at a right angle": (
        lambda x: jnp.sum(x * jax.grad(sx.energy.hyperspherical_energy)(x), axis=1),
        (W,),
        np.zeros(24),
        0,
        1e-7,
    ),
    "Cayley of large entries": (
        orthogonality(sx.orthogonal.cayley),
        (1e6 * A,),
        0.0,
        0,
        1e-5,
    ),
    "exponential of large entries": (
        orthogonality(sx.orthogonal.exponential),
        (1e3 * A,),
        0.0,
        0,
        1e-5,
    ),
    "Gram-Schmidt": (orthogonality(sx.orthogonal.gram_schmidt), (A,), 0.0, 0, 1e-6),
    "Loewdin": (orthogonality(sx.orthogonal.lowdin), (A,), 0.0, 0, 1e-6),
    "Householder": (orthogonality(sx.orthogonal.householder), (A,), 0.0, 0, 1e-6),
    "decoupled dense": (
        lambda x, w: sx.operators.decoupled_dense(
            x,
            w,
            magnitude=sx.operators.Ball(rho=2.0),
            angular=sx.operators.LinearAngle(),
        ),
        (X, W[:5].T),
        np.minimum(np.linalg.norm(X, axis=1), 2.0)[:, None]
        / 2.0
        * (1 - 2 * reference.angles(X, W[:5]) / math.pi),
        2e-6,
        1e-6,
    ),
    "OPT keeps angles": (
        lambda x: _rotated(x),
        (W[:8].T,),
        reference.directions(W[:8]) @ reference.directions(W[:8]).T,
        0,
        1e-6,
    ),
}


def _rotated(kernel):
    """Cosines of the neurons of a kernel after a rotation of the method."""
    training = sx.reparam.orthogonal(neuron_init="given", rotation_init="normal")
    free, frozen = training.init(jax.random.key(0), {"kernel": kernel})
    rotated = training.apply(free, frozen)["kernel"]
    return sx.sphere.cosine_similarity(rotated.T, rotated.T)


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    function, arguments, expected, relative, absolute = CASES[name]
    arguments = [np.asarray(x, np.float32) for x in arguments]
    value = jax.jit(function)(*arguments)
    np.testing.assert_allclose(value, expected, rtol=relative, atol=absolute)
