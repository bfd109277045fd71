"""Margins that add to the angle or subtract from the cosine."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._hyperparameters import POSITIVE, register, static, store_real
from sphax.margins._margin import Margin, arccos, check_choice

Beyond = Literal["continuous", "pure", "fallback", "clamp", "easy"]
_BEYOND = ("continuous", "pure", "fallback", "clamp", "easy")


@register
class CosFace(Margin):
    r"""Additive cosine margin: :math:`\psi(\theta) = \cos\theta - m` (CosFace).

    Its gradient is the plain cosine's: smooth everywhere, the safest of the margins.
    CosFace trains with scale 64, AM-Softmax with 30.

    Args:
        margin: :math:`m`, a cosine, in ``[0, 2)``.

    Raises:
        ValueError: If ``margin``, given as a number, is out of range.

    Example:
        >>> sx.margins.CosFace(margin=0.35)(jnp.array([0.0, jnp.pi]))
        Array([ 0.65, -1.35], dtype=float32)

    References:
        Wang et al., `CosFace <https://arxiv.org/abs/1801.09414>`_, CVPR 2018, Eq. 4;
        Wang et al., `AM-Softmax <https://arxiv.org/abs/1801.05599>`_, 2018.
    """

    margin: float | jax.Array = 0.35

    def __post_init__(self):
        store_real(self, "margin", 0.0, 2.0)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return jnp.cos(angle) - self.margin


@register
class Combined(Margin):
    r"""The three margins in one: :math:`\cos(m_1\theta + m_2) - m_3`.

    Published combinations are (1, 0.3, 0.2) and (0.9, 0.4, 0.15). From
    :math:`m_1\theta + m_2 = \pi` on the cosine would rise again, which ``beyond``
    decides:

    - ``"pure"``: it does, as published;
    - ``"continuous"``: :math:`\cos\theta` shifted to join, strictly decreasing;
    - ``"clamp"``: stays at :math:`-1 - m_3`, with zero gradient;
    - ``"fallback"``: :math:`\cos\theta - m_2 \sin m_2 - m_3`, with a jump down;
    - ``"easy"``: the formula holds where :math:`\theta < \pi/2`, plain
      :math:`\cos\theta` elsewhere, with a jump up.

    A negative :math:`m_2` turns below :math:`m_1\theta + m_2 = 0` as well, where
    ``"continuous"`` and ``"clamp"`` do the same and the others nothing.

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
        check_choice(self, "beyond", _BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        plain, moved = jnp.cos(angle), self.m1 * angle + self.m2
        psi = jnp.cos(moved) - self.m3
        if self.beyond == "pure":
            return psi
        if self.beyond == "easy":
            return jnp.where(angle < math.pi / 2, psi, plain)
        if self.beyond == "fallback":
            past = plain - self.m2 * jnp.sin(self.m2) - self.m3
            return jnp.where(moved < math.pi, psi, past)
        is_low = moved < 0.0
        past = jnp.where(is_low, 1.0, -1.0)
        if self.beyond == "continuous":
            turn = (jnp.where(is_low, 0.0, math.pi) - self.m2) / self.m1
            past = plain - jnp.cos(turn) + past
        return jnp.where(is_low | (moved >= math.pi), past - self.m3, psi)


@register
class ArcFace(Margin):
    r"""Additive angular margin: :math:`\psi(\theta) = \cos(\theta + m)` (ArcFace).

    The paper does not say what follows from :math:`\theta = \pi - m` on, where this
    cosine would rise again and push the embedding away. Five answers:

    - ``"continuous"``: :math:`\cos\theta - (1 - \cos m)`: joins, strictly decreasing,
      below the cosine (ours);
    - ``"pure"``: none, it rises (insightface's torch code);
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
        check_choice(self, "beyond", _BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return Combined(m2=self.margin, beyond=self.beyond)(angle)


@register
class LiArcFace(Margin):
    r"""Additive margin on logits that are linear in the angle (Li-ArcFace).

    .. math::
        \psi(\theta) = 1 - \frac{2(\theta + m)}{\pi}, \qquad
        \eta(\theta_j) = 1 - \frac{2 \theta_j}{\pi}.

    Decreasing on all of :math:`[0, \pi]` without a guard. The other classes' angles are
    taken from their cosines; their gradient is zero within 3e-4 (float32) of 0 and
    :math:`\pi`.

    Args:
        margin: :math:`m` in radians, in ``[0, pi)``.

    Raises:
        ValueError: If ``margin``, given as a number, is out of range.

    Example:
        >>> sx.margins.LiArcFace(margin=0.45)(jnp.array([0.0, jnp.pi]))
        Array([ 0.7135211, -1.286479 ], dtype=float32)

    References:
        Li et al., `AirFace <https://arxiv.org/abs/1907.12256>`_, 2019.
    """

    margin: float | jax.Array = 0.45

    def __post_init__(self):
        store_real(self, "margin", 0.0, math.pi)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return 1.0 - 2.0 * (angle + self.margin) / math.pi

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return 1.0 - 2.0 * arccos(cosines) / math.pi
