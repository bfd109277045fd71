"""Moving over the orthogonal group and the Stiefel manifold."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.orthogonal._cayley import cayley_of_skew
from sphax.orthogonal._gram_schmidt import gram_schmidt
from sphax.orthogonal._lowdin import lowdin
from sphax.orthogonal._matrices import as_tall, product, symmetric_part


def project_to_tangent(q: ArrayLike, x: ArrayLike) -> jax.Array:
    r"""Tangent part of a matrix at one with orthonormal columns.

    :math:`X - Q\, \operatorname{sym}(Q^\top X)`, the nearest matrix :math:`U` with
    :math:`Q^\top U` skew-symmetric; for square :math:`Q`,
    :math:`\tfrac12 (X - Q X^\top Q)`.

    Args:
        q: Foot point, orthonormal columns, floating, ``[..., m, n]``, :math:`m \ge n`.
        x: Floating, shape of ``q``.

    Returns:
        Tangent matrix, shape and dtype of ``x``, computed in float32 at least.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> x = jnp.array([[1.0, 4.0], [2.0, 3.0]])
        >>> sx.orthogonal.project_to_tangent(jnp.eye(2), x)
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)

    References:
        Edelman, Arias, Smith, `The Geometry of Algorithms with Orthogonality
        Constraints <https://arxiv.org/abs/physics/9806030>`_, 1998.
    """
    frame, step = _as_frame_and_step(q, "x", x)
    return _project_to_tangent(frame, step).astype(as_floating("x", x).dtype)


@compiled()
def _project_to_tangent(frame, step):
    inner = symmetric_part(product(frame.mT, step))
    return step - product(frame, inner)


def qr_retraction(q: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""Retraction by orthonormalisation, :math:`\operatorname{gram\_schmidt}(Q + U)`.

    Args:
        q: Start, orthonormal columns, floating, ``[..., m, n]``, :math:`m \ge n`.
        tangent: Step :math:`U`, floating, shape of ``q``.

    Returns:
        Orthonormal columns, shape and dtype of ``q``; agrees with the geodesic to first
        order.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> q, step = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [0.75]])
        >>> float(sx.orthogonal.qr_retraction(q, step)[1, 0])
        0.6
    """
    frame, step = _as_frame_and_step(q, "tangent", tangent)
    return gram_schmidt(frame + step).astype(as_floating("q", q).dtype)


def polar_retraction(q: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""Retraction to the nearest frame, :math:`\operatorname{lowdin}(Q + U)`.

    Args:
        q: Start, orthonormal columns, floating, ``[..., m, n]``, :math:`m \ge n`.
        tangent: Step :math:`U`, floating, shape of ``q``.

    Returns:
        Orthonormal columns, shape and dtype of ``q``; agrees with the geodesic to
        second order. On the sphere, :math:`n = 1`, it is :func:`sphax.sphere.retract`.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> q, step = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [0.75]])
        >>> float(sx.orthogonal.polar_retraction(q, step)[1, 0])
        0.6
    """
    frame, step = _as_frame_and_step(q, "tangent", tangent)
    return lowdin(frame + step).astype(as_floating("q", q).dtype)


def cayley_retraction(q: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""Retraction by a rotation that the step generates.

    .. math::
        (I - \tfrac12 W)^{-1} (I + \tfrac12 W)\, Q, \qquad W = \hat W - \hat W^\top,
        \qquad \hat W = (I - \tfrac12 Q Q^\top)\, U Q^\top

    :math:`W Q` is the tangent part of :math:`U`: of any other step, it alone counts. A
    rotation keeps the errors of orthogonality that :math:`Q` has; see :func:`polish`.

    Args:
        q: Start, orthonormal columns, floating, ``[..., m, n]``, :math:`m \ge n`.
        tangent: Step :math:`U`, floating, shape of ``q``.

    Returns:
        Orthonormal columns, shape and dtype of ``q``; agrees with the geodesic to
        second order. A square matrix keeps its determinant. Very long steps are cut
        down, as in :func:`cayley`.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> step = jnp.array([[0.0, 2.0], [-2.0, 0.0]])
        >>> sx.orthogonal.cayley_retraction(jnp.eye(2), step)
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)

    References:
        Wen, Yin, `A Feasible Method for Optimization with Orthogonality Constraints
        <https://doi.org/10.1007/s10107-012-0584-1>`_, 2013.
    """
    frame, step = _as_frame_and_step(q, "tangent", tangent)
    return _cayley_retraction(frame, step).astype(as_floating("q", q).dtype)


@compiled()
def _cayley_retraction(frame, step):
    rotation = cayley_of_skew(generator(frame, step) / 2.0)
    return product(rotation, frame)


def tangent_generator(q: ArrayLike, tangent: ArrayLike) -> jax.Array:
    r"""Skew-symmetric matrix that generates a tangent step.

    .. math::
        W = \hat W - \hat W^\top, \qquad \hat W = (I - \tfrac12 Q Q^\top)\, U Q^\top

    :math:`W Q` is the tangent part of :math:`U`, so that :math:`\exp(W)\, Q` and the
    :func:`cayley_retraction` move :math:`Q` along it.

    Args:
        q: Start, with orthonormal columns, floating, ``[..., m, n]``,
            :math:`m \ge n`.
        tangent: Step :math:`U`, floating, shape of ``q``.

    Returns:
        The matrix, ``[..., m, m]``, in the wider dtype of the two, computed in float32
        at least.

    Raises:
        TypeError: If an argument is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> q, step = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [0.75]])
        >>> sx.orthogonal.tangent_generator(q, step)
        Array([[ 0.  , -0.75],
               [ 0.75,  0.  ]], dtype=float32)

    References:
        Wen, Yin, `A Feasible Method for Optimization with Orthogonality Constraints
        <https://doi.org/10.1007/s10107-012-0584-1>`_, 2013.
    """
    frame, step = _as_frame_and_step(q, "tangent", tangent)
    dtypes = as_floating("q", q).dtype, as_floating("tangent", tangent).dtype
    return _tangent_generator(frame, step).astype(jnp.promote_types(*dtypes))


@compiled()
def _tangent_generator(frame, step):
    return generator(frame, step)


def generator(frame: jax.Array, step: jax.Array) -> jax.Array:
    """The skew-symmetric ``W`` for which ``W Q`` is the tangent part of a step."""
    inner = product(frame, product(frame.mT, step))
    half = product(step - inner / 2.0, frame.mT)
    return half - half.mT


def _as_frame_and_step(q, name, step) -> tuple[jax.Array, jax.Array]:
    """Both in the wider of their dtypes, float32 at least."""
    frame, step = as_tall("q", q), as_floating(name, step)
    if step.shape != frame.shape:
        raise ValueError(
            f"{name} must have the shape of q, {frame.shape}, got {step.shape}."
        )
    dtype = jax.numpy.promote_types(frame.dtype, step.dtype)
    return widen(frame.astype(dtype)), widen(step.astype(dtype))
