"""Classification with other operators: names, networks, recipes, runs, tables."""

import dataclasses
import itertools
import json
import typing
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from experiments import (
    _command_line,
    _data,
    _descent,
    _methods,
    _networks,
    _operators,
    _published,
    _recipes,
    _training,
    classify,
    report,
)

# The defaults are alpha = rho = 1, beta = 0.5, k = 0.3.
LENGTH = {
    "sphere": np.ones_like,
    "ball": lambda r: np.minimum(r, 1.0),
    "tanh": np.tanh,
    "linear": lambda r: r,
    "segmented": lambda r: np.where(r < 1.0, r, 0.5 * r + 0.5),
    "log": lambda r: np.log(1.0 + r),
    "mix": lambda r: r + 0.5 * np.log(1.0 + r),
}
ANGLE = {
    "linear": lambda t: 1.0 - 2.0 * t / np.pi,
    "cosine": np.cos,
    "sigmoid": lambda t: (
        np.tanh((np.pi / 2 - t) / 0.6) / np.tanh(np.pi / 1.2)  # 2 k and 4 k
    ),
    "square-cosine": lambda t: np.sign(np.cos(t)) * np.cos(t) ** 2,
}
WEIGHTED = {
    "": lambda h, r, w: h(r),
    "-weighted": lambda h, r, w: w * h(r),
    "-nonlinear": lambda h, r, w: h(w * r),
}
NAMES = list(itertools.product(LENGTH, ANGLE, WEIGHTED))


def test_there_are_84_names_and_three_more():
    names = {f"{h}-{g}{w}" for h, g, w in NAMES}
    assert len(names) == 84
    more = {"plain", "sphere-learned-sigmoid", "sphere-norm"}
    assert set(_operators.OPERATORS) == names | more
    titles = {operator.title for operator in _operators.OPERATORS.values()}
    assert len(titles) == 87
    named = _operators.operator("tanh-square-cosine-weighted")
    assert named.title == "TanhConv, square cosine weighted"


def test_an_operator_is_what_its_name_says():
    lengths, norms = np.array([0.4, 1.7]), np.array([2.0, 3.0])
    angles = np.array([0.3, 2.1])
    for h, g, weighted in NAMES:
        found = _operators.operator(f"{h}-{g}{weighted}")
        options = found.conv.keywords
        magnitude = options["magnitude"].weigh(*map(jnp.asarray, (lengths, norms)))
        expected = WEIGHTED[weighted](LENGTH[h], lengths, norms)
        np.testing.assert_allclose(magnitude, expected, rtol=1e-6)
        angular = options["angular"](jnp.asarray(angles))
        np.testing.assert_allclose(angular, ANGLE[g](angles), rtol=1e-5)
        has_radius = h in ("ball", "tanh", "segmented")
        assert options["radius"] == ("learned" if has_radius else "fixed")
        assert found.has_length == bool(weighted)
    assert _operators.operator("plain").has_length
    learned = _operators.operator("sphere-learned-sigmoid").conv
    layer = nnx.eval_shape(lambda: learned(2, 3, (3, 3), rngs=nnx.Rngs(0)))
    assert set(nnx.state(layer, nnx.Param)) == {"kernel", "k_raw"}


@pytest.mark.parametrize("name", ["tanh", "tanh-", "cosine", "tanh-cosine-linear", ""])
def test_other_names_say_which_there_are(name):
    with pytest.raises(ValueError, match=r"segmented, log, mix.*square-cosine.*got"):
        _operators.operator(name)


def test_the_command_line_says_what_exists():
    for flags, match in (
        (["--operator", "plain", "cosin"], "sphere-learned-sigmoid"),
        (["--network", "vgg"], "'vgg9'"),
        (["--width", "0"], "width must be positive, got 0.0"),
        (["--operator"], "operator must have at least one name"),
    ):
        with pytest.raises(_command_line.UsageError, match=match):
            _recipes.parse(flags)
    found = _recipes.parse(["--operator", "plain", "ball-linear", "--network", "vgg9"])
    assert (found.operator, found.network) == (("plain", "ball-linear"), "vgg9")
    assert found.name == "classify_quick_digits_operators"


