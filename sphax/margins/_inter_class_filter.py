"""The inter-class filter of Partial FC: classes that are too close do not count."""

import jax
import jax.numpy as jnp

from sphax._hyperparameters import register, store_real
from sphax.margins._composite import Composite
from sphax.margins._margin import Margin, expand_last


@register
class InterClassFilter(Composite):
    r"""Filters classes that are too close out of the loss (inter-class filtering).

    A class with :math:`c_j > \tau` is likely the target's under another label, or the
    label is wrong: its cosine counts as 0, with zero gradient. (With
    ``gradient="detached"`` a filtered class keeps a negligible gradient.)

    Args:
        base: The margin that is wrapped.
        threshold: Cosine :math:`\tau`, in ``[-1, 1]``; 1 filters nothing.

    Raises:
        TypeError: If ``base`` is not a margin.
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
        super().__post_init__()
        store_real(self, "threshold", -1.0, 1.0, is_closed=True)

    def negatives(self, cosines: jax.Array, angle: jax.Array) -> jax.Array:
        is_close = cosines > expand_last(self.threshold)
        return jnp.where(is_close, 0.0, self.base.negatives(cosines, angle))
