"""Multiplicative dropout: random blocks of rotations become the identity."""

from typing import Any

import jax
import jax.numpy as jnp

from sphax._checks import check_key, check_number
from sphax._compiled import map_alike
from sphax.reparam._core import replace_rotations, rotations_by_path


def multiplicative_dropout(
    key: jax.Array, free: Any, rate: jax.typing.ArrayLike
) -> Any:
    r"""Replaces random blocks of rotations by the identity (multiplicative dropout).

    Each block of each factor is replaced independently with probability :math:`p`, in
    training only: ``training.apply(multiplicative_dropout(key, free, 0.1), frozen)``.
    Raw arrays of dropped blocks become zero, which all maps of :mod:`sphax.orthogonal`
    map to the identity, and have zero gradient in that step. Nothing is rescaled, since
    any product of the blocks is orthogonal.

    Args:
        key: Key that draws the blocks; a new one in every step.
        free: ``free`` as ``init`` returns it, of any method except ``"identity"`` and
            :func:`relaxed_orthogonal`, whose raw arrays are the matrices themselves.
        rate: :math:`p`, a scalar in [0, 1].

    Returns:
        ``free`` with zeros in the blocks drawn, dtypes unchanged; factors of neurons
        are kept.

    Raises:
        TypeError: If ``key`` is not a key, or ``rate`` is not a number.
        ValueError: If ``free`` has no rotations; if ``rate`` is a number out of range.

    Example:
        >>> tuning = sx.reparam.boft(block_size=2, factors=3)
        >>> params = {"kernel": jnp.ones((8, 2))}
        >>> free, frozen = tuning.init(jax.random.key(0), params)
        >>> free = jax.tree.map(jnp.ones_like, free)
        >>> dropped = sx.reparam.multiplicative_dropout(jax.random.key(1), free, 0.5)
        >>> dropped["kernel"].left[0, :, :, 0, 0]
        Array([[1., 0., 1., 1.],
               [0., 1., 0., 0.],
               [1., 1., 0., 0.]], dtype=float32)

    References:
        Liu et al., `Parameter-Efficient Orthogonal Finetuning via Butterfly
        Factorization <https://arxiv.org/abs/2311.06243>`_, ICLR 2024, Section 4.
    """
    check_key(key, "key, the first argument of multiplicative_dropout,")
    check_number("rate", rate)
    if isinstance(rate, int | float) and not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate must lie in [0, 1], got {rate}.")
    rotations = rotations_by_path(free)
    if not rotations:
        raise ValueError("free must have rotations, as init returns it, got none.")

    entries = {name: (rotations[name], i) for i, name in enumerate(sorted(rotations))}
    dropped = map_alike(_drop_blocks, entries, dict.fromkeys(entries), key, rate)
    return replace_rotations(free, dropped)


def _drop_blocks(fixed, entry, key, rate):
    del fixed
    rotations, number = entry
    left_key, right_key = jax.random.split(jax.random.fold_in(key, number))

    def drop(key, raw):
        if raw is None:
            return None
        is_kept = ~jax.random.bernoulli(key, rate, raw.shape[:-2])
        return jnp.where(is_kept[..., None, None], raw, jnp.zeros_like(raw))

    left, right = drop(left_key, rotations.left), drop(right_key, rotations.right)
    return rotations._replace(left=left, right=right)
