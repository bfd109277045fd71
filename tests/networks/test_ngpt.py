"""nGPT against NumPy, its recipe, and sampling with and without a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import NGPT, generate
from tests.layers import ngpt_reference as reference

ONE = np.array([1])
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 7))


def make(step="linear", **options):
    """A network that has been moved away from where it starts."""
    model = NGPT(11, 8, 2, 2, 6, step=step, rate=0.3, rngs=nnx.Rngs(0), **options)
    rng = np.random.default_rng(2)
    state = nnx.state(model, nnx.Param)
    nnx.update(
        model,
        jax.tree.map(
            lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(x.dtype), state
        ),
    )
    return model


@pytest.mark.usefixtures("x64")
def test_it_is_its_definition():
    model = make(param_dtype=jnp.float64)
    values = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    h = reference.unit(values["embedding"][TOKENS])
    for _, block in sorted(values["blocks"].items()):
        h = reference.block(h, block, rate=0.3)
    scale = reference.value(values["out_scale"], 1.0, 8**-0.5)
    logits = jax.jit(model)(jnp.asarray(TOKENS))
    np.testing.assert_allclose(logits, h @ values["out"].T * scale, rtol=1e-11)


def test_the_recipe_keeps_all_vectors_of_unit_length():
    model = NGPT(11, 8, 1, 2, 6, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    neurons = sx.neurons.of(model)
    tx = optax.chain(
        optax.adam(0.05, b1=0.9, b2=0.95),
        sx.optim.keep_params_on_sphere(neurons=neurons),
    )
    tokens = jnp.asarray(TOKENS)

    def loss_of(params):
        logits = nnx.merge(graph, params)(tokens[:, :-1])
        return jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        )

    @jax.jit
    def train(params, state):
        def body(_, carry):
            params, state, _ = carry
            loss, slopes = jax.value_and_grad(loss_of)(params)
            updates, state = tx.update(slopes, state, params)
            return optax.apply_updates(params, updates), state, loss

        first = params, state, jnp.zeros([])
        return jax.lax.fori_loop(0, 100, body, first)

    trained, _, loss = train(params, tx.init(params))
    assert loss < 0.7 * loss_of(params)
    model = nnx.merge(graph, trained)
    axes = sx.neurons.find(trained, neurons)
    assert len(axes) == 2 + 7
    for path, rows in sx.neurons.select(trained, axes).items():
        rows = np.asarray(axes[path].rows(rows), np.float64)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1.0, rtol=1e-6)
    h = model.embedding[...][tokens]
    for block in model.blocks:
        h = block(h)
        lengths = np.linalg.norm(np.asarray(h, np.float64), axis=-1)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
        for rate in (block.attention_rate, block.mlp_rate):
            assert np.isfinite(rate()).all()


@pytest.fixture(scope="module")
def by_cache():
    """Logits of some more tokens, and the caches with them; compiled."""
    graph = nnx.graphdef(make())
    return jax.jit(lambda state, *x: nnx.merge(graph, state)(*x))


def test_cached_logits_are_those_without_a_cache(by_cache):
    model = make()
    state, tokens = nnx.state(model), jnp.asarray(TOKENS)
    expected = by_cache(state, tokens)
    assert expected.dtype == jnp.float32
    caches = model.init_cache((3,), 7)
    found, begin = [], 0
    for size in (3, 1, 1, 2):
        logits, caches = by_cache(state, tokens[:, begin : begin + size], caches)
        found.append(logits)
        begin += size
    np.testing.assert_allclose(np.concatenate(found, 1), expected, atol=1e-5)
    for cache in caches:
        assert cache.count == 7
        lengths = sx.sphere.length(cache.keys)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    # An eighth token has no place.
    logits, _ = by_cache(state, tokens[:, :1], caches)
    assert np.isnan(logits).all()
    # Later tokens reach nothing before them.
    other = by_cache(state, tokens.at[:, 4:].set(0))
    np.testing.assert_array_equal(other[:, :4], expected[:, :4])


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_sampling_draws_from_the_logits_without_a_cache(temperature, by_cache):
    model, key = make(), jax.random.key(3)
    prompt = jnp.asarray(TOKENS[:, :2])
    found = generate(model, prompt, 5, temperature=temperature, key=key)
    assert found.dtype == jnp.int32
    expected = np.zeros((3, 7), np.int32)
    expected[:, :2] = prompt
    for i, each in enumerate(jax.random.split(key, 5), start=2):
        logits = by_cache(nnx.state(model), jnp.asarray(expected))[:, i - 1]
        if temperature:
            drawn = jax.random.categorical(each, logits / jnp.float32(temperature))
        else:
            drawn = jnp.argmax(logits, axis=-1)
        expected[:, i] = drawn
    np.testing.assert_array_equal(found, expected)
    if not temperature:
        one = generate(model, prompt[0], 5, temperature=0)
        np.testing.assert_array_equal(one, expected[0])


def test_drawn_tokens_have_their_probabilities():
    model = make()
    prompts = jnp.zeros((4000, 1), jnp.int32)
    drawn = generate(model, prompts, 1, temperature=0.5, key=jax.random.key(0))[:, 1]
    expected = np.asarray(jax.nn.softmax(2.0 * model(jnp.array([0]))[0]))
    counts = np.bincount(drawn, minlength=11)
    # Five standard deviations.
    slack = 5 * np.sqrt(4000 * expected * (1 - expected))
    assert np.all(np.abs(counts - 4000 * expected) < slack)


@pytest.mark.parametrize("graph", [True, False])
def test_split_merge_and_update_round_trip(graph):
    with nnx.set_graph_mode(graph):
        model = NGPT(11, 8, 1, 2, 6, rngs=nnx.Rngs(0))
        other = NGPT(11, 8, 1, 2, 6, rngs=nnx.Rngs(1))
        merged = nnx.merge(*nnx.split(model, nnx.Param, ...))
        nnx.update(other, nnx.state(model))
        for copy in (merged, other, nnx.clone(model)):
            np.testing.assert_array_equal(copy(TOKENS), model(TOKENS))


def test_half_precision():
    exact, half = make()(TOKENS), make(dtype=jnp.bfloat16)(TOKENS)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, exact, atol=0.1)
    small = NGPT(11, 8, 1, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    logits, _ = small(TOKENS, small.init_cache((3,), 7))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, small(TOKENS), atol=1e-5)
    assert small.embedding[...].dtype == jnp.bfloat16


def test_tokens_of_any_integer_type_and_of_none():
    model = make()
    expected = model(TOKENS)
    mapped = jax.vmap(model)(jnp.asarray(TOKENS))
    np.testing.assert_allclose(mapped, expected, atol=1e-5)
    for dtype in (np.uint8, np.int64):
        np.testing.assert_array_equal(model(TOKENS.astype(dtype)), expected)
    for token in (-1, 11):
        outside = model(np.where(np.arange(7) == 3, token, TOKENS))
        assert np.isnan(outside[:, 3:]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: NGPT(0, 8, 1, 1, rngs=nnx.Rngs(0)), ValueError, "num_tokens must"),
        (lambda m: m(jnp.ones(3)), TypeError, "tokens must be integer"),
        (lambda m: m(3), ValueError, r"tokens must be \[..., length\], got shape \(\)"),
        (lambda m: generate(m, ONE, 2), TypeError, "key must be a random key.* None"),
        (lambda m: generate(m, ONE, 0, temperature=0), ValueError, "length must be 1"),
        (
            lambda m: generate(m, np.ones(2), 2, temperature=0),
            TypeError,
            "prompt must be i",
        ),
        (
            lambda m: generate(m, np.zeros((2, 0), int), 2, temperature=0),
            ValueError,
            r"prompt must be .* one token or more, got shape \(2, 0\)",
        ),
        (lambda m: generate(m, ONE, 2, temperature=-1.0), ValueError, "temperature m"),
    ],
)
def test_errors_teach(call, error, message):
    with pytest.raises(error, match=message):
        call(make())
