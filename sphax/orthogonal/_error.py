"""Distance of the columns of a matrix from orthonormal ones."""

import jax
from jax.typing import ArrayLike

from sphax._compiled import compiled
from sphax._linalg import as_tall, entries, identity_like, product
from sphax._numerics import widen
from sphax.sphere import length


def orthogonality_error(q: ArrayLike) -> jax.Array:
    r"""Distance of the Gram matrix of the columns from the identity.

    :math:`\|Q^\top Q - I\|_F`. Matrices made by the maps of this package have less than
    :math:`2 \cdot 10^{-6} \sqrt n` in float32, and about
    :math:`2 \cdot 10^{-3} \sqrt n` when rounded to bfloat16.

    Args:
        q: Floating, ``[..., m, n]`` with :math:`m \ge n`.

    Returns:
        The distance, ``[...]``, in float32 at least; where it is 0, its gradient is
        zero too.

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
    return length(entries(gram - identity_like(gram)))
