"""Margins that differ by example: MagFace's by its length, ElasticFace's by lot."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_key
from sphax._hyperparameters import POSITIVE, register, static, store_real
from sphax.margins._additive import _BEYOND, ArcFace, Beyond, CosFace
from sphax.margins._margin import Margin, Target, check_choice


@register
class MagFace(Margin):
    r"""ArcFace with a margin that grows with the embedding's length (MagFace).

    With :math:`a = \operatorname{clip}(\|x\|, l_a, u_a)`,

    .. math::
        \psi(\theta) = \cos(\theta + m(a)), \qquad
        m(a) = l_m + (u_m - l_m) \frac{a - l_a}{u_a - l_a},

    and :math:`\lambda_g\, (a / u_a^2 + 1 / a)` is added to the loss of every example.
    The gradient flows through :math:`m(a)`; the length has none outside of
    :math:`[l_a, u_a]`. A length that minimises the loss exists for
    :math:`\lambda_g \ge s K u_a^2 l_a^2 / (u_a^2 - l_a^2)`, :math:`K` the slope of
    :math:`m`: 22.6 with the defaults and scale 64.

    Args:
        lower_norm: :math:`l_a`, positive.
        upper_norm: :math:`u_a`, above it.
        lower_margin: :math:`l_m` in radians, in ``[0, pi)``.
        upper_margin: :math:`u_m` in radians, in ``[0, pi)``.
        weight: :math:`\lambda_g`, not negative.
        beyond: As in :class:`ArcFace`; the authors' code has ``"easy"``.

    Raises:
        ValueError: If a hyperparameter, given as a number, or ``beyond`` is out of
            range.

    Example:
        >>> target = sx.margins.Target(
        ...     jnp.zeros(3), jnp.array([5.0, 60.0, 200.0]), jnp.full(3, True)
        ... )
        >>> print(sx.margins.MagFace().for_batch(target).margin)
        [0.45 0.625 0.8]

    References:
        Meng et al., `MagFace <https://arxiv.org/abs/2103.06627>`_, CVPR 2021, Eqs. 3
        and 5.
    """

    lower_norm: float | jax.Array = 10.0
    upper_norm: float | jax.Array = 110.0
    lower_margin: float | jax.Array = 0.45
    upper_margin: float | jax.Array = 0.8
    weight: float | jax.Array = 35.0
    beyond: Beyond = static(default="continuous")

    def __post_init__(self):
        store_real(self, "lower_norm", POSITIVE)
        is_number = isinstance(self.lower_norm, float)
        above = math.nextafter(self.lower_norm, math.inf) if is_number else 0.0
        store_real(self, "upper_norm", above)
        store_real(self, "lower_margin", 0.0, math.pi)
        store_real(self, "upper_margin", 0.0, math.pi)
        store_real(self, "weight", 0.0)
        check_choice(self, "beyond", _BEYOND)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`; for the shortest embeddings."""
        return ArcFace(margin=self.lower_margin, beyond=self.beyond)(angle)

    def for_batch(self, target: Target, key: jax.Array | None = None) -> ArcFace:
        """See :class:`Margin`."""
        share = (self._clipped(target.norm) - self.lower_norm) / (
            self.upper_norm - self.lower_norm
        )
        span = self.upper_margin - self.lower_margin
        return ArcFace(margin=self.lower_margin + span * share, beyond=self.beyond)

    def penalty(self, target: Target) -> jax.Array:
        """See :class:`Margin`."""
        norm = self._clipped(target.norm)
        return self.weight * (norm / self.upper_norm**2 + 1.0 / norm)

    def _clipped(self, norm: jax.Array) -> jax.Array:
        return jnp.clip(norm, self.lower_norm, self.upper_norm)


@register
class ElasticFace(Margin):
    r"""Margin drawn anew for every example (ElasticFace).

    :math:`m_i \sim N(m, \sigma^2)` in the place of ArcFace's margin, or of CosFace's.
    With ``ranked`` (ElasticFace+), the margins drawn are dealt out by rank: the
    farther an example is from its prototype, the larger its margin. (The published code
    deals them by the permutation that sorts, instead of by its inverse, which leaves
    next to no rank correlation between the two.)

    :func:`sphax.losses.margin_softmax` needs a ``key`` for it, another one in every
    step.

    ======================  ==========  =============  =============
    published               ``margin``  ``deviation``  ``ranked``
    ======================  ==========  =============  =============
    ElasticFace-Arc         0.5         0.05           no
    ElasticFace-Arc+        0.5         0.0175         yes
    ElasticFace-Cos         0.35        0.05           no
    ElasticFace-Cos+        0.35        0.02           yes
    ======================  ==========  =============  =============

    Args:
        margin: Mean :math:`m`, in radians for ``"arc"``, in ``[0, pi)``, a cosine for
            ``"cos"``, in ``[0, 2)``.
        deviation: :math:`\sigma`, not negative.
        kind: ``"arc"`` or ``"cos"``.
        ranked: Whether margins are dealt out by rank.
        beyond: As in :class:`ArcFace`, for ``"arc"``.

    Raises:
        ValueError: If a hyperparameter, given as a number, or a choice is out of range;
            from the loss, if there is no key.

    Example:
        >>> x, labels = jnp.eye(2), jnp.array([0, 1])
        >>> loss = sx.losses.margin_softmax(
        ...     x, x, labels, sx.margins.ElasticFace(), scale=1.0, key=jax.random.key(0)
        ... )

    References:
        Boutros et al., `ElasticFace <https://arxiv.org/abs/2109.09416>`_, CVPR
        Workshops 2022, Eqs. 4 to 6.
    """

    margin: float | jax.Array = 0.5
    deviation: float | jax.Array = 0.05
    kind: Literal["arc", "cos"] = static(default="arc")
    ranked: bool = static(default=False)
    beyond: Beyond = static(default="continuous")

    def __post_init__(self):
        check_choice(self, "kind", ("arc", "cos"))
        check_choice(self, "ranked", (True, False))
        check_choice(self, "beyond", _BEYOND)
        store_real(self, "margin", 0.0, math.pi if self.kind == "arc" else 2.0)
        store_real(self, "deviation", 0.0)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`; with the mean margin."""
        return self._with(self.margin)(angle)

    def for_batch(
        self, target: Target, key: jax.Array | None = None
    ) -> ArcFace | CosFace:
        """See :class:`Margin`."""
        if key is None:
            raise ValueError(
                "ElasticFace draws its margins: give the loss a key, another one in"
                " every step, such as key=jax.random.fold_in(key, step)."
            )
        check_key(key)
        noise = jax.random.normal(key, target.angle.shape, target.angle.dtype)
        if self.ranked:
            noise = _dealt_by_rank(noise, target)
        return self._with(self.margin + self.deviation * noise)

    def _with(self, margin: float | jax.Array) -> ArcFace | CosFace:
        if self.kind == "cos":
            return CosFace(margin=margin)
        return ArcFace(margin=margin, beyond=self.beyond)


def _dealt_by_rank(noise: jax.Array, target: Target) -> jax.Array:
    """The values of ``noise`` at kept examples, the largest for the largest angle."""

    def sorting(values):
        # Examples that are not kept come last, and get what is left over.
        return jnp.argsort(jnp.where(target.is_kept, values, jnp.inf).ravel())

    places = sorting(jax.lax.stop_gradient(target.angle))
    dealt = jnp.zeros_like(noise).ravel().at[places].set(noise.ravel()[sorting(noise)])
    return dealt.reshape(noise.shape)
