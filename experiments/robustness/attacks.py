"""Attacks on images within a ball of the maximum norm.

An attack looks for images that differ from the given ones by at most ``eps`` in every
pixel, stay in [0, 1], and have a greater loss. It is ``attack(loss, images, key, eps)``
with images ``[n, ...]`` of pixels in [0, 1]. All that it knows of a model is ``loss``:
a callable pytree, such as ``jax.tree_util.Partial(function, model, labels)``, from
images to losses ``[n]``, each of its image alone. Another model of the same kind, or
another ``eps``, compiles nothing again. Steps are a loop of Python: in a loop of XLA, a
convolution takes more than ten times as long on a CPU.
"""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array], jax.Array]
# The usual protocol's steps, in units of eps: 2/255 for 8/255, ten times.
STEP, _BIM_STEPS, _PGD_STEPS = 0.25, 10, 20


def noise(loss: Loss, images: jax.Array, key: jax.Array, eps: float) -> jax.Array:
    """Uniform noise within the ball, cut to [0, 1]; no attack should be weaker."""
    return _noise(key, images, eps)


def fgsm(loss: Loss, images: jax.Array, key: jax.Array, eps: float) -> jax.Array:
    """One step to the edge of the ball, along the sign of the gradient (FGSM).

    Goodfellow et al., ICLR 2015 (https://arxiv.org/abs/1412.6572).
    """
    return bim(loss, images, key, eps, step=1.0, steps=1)


def bim(
    loss: Loss, images: jax.Array, key, eps, *, step=STEP, steps=_BIM_STEPS
) -> jax.Array:
    """Steps of ``step * eps`` along the sign of the gradient, from the image (BIM).

    Kurakin et al., ICLR 2017 workshop (https://arxiv.org/abs/1607.02533).
    """
    points = path(loss, images, images, eps, step=step)
    return next(itertools.islice(points, steps - 1, None))


def pgd(
    loss: Loss, images: jax.Array, key, eps, *, step=STEP, steps=_PGD_STEPS, restarts=1
) -> jax.Array:
    """Steps of ``step * eps`` from random points of the ball (PGD).

    Every image keeps the strongest point of all restarts and all of their steps, or
    itself if none was stronger, so that more of either never weakens the attack.

    Madry et al., ICLR 2018 (https://arxiv.org/abs/1706.06083).
    """
    best, greatest = images, uphill(loss, images)[0]
    for restart in range(restarts):
        moved = _noise(jax.random.fold_in(key, restart), images, eps)
        # Once more than there are steps, for the loss where the last one ends.
        for _ in range(steps + 1):
            value, signs = uphill(loss, moved)
            is_best = value > greatest
            each = jnp.expand_dims(is_best, range(1, images.ndim))
            best = jnp.where(each, moved, best)
            greatest = jnp.where(is_best, value, greatest)
            moved = _step(images, moved, signs, eps, step * eps)
    return best


def path(
    loss: Loss, images: jax.Array, start: jax.Array, eps: float, *, step: float
) -> Iterator[jax.Array]:
    """The points after 1, 2, 3, ... steps from a point of the ball, without end."""
    while True:
        start = _step(images, start, uphill(loss, start)[1], eps, step * eps)
        yield start


@jax.jit
def uphill(loss: Loss, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss of each image, ``[n]``, and the signs of its gradient, ``[n, ...]``."""
    value, pullback = jax.vjp(loss, images)
    return value, jnp.sign(pullback(jnp.ones_like(value))[0])


@jax.jit
def _noise(key, images, eps):
    moves = jax.random.uniform(key, images.shape, images.dtype, -1.0, 1.0)
    return _within(images, images + jnp.asarray(eps, images.dtype) * moves, eps)


@jax.jit
def _step(images, moved, signs, eps, length):
    moved = moved + jnp.asarray(length, images.dtype) * signs
    return _within(images, moved, eps)


def _within(images, moved, eps):
    eps = jnp.asarray(eps, images.dtype)
    low, high = jnp.maximum(images - eps, 0.0), jnp.minimum(images + eps, 1.0)
    return jnp.clip(moved, low, high)
