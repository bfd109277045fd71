"""GA-softmax: a multiplicative margin on any function of the angle."""

import jax

from sphax._hyperparameters import register, store_real
from sphax._numerics import sin2_noise_floor
from sphax.margins._margin import Margin, expand_last
from sphax.operators import Angular, Cosine


@register
class GeneralizedAngular(Margin):
    r"""Multiplicative margin on an angular function (generalized angular softmax).

    .. math:: \psi(\theta) = g(m\theta), \qquad \eta(\theta_j) = g(\theta_j)

    with g one of :mod:`sphax.operators`, continued beyond :math:`\pi` so that it keeps
    falling: :class:`~sphax.operators.LinearAngle` and
    :class:`~sphax.operators.Sigmoid` by their formulas,
    :class:`~sphax.operators.Cosine` and :class:`~sphax.operators.SquareCosine` by 2 in
    every further :math:`\pi`, in copies of the first piece. With the cosine it is
    :class:`SphereFace`; with :math:`m = 1` the softmax of the angular function, which
    for the cosine is the weight-normalized one. The paper trains with
    ``normalize="prototypes"``.

    The sigmoid levels off: beyond :math:`m\theta = \pi / 2 + 10k` an example has next
    to no gradient. The angles of the other classes are taken from their cosines; unless
    g is the cosine, their gradient is zero within 3e-4 (float32) of 0 and :math:`\pi`.

    Args:
        m: Factor of the angle, at least 1; 1 is no margin.
        angular: g.

    Raises:
        TypeError: If ``angular`` is not an ``Angular``.
        ValueError: If ``m``, given as a number, is out of range.

    Example:
        >>> linear = sx.operators.LinearAngle()
        >>> margin = sx.margins.GeneralizedAngular(m=4, angular=linear)
        >>> margin(jnp.array([0.0, jnp.pi / 4, jnp.pi]))
        Array([ 1., -1., -7.], dtype=float32)

    References:
        Liu et al., `Deep Hyperspherical Learning <https://arxiv.org/abs/1711.03189>`_,
        NeurIPS 2017, Section 3.
    """

    m: float | jax.Array = 4.0
    angular: Angular = Cosine()

    def __post_init__(self):
        store_real(self, "m", 1.0)
        angular = self.angular
        # Anything else may be a placeholder of a pytree transformation.
        if not isinstance(angular, Angular) and (
            callable(angular) or isinstance(angular, (int, float, str))
        ):
            raise TypeError(
                "GeneralizedAngular: angular must be a sphax.operators.Angular, such as"
                f" LinearAngle(), got {angular!r}."
            )

    def __call__(self, angle: jax.Array) -> jax.Array:
        return self.angular.extended(self.m * angle)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        angular = jax.tree.map(expand_last, self.angular)
        return angular.of_cosine(cosines, sin2_noise_floor(cosines.dtype))

    @property
    def modifies_negatives(self) -> bool:
        return not isinstance(self.angular, Cosine)
