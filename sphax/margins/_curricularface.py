"""CurricularFace: hard classes count more as training goes on."""

import dataclasses
import math
from typing import Self

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register, static, store_real
from sphax.margins._arcface import BEYOND, Beyond, combined_psi
from sphax.margins._margin import Margin, Target, expand_last
from sphax.margins._running import batch_sum, moved_average


@register
class CurricularFace(Margin):
    r"""ArcFace, with hard classes weighted more as training goes on (CurricularFace).

    .. math::
        \psi(\theta) = \cos(\theta + m), \qquad
        \eta(c_j) = c_j (t + c_j) \text{ where } c_j > \cos(\theta_y + m),
        \text{ else } c_j,

    with :math:`t \leftarrow 0.01\,\overline{\cos\theta_y} + 0.99\,t`, which starts at 0
    and is updated by every batch before it is used; the mean is over the examples that
    ``where`` keeps, whatever their weights. (The paper prints the two weights the other
    way round; the authors call it a misprint.) Hard classes are damped while :math:`t`
    is small, and emphasized later.

    Args:
        margin: :math:`m` in radians, in ``[0, pi)``.
        t: Running state, a cosine, in ``[-1, 1]``.
        rate: Weight of the newest batch in :math:`t`, in ``[0, 1]``.
        beyond: One of the five of :class:`ArcFace`; the authors' code has
            ``"fallback"``.
        axis_name: Name of the mesh axis, or names, over which :math:`t` is averaged
            under :func:`jax.shard_map` or :func:`jax.pmap`; ``jit`` needs none.

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

    modifies_negatives = True
    keeps_state = True

    margin: float | jax.Array = 0.5
    t: float | jax.Array = 0.0
    rate: float | jax.Array = 0.01
    beyond: Beyond = static(default="fallback")
    axis_name: str | tuple[str, ...] | None = static(default=None)

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi)
        store_real(self, "t", -1.0, 1.0, is_closed=True)
        store_real(self, "rate", 0.0, 1.0, is_closed=True)
        check_choice("CurricularFace: beyond", self.beyond, BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        return combined_psi(angle, 1.0, self.margin, 0.0, self.beyond)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        is_hard = cosines > jnp.cos(angle + self.margin)[..., None]
        return jnp.where(is_hard, cosines * (expand_last(self.t) + cosines), cosines)

    def update(self, target: Target) -> Self:
        cosine = batch_sum(jnp.cos(target.angle), target, self.axis_name)
        count = batch_sum(jnp.ones_like(target.angle), target, self.axis_name)
        t = moved_average(self.t, cosine / count, self.rate)
        return dataclasses.replace(self, t=t)
