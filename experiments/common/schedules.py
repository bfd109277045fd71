"""Learning rates that rise and fall by epochs, and optimizers that follow them."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import optax

Schedule = Literal["polynomial", "step", "cosine"]


def learning_rate(
    schedule: Schedule,
    rate: float,
    steps: int,
    epochs: int,
    *,
    warmup: float = 0.0,
    drops: Sequence[float] = (),
) -> optax.Schedule:
    r"""The learning rate by step.

    It rises linearly from 0 at step 0 to the full rate at step w, the end of the
    warm-up, and falls until the last step T: by :math:`(1 - (t - w) / (T - w))^2`, or
    :math:`(1 + \cos \pi (t - w) / (T - w)) / 2`, or by a factor of ten at each drop.

    Args:
        schedule: How it falls.
        rate: The full rate.
        steps: T.
        epochs: Number of epochs in these steps.
        warmup: Epochs of the warm-up.
        drops: Epochs of the drops, for schedule "step".
    """
    per_epoch = steps / epochs
    rising = round(warmup * per_epoch)
    if schedule == "polynomial":
        falling = optax.polynomial_schedule(rate, 0.0, 2, steps - rising)
    elif schedule == "cosine":
        falling = optax.cosine_decay_schedule(rate, steps - rising)
    else:
        places = [round(drop * per_epoch) - rising for drop in drops]
        falling = optax.piecewise_constant_schedule(rate, dict.fromkeys(places, 0.1))
    if not rising:
        return falling
    return optax.join_schedules(
        [optax.linear_schedule(0.0, rate, rising), falling], [rising]
    )


def optimizer(
    name: Literal["sgd", "adamw"],
    rate: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    decays_all: bool,
) -> optax.GradientTransformation:
    """Gradient descent with momentum and decay, or AdamW.

    Args:
        name: Of the optimizer.
        rate: Learning rate by step.
        momentum: Of the gradient descent.
        weight_decay: Part of the gradient in gradient descent; AdamW takes it, times
            the learning rate, from the parameters.
        decays_all: Whether all parameters decay, or only those with two axes or more,
            which are neither biases nor scales nor slopes.
    """
    mask = None if decays_all else _kernels
    if name == "adamw":
        return optax.adamw(rate, weight_decay=weight_decay, mask=mask)
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask), optax.sgd(rate, momentum)
    )


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
