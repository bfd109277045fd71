"""The study of language models: its baseline, its optimizers, its text, its table."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import images, store, texts, transformer
from experiments.ngpt import config, report, train
from experiments.ngpt.__main__ import parse

QUICK = config.Config(
    methods=("ngpt",),
    rates=(0.01,),
    seeds=1,
    steps=3,
    batch=2,
    context=8,
    width=8,
    depth=1,
    heads=2,
)


@pytest.fixture
def text(tmp_path):
    """A short text of one's own, and its digest."""
    path = tmp_path / "words.txt"
    path.write_bytes(b"The sphere is round. " * 20)
    return dict(text=path, sha256=texts.digest(path))


def rms(x, gain):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain


def test_the_baseline_is_a_pre_norm_transformer():
    model = transformer.PreNorm(5, 8, 1, 2, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    nnx.update(
        model,
        jax.tree.map(
            lambda x: jnp.asarray(rng.normal(0.0, 0.4, x.shape), x.dtype),
            nnx.state(model),
        ),
    )
    values = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    tokens = np.array([[0, 3, 1, 4]])
    x, block = values["embedding"]["embedding"][tokens[0]], values["blocks"][0]
    h, layer = rms(x, block["attention_norm"]["scale"]), block["attention"]
    mixed = np.zeros((4, 2, 4))
    for head in range(2):
        q, k, v = (
            h @ layer[name]["kernel"][:, head] for name in ("query", "key", "value")
        )
        q, k = (
            np.stack([turned(rms(z, layer[name]["scale"])[t], t) for t in range(4)])
            for z, name in ((q, "query_norm"), (k, "key_norm"))
        )
        for t in range(4):
            weights = np.exp(k[: t + 1] @ q[t] / 2.0)
            mixed[t, head] = weights @ v[: t + 1] / weights.sum()
    x = x + np.einsum("thf,hfd->td", mixed, layer["out"]["kernel"])
    h, layer = rms(x, block["mlp_norm"]["scale"]), block["mlp"]
    gate = h @ layer["gate"]["kernel"]
    hidden = h @ layer["up"]["kernel"] * gate / (1.0 + np.exp(-gate))
    x = x + hidden @ layer["out"]["kernel"]
    expected = rms(x, values["norm"]["scale"]) @ values["out"]["kernel"]
    np.testing.assert_allclose(model(jnp.asarray(tokens))[0], expected, atol=1e-5)


def turned(x, position):
    a, b, angles = x[:2], x[2:], position * np.array([1.0, 0.01])
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cosine - b * sine, a * sine + b * cosine])


def test_both_networks_have_the_same_matrices():
    sizes = {}
    for method in ("ngpt", "prenorm"):
        chosen = dataclasses.replace(config.preset("small"), methods=(method,))
        network = nnx.eval_shape(lambda c=chosen: c.network(rngs=nnx.Rngs(0)))
        leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
        # Scales and gains aside, some of which have two axes.
        sizes[method] = sum(x.size for x in leaves if x.size >= 64 * 64)
    assert sizes["ngpt"] == sizes["prenorm"] == 2 * 256 * 64 + 2 * 16 * 64**2


def test_every_optimizer_moves_every_parameter_in_shape():
    """Without compiling; and what is hidden are the matrices of blocks."""
    for method in config.METHODS:
        chosen = dataclasses.replace(QUICK, methods=(method,))
        network = nnx.eval_shape(lambda c=chosen: c.network(rngs=nnx.Rngs(0)))
        graph, params = nnx.split(network)

        def step(params, chosen=chosen, graph=graph):
            optimizer = chosen.optimizer(jnp.float32(0.01), nnx.merge(graph, params))
            state = optimizer.init(params)
            updates, after = optimizer.update(params, state, params)
            return updates, state, after

        updates, before, after = jax.eval_shape(step, params)
        shapes = [
            jax.tree.map(lambda x: (x.shape, x.dtype), x) for x in (before, after)
        ]
        assert shapes[0] == shapes[1], method
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    hidden = config._hidden(params)
    assert sum(jax.tree.leaves(hidden)) == 4 + 3


def test_the_recipe_of_a_run_ends_on_the_sphere(tmp_path, text):
    chosen = dataclasses.replace(QUICK, **text, runs=tmp_path)
    (run,) = config.planned(chosen)
    records = []
    for folder in (tmp_path, tmp_path / "again"):
        store.complete([run], train.train, folder)
        records.append(store.load(run, folder / "ngpt") or {})
    record, again = records
    assert record["metrics"] == again["metrics"]
    metrics = record["metrics"]
    assert metrics["sample"].startswith("The ")
    assert metrics["records"] == [0, 1, 2, 3]
    assert len(metrics["curve"]) == 4
    assert record["settings"]["text"] == "words.txt"
    found = [(run, record)]
    lines = list(report.table(chosen, found))
    assert lines[2].startswith("| nGPT | ")
    assert "A sample of nGPT, seed 0, at temperature 0.7:" in lines
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "small-words-losses.png").stat().st_size > 10_000


