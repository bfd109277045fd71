"""Orthogonal training: what its methods start from and keep, and their optimizers."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.common import networks, runs, store
from experiments.opt import config, report, train
from experiments.opt.__main__ import parse

QUICK = config.Config(
    methods=("plain",),
    seeds=1,
    steps=4,
    batch=8,
    learning_rate=0.1,
    rotation_rate=0.2,
    descent_rate=0.1,
    weight_decay=0.01,
    redrawn_every=2,
)


class Network(nnx.Module):
    """A layer that every method can rotate, one that not every one can, and noise."""

    def __init__(self, rngs):
        self.first = nnx.Linear(16, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.second = nnx.Linear(6, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.classifier = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.norm(self.first(x))))
        return self.classifier(nnx.relu(self.second(x)))


def examples(number, seed):
    pixels = np.random.default_rng(seed).normal(127.5, 127.5, (number, 16))
    return train.Examples(
        jnp.asarray(pixels, jnp.float32), jnp.arange(number, dtype=jnp.int32) % 3
    )


HIDDEN = ("first", "second")
PROBLEM = train.Problem(Network, jnp.full(16, 0.5), examples(20, 1), examples(1_200, 2))


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(train, "load", lambda config: PROBLEM)


def parts(seed=0):
    return nnx.split(Network(nnx.Rngs(seed)), nnx.Param, nnx.RngState, ...)


def by_path(tree):
    leaves = jax.tree.leaves_with_path(tree)
    names = (
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves
    )
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def of(method, **options):
    return dataclasses.replace(QUICK, methods=(method,), **options)


def trained(tmp_path, chosen):
    (run,) = config.planned(dataclasses.replace(chosen, runs=tmp_path))
    store.complete([run], train.train, tmp_path)
    return run, store.load(run, tmp_path / "opt") or {}


def pair_energy(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [(i, j) for i, j in np.ndindex(len(rows), len(rows)) if i != j]
    return np.mean([1.0 / np.linalg.norm(units[i] - units[j]) for i, j in pairs])


def test_hidden_layers_are_rotated_from_the_weights_of_the_network_on():
    _, params, *_ = parts()

    @jax.jit
    def neurons(params):
        found = {}
        for name in config.METHODS:
            _, frozen = of(name).training.init(jax.random.key(1), params)
            found[name] = {path: neurons.kernel for path, neurons in frozen.items()}
        return found

    for name, found in neurons(params).items():
        # Butterflies of two factors of four need sixteen dimensions.
        fits = {"plain": [], "boft": ["first"]}.get(name, ["first", "second"])
        assert set(found) == {f"{layer}/kernel" for layer in fits}
        for layer in fits:
            kernel = params[layer].kernel[...]
            np.testing.assert_array_equal(found[f"{layer}/kernel"], kernel)


STEPS = [(name, ()) for name in config.METHODS]
STEPS += [(name, (2,)) for name in ("cp", "ogd")]


@pytest.mark.parametrize(("name", "drops"), STEPS)
def test_every_method_takes_steps_of_one_shape(name, drops):
    """Without compiling: steps and redrawings keep all shapes of the state."""
    chosen = of(name, drops=drops)
    graph, params, noise, rest = parts()
    key, shared = jax.random.key(0), (PROBLEM.context, noise)

    def steps(params):
        free, frozen = chosen.training.init(key, params)
        state = train.State(free, frozen, rest, chosen.optimizer.init(free))
        yield state
        if chosen.method.is_redrawn:
            yield train._redraw(chosen, state, key)
        yield train.step((graph, chosen), shared, state, PROBLEM.train, 0, 0)[0]

    first, *others = jax.eval_shape(lambda params: list(steps(params)), params)
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure(first)
        same = jax.tree.map(
            lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), first, other
        )
        assert all(jax.tree.leaves(same))


def test_a_plain_step_is_that_of_adam():
    """Decay of hidden kernels is a part of the gradient, all else has none."""
    graph, params, noise, rest = parts()
    state = train.State(params, {}, rest, QUICK.optimizer.init(params))
    batch, shared = PROBLEM.train, (PROBLEM.context, noise)

    @jax.jit
    def both(params):
        def loss(params):
            network = nnx.merge(graph, params, noise, rest, copy=True)
            nnx.reseed(network, dropout=jax.random.fold_in(jax.random.key(3), 5))
            logits = network(batch.inputs / 255.0 - 0.5)
            losses = optax.softmax_cross_entropy_with_integer_labels
            return losses(logits, batch.labels).mean()

        stepped, metrics = train.step((graph, QUICK), shared, state, batch, 5, 3)
        return jax.value_and_grad(loss)(params), metrics["loss"], stepped

    (value, slopes), loss, after = both(params)
    np.testing.assert_allclose(loss, value, rtol=1e-6)
    slopes, before, after = map(by_path, (slopes, params, after.free))
    for path, old in before.items():
        slope = np.asarray(slopes[path], float)
        is_decaying = old.ndim > 1 and not path.startswith("classifier")
        slope += 0.01 * np.asarray(old) * is_decaying
        # Adam's first step, whatever its decays are.
        step = -0.1 * slope / (np.abs(slope) + 1e-8)
        certain = np.abs(slope) > 1e-4
        moved = (after[path] - old)[certain]
        np.testing.assert_allclose(moved, step[certain], atol=1e-3)


@pytest.mark.parametrize(("drops", "decays"), [((), False), ((2,), True)])
def test_rotations_have_a_rate_of_their_own_and_decay_only_as_released(drops, decays):
    chosen = of("boft", weight_decay=1.0, drops=drops)
    _, params, *_ = parts()

    @jax.jit
    def moved(gradient):
        free, _ = chosen.training.init(jax.random.key(0), params)
        free = jax.tree.map(lambda leaf: leaf + 1.0, free)
        gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), free)
        tx = chosen.optimizer
        return by_path(tx.update(gradients, tx.init(free), free)[0])

    still, steps = moved(0.0), moved(1.0)
    decaying = {path for path, update in still.items() if np.any(update)}
    # The second kernel is of a size that has no butterflies.
    released = {"first/kernel/value/left", "classifier/kernel/value"}
    assert decaying == {"second/kernel/value"} | (released if decays else set())
    if not drops:
        np.testing.assert_allclose(steps["first/kernel/value/left"], -0.2, rtol=1e-4)
        np.testing.assert_allclose(steps["first/bias/value"], -0.1, rtol=1e-4)


@pytest.mark.usefixtures("problem")
def test_short_runs_are_stored_and_have_a_table_and_a_figure(tmp_path):
    """Rotations, redrawn as well, hold the energy; plain training does not."""
    found = [trained(tmp_path, of(name)) for name in ("plain", "s-opt")]
    plain, rotated = (record["metrics"] for _, record in found)
    assert set(plain) == {"error", "loss", "energy", "largest", "records", "curves"}
    assert plain["records"] == [0, 1, 2, 3, 4]
    assert [len(curve) for curve in plain["curves"].values()] == [4, 5, 5]
    assert plain["curves"]["energy"][0] == 0.0
    assert plain["curves"]["loss"][-1] == pytest.approx(plain["loss"], abs=1e-5)
    assert rotated["largest"] < 1e-3 < 0.1 < plain["largest"]
    _, again = trained(tmp_path / "again", of("s-opt"))
    assert again["metrics"] == rotated
    lines = list(report.table(QUICK, found))
    assert lines[2].startswith(f"| plain | {plain['error']:.2f} |  | ")
    assert lines[3].startswith(f"| S-OPT | {rotated['error']:.2f} |  | ")
    assert "| 0.00 |" in lines[3]
    assert lines[-1].startswith("`python -m experiments.opt --preset mlp --dataset d")
    report.draw(QUICK, found, tmp_path)
    assert (tmp_path / "mlp-digits-curves.png").stat().st_size > 10_000


def test_errors_and_energies_are_those_of_the_hidden_layers():
    graph, params, noise, rest = parts()
    some = jax.tree.map(lambda x: x[:9], PROBLEM.test)
    measure = (graph, (PROBLEM.context, noise), params, rest)
    error, energies = train._measure(*measure, some)
    network = nnx.merge(graph, params, noise, rest)
    network.eval()
    logits = network(some.inputs / 255.0 - 0.5)
    wrong = np.asarray(logits).argmax(1) != np.asarray(some.labels)
    assert error == pytest.approx(100.0 * wrong.mean())
    layers = (np.asarray(params[name].kernel[...], float) for name in HIDDEN)
    expected = [pair_energy(kernel.T) for kernel in layers]
    np.testing.assert_allclose(energies, expected, rtol=1e-5)


@pytest.mark.usefixtures("problem")
def test_errors_on_the_way_are_of_some_test_images_and_the_last_of_all(monkeypatch):
    seen = []

    def measure(graph, shared, params, rest, test):
        seen.append(len(test.labels))
        return jnp.zeros(()), jnp.ones(2)

    monkeypatch.setattr(train, "_measure", measure)
    monkeypatch.setattr(train.loop, "fit", recorded)
    (run,) = config.planned(QUICK)
    (metrics,) = train.train([run], runs.Work(store.published("opt"), print))
    assert seen == [1_000, 1_000, 1_200]
    assert metrics["energy"] == 0.0


def recorded(step, setting, states, rows, work, **options):
    """What the loop does with ``record``, without any step."""
    found = [options["record"](states[0], done) for done in (0, 2, 4)]
    records = jax.tree.map(lambda *values: np.stack(values), *found)
    return [train.loop.Fitted(states[0], np.zeros(4, np.float32), records)]


@pytest.mark.parametrize("name", ["mlp", "cnn", "gcn", "pointnet"])
def test_every_problem_has_logits_of_its_classes(name):
    """Without compiling."""
    chosen = dataclasses.replace(config.preset(name), methods=("boft",))
    problem = train.load(chosen)
    network: Any = problem.network(rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    assert any(path.startswith("classifier") for path in by_path(params))

    def logits(params):
        chosen.training.init(jax.random.key(0), params)
        network = nnx.merge(graph, params, rest, copy=True)
        return train.logits(network, problem.context, problem.test.inputs[:5])

    classes = len(np.unique(problem.train.labels))
    assert jax.eval_shape(logits, params).shape == (5, classes)


def test_the_preset_is_the_authors_recipe():
    chosen = parse(["--preset", "cnn-6"])
    assert chosen.group == "cnn-6-cifar100"
    assert (chosen.steps, chosen.drops) == (75_000, (30_000, 50_000, 65_000))
    recipe = chosen.learning_rate, chosen.batch, chosen.weight_decay
    assert recipe == (0.1, 128, 5e-4)
    assert (chosen.width, chosen.precision) == (1.0, "tf32")
    # The authors' raw arrays: no scale, and standard normal entries.
    assert config.METHODS["cp"].released == {"scale": 1.0, "rotation_init": "normal"}
    quick = parse(["--preset", "cnn", "--dataset", "mnist", "--seeds", "2"])
    assert (quick.group, quick.seeds, quick.steps) == ("cnn-mnist", 2, 300)
    assert not quick.drops


def test_cnn_6_has_the_published_sizes_or_a_share_of_them():
    published = networks.cnn_6((32, 32, 3))
    sizes = [(stage.features, stage.repeats) for stage in published.stages]
    assert (sizes, published.features) == ([(64, 2)] * 3, 64)
    narrow, small = (
        networks.design("cnn-6", shape, 0.25) for shape in ((28, 28, 1), (8, 8, 1))
    )
    assert [stage.features for stage in narrow.stages] == [16] * 3
    assert [stage.features for stage in small.stages] == [16, 32]


def test_networks_of_one_data_set_have_different_digests():
    one, other = (
        config.planned(dataclasses.replace(QUICK, preset=name))[0]
        for name in ("mlp", "cnn")
    )
    assert one.digest != other.digest


def test_tables_say_what_differs_and_miss_what_is_not_stored():
    provenance = {"device": None, "versions": None, "seconds": None}
    found = []
    for run in config.planned(dataclasses.replace(QUICK, methods=("plain", "poet"))):
        for seed in range(4):
            worse = 2.0 * (run.method == "poet")
            metrics = {"error": 5.0 + worse + 0.01 * seed**2, "loss": 1.0}
            metrics["energy"] = -0.001 * (1 + seed) * bool(worse)
            record = {"metrics": metrics, "provenance": provenance}
            found.append((dataclasses.replace(run, seed=seed), record))
    for _, record in found[-2:]:
        record["metrics"]["error"] += 0.01
    table = list(report.table(QUICK, found))
    assert table[0].startswith("| MLP, digits | error, % (4 seeds) | minus plain's |")
    assert table[0].endswith("| loss | energy, % |")
    assert table[3].endswith("| 2.00 ± 0.01 | 1.000 ± 0.000 | 0.00 ± 0.00 |")
    assert "worse: POET (+2.0" in table[5]
