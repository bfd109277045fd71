"""The layers of nGPT, the transformer on the hypersphere."""

import math
from typing import Any, Literal, NamedTuple, get_args, overload

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import (
    as_floating,
    check_choice,
    check_count,
    check_range,
    check_sizes,
)
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.layers._common import check_features
from sphax.neurons import NeuronDimensions
from sphax.operators import rotary
from sphax.sphere import angle, normalize, sample_uniform

Step = Literal["linear", "geodesic"]


class AttentionCache(NamedTuple):
    """Keys and values of the tokens so far, for attention token by token.

    Attributes:
        keys: Rotated to their positions and of unit length; the scale of queries and
            keys is not in them. ``[..., length, heads, features / heads]``.
        values: ``[..., length, heads, features / heads]``.
        count: Number of tokens so far, an integer. What lies behind them is not used.

    Example:
        >>> layer = sx.layers.NormalizedAttention(8, 2, rngs=nnx.Rngs(0))
        >>> cache = layer.init_cache((), 3)
        >>> y, cache = layer(jnp.ones((2, 8)), cache)
        >>> cache.keys.shape, cache.count
        ((3, 2, 4), Array(2, dtype=int32))
    """

    keys: jax.Array
    values: jax.Array
    count: jax.Array


class NormalizedAttention(nnx.Module):
    r"""Causal self-attention of nGPT, with queries and keys on the sphere.

    For the tokens :math:`h_t` and each head, with :math:`R_t` the rotation of
    :func:`sphax.operators.rotary` and :math:`\hat x = x / \|x\|`,

    .. math::
        q_t = s \odot \widehat{R_t W_q h_t}, \qquad k_t = s \odot \widehat{R_t W_k h_t},
        \qquad y_t = W_o \sum_{j \le t} \operatorname{softmax}_j
        (\sqrt{d_h}\; q_t \cdot k_j)\, W_v h_j,

    with :math:`d_h` the features of a head. A logit is at most
    :math:`\sqrt{d_h} \max_i s_i^2`, whatever the inputs. The scale :math:`s`, one
    number for each feature of each head, is learned; ``layer.scale()`` is its value, 1
    at first.

    Matrices start with unit vectors along the axis of the embedding: the input of
    queries, keys and values, and the output of the projection. The method of nGPT keeps
    them so after every step, by
    ``sx.optim.keep_params_on_sphere(neurons=sx.neurons.of(model))``; the call itself
    does not normalize them. The heads are separate sets of neurons.

    Args:
        features: Size of the last axis of inputs and outputs.
        num_heads: Number of heads; ``features`` is an even multiple of it.
        rotary_base: Base of the rotary embedding.
        dtype: Of the products with matrices, keys and values; by default that of inputs
            and parameters together. Lengths, logits and weights are float32 at least.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size is not positive, or ``features`` is not an even multiple
            of ``num_heads``; from a call, if its inputs are not ``[..., length,
            features]``, or a cache is for another batch.

    Example:
        >>> layer = sx.layers.NormalizedAttention(8, 2, rngs=nnx.Rngs(0))
        >>> layer(jax.random.normal(jax.random.key(0), (3, 5, 8))).shape
        (3, 5, 8)

    References:
        Loshchilov et al., `nGPT <https://arxiv.org/abs/2410.01131>`_, ICLR 2025, Sec.
        2.3; the rotary embedding of the authors' code is not a rotation, and ours is.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        *,
        rotary_base: float = 10_000.0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        name = "NormalizedAttention"
        check_sizes(name, features=features, num_heads=num_heads)
        if features % (2 * num_heads):
            raise ValueError(
                f"{name}: features must be an even multiple of num_heads, since the"
                " rotary embedding takes the features of a head in pairs, got"
                f" {features} and {num_heads}."
            )
        check_range(f"{name}: rotary_base", rotary_base, 0.0, exclude_low=True)
        self.features, self.dtype, self.rotary_base = features, dtype, rotary_base
        shape = num_heads, features // num_heads, features

        def unit() -> jax.Array:
            return sample_uniform(rngs.params(), shape, param_dtype)

        self.query = nnx.Param(unit().transpose(2, 0, 1))
        self.key = nnx.Param(unit().transpose(2, 0, 1))
        self.value = nnx.Param(unit().transpose(2, 0, 1))
        self.out = nnx.Param(unit())
        self.scale = LearnedScale(
            shape[:2], 1.0, features**-0.5, param_dtype=param_dtype
        )

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Declares the unit vectors for :func:`sphax.neurons.of`."""
        inward = NeuronDimensions(index_axis=-1, vector_axis=-3, batch_axis=-2)
        outward = NeuronDimensions(index_axis=-2, vector_axis=-1, batch_axis=-3)
        return {"query": inward, "key": inward, "value": inward, "out": outward}

    def init_cache(self, batch: tuple[int, ...], length: int) -> AttentionCache:
        """An empty cache for ``length`` tokens of each of a ``batch`` of sequences."""
        check_count("length", length)
        dtype = self.dtype or jnp.promote_types(self.query[...].dtype, jnp.float32)
        empty = jnp.zeros((*batch, length, *self.query.shape[1:]), dtype)
        return AttentionCache(empty, empty, jnp.zeros([], jnp.int32))

    @overload
    def __call__(self, inputs: jax.Array) -> jax.Array: ...
    @overload
    def __call__(
        self, inputs: jax.Array, cache: AttentionCache
    ) -> tuple[jax.Array, AttentionCache]: ...
    def __call__(
        self, inputs: jax.Array, cache: AttentionCache | None = None
    ) -> jax.Array | tuple[jax.Array, AttentionCache]:
        """Maps ``[..., length, features]`` to the same shape.

        With a cache, the inputs are those after the tokens that are in it, and the
        second result is the cache with them. Outputs beyond its length are NaN.
        """
        inputs = as_floating("inputs", inputs)
        check_features("inputs", inputs, self.features)
        if inputs.ndim < 2:
            raise ValueError(
                f"inputs must be [..., length, features], got shape {inputs.shape}."
            )
        if cache is not None and cache.keys.shape[:-3] != inputs.shape[:-2]:
            raise ValueError(
                f"cache must be for a batch {inputs.shape[:-2]}, that of the inputs"
                f" {inputs.shape}, got {cache.keys.shape[:-3]}; make it by"
                " init_cache(inputs.shape[:-2], length)."
            )
        outputs, cache = _attend(
            inputs,
            [each[...] for each in (self.query, self.key, self.value, self.out)],
            self.scale(),
            cache,
            base=self.rotary_base,
            dtype=self.dtype,
        )
        return outputs if cache is None else (outputs, cache)


