"""A pre-norm transformer over tokens: RMSNorm, QK-norm, SwiGLU, rotary embedding."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import sphax as sx


class Attention(nnx.Module):
    """Causal attention with rotary embedding, and gains for unit queries and keys."""

    def __init__(
        self, width: int, heads: int, dtype: Any, out_init: Any, *, rngs: nnx.Rngs
    ):
        size = width // heads
        options: dict[str, Any] = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value = (
            nnx.LinearGeneral(width, (heads, size), **options) for _ in range(3)
        )
        self.out = nnx.LinearGeneral(
            (heads, size), width, axis=(-2, -1), kernel_init=out_init, **options
        )
        self.query_norm, self.key_norm = (
            nnx.RMSNorm(size, dtype=dtype, rngs=rngs) for _ in range(2)
        )

    def neuron_dimensions(self) -> dict[str, sx.neurons.NeuronDimensions]:
        """Each head has matrices of its own."""
        inward = sx.neurons.NeuronDimensions(
            index_axis=-1, vector_axis=-3, batch_axis=-2
        )
        outward = sx.neurons.NeuronDimensions(
            index_axis=-1, vector_axis=-2, batch_axis=-3
        )
        names = ("query/kernel", "key/kernel", "value/kernel")
        return {**dict.fromkeys(names, inward), "out/kernel": outward}

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, length, width]`` to the same shape."""
        positions = jnp.arange(x.shape[1])[:, None]
        q, k = (
            sx.operators.rotary(norm(layer(x)), positions)
            for norm, layer in (
                (self.query_norm, self.query),
                (self.key_norm, self.key),
            )
        )
        mixed = jax.nn.dot_product_attention(q, k, self.value(x), is_causal=True)
        return self.out(mixed)


class MLP(nnx.Module):
    """Two dense layers with a gate between them (SwiGLU)."""

    def __init__(self, width: int, dtype: Any, out_init: Any, *, rngs: nnx.Rngs):
        options: dict[str, Any] = dict(use_bias=False, dtype=dtype, rngs=rngs)
        self.up, self.gate = (nnx.Linear(width, 4 * width, **options) for _ in range(2))
        self.out = nnx.Linear(4 * width, width, kernel_init=out_init, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[..., width]`` to the same shape."""
        return self.out(self.up(x) * jax.nn.silu(self.gate(x)))


class Block(nnx.Module):
    """Attention and dense layers, each behind a normalization and a shortcut."""

    def __init__(
        self, width: int, heads: int, dtype: Any, out_init: Any, *, rngs: nnx.Rngs
    ):
        self.attention = Attention(width, heads, dtype, out_init, rngs=rngs)
        self.mlp = MLP(width, dtype, out_init, rngs=rngs)
        self.attention_norm, self.mlp_norm = (
            nnx.RMSNorm(width, rngs=rngs) for _ in range(2)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, length, width]`` to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class PreNorm(nnx.Module):
    """A language model with the matrices of :class:`sphax.networks.NGPT`, in shape.

    Embeddings and the output matrix start with a standard deviation, by default the
    root of 1 / width; all other matrices with that of 1 / inputs, and those that end a
    branch with less, since the branches add up.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        *,
        deviation: float | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        token_init = nnx.initializers.normal(deviation or width**-0.5)
        out_init = nnx.initializers.variance_scaling(
            0.5 / depth, "fan_in", "truncated_normal"
        )
        self.embedding = nnx.Embed(
            vocabulary, width, embedding_init=token_init, rngs=rngs
        )
        self.blocks = nnx.List(
            Block(width, heads, dtype, out_init, rngs=rngs) for _ in range(depth)
        )
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.out = nnx.Linear(
            width,
            vocabulary,
            use_bias=False,
            kernel_init=token_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens ``[batch, length]`` to logits ``[batch, length, vocabulary]``."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x)).astype(jnp.float32)