def test_every_network_has_a_name():
    names = typing.get_args(_networks.NetworkName)
    columns = {"mnist", "cifar10", "cifar100"}
    assert set(names) == {"small"} | columns | set(sx.networks.BACKBONES)
    for name in names:
        design = _networks.design(name, (8, 9, 2), 1.0)
        assert design.input_shape == (8, 9, 2)
    vgg = _networks.design("vgg9", (32, 32, 3), 1.0)
    assert vgg == sx.networks.BACKBONES["vgg9"]
    narrow = _networks.design("vgg9", (32, 32, 3), 0.02)
    assert [stage.features for stage in narrow.stages] == [3, 4, 5]
    assert narrow.features == 5


@pytest.mark.parametrize("name", ["small", "mnist", "vgg9", "resnet20"])
@pytest.mark.parametrize("in_plane", [False, True])
def test_networks_take_images_of_any_shape_and_any_operator(name, in_plane):
    operator = ("tanh-square-cosine",)
    config = _recipes.Config(operator=operator, network=name, width=0.05)
    design = _recipes.architecture(config, (8, 9, 2), in_plane=in_plane)
    method = _methods.METHODS["softmax"]
    model = nnx.eval_shape(
        lambda: _training.Classifier(config, design, 10, method, rngs=nnx.Rngs(0))
    )
    images = jax.ShapeDtypeStruct((3, 8, 9, 2), jnp.float32)
    out = nnx.eval_shape(
        lambda network, x: network(x, use_running_average=False), model.network, images
    )
    features = {"small": 3, "mnist": 13, "vgg9": 13, "resnet20": 3}[name]
    assert out.shape == (3, 2 if in_plane else features)


def test_images_that_are_too_small_for_a_network():
    design = _networks.design("cifar10", (4, 4, 1), 1.0)
    config = _recipes.Config()
    method = _methods.METHODS["softmax"]
    with pytest.raises(ValueError, match=r"input_shape \(4, 4, 1\) is too small"):
        _training.initial(config, design, method, 10, 0)


PARAMS = {
    "stages": {"kernel": 1.0 + jnp.arange(4.0).reshape(1, 1, 2, 2)},
    "shortcut": {"kernel": 2.0 * jnp.ones((1, 1, 2, 2))},
    "norm": {"scale": jnp.ones(2), "bias": 3.0 * jnp.ones(2)},
    "slope": jnp.ones(2),
    "prototypes": jnp.ones((5, 2)),
}


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("of_directions", [True, False])
def test_what_decays_and_what_is_kept_orthogonal(has_length, of_directions):
    transform = _descent.regularized(
        optax.identity(),
        has_length=has_length,
        weight_decay=0.1,
        decay_norms=True,
        orthogonality=0.01,
        of_directions=of_directions,
    )
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found, _ = transform.update(zero, transform.init(PARAMS), PARAMS)
    expected = jax.tree.map(lambda leaf: 0.1 * np.asarray(leaf), PARAMS)
    expected["slope"] *= 0.0
    if not has_length:
        kernel = np.asarray(PARAMS["stages"]["kernel"], np.float64)
        expected["stages"]["kernel"] = 0.01 * slope_of_penalty(kernel, of_directions)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), found, expected
    )


def slope_of_penalty(kernel, of_directions):
    """Of |W W' - I|^2 by finite differences, the neurons being columns."""

    def penalty(flat):
        columns = flat.reshape(2, 2)
        if of_directions:
            columns = columns / np.linalg.norm(columns, axis=0)
        return np.sum((columns.T @ columns - np.eye(2)) ** 2)

    steps = 1e-5 * np.eye(kernel.size)
    flat = kernel.ravel()
    slopes = [(penalty(flat + e) - penalty(flat - e)) / 2e-5 for e in steps]
    return np.reshape(slopes, kernel.shape)


