"""MV-Softmax: misclassified classes are emphasized."""

import jax
import jax.numpy as jnp

from sphax._checks import check_choice
from sphax._hyperparameters import register, static, store_real
from sphax.margins._composite import Composite
from sphax.margins._cosface import CosFace
from sphax.margins._margin import Margin, expand_last


@register
class MVSoftmax(Composite):
    r"""Raises the logits of misclassified classes (MV-Softmax).

    A class with a cosine :math:`c_j > \psi(\theta_y)` is misclassified under the
    margin. For it,

    .. math::
        \eta(c_j) = (t + 1) c_j + t \quad\text{(adaptive)}, \qquad
        \eta(c_j) = c_j + t \quad\text{(fixed)};

    all other classes are left to ``base``. ``MVSoftmax()`` is MV-AM-Softmax,
    ``MVSoftmax(ArcFace())`` MV-Arc-Softmax. (The authors' code has an option that
    drops ArcFace's margin from :math:`\pi/2` on: ``ArcFace(beyond="easy")``.)

    Args:
        base: :math:`\psi`, a margin; CosFace with 0.35 by default.
        t: How far they are raised, :math:`t`, not negative; 0 is ``base`` alone.
        adaptive: Whether harder classes are raised further.

    Raises:
        TypeError: If ``base`` is not a margin.
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
        super().__post_init__()
        store_real(self, "t", 0.0)
        check_choice("MVSoftmax: adaptive", self.adaptive, (True, False))

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        t = expand_last(self.t)
        raised = (t + 1.0) * cosines + t if self.adaptive else cosines + t
        is_hard = cosines > self.base(angle)[..., None]
        return jnp.where(is_hard, raised, self.base.negatives(cosines, angle))
