"""nGPT, a language model on the hypersphere."""

from typing import Any, overload

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import as_classes, as_integers, check_sizes
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.layers import AttentionCache, LearnedScale, NormalizedBlock
from sphax.neurons import NeuronDimensions
from sphax.sphere import sample_uniform

Caches = tuple[AttentionCache, ...]


class NGPT(nnx.Module):
    r"""Causal language model whose tokens and weights are unit vectors (nGPT).

    The embedding of each token is a point of the sphere, which the blocks move (see
    :class:`sphax.layers.NormalizedBlock`); there are no other normalization layers. The
    logits of the next token are cosines with the rows of the output matrix, each
    multiplied by a learned factor: :math:`z_j = s_j\, e_j \cdot h`.

    The recipe is a part of the method: after every step, the vectors of all matrices
    are brought back to unit length, which they have at first too. There is no weight
    decay, and no warm-up of the learning rate::

        optax.chain(
            optax.adam(learning_rate, b1=0.9, b2=0.95),
            sx.optim.keep_params_on_sphere(neurons=sx.neurons.of(model)),
        )

    Args:
        num_tokens: Number of different tokens, 256 for bytes.
        features: Dimension of a token.
        depth: Number of blocks.
        num_heads: Heads of the attention; ``features`` is an even multiple of it.
        hidden: Size between the dense layers; by default four times ``features``.
        **options: ``step``, ``rate`` and ``rotary_base`` of
            :class:`sphax.layers.NormalizedBlock`.
        dtype: Of the products with matrices, bfloat16 on an accelerator; by default
            float32 at least, as tokens, lengths and logits always are.
        param_dtype: Of the parameters. With bfloat16, lengths are 1 to its rounding
            only.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if ``tokens`` are not integer.
        ValueError: If a size or an option is out of range; from a call, if ``tokens``
            are not ``[..., length]``.

    Example:
        >>> import optax
        >>> model = sx.networks.NGPT(256, 8, depth=2, num_heads=2, rngs=nnx.Rngs(0))
        >>> tokens = jnp.array([list(b"sphere")])
        >>> model(tokens).shape
        (1, 6, 256)
        >>> neurons = sx.neurons.of(model)
        >>> tx = optax.chain(
        ...     optax.adam(1e-3), sx.optim.keep_params_on_sphere(neurons=neurons)
        ... )
        >>> state = tx.init(nnx.state(model, nnx.Param))

    References:
        Loshchilov et al., `nGPT <https://arxiv.org/abs/2410.01131>`_, ICLR 2025, and
        the authors' code.
    """

    def __init__(
        self,
        num_tokens: int,
        features: int,
        depth: int,
        num_heads: int,
        hidden: int | None = None,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes("NGPT", num_tokens=num_tokens, features=features, depth=depth)
        self.dtype = dtype

        def unit() -> nnx.Param[jax.Array]:
            shape = num_tokens, features
            return nnx.Param(sample_uniform(rngs.params(), shape, param_dtype))

        self.embedding, self.out = unit(), unit()
        self.blocks = nnx.List(
            NormalizedBlock(
                features,
                num_heads,
                hidden,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
                **options,
            )
            for _ in range(depth)
        )
        self.out_scale = LearnedScale(
            (num_tokens,), 1.0, features**-0.5, param_dtype=param_dtype
        )

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Declares the unit vectors for :func:`sphax.neurons.of`."""
        rows = NeuronDimensions(index_axis=-2, vector_axis=-1)
        return {"embedding": rows, "out": rows}

    def init_cache(self, batch: tuple[int, ...], length: int) -> Caches:
        """An empty cache of each block, for ``length`` tokens of each sequence."""
        return tuple(block.attention.init_cache(batch, length) for block in self.blocks)

    @overload
    def __call__(self, tokens: jax.typing.ArrayLike) -> jax.Array: ...
    @overload
    def __call__(
        self, tokens: jax.typing.ArrayLike, caches: Caches
    ) -> tuple[jax.Array, Caches]: ...
    def __call__(
        self, tokens: jax.typing.ArrayLike, caches: Caches | None = None
    ) -> jax.Array | tuple[jax.Array, Caches]:
        """Maps tokens ``[..., length]`` to logits ``[..., length, num_tokens]``.

        Those at a position are for the next one. In float32 at least; NaN where a token
        is not in ``[0, num_tokens)``. With caches, the tokens are those after the ones
        that are in them, and the second result is the caches with them.
        """
        tokens = as_integers("tokens", tokens)
        if tokens.ndim < 1:
            raise ValueError(f"tokens must be [..., length], got shape {tokens.shape}.")
        h = _embed(tokens, self.embedding[...])
        if caches is None:
            for block in self.blocks:
                h = block(h)
            return _logits(h, self.out[...], self.out_scale(), dtype=self.dtype)
        pairs = []
        for block, cache in zip(self.blocks, caches, strict=True):
            h, cache = block(h, cache)
            pairs.append(cache)
        logits = _logits(h, self.out[...], self.out_scale(), dtype=self.dtype)
        return logits, tuple(pairs)


@compiled()
def _embed(tokens: jax.Array, embedding: jax.Array) -> jax.Array:
    places, is_token = as_classes(tokens, len(embedding))
    return jnp.where(is_token[..., None], widen(embedding[places]), jnp.nan)


@compiled("dtype")
def _logits(h: jax.Array, out: jax.Array, scale: jax.Array, *, dtype: Any) -> jax.Array:
    x, out = (each.astype(dtype or h.dtype) for each in (h, out))
    cosines = jnp.einsum("...d,nd->...n", x, out, preferred_element_type=h.dtype)
    return cosines * jnp.expand_dims(scale.astype(h.dtype), range(h.ndim - 1))
