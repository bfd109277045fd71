"""The rotary embedding of positions."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sphax._checks import as_array, as_floating, check_choice, check_range
from sphax._compiled import compiled
from sphax._numerics import widen

Pairing = Literal["halves", "adjacent"]


def rotary(
    x: ArrayLike,
    positions: ArrayLike,
    *,
    base: float = 10_000.0,
    pairing: Pairing = "halves",
) -> jax.Array:
    r"""Rotates each vector by angles that grow with its position (RoPE).

    The entries of a vector of dimension :math:`d` form :math:`d / 2` pairs. At position
    :math:`p`, pair :math:`i` turns by :math:`p\,\omega_i` radians with
    :math:`\omega_i = b^{-2i/d}`:

    .. math::
        (a_i, b_i) \mapsto (a_i \cos p\omega_i - b_i \sin p\omega_i,\;
        a_i \sin p\omega_i + b_i \cos p\omega_i).

    This is a rotation :math:`R_p`, so that lengths stay as they are, and it may come
    before or after :func:`sphax.sphere.normalize`. Since
    :math:`R_p^\top R_q = R_{q - p}`, the inner product of a rotated query and a rotated
    key depends on their positions by the difference alone. Position 0 changes nothing,
    and the inverse of position :math:`p` is position :math:`-p`.

    Args:
        x: Vectors, floating, ``[..., d]``, with ``d`` even: such as queries ``[...,
            length, heads, d]``.
        positions: Position of each vector, integer or floating, of a shape that
            broadcasts to ``x.shape[:-1]``: such as ``[length, 1]``.
        base: :math:`b`, positive.
        pairing: Which entries are a pair: entry i and entry i + d / 2 for ``"halves"``
            (GPT-NeoX, Llama), entries 2i and 2i + 1 for ``"adjacent"`` (the paper).

    Returns:
        Rotated vectors, shape and dtype of ``x``, computed in float32 at least. Angles
        are rounded in this dtype, in float32 by up to 1e-7 times the position, which is
        the same rotation for all vectors at a position.

    Raises:
        TypeError: If ``x`` is not floating, or ``positions`` are not numbers.
        ValueError: If ``d`` is not even, ``positions`` do not broadcast to the vectors,
            or an option is out of range.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
        >>> sx.operators.rotary(x, jnp.array([0.0, jnp.pi / 6]))
        Array([[1.       , 0.       ],
               [0.8660254, 0.5      ]], dtype=float32)

    References:
        Su et al., `RoFormer <https://arxiv.org/abs/2104.09864>`_, 2021, Eq. 15.
    """
    x, positions = as_floating("x", x), as_array("positions", positions)
    if x.ndim < 1 or x.shape[-1] == 0 or x.shape[-1] % 2:
        raise ValueError(
            "x must have vectors of an even number of entries on the last axis, since"
            f" the entries are rotated in pairs, got shape {x.shape}."
        )
    if not jnp.issubdtype(positions.dtype, jnp.number):
        raise TypeError(f"positions must be numbers, got dtype {positions.dtype}.")
    try:
        fits = jnp.broadcast_shapes(positions.shape, x.shape[:-1]) == x.shape[:-1]
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "positions must broadcast to the shape of x without its last axis,"
            f" {x.shape[:-1]}, got {positions.shape}; for x [..., length, heads, d]"
            " give them as [length, 1]."
        )
    check_range("base", base, 0.0, exclude_low=True)
    check_choice("pairing", pairing, get_args(Pairing))
    return _rotary(x, positions, base=float(base), pairing=pairing)


@compiled("base", "pairing")
def _rotary(
    x: jax.Array, positions: jax.Array, *, base: float, pairing: Pairing
) -> jax.Array:
    wide = widen(x)
    size = x.shape[-1]
    rates = jnp.asarray(base ** (-np.arange(0, size, 2) / size), wide.dtype)
    angles = positions.astype(wide.dtype)[..., None]
    angles = angles * jnp.expand_dims(rates, range(positions.ndim))
    angles = jnp.expand_dims(angles, range(x.ndim - angles.ndim))
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    if pairing == "halves":
        a, b = wide[..., : size // 2], wide[..., size // 2 :]
    else:
        a, b = wide[..., ::2], wide[..., 1::2]
    rotated = a * cosine - b * sine, a * sine + b * cosine
    if pairing == "halves":
        return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
    return jnp.stack(rotated, axis=-1).reshape(x.shape).astype(x.dtype)
