"""Orthogonal training: what its methods start from and keep, and how runs resume."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import _checkpoints, _opt_training, opt, report
from experiments._opt_methods import METHODS
from experiments._opt_problems import Examples, classification
from experiments._opt_recipes import Recipe

QUICK = Recipe(
    "plain",
    steps=4,
    batch=8,
    learning_rate=0.1,
    rotation_rate=0.2,
    descent_rate=0.1,
    weight_decay=0.01,
    redrawn_every=2,
    checkpoint_every=1,
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


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def examples(number, seed):
    return Examples(draw(number, 16, seed=seed), np.arange(number, dtype=np.int32) % 3)


@pytest.fixture(scope="module")
def problem():
    def network(seed):
        return Network(nnx.Rngs(seed))

    return classification("toy", network, jnp.asarray, examples(20, 1), examples(9, 2))


@pytest.fixture(scope="module")
def params(problem):
    return nnx.state(problem.network(0), nnx.Param)


def by_path(tree):
    leaves = jax.tree.leaves_with_path(tree)
    names = (
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves
    )
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def fit(problem, folder, recipe, seed=0):
    return _opt_training.fit(problem, recipe, seed, folder, lambda steps, metrics: None)


def pair_energy(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [(i, j) for i, j in np.ndindex(len(rows), len(rows)) if i != j]
    return np.mean([1.0 / np.linalg.norm(units[i] - units[j]) for i, j in pairs])


def test_hidden_layers_are_rotated_from_the_weights_of_the_network_on(params):
    @jax.jit
    def neurons(params):
        return {
            name: {path: own.kernel for path, own in frozen.items()}
            for name in METHODS
            for _, frozen in [_init(name, params)]
        }

    for name, found in neurons(params).items():
        # Butterflies of two factors of four need sixteen dimensions.
        fits = {"plain": [], "boft": ["first"]}.get(name, ["first", "second"])
        assert set(found) == {f"{layer}/kernel" for layer in fits}
        for layer in fits:
            kernel = params[layer].kernel[...]
            np.testing.assert_array_equal(found[f"{layer}/kernel"], kernel)


def _init(name, params):
    training = METHODS[name].reparameterization(as_released=False)
    return training.init(jax.random.key(1), params)


STEPS = [(name, ()) for name in METHODS] + [(name, (2,)) for name in ("cp", "ogd")]


@pytest.mark.parametrize(("name", "drops"), STEPS)
def test_every_method_takes_steps_of_one_shape(name, drops, problem):
    """Without compiling: what a step and a redrawing leave is what they begin with."""
    recipe = dataclasses.replace(QUICK, method=name, drops=drops)
    graph, params, noise, rest = nnx.split(
        problem.network(0), nnx.Param, nnx.RngState, ...
    )
    setting = _opt_training.Setting(graph, recipe, problem.loss)
    key, batch = jax.random.key(0), next(problem.batches(recipe, 0, 0))

    def steps(params):
        free, frozen = recipe.training.init(key, params)
        state = _opt_training.State(free, frozen, rest, recipe.optimizer.init(free))
        yield state
        if METHODS[name].is_redrawn:
            yield _opt_training._redraw(recipe, state, key)
        yield _opt_training._step(setting, state, noise, batch, key)[0]

    first, *others = jax.eval_shape(lambda params: list(steps(params)), params)
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure(first)
        same = jax.tree.map(
            lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), first, other
        )
        assert all(jax.tree.leaves(same))


def test_energy_is_held_by_rotations_and_not_without(problem, params, tmp_path):
    """Of what is redrawn, too; the first record is that of the network itself."""
    rows = [
        np.asarray(params[layer].kernel[...], float).T for layer in ("first", "second")
    ]
    first = [pair_energy(own) for own in rows]
    plain, rotated = (
        fit(problem, tmp_path / name, dataclasses.replace(QUICK, method=name)).energy
        for name in ("plain", "s-opt")
    )
    np.testing.assert_allclose(plain[0], first, rtol=1e-5)
    np.testing.assert_allclose(rotated, [first] * 5, rtol=1e-5)
    assert np.abs(plain[-1] / first - 1.0).min() > 1e-3


def test_a_plain_step_is_that_of_adam(problem, params, tmp_path):
    """Decay of hidden kernels is a part of the gradient, all else has none."""
    recipe = dataclasses.replace(QUICK, steps=1, batch=20)
    fit(problem, tmp_path, recipe)
    graph, _, noise, rest = nnx.split(problem.network(0), nnx.Param, nnx.RngState, ...)
    _, (state, _) = _restored(problem, recipe, tmp_path)
    batch = next(problem.batches(recipe, 0, 0))

    @jax.jit
    def gradient(params):
        def loss(params):
            network = nnx.merge(graph, params, noise, rest, copy=True)
            nnx.reseed(network, dropout=jax.random.fold_in(jax.random.key(0), 0))
            losses = optax.softmax_cross_entropy_with_integer_labels
            return losses(network(batch.inputs), batch.labels).mean()

        return jax.grad(loss)(params)

    slopes, before, after = map(by_path, (gradient(params), params, state.free))
    for path, old in before.items():
        slope = np.asarray(slopes[path], float)
        is_decaying = old.ndim > 1 and not path.startswith("classifier")
        slope += 0.01 * np.asarray(old) * is_decaying
        # Adam's first step, whatever its decays are.
        step = -0.1 * slope / (np.abs(slope) + 1e-8)
        certain = np.abs(slope) > 1e-4
        np.testing.assert_allclose(
            (after[path] - old)[certain], step[certain], atol=1e-3
        )


def _restored(problem, recipe, folder):
    *_, first = _opt_training._start(problem, recipe, 0)
    found = _checkpoints.restore(folder, first)
    assert found is not None
    return found


def test_rotations_have_a_rate_of_their_own_and_do_not_decay(params):
    recipe = dataclasses.replace(QUICK, method="boft", weight_decay=1.0)

    @jax.jit
    def moved(gradient):
        free, _ = recipe.training.init(jax.random.key(0), params)
        free = jax.tree.map(lambda leaf: leaf + 1.0, free)
        gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), free)
        tx = recipe.optimizer
        return by_path(tx.update(gradients, tx.init(free), free)[0])

    still, steps = moved(0.0), moved(1.0)
    # The second kernel is of a size that has no butterflies.
    decaying = {path for path, update in still.items() if np.any(update)}
    assert decaying == {"second/kernel/value"}
    np.testing.assert_allclose(steps["first/kernel/value/left"], -0.2, rtol=1e-4)
    np.testing.assert_allclose(steps["first/bias/value"], -0.1, rtol=1e-4)


def test_a_killed_run_goes_on_bit_by_bit(problem, tmp_path, monkeypatch):
    """Statistics, dropout, batches and redrawn rotations are those of one run."""
    recipe = dataclasses.replace(QUICK, method="s-opt")
    whole = fit(problem, tmp_path / "whole", recipe, seed=3)
    step, steps = _opt_training._step, []

    def killed(*arguments):
        steps.append(None)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(_opt_training, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(problem, tmp_path / "killed", recipe, seed=3)
    resumed = fit(problem, tmp_path / "killed", recipe, seed=3)
    assert len(steps) == 4 + 1
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_curves_are_of_a_glance_and_their_end_of_the_whole_test(problem, tmp_path):
    large = classification(
        "large", problem.network, jnp.asarray, examples(20, 1), examples(1_200, 2)
    )
    np.testing.assert_array_equal(large.glance.inputs, large.test.inputs[:1_000])
    np.testing.assert_array_equal(large.glance.labels, large.test.labels[:1_000])
    # Labels of no class: all are wrong.
    none = problem.test._replace(labels=problem.test.labels + 3)
    seen = fit(problem._replace(glance=none), tmp_path / "glance", QUICK).error
    np.testing.assert_allclose(seen[:-1], 100.0, rtol=1e-6)
    assert seen[-1] == fit(problem, tmp_path / "whole", QUICK).error[-1] < 100.0


def test_the_loss_must_be_a_number(problem, tmp_path):
    broken = problem._replace(loss=lambda network, batch: jnp.inf * batch.inputs.sum())
    with pytest.raises(
        FloatingPointError, match=r"plain, seed 0: the loss is .* step 0"
    ):
        fit(broken, tmp_path, QUICK)


@pytest.mark.parametrize("name", ["mlp", "cnn", "gcn", "pointnet"])
def test_every_problem_has_a_loss_and_an_error(name):
    """Without compiling."""
    config = opt.Config(problems=(name,))
    problem, recipe = config.load(name), config.recipe(name, "boft")
    network: Any = problem.network(0)
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    batch = next(problem.batches(recipe, 0, 0))

    def both(params, rest, batch, test):
        network = nnx.merge(graph, params, rest, copy=True)
        recipe.training.init(jax.random.key(0), params)
        network.train()
        loss = problem.loss(network, batch)
        network.eval()
        return loss, problem.error(network, test)

    shapes = jax.eval_shape(both, params, rest, batch, problem.test)
    assert [shape.shape for shape in shapes] == [(), ()]
    assert any(path.startswith("classifier") for path in by_path(params))


def test_the_preset_is_the_authors_recipe():
    config = opt.Config(preset="cnn-6", dataset="cifar100")
    recipe = config.recipe("cnn", "cp")
    assert (recipe.steps, recipe.drops) == (75_000, (30_000, 50_000, 65_000))
    assert (recipe.learning_rate, recipe.batch, recipe.weight_decay) == (0.1, 128, 5e-4)
    fewer = dataclasses.replace(config, steps=300).recipe("cnn", "cp")
    assert (fewer.steps, fewer.drops) == (300, (120, 200, 260))
    assert config.result(".json").name == "opt_cnn-6_cifar100.json"


def test_settings_decide_what_is_learned_and_where_it_goes(tmp_path):
    config = opt.Config()
    assert config.chosen == ("mlp", "cnn")
    assert config.runs == 5
    assert opt.Config(dataset="cifar10").chosen == ("cnn",)
    others = opt.Config(problems=("gcn", "pointnet"), graph_dir=tmp_path)
    assert others.result(".png").name == "opt_quick_cora_shapes.png"
    assert dataclasses.replace(config, methods=("cp",)).digest == config.digest
    assert dataclasses.replace(config, width=1.0).digest != config.digest


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(methods=()), "methods must name at least one"),
        (dict(steps=0), "steps must be positive, got 0"),
        (dict(rotation_rate=-1.0), r"rotation-rate must be positive, got -1\.0"),
        (dict(preset="cnn-6"), "is for larger images than digits"),
        (dict(preset="cnn-6", problems=("mlp",)), "cnn-6 has no mlp: leave it out"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        opt.Config(**setting)


def test_the_experiment_resumes_and_leaves_its_results(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(opt.Config, "load", lambda config, name: problem)
    monkeypatch.setattr(opt.Config, "recipe", _tiny)
    config = opt.Config(
        problems=("mlp",),
        methods=("plain", "s-opt"),
        seeds=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )
    measure, measured = _opt_training.fit, []

    def killed_at_third(*arguments):
        measured.append(None)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(_opt_training, "fit", killed_at_third)
    with pytest.raises(KeyboardInterrupt):
        opt.train(config)
    results = opt.train(config)
    assert len(measured) == 3 + 2
    path = config.result(".json")
    assert json.loads(path.read_text()) == results
    assert str(tmp_path) not in path.read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(config.checkpoints.iterdir())
    runs = results["problems"]["mlp"]["runs"]
    plain, rotated = runs["plain"], runs["s-opt"]
    assert len(plain["error"]) == 2
    assert [len(curve) for curve in plain["curves"].values()] == [4, 5, 5]
    assert plain["curves"]["energy"][-1] == pytest.approx(
        np.mean(plain["energy"]), abs=1e-4
    )
    assert rotated["largest"] < 1e-3 < plain["largest"]
    text = report.rewrite("<!-- opt_quick_digits -->\n<!-- end -->", config.results)
    assert "| S-OPT | " in text
    assert "`python -m experiments.opt --problems mlp --methods plain s-opt" in text


def _tiny(config, name, method):
    return dataclasses.replace(QUICK, method=method)
