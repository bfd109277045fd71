"""ArcFace: a margin added to the angle; and the three margins combined."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import POSITIVE, register, static, store_real
from sphax.margins._margin import Margin

Beyond = Literal["continuous", "pure", "fallback", "clamp", "easy"]
BEYOND = ("continuous", "pure", "fallback", "clamp", "easy")


@register
class ArcFace(Margin):
    r"""Additive angular margin: :math:`\psi(\theta) = \cos(\theta + m)` (ArcFace).

    From :math:`\theta = \pi - m` on this cosine would rise again and push the embedding
    away. The paper does not say what to do there; implementations differ:

    - ``"continuous"``: :math:`\cos\theta - (1 - \cos m)`, which joins, is strictly
      decreasing and below the cosine (our default);
    - ``"pure"``: the formula as it is, which rises (insightface's torch code);
    - ``"fallback"``: :math:`\cos\theta - m \sin m`, with a jump down (the authors'
      code);
    - ``"clamp"``: -1, with zero gradient (opensphere);
    - ``"easy"``: margin only where :math:`\theta < \pi/2`, plain :math:`\cos\theta`
      elsewhere, with a jump up (MagFace's default).

    Args:
        margin: :math:`m` in radians, in ``[0, pi)``. (Some libraries want degrees.)
        beyond: One of the five above.

    Raises:
        ValueError: If ``margin``, given as a number, or ``beyond`` is out of range.

    Example:
        >>> sx.margins.ArcFace(margin=0.5)(jnp.array([0.0, jnp.pi - 0.5, jnp.pi]))
        Array([ 0.87758255, -1.        , -1.1224174 ], dtype=float32)

    References:
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Eq. 3.
    """

    margin: float | jax.Array = 0.5
    beyond: Beyond = static(default="continuous")

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi)
        check_choice("ArcFace: beyond", self.beyond, BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        return combined_psi(angle, 1.0, self.margin, 0.0, self.beyond)


@register
class Combined(Margin):
    r"""The three margins combined: :math:`\cos(m_1\theta + m_2) - m_3`.

    Published combinations are (1, 0.3, 0.2) and (0.9, 0.4, 0.15). From
    :math:`m_1\theta + m_2 = \pi` on the cosine would rise again; ``beyond`` says what
    to do there:

    - ``"pure"``: the formula as it is, which rises, as published;
    - ``"continuous"``: :math:`\cos\theta` shifted to join, strictly decreasing;
    - ``"clamp"``: stays at :math:`-1 - m_3`, with zero gradient;
    - ``"fallback"``: :math:`\cos\theta - m_2 \sin m_2 - m_3`, with a jump down;
    - ``"easy"``: the formula holds where :math:`\theta < \pi/2`, plain
      :math:`\cos\theta` elsewhere, with a jump up.

    With a negative :math:`m_2` the cosine falls again below
    :math:`m_1\theta + m_2 = 0`, where ``"continuous"`` and ``"clamp"`` act likewise and
    the others do not act.

    Args:
        m1: Factor of the angle, positive.
        m2: Angle added, in radians, in ``[-pi, pi)``.
        m3: Cosine subtracted, in ``[0, 2)``.
        beyond: One of the five above.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``beyond`` is out of
            range.

    Example:
        >>> combined = sx.margins.Combined(m1=1.0, m2=0.3, m3=0.2)
        >>> combined(jnp.arccos(jnp.array([0.8])))
        Array([0.38696], dtype=float32)

    References:
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, Eq. 4.
    """

    m1: float | jax.Array = 1.0
    m2: float | jax.Array = 0.0
    m3: float | jax.Array = 0.0
    beyond: Beyond = static(default="pure")

    def __post_init__(self):
        store_real(self, "m1", POSITIVE)
        store_real(self, "m2", -math.pi, math.pi)
        store_real(self, "m3", 0.0, 2.0)
        check_choice("Combined: beyond", self.beyond, BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        return combined_psi(angle, self.m1, self.m2, self.m3, self.beyond)


def combined_psi(
    angle: jax.Array,
    m1: jax.typing.ArrayLike,
    m2: jax.typing.ArrayLike,
    m3: jax.typing.ArrayLike,
    beyond: Beyond,
) -> jax.Array:
    """The modified cosine of :class:`Combined`, shared by its special cases."""
    cosine, moved = jnp.cos(angle), m1 * angle + m2
    psi = jnp.cos(moved) - m3
    if beyond == "pure":
        return psi
    if beyond == "easy":
        return jnp.where(angle < math.pi / 2, psi, cosine)
    if beyond == "fallback":
        past = cosine - m2 * jnp.sin(m2) - m3
        return jnp.where(moved < math.pi, psi, past)
    is_low = moved < 0.0
    past = jnp.where(is_low, 1.0, -1.0)
    if beyond == "continuous":
        end = (jnp.where(is_low, 0.0, math.pi) - m2) / m1  # the angle where it leaves
        past = cosine - jnp.cos(end) + past
    return jnp.where(is_low | (moved >= math.pi), past - m3, psi)
