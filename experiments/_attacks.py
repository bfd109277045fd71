"""Attacks on images within a ball of the maximum norm.

An attack looks for images that differ from the given ones by at most ``eps`` in every
pixel, stay in [0, 1], and have a greater loss. All that it knows of a model is that
loss: a callable pytree, such as ``jax.tree_util.Partial(function, model, labels)``,
from images ``[n, ...]`` to losses ``[n]``, each of its own image alone. The model is an
argument of what is compiled, and so are ``eps`` and ``step``: neither another model of
the same kind nor another length compiles anything anew.

Steps are a loop of Python: in a loop of XLA, a convolution takes more than ten times as
long on a CPU. Where the gradient is zero, no step moves.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array], jax.Array]
Scalar = float | jax.Array


class Found(NamedTuple):
    """The images of greatest loss so far, and that loss, ``[n]``."""

    images: jax.Array
    loss: jax.Array


def fgsm(loss: Loss, images: jax.Array, *, eps: Scalar) -> jax.Array:
    """One step to the edge of the ball, along the sign of the gradient (FGSM).

    Args:
        loss: See the module.
        images: Floating, ``[n, ...]``, pixels in [0, 1].
        eps: Radius of the ball.

    Returns:
        The images attacked, of the same shape and dtype.

    Raises:
        TypeError: If ``images`` are not floating.
        ValueError: If ``eps``, given as a number, is negative.

    References:
        Goodfellow et al., `Explaining and Harnessing Adversarial Examples
        <https://arxiv.org/abs/1412.6572>`_, ICLR 2015.
    """
    return bim(loss, images, eps=eps, step=eps, steps=1)


def bim(
    loss: Loss, images: jax.Array, *, eps: Scalar, step: Scalar, steps: int
) -> jax.Array:
    """Steps along the sign of the gradient, from the images on; the last (BIM).

    Args:
        loss: See the module.
        images: As in :func:`fgsm`.
        eps: Radius of the ball.
        step: Length of a step in every pixel.
        steps: Their number, positive.

    Returns:
        As :func:`fgsm`.

    Raises:
        TypeError: As :func:`fgsm`.
        ValueError: If a number is out of range.

    References:
        Kurakin et al., `Adversarial Examples in the Physical World
        <https://arxiv.org/abs/1607.02533>`_, ICLR 2017 workshop.
    """
    _check_count("steps", steps)
    points = path(loss, images, images, eps=eps, step=step)
    return next(itertools.islice(points, steps - 1, None))


def path(
    loss: Loss, images: jax.Array, start: jax.Array, *, eps: Scalar, step: Scalar
) -> Iterator[jax.Array]:
    """The points after 1, 2, 3, ... steps from ``start``, without end.

    Args:
        loss: See the module.
        images: As in :func:`fgsm`: the centres of the balls.
        start: Points of the balls.
        eps: Radius of the ball.
        step: Length of a step in every pixel.

    Yields:
        As :func:`fgsm` returns.

    Raises:
        TypeError: As :func:`fgsm`.
        ValueError: As :func:`bim`.
    """
    _check(images, eps=eps, step=step)
    while True:
        start = _step(images, start, uphill(loss, start)[1], eps, step)
        yield start


def pgd(
    loss: Loss,
    images: jax.Array,
    *,
    key: jax.Array,
    eps: Scalar,
    step: Scalar,
    steps: int,
    restarts: int = 1,
) -> jax.Array:
    """Steps from random points of the ball; the best that any has come upon (PGD).

    Every image keeps the strongest of all restarts and all of their steps, or itself if
    none was stronger, so that more of either never weakens the attack.

    Args:
        loss: See the module.
        images: As in :func:`fgsm`.
        key: Of the random points. That of one restart depends on its number alone.
        eps: Radius of the ball.
        step: Length of a step in every pixel.
        steps: Their number in each restart, positive.
        restarts: Their number, positive.

    Returns:
        As :func:`fgsm`.

    Raises:
        TypeError: As :func:`fgsm`.
        ValueError: If a number is out of range.

    References:
        Madry et al., `Towards Deep Learning Models Resistant to Adversarial Attacks
        <https://arxiv.org/abs/1706.06083>`_, ICLR 2018.
    """
    _check(images, eps=eps, step=step)
    _check_count("steps", steps)
    _check_count("restarts", restarts)
    found = Found(images, uphill(loss, images)[0])
    for restart in range(restarts):
        moved = noise(images, key=jax.random.fold_in(key, restart), eps=eps)
        # Once more than there are steps, for the loss that the last has led to.
        for _ in range(steps + 1):
            value, signs = uphill(loss, moved)
            found = _better(found, Found(moved, value))
            moved = _step(images, moved, signs, eps, step)
    return found.images


@jax.jit
def uphill(loss: Loss, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss of each image, ``[n]``, and the signs of its gradient, ``[n, ...]``."""

    def total(images):
        value = loss(images)
        return jnp.sum(value), value

    gradient, value = jax.grad(total, has_aux=True)(images)
    return value, jnp.sign(gradient)


def noise(images: jax.Array, *, key: jax.Array, eps: Scalar) -> jax.Array:
    """Images moved uniformly at random within the ball, then cut to [0, 1].

    Args:
        images: As in :func:`fgsm`.
        key: Of the noise.
        eps: Radius of the ball.

    Returns:
        As :func:`fgsm`.

    Raises:
        TypeError: As :func:`fgsm`.
        ValueError: As :func:`fgsm`.
    """
    _check(images, eps=eps)
    return _noise(key, images, eps)


@jax.jit
def _noise(key, images, eps):
    moves = jax.random.uniform(key, images.shape, images.dtype, -1.0, 1.0)
    return _within(images, images + _like(eps, images) * moves, eps)


@jax.jit
def _step(images, moved, signs, eps, step):
    return _within(images, moved + _like(step, images) * signs, eps)


@jax.jit
def _better(first: Found, second: Found) -> Found:
    is_second = second.loss > first.loss
    each = is_second.reshape(-1, *[1] * (first.images.ndim - 1))
    return Found(
        jnp.where(each, second.images, first.images),
        jnp.where(is_second, second.loss, first.loss),
    )


def _within(images: jax.Array, moved: jax.Array, eps: Scalar) -> jax.Array:
    """``moved``, cut to the ball around ``images`` and to [0, 1]."""
    eps = _like(eps, images)
    low, high = jnp.maximum(images - eps, 0.0), jnp.minimum(images + eps, 1.0)
    return jnp.clip(moved, low, high)


def _like(number: Scalar, images: jax.Array) -> jax.Array:
    return jnp.asarray(number, images.dtype)


def _check(images: jax.Array, **lengths: Scalar) -> None:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            "images must be floating with pixels in [0, 1], got dtype"
            f" {images.dtype}; divide pixels of 0 to 255 by 255 first."
        )
    for name, length in lengths.items():
        if isinstance(length, (int, float)) and not length >= 0.0:
            raise ValueError(f"{name} must not be negative, got {length}.")


def _check_count(name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{name} must be positive, got {number}.")
