"""Margins that follow the training by a running state: CurricularFace, AdaFace.

The loss brings the state up to the batch before it is used, and returns it in
``aux.margin`` for the next step.
"""

import math
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register, static, store_real
from sphax._numerics import divide
from sphax.margins._additive import _BEYOND, Beyond, Combined
from sphax.margins._margin import Margin, Target, check_choice, per_row, replace


def _batch_sum(values: jax.Array, is_kept: jax.Array, axis_name: str | None):
    total = jnp.sum(values, where=is_kept)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def _running(old: jax.typing.ArrayLike, new: jax.Array, rate) -> jax.Array:
    """``old`` moved towards ``new``, without gradient; as it is if ``new`` is NaN."""
    # One bad batch would poison the state for good.
    step = jnp.where(jnp.isfinite(new), rate * (new - old), 0.0)
    return jax.lax.stop_gradient(jnp.asarray(old) + step)


@register
class CurricularFace(Margin):
    r"""ArcFace, with hard classes weighted more as training goes on (CurricularFace).

    .. math::
        \psi(\theta) = \cos(\theta + m), \qquad
        \eta(c_j) = c_j (t + c_j) \text{ where } c_j > \cos(\theta_y + m),
        \text{ else } c_j,

    with :math:`t \leftarrow 0.01\,\overline{\cos\theta_y} + 0.99\,t` over the batch,
    from 0 on, before it is used; the mean is over the examples that ``where`` keeps,
    whatever their weights. (The paper prints the two weights the other way round;
    the authors call it a misprint.) A small :math:`t` damps the hard classes, which it
    emphasises later.

    Args:
        margin: :math:`m` in radians, in ``[0, pi)``.
        t: Running state, a cosine, in ``[-1, 1]``.
        rate: Weight of the newest batch in :math:`t`, in ``[0, 1]``.
        beyond: As in :class:`ArcFace`; the authors' code falls back.
        axis_name: Of the devices over which :math:`t` is averaged under
            :func:`jax.shard_map` or :func:`jax.pmap`; under ``jit`` it is by itself.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``beyond`` is out of
            range.

    Example:
        >>> x, labels = jnp.eye(2), jnp.array([0, 1])
        >>> loss, aux = sx.losses.margin_softmax(
        ...     x, x, labels, sx.margins.CurricularFace(), has_aux=True
        ... )
        >>> print(aux.margin.t)
        0.01

    References:
        Huang et al., `CurricularFace <https://arxiv.org/abs/2004.00288>`_, CVPR 2020,
        Eqs. 7 to 10.
    """

    margin: float | jax.Array = 0.5
    t: float | jax.Array = 0.0
    rate: float | jax.Array = 0.01
    beyond: Beyond = static(default="fallback")
    axis_name: str | None = static(default=None)

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi)
        store_real(self, "t", -1.0, 1.0, is_closed=True)
        store_real(self, "rate", 0.0, 1.0, is_closed=True)
        check_choice(self, "beyond", _BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return Combined(m2=self.margin, beyond=self.beyond)(angle)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        is_hard = cosines > jnp.cos(angle + self.margin)[..., None]
        return jnp.where(is_hard, cosines * (per_row(self.t) + cosines), cosines)

    def update(self, target: Target) -> Self:
        """See :class:`Margin`."""
        total = partial(_batch_sum, is_kept=target.is_kept, axis_name=self.axis_name)
        mean = total(jnp.cos(target.angle)) / total(jnp.ones_like(target.angle))
        return replace(self, t=_running(self.t, mean, self.rate))


@register
class AdaFace(Margin):
    r"""Margin that follows the quality of an image, read off its length (AdaFace).

    .. math::
        \psi(\theta) = \cos(\theta - m \hat z) - m (1 + \hat z), \qquad
        \hat z = \operatorname{clip}\Big(h\,\frac{\|x\| - \mu}{\sigma + 10^{-3}},
        -1, 1\Big),

    with running mean :math:`\mu` and standard deviation :math:`\sigma` of the lengths,
    clipped to [0.001, 100], brought up to the batch before they are used, by the
    examples that ``where`` keeps, whatever their weights. No gradient passes through
    :math:`\hat z`. It is ArcFace for the shortest embeddings, CosFace
    for average ones, and puts the most weight on hard examples of the longest.

    Where :math:`\theta - m\hat z` leaves :math:`[0, \pi]` the cosine would turn back;
    ``beyond`` decides as in :class:`Combined`. The authors' code clamps.

    Args:
        margin: :math:`m`, in radians and as a cosine, in ``[0, pi/2)``.
        h: Concentration: how much a length that differs by :math:`\sigma` moves
            :math:`\hat z`. A negative one turns the order round, which the authors
            advise where longer embeddings are those of worse images.
        mean: Running state :math:`\mu`.
        deviation: Running state :math:`\sigma`, not negative.
        rate: Weight of the newest batch in the state, in ``[0, 1]``.
        beyond: ``"continuous"``, ``"clamp"`` or ``"pure"``.
        axis_name: Of the devices over which the statistics are taken under
            :func:`jax.shard_map` or :func:`jax.pmap`; under ``jit`` they are by
            themselves. A batch of one leaves :math:`\sigma` as it is.

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

    margin: float | jax.Array = 0.4
    h: float | jax.Array = 0.333
    mean: float | jax.Array = 20.0
    deviation: float | jax.Array = 100.0
    rate: float | jax.Array = 0.01
    beyond: Beyond = static(default="continuous")
    axis_name: str | None = static(default=None)

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi / 2)
        store_real(self, "h", -math.inf)
        store_real(self, "mean", 0.0)
        store_real(self, "deviation", 0.0)
        store_real(self, "rate", 0.0, 1.0, is_closed=True)
        check_choice(self, "beyond", ("continuous", "clamp", "pure"))

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`; for an embedding of average length."""
        return jnp.cos(angle) - self.margin

    def for_batch(self, target: Target, key: jax.Array | None = None) -> Combined:
        """See :class:`Margin`."""
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
        """See :class:`Margin`."""
        norm = _clipped(target.norm)
        total = partial(_batch_sum, is_kept=target.is_kept, axis_name=self.axis_name)
        count = total(jnp.ones_like(norm))
        mean = total(norm) / count
        variance = divide(total((norm - mean) ** 2), count - 1.0)
        # Of one length there is no deviation.
        deviation = jnp.where(count > 1.0, jnp.sqrt(variance), jnp.nan)
        return replace(
            self,
            mean=_running(self.mean, mean, self.rate),
            deviation=_running(self.deviation, deviation, self.rate),
        )


def _clipped(norm: jax.Array) -> jax.Array:
    return jnp.clip(norm, 1e-3, 100.0)
