"""Convolution of periodic images by orthogonal matrices, one for each frequency."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sphax._checks import as_array, as_floating
from sphax._compiled import compiled
from sphax._linalg import identity_like, invert, product
from sphax._numerics import widen
from sphax.operators._convolution import check_window_rank
from sphax.operators._decoupled import as_operands


def cayley_convolution(inputs: ArrayLike, kernel: ArrayLike) -> jax.Array:
    r"""Convolution of periodic images that keeps lengths (Cayley layer).

    Fourier transforms turn a convolution of images that continue periodically into a
    product with one matrix :math:`A_f` for each frequency. Here, that matrix is
    replaced by the orthogonal one of Cayley's map,

    .. math::
        Q_f = (I + S_f)^{-1} (I - S_f), \qquad S_f = A_f - A_f^\mathsf{H}.

    With more filters than channels, :math:`A_f` is the upper square of the matrix,
    :math:`B_f` is the rest of it, and with
    :math:`S_f = A_f - A_f^\mathsf{H} + B_f^\mathsf{H} B_f`

    .. math::
        Q_f = \begin{pmatrix} I - S_f \\ -2 B_f \end{pmatrix} (I + S_f)^{-1},

    which has orthonormal columns: lengths are kept. With fewer filters than channels it
    is the transpose of that, and the map is an orthogonal projection followed by a
    rotation: no length grows.

    The window of the result is the whole image, and depends on its size. It is exact
    for any kernel, unlike the series of :func:`skew_convolution`, and takes an inverse
    of a complex matrix for half of the frequencies. For fixed kernels, compute these
    matrices once with :func:`cayley_response`.

    Args:
        inputs: Floating, ``[..., *space, channels]``, one to three axes of space.
        kernel: Dtype of ``inputs``, ``[*window, channels, filters]``.

    Returns:
        ``[..., *space, filters]``, dtype of ``inputs``, computed in float32 at least.

    Raises:
        TypeError: If ``inputs`` is not floating, or ``kernel`` has another dtype.
        ValueError: If shapes do not fit.

    Example:
        >>> x = jnp.array([[3.0, 4.0], [12.0, 0.0]])
        >>> kernel = jnp.array([[[2.0, 5.0, 1.0], [0.0, 3.0, 1.0]]])
        >>> jnp.linalg.norm(sx.operators.cayley_convolution(x, kernel))
        Array(13., dtype=float32)

    References:
        Trockman, Kolter, `Orthogonalizing Convolutional Layers with the Cayley
        Transform <https://arxiv.org/abs/2104.07167>`_, ICLR 2021.
    """
    inputs, kernel = as_operands(inputs, kernel)
    rank = check_window_rank(kernel)
    space = _space_of(inputs, rank, kernel.shape[-2])
    return _fourier_convolution(inputs, cayley_response(kernel, space))


def cayley_response(kernel: ArrayLike, space: Sequence[int]) -> jax.Array:
    """The matrices by which :func:`cayley_convolution` multiplies each frequency.

    Args:
        kernel: Floating, ``[*window, channels, filters]``.
        space: Sizes of the images, one for each axis of the window.

    Returns:
        Matrices ``[*space[:-1], space[-1] // 2 + 1, channels, filters]`` for
        :func:`fourier_convolution`, complex64, or complex128 for a kernel in float64.
        Those of the other frequencies are their conjugates. Their rows are orthonormal,
        or their columns if there are more channels than filters. Where the kernel is so
        large that float32 would lose the digits of small angles (a bound on its
        singular values above 4e4, or 200 if there are not as many filters as channels),
        it is scaled down to that bound.

    Raises:
        TypeError: If ``kernel`` is not floating.
        ValueError: If ``kernel`` is not ``[*window, channels, filters]`` with one to
            three axes of the window, or ``space`` has not as many positive integers.

    Example:
        >>> kernel = jnp.array([[[0.0, 1.0], [0.0, 0.0]]])
        >>> sx.operators.cayley_response(kernel, (2,))[0].real
        Array([[ 0., -1.],
               [ 1.,  0.]], dtype=float32)
    """
    kernel = as_floating("kernel", kernel)
    rank, space = check_window_rank(kernel), tuple(space)
    if len(space) != rank or any(size < 1 for size in space) or 0 in kernel.shape:
        raise ValueError(
            f"space must have {rank} positive integers, one for each axis of the window"
            f" of kernel, which must not be empty, got {space} and {kernel.shape}."
        )
    return _cayley_response(kernel, space=space)


@compiled("space")
def _cayley_response(kernel: jax.Array, *, space: tuple[int, ...]) -> jax.Array:
    # Where two Newton-Schulz steps still remove all rounding errors of the inverse, as
    # in `sphax.orthogonal.cayley`. B enters squared.
    wide = widen(kernel)
    is_square = kernel.shape[-2] == kernel.shape[-1]
    limit = (0.25 * float(jnp.finfo(wide.dtype).eps) ** -0.75) ** (
        1.0 if is_square else 0.5
    )
    response = _at_frequencies(wide * _factor_within(wide, limit), space)
    # Acting on columns of channels, with at least as many rows as columns.
    is_wide = kernel.shape[-2] > kernel.shape[-1]
    matrices = response if is_wide else response.mT
    upper, lower = jnp.split(matrices, [matrices.shape[-1]], axis=-2)
    skew = upper - upper.conj().mT + product(lower.conj().mT, lower)
    inverse = invert(identity_like(skew) + skew)
    q = jnp.concatenate(
        [2.0 * inverse - identity_like(skew), -2.0 * product(lower, inverse)], axis=-2
    )
    # Newton-Schulz steps remove rounding errors, which have no derivative.
    better = fixed = jax.lax.stop_gradient(q)
    for _ in range(2):
        gram = product(better.conj().mT, better)
        better = better + product(better, (identity_like(gram) - gram) / 2.0)
    q = q + (better - fixed)
    return q if is_wide else q.mT


def _factor_within(kernel: jax.Array, limit: float) -> jax.Array:
    """Factor that brings a bound on all matrices of a kernel down to ``limit``."""
    size = jnp.max(jnp.abs(kernel))
    entries = jnp.abs(kernel) / jnp.where(size == 0.0, 1.0, size)
    window = tuple(range(kernel.ndim - 2))
    sums = [jnp.max(jnp.sum(entries, (*window, axis))) for axis in (-2, -1)]
    # Of two factors, since the bound itself may overflow.
    bound = jnp.maximum(jnp.sqrt(sums[0] * sums[1]), 1.0)
    within = limit / bound / jnp.where(size == 0.0, 1.0, size)
    return jax.lax.stop_gradient(jnp.minimum(1.0, within))


def _at_frequencies(kernel: jax.Array, space: tuple[int, ...]) -> jax.Array:
    """The Fourier transform of a kernel that is correlated with images of a size."""
    response = kernel.astype(jnp.result_type(kernel.dtype, jnp.complex64))
    for axis, size in enumerate(space):
        frequencies = size // 2 + 1 if axis == len(space) - 1 else size
        taps = kernel.shape[axis]
        # As many entries before a pixel as behind it; one more behind if even.
        shifts = np.arange(taps) - (taps - 1) // 2
        turns = np.outer(np.arange(frequencies), shifts) % size / size
        # Not a constant in NumPy: a trace without x64 would narrow it for all traces.
        waves = jnp.asarray(np.exp(2j * math.pi * turns), response.dtype)
        response = jnp.tensordot(waves, response, (1, axis), precision="highest")
        response = jnp.moveaxis(response, 0, axis)
    return response


def fourier_convolution(inputs: ArrayLike, response: ArrayLike) -> jax.Array:
    """Convolution of periodic images by its matrix for each frequency.

    Args:
        inputs: Floating, ``[..., *space, channels]``.
        response: Complex, ``[*space[:-1], space[-1] // 2 + 1, channels, filters]``, as
            from :func:`cayley_response`.

    Returns:
        ``[..., *space, filters]``, dtype of ``inputs``, computed in float32 at least.

    Raises:
        TypeError: If ``inputs`` is not floating, or ``response`` not complex.
        ValueError: If shapes do not fit.

    Example:
        >>> x = jnp.array([[3.0], [4.0], [5.0], [6.0]])
        >>> mean = jnp.array([1.0, 0.0, 0.0], complex).reshape(3, 1, 1)
        >>> sx.operators.fourier_convolution(x, mean).T
        Array([[4.5, 4.5, 4.5, 4.5]], dtype=float32)
    """
    inputs, response = as_floating("inputs", inputs), as_array("response", response)
    if not jnp.issubdtype(response.dtype, jnp.complexfloating):
        raise TypeError(f"response must be complex, got dtype {response.dtype}.")
    rank = check_window_rank(response)
    space = _space_of(inputs, rank, response.shape[-2])
    expected = (*space[:-1], space[-1] // 2 + 1)
    if response.shape[:rank] != expected:
        raise ValueError(
            f"response must be [{', '.join(map(str, expected))}, channels, filters] for"
            f" images of size {space}, got shape {response.shape}; compute it for this"
            " size."
        )
    return _fourier_convolution(inputs, response)


@compiled()
def _fourier_convolution(inputs: jax.Array, response: jax.Array) -> jax.Array:
    rank = response.ndim - 2
    axes = tuple(range(-rank - 1, -1))
    space, channels = inputs.shape[-rank - 1 : -1], inputs.shape[-1]
    waves = jnp.fft.rfftn(widen(inputs), axes=axes)
    matrices = response.reshape(-1, *response.shape[-2:])
    products = jnp.einsum(
        "bfi,fio->bfo",
        waves.reshape(-1, len(matrices), channels),
        matrices,
        precision="highest",
    )
    outputs = products.reshape(*waves.shape[:-1], response.shape[-1])
    return jnp.fft.irfftn(outputs, s=space, axes=axes).astype(inputs.dtype)


def _space_of(inputs: jax.Array, rank: int, channels: int) -> tuple[int, ...]:
    """Sizes of the images; raises unless ``[..., *space, channels]``."""
    space = inputs.shape[-rank - 1 : -1]
    if inputs.ndim < rank + 1 or inputs.shape[-1] != channels or 0 in space:
        raise ValueError(
            f"inputs must be [..., *space, {channels}] with {rank} axes of space, none"
            f" of them empty, as the kernel has, got shape {inputs.shape}."
        )
    return space