@compiled("base", "dtype")
def _attend(
    x: jax.Array,
    kernels: list[jax.Array],
    scale: jax.Array,
    cache: AttentionCache | None,
    *,
    base: float,
    dtype: Any,
) -> tuple[jax.Array, AttentionCache | None]:
    dtype = dtype or jnp.promote_types(x.dtype, kernels[0].dtype)
    x, query, key, value, out = (each.astype(dtype) for each in (x, *kernels))
    q, k, v = (jnp.einsum("...td,dhf->...thf", x, w) for w in (query, key, value))
    start = 0 if cache is None else cache.count
    positions = start + jnp.arange(x.shape[-2])
    q, k = (normalize(rotary(widen(z), positions[:, None], base=base)) for z in (q, k))
    # Both scales and the root go to the queries, so that cached keys are unit vectors.
    factor = widen(scale) ** 2 * math.sqrt(q.shape[-1])
    q = (q * jnp.expand_dims(factor, range(q.ndim - 2))).astype(dtype)
    k = k.astype(dtype)
    if cache is not None:
        k, v = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), start, -3)
            for old, new in ((cache.keys, k), (cache.values, v))
        )
        cache = AttentionCache(k, v, cache.count + x.shape[-2])
    wide = jnp.promote_types(dtype, jnp.float32)
    logits = jnp.einsum("...qhf,...khf->...hqk", q, k, preferred_element_type=wide)
    places = jnp.arange(k.shape[-3])
    is_future = places[None] > positions[:, None]
    is_future = jnp.expand_dims(is_future, range(logits.ndim - 2))
    weights = jax.nn.softmax(jnp.where(is_future, -jnp.inf, logits))
    if cache is not None:
        # The update above would overwrite earlier tokens instead.
        weights = jnp.where(cache.count > k.shape[-3], jnp.nan, weights)
    mixed = jnp.einsum("...hqk,...khf->...qhf", weights.astype(dtype), v)
    return jnp.einsum("...thf,hfd->...td", mixed.astype(dtype), out), cache