def test_presets_are_the_authors_recipes():
    nine = _recipes.preset("spherenet-9")
    assert (nine.network, nine.dataset, nine.steps) == ("vgg9", "cifar10", 64_000)
    assert (nine.batch, nine.flip, nine.augment) == (128, True, False)
    assert (nine.label_smoothing, nine.orthogonality) == (0.01, 1e-4)
    rates = [np.asarray(nine.rate(step)) for step in (0, 33_999, 34_001, 54_001)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)
    residual = _recipes.preset("sphereresnet-32")
    assert (residual.network, residual.augment) == ("sphereresnet32", True)
    dcnet = _recipes.preset("dcnet-32")
    assert (dcnet.network, dcnet.dataset) == ("dcnet_resnet32", "cifar100")
    assert (dcnet.orthogonality, dcnet.of_directions) == (5e-6, True)
    after = (0, 20_001, 30_001, 37_501, 42_501)
    rates = [np.asarray(dcnet.rate(step)) for step in after]
    np.testing.assert_allclose(rates, 10.0 ** -np.arange(3, 8), rtol=1e-6)
    for config in (nine, residual, dcnet):
        assert config.operator[0] == "plain"
        optimizer, params = config.optimizer, jnp.zeros((2, 2))
        state = optimizer.init(params)
        updates, _ = optimizer.update(jnp.full((2, 2), 7.0), state, params)
        # The first step of Adam is the rate, whatever the gradient.
        np.testing.assert_allclose(np.asarray(updates), -1e-3, rtol=1e-4)
    assert set(_published.ACCURACIES["spherenet-9", "cifar10"]) == set(nine.operator)
    known = _published.ACCURACIES["sphereresnet-32", "cifar10"]
    assert set(known) == set(residual.operator)
    with pytest.raises(ValueError, match="spherenet-9 is for cifar10, not digits"):
        _recipes.preset("spherenet-9", "digits")


def test_a_set_may_be_centred_on_gray():
    digits = dataclasses.replace(_data.load("digits"), gray=True)
    raw = np.zeros((1, 8, 8, 1), np.uint8)
    raw[0, 0, 0] = 255
    images = _training.prepare(jnp.asarray(raw), jnp.asarray(digits.mean))
    np.testing.assert_allclose(images, (raw - 127.5) / 255.0)


def test_images_are_flipped_and_not_cropped():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 5, 1)))
    out = np.asarray(_training.flipped(jax.random.key(0), images))
    is_same = (out == images).all((1, 2, 3))
    np.testing.assert_array_equal(out[~is_same], images[~is_same][:, :, ::-1])
    assert 16 < is_same.sum() < 48


TINY = sx.networks.Design((8, 8, 1), (sx.networks.Stage(3),), 4)


def brief(tmp_path, **options):
    settings: dict[str, Any] = dict(
        dataset="digits",
        operator=("tanh-cosine",),
        seeds=1,
        steps=4,
        batch=8,
        checkpoint_every=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path,
    )
    recipe = _recipes.preset("spherenet-9")
    return dataclasses.replace(recipe, **(settings | options))


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    """With a running norm, Adam and the state of the penalty to remember."""
    config = brief(tmp_path)
    data = dataclasses.replace(_data.load("digits"), gray=True)
    shown = []

    def run():
        method = _methods.METHODS["softmax"]
        end = (0,), tmp_path / "run", lambda steps, metrics: shown.append(steps)
        _, (state,) = _training.fit(config, TINY, method, data, *end)
        return state

    whole = run()
    (tmp_path / "run" / "000000004.ckpt").unlink()
    resumed = run()
    assert shown == [0, 2, 2, 2, 2]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    values: Any = optax.tree.get(whole.optimizer, "values")
    assert list(values) == ["network/stages/0/units/0/conv/kernel"]
    assert all(value > 0.0 for value in values.values())
    norm = whole.rest["network"]["stages"][0]["units"][0]["conv"]["mean_norm"]
    assert norm[...] != 3.0  # of a window of 3 x 3, before any step


def test_operators_are_the_rows_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(classify, "architecture", lambda *args, **options: TINY)
    config = brief(tmp_path, steps=2, preset="operators", dataset="digits")
    results = classify.train(config)
    written = json.loads((tmp_path / "classify_operators_digits.json").read_text())
    assert written == json.loads(json.dumps(results))
    (run,) = written["operators"]["tanh-cosine"]["softmax"]
    accuracy = f"{100.0 - run['error']:.2f}"
    head, _, row = report.classification(written)
    assert head == "|  | accuracy, % (1 seeds) |"
    assert row == f"| TanhConv, cosine | {accuracy} |"
    # As if it had been of CIFAR-10, two operators and two losses.
    written["config"]["dataset"] = "cifar10"
    written["operators"] = {
        name: {"softmax": [run], "cosface": [run, run]}
        for name in ("sphere-linear", "tanh-cosine")
    }
    table = list(report.classification(written))
    assert table[0].endswith("| official, final | official, best |")
    assert table[2] == f"| SphereConv, linear; Softmax | {accuracy} | 91.16 | 91.65 |"
    assert table[5].startswith(f"| TanhConv, cosine; CosFace, m = 0.35 | {accuracy} ±")
    assert table[5].endswith("|  |  |")
