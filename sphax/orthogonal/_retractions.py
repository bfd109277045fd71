"""Retractions and tangents of the orthogonal group and the Stiefel manifold."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating
from sphax._compiled import compiled
from sphax._linalg import (
    as_tall,
    entries,
    identity_like,
    invert,
    product,
    symmetric_part,
)
from sphax._numerics import widen
from sphax.orthogonal._cayley import cayley_of_skew
from sphax.orthogonal._gram_schmidt import gram_schmidt
from sphax.orthogonal._lowdin import lowdin
from sphax.sphere import length


def project_to_tangent(q: ArrayLike, x: ArrayLike) -> jax.Array:
    r"""Projects a matrix to the tangent space at a frame.

    :math:`X - Q\, \operatorname{sym}(Q^\top X)`, the nearest matrix :math:`U` with
    :math:`Q^\top U` skew-symmetric; for square :math:`Q`,
    :math:`\tfrac12 (X - Q X^\top Q)`.

    Args:
        q: The frame, with orthonormal columns, floating, ``[..., m, n]``,
            :math:`m \ge n`.
        x: The matrix, floating, shape of ``q``.

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
    r"""Retraction by orthonormalization, :math:`\operatorname{gram\_schmidt}(Q + U)`.

    Args:
        q: Start, with orthonormal columns, floating, ``[..., m, n]``,
            :math:`m \ge n`.
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
        q: Start, with orthonormal columns, floating, ``[..., m, n]``,
            :math:`m \ge n`.
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
    r"""Retraction by the Cayley map of the generator of a step.

    .. math::
        (I - \tfrac12 W)^{-1} (I + \tfrac12 W)\, Q

    with the skew-symmetric :math:`W` of :func:`tangent_generator`: only the tangent
    part of :math:`U` matters. The rotation does not remove errors of orthogonality that
    :math:`Q` has; see :func:`polish`. Where :math:`m > 2 n`, a matrix of size
    :math:`2 n` is inverted instead of one of size :math:`m`.

    Args:
        q: Start, with orthonormal columns, floating, ``[..., m, n]``,
            :math:`m \ge n`.
        tangent: Step :math:`U`, floating, shape of ``q``.

    Returns:
        Orthonormal columns, shape and dtype of ``q``; agrees with the geodesic to
        second order. A square matrix keeps its determinant. Very long steps are
        shortened, as in :func:`cayley`.

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
    m, n = frame.shape[-2:]
    if m <= 2 * n:
        rotation = cayley_of_skew(_generator(frame, step) / 2.0)
        return product(rotation, frame)
    # W = P Q' - Q P' = U V' has rank 2 n: by Woodbury's identity, the result is
    # Q + U (I - V' U / 2)^-1 V' Q (Wen and Yin, Lemma 4). With P and Q of equal size in
    # U and V, the matrix to invert is well conditioned for long steps too.
    p = step - product(frame, product(frame.mT, step)) / 2.0
    norm = jax.lax.stop_gradient(length(entries(p)))[..., None, None]
    largest = 0.25 * float(jnp.finfo(p.dtype).eps) ** -0.75
    within = jnp.minimum(1.0, largest / jnp.where(norm == 0.0, 1.0, norm))
    size = jnp.sqrt(jnp.where(norm == 0.0, 1.0, norm * within))
    p, q = p * within / size, frame * size
    u, v = jnp.concatenate([p, q], -1), jnp.concatenate([q, -p], -1)
    inner = product(v.mT, u)
    solved = product(invert(identity_like(inner) - inner / 2.0), product(v.mT, frame))
    return frame + product(u, solved)


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
    return _generator(frame, step)


def _generator(frame, step):
    inner = product(frame, product(frame.mT, step))
    half = product(step - inner / 2.0, frame.mT)
    return half - half.mT


def _as_frame_and_step(q, name, step) -> tuple[jax.Array, jax.Array]:
    """Both in the wider one of their dtypes, float32 at least."""
    frame, step = as_tall("q", q), as_floating(name, step)
    if step.shape != frame.shape:
        raise ValueError(
            f"{name} must have the shape of q, {frame.shape}, got {step.shape}."
        )
    dtype = jnp.promote_types(frame.dtype, step.dtype)
    return widen(frame.astype(dtype)), widen(step.astype(dtype))