class NormalizedMLP(nnx.Module):
    r"""The two dense layers of nGPT, with a gate between them (SwiGLU).

    .. math::
        y = W_o\, (u \odot \operatorname{silu}(v)), \qquad
        u = \sqrt d\; s_u \odot W_u h, \qquad v = \sqrt d\; s_v \odot W_v h

    for tokens :math:`h` of unit length and dimension :math:`d`. The root undoes that
    the entries of unit vectors are small, and lets the gate act; the learned scales
    ``layer.up_scale()`` and ``layer.gate_scale()`` are 1 at first. As in the authors'
    code, the root multiplies :math:`u` as well as :math:`v` (in the paper :math:`v`
    only), which the normalization of :math:`y` in :class:`NormalizedBlock` undoes.

    Matrices start with unit vectors along the axis of the embedding, as those of
    :class:`NormalizedAttention` do.

    Args:
        features: Size of the last axis of inputs and outputs, :math:`d`.
        hidden: Size between the layers; by default four times ``features``.
        dtype: Of the products; by default that of inputs and parameters together.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size is not positive; from a call, if the last axis of its
            inputs has another size.

    Example:
        >>> layer = sx.layers.NormalizedMLP(8, rngs=nnx.Rngs(0))
        >>> layer(jax.random.normal(jax.random.key(0), (3, 5, 8))).shape
        (3, 5, 8)

    References:
        Loshchilov et al., `nGPT <https://arxiv.org/abs/2410.01131>`_, ICLR 2025, Sec.
        2.4; Shazeer, `GLU Variants <https://arxiv.org/abs/2002.05202>`_, 2020.
    """

    def __init__(
        self,
        features: int,
        hidden: int | None = None,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_sizes("NormalizedMLP", features=features)
        hidden = 4 * features if hidden is None else hidden
        check_sizes("NormalizedMLP", hidden=hidden)
        self.features, self.dtype = features, dtype

        def unit() -> jax.Array:
            return sample_uniform(rngs.params(), (hidden, features), param_dtype)

        self.up, self.gate = nnx.Param(unit().T), nnx.Param(unit().T)
        self.out = nnx.Param(unit())
        self.up_scale, self.gate_scale = (
            LearnedScale((hidden,), 1.0, 1.0, param_dtype=param_dtype) for _ in range(2)
        )

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Declares the unit vectors for :func:`sphax.neurons.of`."""
        inward = NeuronDimensions(index_axis=-1, vector_axis=-2)
        outward = NeuronDimensions(index_axis=-2, vector_axis=-1)
        return {"up": inward, "gate": inward, "out": outward}

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., features]`` to the same shape."""
        check_features("inputs", inputs, self.features)
        return _gated(
            as_floating("inputs", inputs),
            [each[...] for each in (self.up, self.gate, self.out)],
            [self.up_scale(), self.gate_scale()],
            dtype=self.dtype,
        )


@compiled("dtype")
def _gated(
    x: jax.Array, kernels: list[jax.Array], scales: list[jax.Array], *, dtype: Any
) -> jax.Array:
    dtype = dtype or jnp.promote_types(x.dtype, kernels[0].dtype)
    x, up, gate, out = (each.astype(dtype) for each in (x, *kernels))
    root = math.sqrt(x.shape[-1])
    u, v = (
        widen(x @ w) * (root * jnp.expand_dims(widen(scale), range(x.ndim - 1)))
        for w, scale in zip((up, gate), scales, strict=True)
    )
    return (u * jax.nn.silu(v)).astype(dtype) @ out


class NormalizedBlock(nnx.Module):
    r"""A block of nGPT, which moves tokens on the unit sphere.

    Attention and the dense layers each propose a point of the sphere, and the token
    moves towards it by a learned share :math:`\alpha` for each feature:

    .. math::
        h \leftarrow N(h + |\alpha_A| \odot (N(\mathrm{Attention}(h)) - h)), \qquad
        h \leftarrow N(h + |\alpha_M| \odot (N(\mathrm{MLP}(h)) - h))

    with :math:`N(x) = x / \|x\|`. The way is the chord, and the end is brought back to
    the sphere. With ``step="geodesic"`` it is the great circle: for the angle
    :math:`\theta` between :math:`h` and the proposal :math:`p`, and
    :math:`\alpha = |\alpha_A|`,

    .. math::
        h \leftarrow N\Big(\frac{\sin((1 - \alpha)\theta)}{\sin\theta} \odot h
        + \frac{\sin(\alpha\theta)}{\sin\theta} \odot p\Big),

    where :math:`N` does nothing if all entries of :math:`\alpha` are equal. Both agree
    to first order in :math:`\alpha`. A proposal opposite to the token, to which no
    single shortest way leads, has that of the chord.

    ``block.attention_rate()`` and ``block.mlp_rate()`` are the shares :math:`\alpha`,
    which the paper calls eigen learning rates.

    Args:
        features: Dimension of a token.
        num_heads: Heads of the attention.
        hidden: Size between the dense layers; by default four times ``features``.
        step: The way to the proposal.
        rate: :math:`\alpha` at first; about one over the number of blocks.
        rotary_base: Base of the rotary embedding.
        dtype: Of the products with matrices; tokens, lengths and shares are float32 at
            least.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: From a call, if its inputs are not floating.
        ValueError: If a size or an option is out of range; from a call, if its inputs
            are not ``[..., length, features]``.

    Example:
        >>> block = sx.layers.NormalizedBlock(8, 2, rngs=nnx.Rngs(0))
        >>> tokens = sx.sphere.sample_uniform(jax.random.key(0), (3, 5, 8))
        >>> sx.sphere.length(block(tokens)).max()
        Array(1., dtype=float32)

    References:
        Loshchilov et al., `nGPT <https://arxiv.org/abs/2410.01131>`_, ICLR 2025, Sec.
        2.2.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        hidden: int | None = None,
        *,
        step: Step = "linear",
        rate: float = 0.05,
        rotary_base: float = 10_000.0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choice("NormalizedBlock: step", step, get_args(Step))
        check_range("NormalizedBlock: rate", rate, 0.0)
        self.step: Step = step
        dtypes: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype)
        self.attention = NormalizedAttention(
            features, num_heads, rotary_base=rotary_base, **dtypes, rngs=rngs
        )
        self.mlp = NormalizedMLP(features, hidden, **dtypes, rngs=rngs)
        self.attention_rate, self.mlp_rate = (
            LearnedScale((features,), rate, features**-0.5, param_dtype=param_dtype)
            for _ in range(2)
        )

    @overload
    def __call__(self, inputs: jax.Array) -> jax.Array: ...
    @overload
    def __call__(
        self, inputs: jax.Array, cache: AttentionCache
    ) -> tuple[jax.Array, AttentionCache]: ...
    def __call__(
        self, inputs: jax.Array, cache: AttentionCache | None = None
    ) -> jax.Array | tuple[jax.Array, AttentionCache]:
        """Maps tokens ``[..., length, features]`` to unit vectors of the same shape.

        In float32 at least. Only the directions of the inputs count.
        """
        tokens = normalize(widen(as_floating("inputs", inputs)))
        if cache is None:
            proposal = self.attention(tokens)
        else:
            proposal, cache = self.attention(tokens, cache)
        tokens = _move(tokens, proposal, self.attention_rate(), step=self.step)
        tokens = _move(tokens, self.mlp(tokens), self.mlp_rate(), step=self.step)
        return tokens if cache is None else (tokens, cache)


@compiled("step")
def _move(
    tokens: jax.Array, proposal: jax.Array, rate: jax.Array, *, step: Step
) -> jax.Array:
    """The unit vectors moved towards the directions of a proposal."""
    target = normalize(proposal.astype(tokens.dtype))
    share = jnp.abs(rate.astype(tokens.dtype))
    share = jnp.expand_dims(share, range(tokens.ndim - 1))
    keep = 1.0 - share
    if step == "geodesic":
        theta = angle(tokens, target)[..., None]
        # Not at pi, where the sum would be 0. Over theta in the place of sin(theta),
        # which is the same after normalization, and finite at 0.
        theta = jnp.where(theta < jnp.pi, theta, 0.0)
        keep, share = (a * jnp.sinc(a * theta / jnp.pi) for a in (keep, share))
    return normalize(keep * tokens + share * target)


class LearnedScale(nnx.Module):
    r"""A learned vector of factors with a learning rate of its own, as nGPT has it.

    The value is :math:`\text{stored} \cdot v_0 / s_0`, where :math:`v_0` is the value
    at first and :math:`s_0` what the parameter is at first. Adam moves a parameter by
    about its learning rate :math:`\eta` in a step, and thus the value by
    :math:`\eta\, v_0 / s_0`.

    Args:
        shape: Of the vector.
        value: :math:`v_0`.
        stored: :math:`s_0`, positive.
        param_dtype: Of the parameter.

    Raises:
        TypeError: If ``value`` or ``stored`` is not a number.
        ValueError: If ``stored`` is not positive, or ``value`` is negative.

    Example:
        >>> scale = sx.layers.LearnedScale((2,), 0.05, 0.25)
        >>> scale.stored[...], scale()
        (Array([0.25, 0.25], dtype=float32), Array([0.05, 0.05], dtype=float32))

    References:
        Loshchilov et al., `nGPT <https://arxiv.org/abs/2410.01131>`_, ICLR 2025, Sec.
        2.5.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        value: float,
        stored: float,
        *,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        check_range("LearnedScale: value", value, 0.0)
        check_range("LearnedScale: stored", stored, 0.0, exclude_low=True)
        self.stored = nnx.Param(jnp.full(shape, stored, param_dtype))
        self.factor = value / stored

    def neuron_dimensions(self) -> dict[str, str]:
        """Declares for :func:`sphax.neurons.of` that there are no neurons."""
        return {"stored": "a learned scale"}

    def __call__(self) -> jax.Array:
        """The value, in the dtype of the parameter."""
        return self.stored[...] * self.factor
