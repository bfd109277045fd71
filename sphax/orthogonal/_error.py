"""How far columns are from orthonormal."""

import jax
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.orthogonal._matrices import (
    as_tall,
    frobenius_norm,
    identity_like,
    product,
)


def orthogonality_error(q: ArrayLike) -> jax.Array:
    r"""Distance of the Gram matrix of the columns from the identity.

    :math:`\|Q^\top Q - I\|_F`. In float32 the maps of this package are below
    :math:`2 \cdot 10^{-6} \sqrt n`; rounding their results to bfloat16 leaves about
    :math:`2 \cdot 10^{-3} \sqrt n`.

    Args:
        q: Floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        The distance, ``[...]``, in float32 at least; its gradient is zero where the
        distance is.

    Raises:
        TypeError: If ``q`` is not floating.
        ValueError: If ``q`` is not ``[..., m, n]`` with ``m >= n``.

    Example:
        >>> sx.orthogonal.orthogonality_error(2.0 * jnp.eye(4))
        Array(6., dtype=float32)
    """
    return _orthogonality_error(as_tall("q", q))


@compiled()
def _orthogonality_error(q):
    columns = widen(q)
    gram = product(columns.mT, columns)
    return frobenius_norm(gram - identity_like(gram))
