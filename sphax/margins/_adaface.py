"""AdaFace: a margin that depends on the embedding's length, by running statistics."""

import dataclasses
import math
from typing import Self

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register, static, store_real
from sphax._numerics import divide
from sphax.margins._arcface import Beyond, Combined
from sphax.margins._margin import Margin, Target
from sphax.margins._running import batch_sum, moved_average


@register
class AdaFace(Margin):
    r"""A margin for the image's quality, estimated by the embedding's length (AdaFace).

    .. math::
        \psi(\theta) = \cos(\theta - m \hat z) - m (1 + \hat z), \qquad
        \hat z = \operatorname{clip}\Big(h\,\frac{\|x\| - \mu}{\sigma + 10^{-3}},
        -1, 1\Big),

    with running mean :math:`\mu` and standard deviation :math:`\sigma` of the lengths,
    clipped to [0.001, 100], which are updated by every batch before they are used, from
    the examples that ``where`` keeps, whatever their weights. No gradient passes
    through :math:`\hat z`. It is ArcFace for the shortest embeddings, CosFace for
    average ones, and puts the most weight on hard examples of the longest.

    Where :math:`\theta - m\hat z` leaves :math:`[0, \pi]` the cosine would not fall
    with the angle; ``beyond`` says what to do there, as in :class:`Combined`. The
    authors' code clamps.

    Args:
        margin: :math:`m`, in radians and as a cosine, in ``[0, pi/2)``.
        h: Concentration: how much a length that differs by :math:`\sigma` moves
            :math:`\hat z`. A negative one reverses the order, which the authors advise
            where longer embeddings belong to worse images.
        mean: Running state :math:`\mu`.
        deviation: Running state :math:`\sigma`, not negative.
        rate: Weight of the newest batch in the state, in ``[0, 1]``.
        beyond: ``"continuous"``, ``"clamp"`` or ``"pure"``.
        axis_name: Name of the mesh axis, or names, over which the statistics are taken
            under :func:`jax.shard_map` or :func:`jax.pmap`; ``jit`` needs none. A batch
            of one leaves :math:`\sigma` as it is.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``beyond`` is out of
            range.

    Example:
        >>> target = sx.margins.Target(
        ...     jnp.zeros(3), jnp.array([1.0, 20.0, 99.0]), jnp.full(3, True)
        ... )
        >>> combined = sx.margins.AdaFace(deviation=20.0).for_batch(target)
        >>> print(combined.m2, combined.m3)
        [ 0.12653367 -0.         -0.4       ] [0.27346632 0.4        0.8       ]

    References:
        Kim et al., `AdaFace <https://arxiv.org/abs/2204.00964>`_, CVPR 2022, Eqs. 12
        to 17; for a negative h, the authors' `issue 6
        <https://github.com/mk-minchul/AdaFace/issues/6>`_.
    """

    keeps_state = True

    margin: float | jax.Array = 0.4
    h: float | jax.Array = 0.333
    mean: float | jax.Array = 20.0
    deviation: float | jax.Array = 100.0
    rate: float | jax.Array = 0.01
    beyond: Beyond = static(default="continuous")
    axis_name: str | tuple[str, ...] | None = static(default=None)

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi / 2)
        store_real(self, "h", -math.inf)
        store_real(self, "mean", 0.0)
        store_real(self, "deviation", 0.0)
        store_real(self, "rate", 0.0, 1.0, is_closed=True)
        check_choice("AdaFace: beyond", self.beyond, ("continuous", "clamp", "pure"))

    def __call__(self, angle: jax.Array) -> jax.Array:
        """The margin of an embedding of average length."""
        return jnp.cos(angle) - self.margin

    def for_batch(self, target: Target, key: jax.Array | None = None) -> Combined:
        norm = jax.lax.stop_gradient(_clipped(target.norm))
        # The authors' 0.001 is part of the definition.
        quality = self.h * (norm - self.mean) / (self.deviation + 1e-3)
        quality = jnp.clip(quality, -1.0, 1.0)
        return Combined(
            m2=-self.margin * quality,
            m3=self.margin * (1.0 + quality),
            beyond=self.beyond,
        )

    def update(self, target: Target) -> Self:
        norm = _clipped(target.norm)
        count = batch_sum(jnp.ones_like(norm), target, self.axis_name)
        mean = batch_sum(norm, target, self.axis_name) / count
        squares = batch_sum((norm - mean) ** 2, target, self.axis_name)
        variance = divide(squares, count - 1.0)
        # One length has no deviation.
        deviation = jnp.where(count > 1.0, jnp.sqrt(variance), jnp.nan)
        return dataclasses.replace(
            self,
            mean=moved_average(self.mean, mean, self.rate),
            deviation=moved_average(self.deviation, deviation, self.rate),
        )


def _clipped(norm: jax.Array) -> jax.Array:
    return jnp.clip(norm, 1e-3, 100.0)
