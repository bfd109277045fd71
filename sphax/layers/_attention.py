"""Multi-head attention by the cosine between queries and keys."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax.sphere import normalize


class CosineAttention(nnx.MultiHeadAttention):
    r"""Multi-head attention by scaled cosine similarity (cosine attention).

    .. math::
        y = \operatorname{softmax}_j(s \cos\angle(q_i, k_j))\, v_j

    in the place of :math:`q \cdot k / \sqrt d`, with s learned for each head. Long
    queries and keys cannot saturate the softmax, which keeps large models and long
    sequences stable. A :class:`flax.nnx.MultiHeadAttention`, with its dropout, masks
    and decoding, but without its option ``normalize_qk``. A custom ``attention_fn``
    must divide by :math:`\sqrt d`, as Flax's does.

    ``layer.query_ln.log_scale`` holds :math:`\log s`; beyond ``max_scale``, s stays
    there, with zero gradient. A zero query attends equally to all keys.

    Args:
        num_heads: Number of heads.
        in_features: Size of the last input axis.
        *sizes: Further sizes of :class:`flax.nnx.MultiHeadAttention`.
        scale: Initial s, positive.
        max_scale: Largest s, at least ``scale``; 100 in Swin V2.
        param_dtype: Of the parameters.
        **options: Further options of :class:`flax.nnx.MultiHeadAttention`.

    Raises:
        ValueError: If a scale is out of range, or ``normalize_qk`` is given.

    Example:
        >>> layer = sx.layers.CosineAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
        >>> x = jax.random.normal(jax.random.key(0), (3, 5, 8))
        >>> layer(x).shape, layer.scale
        ((3, 5, 8), Array([10., 10.], dtype=float32))

    References:
        Liu et al., `Swin Transformer V2 <https://arxiv.org/abs/2111.09883>`_, CVPR
        2022, Eq. 2; Henry et al., `Query-Key Normalization
        <https://arxiv.org/abs/2010.04245>`_, Findings of EMNLP 2020.
    """

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        *sizes: Any,
        scale: float = 10.0,
        max_scale: float = 100.0,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        **options: Any,
    ):
        if not 0.0 < scale <= max_scale:
            raise ValueError(
                "CosineAttention: scale must be positive and at most max_scale, got"
                f" {scale} and {max_scale}."
            )
        if options.get("normalize_qk"):
            raise ValueError(
                "CosineAttention: normalize_qk has no place here, queries and keys are"
                " normalized already."
            )
        super().__init__(
            num_heads, in_features, *sizes, param_dtype=param_dtype, **options
        )
        # Flax calls these two on queries and keys, before it caches keys to decode. It
        # types them as the layer norms that it makes there itself.
        self.query_ln: Any = _ScaledDirection(num_heads, scale, max_scale, param_dtype)
        self.key_ln: Any = _Direction()
        self.normalize_qk = True

    @property
    def scale(self) -> jax.Array:
        """Scale of each head, ``[num_heads]``."""
        return self.query_ln.scale


class _Direction(nnx.Module):
    def __call__(self, x: jax.Array) -> jax.Array:
        return normalize(x)


class _ScaledDirection(nnx.Module):
    """Directions of queries, times s and the root by which attention will divide."""

    def __init__(self, num_heads: int, scale: float, max_scale: float, dtype: Any):
        self.log_scale = nnx.Param(jnp.full((num_heads,), math.log(scale), dtype))
        self.max_scale = max_scale

    @property
    def scale(self) -> jax.Array:
        log_scale = jnp.minimum(self.log_scale[...], math.log(self.max_scale))
        return jnp.exp(log_scale)

    def __call__(self, x: jax.Array) -> jax.Array:
        radius = self.scale.astype(x.dtype) * math.sqrt(x.shape[-1])
        return normalize(x) * jnp.expand_dims(radius, (*range(x.ndim - 2), -1))
