"""Rescaling of columns that bounds the largest singular value by 1."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_dimensions
from sphax._compiled import compiled
from sphax._linalg import largest_entry, product
from sphax._numerics import divide, safe_sqrt, widen


def almost_orthogonal(matrix: ArrayLike) -> jax.Array:
    r"""Rescales columns so that no vector gets longer (AOL).

    .. math::
        W' = W \operatorname{diag}(d), \qquad
        d_j = \Bigl( \sum_i |W^\top W|_{ij} \Bigr)^{-1/2}, \qquad \|W'\|_2 \le 1,

    since :math:`I - W'^\top W'` is diagonally dominant after a change of basis.
    Orthogonal columns become orthonormal; others become shorter than that. The result
    depends neither on the lengths of :math:`W` nor on the dimensions, and costs one
    product. It bounds lengths, and does not keep them: :func:`lowdin` does.

    Args:
        matrix: :math:`W`, floating, ``[..., m, n]``. For a kernel ``[inputs, outputs]``
            in Flax layout, the authors rescale the columns of its transpose.

    Returns:
        Shape and dtype of ``matrix``, computed in float32 at least. A zero column stays
        zero, with zero gradient.

    Raises:
        TypeError: If ``matrix`` is not floating.
        ValueError: If ``matrix`` is not ``[..., m, n]``.

    Example:
        >>> sx.orthogonal.almost_orthogonal(jnp.array([[3.0, 0.0], [0.0, 0.5]]))
        Array([[1., 0.],
               [0., 1.]], dtype=float32)

    References:
        Prach, Lampert, `Almost-Orthogonal Layers for Efficient General-Purpose
        Lipschitz Networks <https://arxiv.org/abs/2208.03160>`_, ECCV 2022, Theorem 1.
    """
    matrix = as_floating("matrix", matrix)
    if matrix.ndim < 2:
        raise ValueError(f"matrix must be [..., m, n], got shape {matrix.shape}.")
    check_dimensions("matrix", matrix)
    return _almost_orthogonal(matrix)


@compiled()
def _almost_orthogonal(matrix: jax.Array) -> jax.Array:
    wide = widen(matrix)
    unit = wide / largest_entry(wide)
    sums = jnp.sum(_magnitude(product(unit.mT, unit)), axis=-2, keepdims=True)
    return divide(unit, safe_sqrt(sums)).astype(matrix.dtype)


def almost_orthogonal_kernel(kernel: ArrayLike) -> jax.Array:
    r"""Rescales the kernel of a convolution so that no image gets longer (AOL).

    The columns of the matrix of a convolution are the shifts of the kernel of one input
    channel, so that one factor for each channel is enough:

    .. math::
        d_c = \Bigl( \sum_{s, c'} \Bigl| \sum_{t, o} K_{t, c', o} K_{t + s, c, o}
        \Bigr| \Bigr)^{-1/2}

    with shifts :math:`s` and taps :math:`t` of the window. The bound of 1 holds for any
    size of the images, any stride or dilation, with zeros around the images and with
    images continued periodically.

    Args:
        kernel: :math:`K`, floating, ``[*window, channels, filters]``, one to three axes
            of the window.

    Returns:
        Shape and dtype of ``kernel``, computed in float32 at least. The kernel of a
        channel that is zero stays zero, with zero gradient.

    Raises:
        TypeError: If ``kernel`` is not floating.
        ValueError: If ``kernel`` has another rank, or an axis is empty.

    Example:
        >>> kernel = jnp.array([3.0, 4.0]).reshape(2, 1, 1)
        >>> sx.orthogonal.almost_orthogonal_kernel(kernel).ravel()
        Array([0.42857146, 0.5714286 ], dtype=float32)

    References:
        Prach, Lampert, `Almost-Orthogonal Layers for Efficient General-Purpose
        Lipschitz Networks <https://arxiv.org/abs/2208.03160>`_, ECCV 2022, Theorem 2.
    """
    kernel = as_floating("kernel", kernel)
    if not 3 <= kernel.ndim <= 5 or 0 in kernel.shape:
        raise ValueError(
            "kernel must be [*window, channels, filters] with one to three axes of the"
            f" window, none of them empty, got shape {kernel.shape}."
        )
    return _almost_orthogonal_kernel(kernel)


@compiled()
def _almost_orthogonal_kernel(kernel: jax.Array) -> jax.Array:
    wide = widen(kernel)
    unit = wide / jnp.max(largest_entry(wide))
    rank = kernel.ndim - 2
    space = "DHW"[-rank:]
    overlaps = lax.conv_general_dilated(
        jnp.moveaxis(unit, -2, 0),
        unit,
        (1,) * rank,
        [(size - 1, size - 1) for size in kernel.shape[:rank]],
        dimension_numbers=(f"N{space}C", f"{space}OI", f"N{space}C"),
        precision="highest",
    )
    sums = jnp.sum(_magnitude(overlaps), axis=tuple(range(rank + 1)))
    factors = jnp.expand_dims(safe_sqrt(sums), (*range(rank), rank + 1))
    return divide(unit, factors).astype(kernel.dtype)


def _magnitude(x: jax.Array) -> jax.Array:
    # With zero gradient at 0, where that of `jnp.abs` is 1.
    return x * lax.stop_gradient(jnp.sign(x))
