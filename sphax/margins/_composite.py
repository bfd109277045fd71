"""Margins around another one, which keeps its psi and has the other classes edited."""

from typing import Self

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register, static, store_real
from sphax.margins._additive import CosFace
from sphax.margins._margin import Margin, Target, per_row, replace


class Composite(Margin):
    """A margin that leaves all but :meth:`negatives` to its ``base``."""

    base: Margin

    def __call__(self, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        return self.base(angle)

    def for_batch(self, target: Target, key: jax.Array | None = None) -> Self:
        """See :class:`Margin`."""
        return replace(self, base=self.base.for_batch(target, key))

    def penalty(self, target: Target) -> jax.typing.ArrayLike:
        """See :class:`Margin`."""
        return self.base.penalty(target)

    def update(self, target: Target) -> Self:
        """See :class:`Margin`."""
        return replace(self, base=self.base.update(target))

    @property
    def keeps_state(self) -> bool:
        """See :class:`Margin`."""
        return self.base.keeps_state


def check_base(margin: Composite) -> None:
    """Raises if ``base`` is something else than a margin that a user may pass."""
    base = margin.base
    if not isinstance(base, Margin) and (
        callable(base) or isinstance(base, (int, float, str))
    ):
        raise TypeError(
            f"{type(margin).__name__}: base must be a sphax.margins.Margin, such as"
            f" ArcFace(), got {base!r}."
        )


@register
class MVSoftmax(Composite):
    r"""Lifts the classes that the target does not beat by its margin (MV-Softmax).

    Where a class has a cosine :math:`c_j > \psi(\theta_y)`, it is mis-classified under
    the margin, and

    .. math::
        \eta(c_j) = (t + 1) c_j + t \quad\text{(adaptive)}, \qquad
        \eta(c_j) = c_j + t \quad\text{(fixed)};

    the other classes are as ``base`` has them. ``MVSoftmax()`` is MV-AM-Softmax,
    ``MVSoftmax(ArcFace())`` MV-Arc-Softmax. (The authors' code has an option that
    drops ArcFace's margin from :math:`\pi/2` on: ``ArcFace(beyond="easy")``.)

    Args:
        base: :math:`\psi`, a margin; CosFace with 0.35 by default.
        t: Lift :math:`t`, not negative; 0 is ``base`` alone.
        adaptive: Whether harder classes are lifted further.

    Raises:
        TypeError: If ``base`` is no margin.
        ValueError: If ``t``, given as a number, is negative.

    Example:
        >>> margin = sx.margins.MVSoftmax(t=0.2)
        >>> margin.negatives(jnp.array([[0.4, 0.7]]), jnp.array([0.5]))  # psi 0.5276
        Array([[0.4 , 1.04]], dtype=float32)

    References:
        Wang et al., `Mis-classified Vector Guided Softmax Loss
        <https://arxiv.org/abs/1912.00833>`_, AAAI 2020, Eqs. 7 to 9.
    """

    base: Margin = CosFace()
    t: float | jax.Array = 0.2
    adaptive: bool = static(default=True)

    def __post_init__(self):
        check_base(self)
        store_real(self, "t", 0.0)
        check_choice("MVSoftmax: adaptive", self.adaptive, (True, False))

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        t = per_row(self.t)
        lifted = (t + 1.0) * cosines + t if self.adaptive else cosines + t
        is_hard = cosines > self.base(angle)[..., None]
        return jnp.where(is_hard, lifted, self.base.negatives(cosines, angle))


@register
class InterClassFilter(Composite):
    r"""Takes the classes that are too close out of the loss (inter-class filtering).

    A class with :math:`c_j > \tau` is likely the target's own under another label, or
    the label is wrong: its cosine counts as 0, with zero gradient. (With
    ``gradient="detached"``, which replaces every slope by the plain cosine's, a
    vanishing one of weight :math:`e^0` is left.)

    Args:
        base: The margin around which it is put.
        threshold: Cosine :math:`\tau`, in ``[-1, 1]``; 1 takes nothing out.

    Raises:
        TypeError: If ``base`` is no margin.
        ValueError: If ``threshold``, given as a number, is out of range.

    Example:
        >>> margin = sx.margins.InterClassFilter(sx.margins.ArcFace(), threshold=0.4)
        >>> margin.negatives(jnp.array([[0.3, 0.5, -0.9]]), jnp.array([0.5]))
        Array([[ 0.3,  0. , -0.9]], dtype=float32)

    References:
        An et al., `Killing Two Birds with One Stone: Partial FC
        <https://arxiv.org/abs/2203.15565>`_, CVPR 2022, authors' code.
    """

    base: Margin
    threshold: float | jax.Array = 0.4

    def __post_init__(self):
        check_base(self)
        store_real(self, "threshold", -1.0, 1.0, is_closed=True)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        """See :class:`Margin`."""
        is_close = cosines > per_row(self.threshold)
        return jnp.where(is_close, 0.0, self.base.negatives(cosines, angle))
