"""The energy as a penalty on the neurons of a layer."""

from collections.abc import Callable

import jax

from sphax._checks import as_points
from sphax._hyperparameters import register, static
from sphax.energy._hyperspherical import Distance, as_options, energy_within
from sphax.energy._pairs._tiles import EnergyOptions


@register
class _EnergyPenalty:
    """Energy of rows; the power is a leaf unless it is one of the options."""

    power: jax.Array | None
    options: EnergyOptions = static(default=None)

    def __call__(self, rows: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The energy of rows ``[n, d]``; it draws nothing from the key."""
        del key
        return energy_within(self.options, self.power, as_points("rows", rows))


def energy_penalty(
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    block_size: int | None = None,
) -> Callable[..., jax.Array]:
    """The hyperspherical energy as a penalty on neurons (MHE).

    A function of the neurons of a layer, as :func:`sphax.optim.add_penalty_gradient`
    takes it. It is a pytree: a power that is an array is a leaf, and penalties of
    different powers share one compiled program.

    Args:
        power: :math:`s`, like the options below the same as in
            :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a neuron stands for its mirror image as well.
        block_size: Side of a tile of pairs.

    Returns:
        A function of rows, floating, ``[n, d]``, and of a key, which it ignores, to
        their energy.

    Raises:
        TypeError: If an option is of the wrong kind.
        ValueError: If ``distance`` is unknown, or ``power`` or ``block_size`` out of
            range.

    Example:
        >>> penalty = sx.energy.energy_penalty(power=2.0, half_space=True)
        >>> penalty(jnp.eye(3))
        Array(0.5, dtype=float32)
        >>> tx = sx.optim.add_penalty_gradient(penalty, 1.0, at_least=2)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018, Eq. 4.
    """
    options, array_power = as_options(power, distance, half_space, block_size)
    return _EnergyPenalty(array_power, options)
