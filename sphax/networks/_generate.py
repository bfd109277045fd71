"""Sampling from language models, token by token."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import as_integers, check_count, check_key, check_range
from sphax._compiled import compiled


def generate(
    model: nnx.Module,
    prompt: jax.typing.ArrayLike,
    length: int,
    *,
    temperature: jax.typing.ArrayLike = 1.0,
    key: jax.Array | None = None,
) -> jax.Array:
    r"""Continues sequences of tokens by what a language model says comes next.

    With the logits :math:`z` of a position, the next token is drawn with probabilities
    :math:`\operatorname{softmax}(z / T)`; at temperature :math:`T = 0` it is the most
    probable one. The keys and values of earlier tokens are kept in caches, so that each
    token costs one position; all shapes are fixed, and the loop is compiled once for
    each shape of prompts and length.

    Args:
        model: Such as :class:`NGPT`: a module with ``model.init_cache(batch, length)``
            and ``model(tokens, caches)``, which returns logits and caches.
        prompt: First tokens of each sequence, integer, ``[..., n]``, one or more.
        length: Number of tokens to add.
        temperature: :math:`T`, a scalar, 0 or more.
        key: Random key; not needed if the temperature is the number 0.

    Returns:
        Prompts with their continuations, int32, ``[..., n + length]``.

    Raises:
        TypeError: If ``prompt`` is not integer, or ``key`` is not a random key.
        ValueError: If a prompt is empty, ``length`` is not positive, or ``temperature``
            is negative.

    Example:
        >>> model = sx.networks.NGPT(256, 8, depth=1, num_heads=2, rngs=nnx.Rngs(0))
        >>> prompt = jnp.array([list(b"to"), list(b"be")])
        >>> sx.networks.generate(model, prompt, 3, key=jax.random.key(0)).shape
        (2, 5)
    """
    tokens = as_integers("prompt", prompt)
    if tokens.ndim < 1 or tokens.shape[-1] == 0:
        raise ValueError(
            f"prompt must be [..., n] with one token or more, got shape {tokens.shape}."
        )
    check_count("length", length)
    check_range("temperature", temperature, 0.0)
    is_greedy = isinstance(temperature, (int, float)) and temperature == 0
    if not is_greedy or key is not None:
        check_key(key)
    graph, state = nnx.split(model)
    return _generate(
        state,
        tokens.astype(jnp.int32),
        jax.random.key(0) if key is None else key,
        jnp.asarray(temperature, jnp.float32),
        graph=graph,
        length=length,
    )


@compiled("graph", "length")
def _generate(
    state: Any,
    prompt: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    *,
    graph: Any,
    length: int,
) -> jax.Array:
    model = nnx.merge(graph, state)

    def draw(logits, key):
        is_greedy = temperature == 0.0
        scaled = logits / jnp.where(is_greedy, 1.0, temperature).astype(logits.dtype)
        drawn = jax.random.categorical(key, scaled)
        return jnp.where(is_greedy, jnp.argmax(logits, -1), drawn).astype(jnp.int32)

    def step(carry, key):
        token, caches = carry
        logits, caches = model(token[..., None], caches)
        token = draw(logits[..., -1, :], key)
        return (token, caches), token

    keys = jax.random.split(key, length)
    caches = model.init_cache(prompt.shape[:-1], prompt.shape[-1] + length)
    logits, caches = model(prompt, caches)
    first = draw(logits[..., -1, :], keys[0])
    _, rest = jax.lax.scan(step, (first, caches), keys[1:])
    added = jnp.concatenate([first[None], rest])
    return jnp.concatenate([prompt, jnp.moveaxis(added, 0, -1)], axis=-1)
