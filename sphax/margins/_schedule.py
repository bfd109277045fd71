"""How the annealing of a multiplicative margin fades."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def annealing_schedule(
    base: float = 1000.0,
    gamma: float = 0.12,
    power: float = 1.0,
    minimum: float = 5.0,
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    r"""Annealing :math:`\lambda` of :class:`SphereFace` as a schedule of the step.

    .. math::
        \lambda_t = \max(\lambda_{\min}, \mathrm{base}\,(1 + \gamma t)^{-p}),
        \qquad t = \mathrm{step} + 1

    of the authors' layer, which counts its first step as 1. The defaults are
    SphereFace's; L-Softmax on MNIST has ``gamma=2.5e-5, power=35, minimum=0``.

    Args:
        base: Value to start from, not negative.
        gamma: Rate, not negative.
        power: Exponent :math:`p`, not negative.
        minimum: :math:`\lambda_{\min}`, not negative.

    Returns:
        Function of the step (from 0), a number or an array; float32.

    Raises:
        ValueError: If an argument is negative.

    Example:
        >>> schedule = sx.margins.annealing_schedule()
        >>> margin = sx.margins.SphereFace(m=4, annealing=schedule(0))
        >>> print(margin.annealing, schedule(1_000_000))
        892.857 5.0

    References:
        Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017,
        authors' code.
    """
    settings = {"base": base, "gamma": gamma, "power": power, "minimum": minimum}
    for name, value in settings.items():
        if not value >= 0.0:
            raise ValueError(
                f"annealing_schedule: {name} must not be negative, got {value}."
            )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        count = jnp.asarray(step, jnp.float32) + 1.0
        # (1 + gamma t)^-power: for a small gamma, 1 + gamma t would lose its digits.
        faded = base * jnp.exp(-power * jnp.log1p(gamma * count))
        return jnp.maximum(minimum, faded)

    return schedule