def test_losses_are_those_of_a_uniform_model_in_the_beginning():
    network = lambda tokens: jnp.zeros((*tokens.shape, 256))  # noqa: E731
    found = train.losses(network, jnp.zeros((2, 9), jnp.uint8))
    assert found.shape == (2, 8)
    np.testing.assert_allclose(found, math.log(256), rtol=1e-6)


def test_parts_of_a_text(text):
    parts = train.load(dataclasses.replace(QUICK, **text))
    assert len(parts.train) == 420 - 2 * 21
    assert parts.validation.shape == parts.test.shape == (2, 9)
    assert bytes(parts.train[:10]) == b"The sphere"
    with pytest.raises(images.DatasetNotFoundError, match="must have the SHA-256 0000"):
        train.load(dataclasses.replace(QUICK, **text | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match="--text must have at least 660 bytes for"):
        train.load(dataclasses.replace(QUICK, **text, context=32))


def test_the_step_that_reaches_a_loss():
    steps, curve = np.array([0, 10, 20]), np.array([5.0, 3.0, 2.0])
    assert report.steps_to(2.5, steps, curve) == 15.0
    assert report.steps_to(5.0, steps, curve) == 0.0
    assert report.steps_to(1.0, steps, curve) == np.inf


def metrics(validation, test, curve):
    return dict(
        validation=validation,
        test=test,
        curve=curve,
        records=[0, 10, 20],
        parameters=1_000,
    )


def test_the_table_is_of_the_rates_of_least_validation_loss():
    chosen = dataclasses.replace(
        QUICK, methods=("prenorm", "ngpt"), rates=(0.01, 0.02), seeds=2
    )
    made = store.provenance(1.0, 1)
    found = []
    for run in config.planned(chosen):
        method, rate = run.config.methods[0], run.config.rates[0]
        less = 0.1 * (rate == 0.02) + (0.5 + 0.01 * run.seed) * (method == "ngpt")
        each = metrics(2.0 - less, 2.1 - less, [5.0, 3.0 - less, 2.0 - less])
        found.append((run, {"metrics": each, "provenance": made}))
    lines = list(report.table(chosen, found))
    assert lines[2].startswith("| pre-norm transformer | 2.000 ± 0.000 | ")
    assert lines[3].startswith("| nGPT | 1.495 ± 0.007 | 1.395 ± 0.007 | 0.02 | 15 | ")
    (search,) = (x for x in lines if x.startswith("| nGPT, rate"))
    assert search == "| nGPT, rate 0.02 | 1.500 | **1.400** |  |"
    # Differences of 0.50 and 0.51.
    (verdict,) = (x for x in lines if "paired t-test" in x)
    assert "from the row 'pre-norm transformer'" in verdict
    assert "better: nGPT (-0.50)" in verdict


def test_own_rates_are_the_best_of_the_published_search():
    """Which all have with the first seed; only the own rate has further ones."""
    for preset in config.presets():
        searched: dict[config.MethodName, dict[float, float]] = {}
        for run in config.planned(preset):
            record = store.load(run, store.published("ngpt"))
            if record and run.seed == 0:
                losses = searched.setdefault(run.config.methods[0], {})
                losses[run.config.rates[0]] = record["metrics"]["validation"]
        for method, losses in searched.items():
            assert min(losses, key=lambda rate: losses[rate]) == (
                config.METHODS[method].rate
            ), method


def test_settings():
    small, optimizers = config.presets()
    assert len({run.digest for run in config.planned(small)}) == 4 * 5
    assert len(config.planned(small)) == 4 * (5 + 2)
    assert len({run.digest for run in config.planned(optimizers)}) == 9 * 5
    large = parse(["--preset", "large", "--text", __file__])
    assert (large.context, large.width, large.precision) == (1024, 768, "bfloat16")
    assert large.sha256 == texts.digest(large.text)
    # The text that there is, whatever Python it comes with.
    assert parse([]).sha256 == texts.digest(None)
    assert parse(["--sha256", "1" * 64]).sha256 == "1" * 64
    assert parse(["--steps", "7"]).steps == 7
    chosen = dataclasses.replace(small, methods=("prenorm",), rates=(0.5,))
    (run, *_) = config.planned(chosen)
    assert (run.method, run.group) == ("prenorm-0.5", "small-topics")
