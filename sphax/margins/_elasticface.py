"""ElasticFace: a random margin for every example."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_key
from sphax._hyperparameters import register, static, store_real
from sphax.margins._arcface import BEYOND, ArcFace, Beyond, combined_psi
from sphax.margins._cosface import CosFace
from sphax.margins._margin import Margin, Target


@register
class ElasticFace(Margin):
    r"""A margin drawn at random for every example (ElasticFace).

    :math:`m_i \sim N(m, \sigma^2)` replaces the margin of ArcFace, or of CosFace.
    With ``ranked`` (ElasticFace+), the margins are assigned by rank: the farther an
    example is from its prototype, the larger its margin. (The published code assigns
    them by the permutation that sorts, instead of its inverse, which leaves next to no
    rank correlation between the two.)

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
        ranked: Whether margins are assigned by rank.
        beyond: One of the five of :class:`ArcFace`, for ``"arc"``.

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
        check_choice("ElasticFace: kind", self.kind, ("arc", "cos"))
        check_choice("ElasticFace: ranked", self.ranked, (True, False))
        check_choice("ElasticFace: beyond", self.beyond, BEYOND)
        store_real(self, "margin", 0.0, math.pi if self.kind == "arc" else 2.0)
        store_real(self, "deviation", 0.0)

    def __call__(self, angle: jax.Array) -> jax.Array:
        """The mean margin."""
        if self.kind == "cos":
            return jnp.cos(angle) - self.margin
        return combined_psi(angle, 1.0, self.margin, 0.0, self.beyond)

    def for_batch(
        self, target: Target, key: jax.Array | None = None
    ) -> ArcFace | CosFace:
        if key is None:
            raise ValueError(
                "ElasticFace draws its margins: give the loss a key, another one in"
                " every step, such as key=jax.random.fold_in(key, step)."
            )
        check_key(key)
        noise = jax.random.normal(key, target.angle.shape, target.angle.dtype)
        if self.ranked:
            noise = _assigned_by_rank(noise, target)
        margin = self.margin + self.deviation * noise
        if self.kind == "cos":
            return CosFace(margin=margin)
        return ArcFace(margin=margin, beyond=self.beyond)


def _assigned_by_rank(noise: jax.Array, target: Target) -> jax.Array:
    """``noise``, permuted so that it grows with the angle over the kept examples."""

    def sorting(values):
        # Examples that are not kept come last, and get the values left over.
        return jnp.argsort(jnp.where(target.is_kept, values, jnp.inf).ravel())

    places = sorting(jax.lax.stop_gradient(target.angle))
    assigned = (
        jnp.zeros_like(noise).ravel().at[places].set(noise.ravel()[sorting(noise)])
    )
    return assigned.reshape(noise.shape)
