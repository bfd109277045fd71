"""Networks as modules: modes, dtypes, transforms, Linen, training, errors."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from sphax.networks import (
    Backbone,
    ConvUnit,
    FaceEmbedding,
    LinearEmbedding,
    MeanEmbedding,
    ResidualUnit,
    Stage,
)
from tests.networks.parts import (
    MODES,
    SMALL,
    TANH,
    Spy,
    call,
    call_in_both_modes,
    draw_images,
    make,
)

# A network of L-Softmax, as `Backbone` makes it by default.
PLAIN = (7, 7, 1), (Stage(3, 2),), 2


def images_of(design, n=6):
    return jnp.asarray(draw_images(n, design[0]), jnp.float32)


def with_dropout(rate):
    return (*SMALL[:3], functools.partial(FaceEmbedding, dropout_rate=rate))


def test_the_convolution_is_an_argument():
    spy = Spy()
    dtypes = dict(dtype=jnp.bfloat16, param_dtype=jnp.float16)
    network, _ = make(SMALL, conv=spy, **dtypes)
    assert [args for args, _ in spy.made] == [(1, 3), (3, 4), (4, 4)]
    names = {"kernel_size", "strides", "padding", "use_bias", "kernel_init"}
    for _, settings in spy.made:
        assert set(settings) == names | {"dtype", "param_dtype", "rngs"}
        assert settings["dtype"] == jnp.bfloat16
        assert settings["param_dtype"] == jnp.float16
        assert settings["use_bias"] is False
    # The projection is plain.
    shortcut = network.stages[1].units[0].shortcut
    assert type(shortcut.conv) is nnx.Conv
    assert shortcut.conv.kernel.shape == (1, 1, 3, 4)
    assert shortcut.conv.strides == (2, 2)


def test_initial_weights_are_gaussian_of_variance_two_over_fan_in():
    network = Backbone((8, 8, 3), (Stage(64, 2),), 32, rngs=nnx.Rngs(0))
    units = network.stages[0].units
    for kernel, fan_in in (
        (units[1].conv.kernel[...], 9 * 64),
        (network.embedding.linear.kernel[...], 4 * 4 * 64),
    ):
        np.testing.assert_allclose(jnp.var(kernel) * fan_in, 2.0, rtol=0.05)
        fourth = jnp.mean(kernel**4) / jnp.var(kernel) ** 2
        np.testing.assert_allclose(fourth, 3.0, rtol=0.05)
    np.testing.assert_array_equal(units[0].activation.slope[...], jnp.full(64, 0.25))


def statistics_of(network):
    return jax.tree.map(np.array, nnx.state(network, nnx.BatchStat))


def changed(before, after):
    """Whether leaves changed: {True}, {False} or both."""
    leaves = jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), before, after))
    return {bool(leaf) for leaf in leaves}


@nnx.jit(static_argnums=2)
def call_in(network, images, mode):
    return network(images, use_running_average=mode)


def test_modes():
    """The argument of a call before the mode of the network; key and statistics."""
    network = Backbone(*with_dropout(0.5), conv=TANH, rngs=nnx.Rngs(0))
    images = images_of(SMALL)
    before = jax.tree.map(np.array, nnx.state(network, nnx.BatchStat))
    network.eval()
    evaluated = call(network, images)
    np.testing.assert_array_equal(call(network, images), evaluated)
    network.train()
    np.testing.assert_allclose(call_in(network, images, True), evaluated, rtol=1e-5)
    assert changed(before, statistics_of(network)) == {False}
    trained = call(network, images)
    assert np.abs(trained - evaluated).max() > 1e-3
    # All of them, that of the operator included.
    assert changed(before, statistics_of(network)) == {True}
    # Another mask for each call.
    assert np.abs(trained - call(network, images)).max() > 1e-3
    network.eval()
    before = statistics_of(network)
    call_in(network, images, False)
    assert changed(before, statistics_of(network)) == {True}


def test_running_statistics_start_at_zero_and_one_and_move_by_a_tenth():
    network = Backbone(*PLAIN, rngs=nnx.Rngs(0))
    images = images_of(PLAIN)
    unit = network.stages[0].units[0]
    maps = np.asarray(unit.conv(images))
    call(network, images)
    np.testing.assert_allclose(
        unit.norm.mean[...], 0.1 * maps.mean((0, 1, 2)), atol=1e-5
    )
    expected = 0.9 + 0.1 * maps.var((0, 1, 2))
    np.testing.assert_allclose(unit.norm.var[...], expected, rtol=1e-5)


def test_a_network_without_dropout_holds_no_key():
    state = nnx.state(make(SMALL)[0])
    assert len(jax.tree.leaves(nnx.filter_state(state, nnx.BatchStat))) == 2 * 7
    assert not jax.tree.leaves(nnx.filter_state(state, nnx.RngState))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes(dtype):
    def dtypes_of(state):
        return {leaf.dtype for leaf in jax.tree.leaves(state)}

    images = images_of(SMALL)
    network, _ = make(SMALL, dtype=dtype)
    exact, _ = make(SMALL)
    outputs = call(network, images)
    # The last layers are exact, after a map in the dtype.
    assert outputs.dtype == jnp.float32
    unit = network.stages[1].units[0]
    assert nnx.eval_shape(lambda u, x: u(x), unit, images[..., [0] * 3]).dtype == dtype
    np.testing.assert_allclose(outputs, call(exact, images), atol=0.1)
    assert dtypes_of(nnx.state(network)) == {jnp.dtype("float32")}
    # Nor is a shortcut from the images left in their dtype.
    stages = (Stage(1, unit=ResidualUnit, pool=None),)
    shortcut, _ = make(((7, 5, 1), stages, None, MeanEmbedding), dtype=dtype)
    assert nnx.eval_shape(call, shortcut, images).dtype == dtype
    half, _ = make(SMALL, param_dtype=dtype)
    params, statistics = nnx.state(half, nnx.Param, nnx.BatchStat)
    assert dtypes_of(params) == {jnp.dtype(dtype)}
    assert dtypes_of(statistics) == {jnp.dtype("float32")}


def test_running_statistics_are_not_rounded_before_they_are_used():
    network, _ = make(PLAIN, dtype=jnp.bfloat16)
    norm = network.stages[0].units[0].norm
    norm.mean[...] = jnp.full(3, 1000.7)  # 1000 in bfloat16
    norm.bias[...] = jnp.zeros(3)
    outputs = norm(jnp.full((1, 3), 1000.7), use_running_average=True)
    np.testing.assert_allclose(outputs, 0.0, atol=1e-3)


def test_leading_axes_and_numpy_images():
    network, _ = make(SMALL)
    network.eval()
    images = draw_images()
    assert images.dtype == np.float64
    outputs = call(network, images)
    assert outputs.dtype == jnp.float32
    nested = call(network, images.reshape(2, 3, 7, 5, 1))
    np.testing.assert_allclose(nested.reshape(6, 2), outputs, rtol=1e-5, atol=1e-5)
    single = call(network, images[0])
    np.testing.assert_allclose(single, outputs[0], rtol=1e-4, atol=1e-5)


def test_a_vmap_over_seeds():
    images = images_of(PLAIN)
    graphdef = nnx.graphdef(make(PLAIN)[0])
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[nnx.state(make(PLAIN, seed)[0]) for seed in range(2)],
    )

    @jax.jit
    @jax.vmap
    def forward(state):
        network = nnx.merge(graphdef, state, copy=True)
        return network(images), nnx.state(network, nnx.BatchStat)

    outputs, statistics = forward(states)
    for seed in range(2):
        network, _ = make(PLAIN, seed)
        np.testing.assert_allclose(outputs[seed], call(network, images), atol=1e-4)
        jax.tree.map(
            lambda a, b, seed=seed: np.testing.assert_allclose(a[seed], b, atol=1e-5),
            statistics,
            nnx.state(network, nnx.BatchStat),
        )


@pytest.mark.parametrize("graph", MODES)
def test_split_merge_and_linen(graph):
    images = images_of(SMALL)
    with nnx.set_graph_mode(graph):
        module = nnx.bridge.to_linen(Backbone, *SMALL)
        original, _ = make(SMALL)
        graphdef, params, rest = nnx.split(original, nnx.Param, ...)
        variables = dict(
            params=nnx.to_pure_dict(params), batch_stats=nnx.to_pure_dict(rest)
        )
        made = jax.eval_shape(module.init, jax.random.key(0), images)
        assert jax.tree.structure(made) == jax.tree.structure(variables)

        @jax.jit
        def run(params, variables, images):
            network = nnx.merge(graphdef, params, rest, copy=True)
            by_linen: Any = module.apply(variables, images, mutable=["batch_stats"])
            by_mode = module.apply(variables, images, use_running_average=True)
            ours = network(images, use_running_average=True), network(images)
            return ours, nnx.state(network, nnx.BatchStat), by_mode, by_linen

        (evaluated, trained), moved, by_mode, (outputs, changes) = run(
            params, variables, images
        )
        np.testing.assert_allclose(by_mode, evaluated, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outputs, trained, rtol=1e-5, atol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
            changes["batch_stats"],
            nnx.to_pure_dict(moved),
        )


class Classifier(nnx.Module):
    """A network and its head."""

    def __init__(self, conv, rngs: nnx.Rngs):
        self.network, _ = make(with_dropout(0.1), conv=conv)
        self.head = sx.layers.MarginHead(
            self.network.features,
            3,
            margin=sx.margins.SphereFace(m=2),
            normalize="prototypes",
            rngs=rngs,
        )

    def loss(self, images, labels):
        return self.head.loss(self.network(images), labels)


def moving_leaves(model):
    """Kernels, learned radii and statistics; a shift before a norm stays as it is."""
    state = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    names = ("kernel", "radius_root", "mean", "var", "mean_norm")
    return {path: np.array(leaf) for path, leaf in state if path[-1] in names}


@pytest.mark.parametrize(("graph", "conv"), [(True, nnx.Conv), (False, TANH)])
def test_training_lowers_the_loss(graph, conv):
    images = images_of(SMALL)
    labels = jnp.arange(6) % 3

    @nnx.jit
    def step(model, optimizer):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss_of(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return model.loss(images, labels), nnx.split(model, nnx.Param, ...)[2]

        (loss, moved), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        optimizer.update(model, gradient)
        nnx.update(model, moved)
        leaves = jax.tree.leaves(gradient)
        return loss, jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])

    with nnx.set_graph_mode(graph):
        model = Classifier(conv, nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.05, 0.9), wrt=nnx.Param)
        before = moving_leaves(model)
        losses = []
        for _ in range(20):
            loss, finite = step(model, optimizer)
            losses.append(float(loss))
            assert finite.all()
    assert losses[-1] < 0.5 * losses[0]
    assert changed(before, moving_leaves(model)) == {True}


@pytest.mark.parametrize("conv", [nnx.Conv, TANH], ids=["plain", "tanh"])
def test_gradients_at_black_images_are_finite(conv):
    """Maps without variance, patches of zeros: what dead units look like."""
    network, _ = make(SMALL, conv=conv)
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def gradient_of(params_and_images):
        params, images = params_and_images
        network = nnx.merge(graphdef, params, rest, copy=True)
        return jnp.sum(network(images) ** 2)

    for leaf in jax.tree.leaves(gradient_of((params, jnp.zeros((2, 7, 5, 1))))):
        assert np.isfinite(leaf).all()


PRODUCT = functools.partial(
    sx.layers.DecoupledConv,
    magnitude=sx.operators.Linear(weighted="linear"),
    angular=sx.operators.Cosine(),
)


def test_the_plain_network_is_that_of_the_product():
    """The operator with magnitude |w||x| and the cosine, in any surroundings."""
    plain, _ = make(SMALL)
    decoupled, _ = make(SMALL, seed=2, conv=PRODUCT)
    images = images_of(SMALL)
    nnx.update(decoupled, nnx.state(plain))
    outputs = call_in_both_modes(decoupled, images)
    expected = call_in_both_modes(plain, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_sphere_convolutions_is_blind_to_contrast():
    network, _ = make(SMALL, conv=sx.layers.SphereConv)
    network.eval()
    images = images_of(SMALL)
    expected = call(network, images)
    np.testing.assert_allclose(call(network, 7.0 * images), expected, rtol=1e-4)


def test_the_embedding_has_no_activation():
    """Figure 2.2 draws it: all quadrants are in reach."""
    embeddings = call(Backbone(*PLAIN, rngs=nnx.Rngs(0)), images_of(PLAIN, 64))
    signs = {tuple(row) for row in np.sign(np.asarray(embeddings))}
    assert len(signs) == 4


def network(
    input_shape=(7, 7, 1),
    stages=(Stage(2),),
    features: int | None = 2,
    unit=None,
    **options: Any,
):
    if unit is not None:
        stages = (Stage(2, unit=unit, pool=None),)
    return Backbone(input_shape, stages, features, **options, rngs=nnx.Rngs(0))


def unit_of(kind: Any = ConvUnit, **options):
    return lambda: network(unit=functools.partial(kind, **options))


WRONG: dict[str, tuple[Any, str]] = {
    "filters": (lambda: Stage(0), "Stage: features must be a positive integer"),
    "repeats": (lambda: Stage(8, 1.5), "Stage: repeats .* got 1.5"),  # pyright: ignore
    "pool": (lambda: Stage(8, pool=0), "Stage: pool must be 1 or more, got 0"),
    "even window": (
        unit_of(kernel_size=4),
        "ConvUnit: kernel_size must be odd.* got 4",
    ),
    "activation": (unit_of(activation="gelu"), "activation must be one of .* 'gelu'"),
    "shortcut": (
        unit_of(ResidualUnit, shortcut="crop"),
        "shortcut must be one of .* 'crop'",
    ),
    "padding": (
        lambda: network(
            (7, 5, 3),
            unit=functools.partial(ResidualUnit, shortcut="padding"),
        ),
        "'padding' cannot take 3 channels to 2",
    ),
    "two sides": (
        lambda: network((7, 7)),
        r"Backbone: input_shape must be \(height, width, channels\), got",
    ),
    "a batch": (lambda: network((64, 7, 7, 1)), "a batch has no place in it"),
    "no channels": (
        lambda: network((7, 7, 0)),
        "Backbone: input_shape: channels must be a pos",
    ),
    "no stages": (lambda: network(stages=()), "at least one Stage"),
    "no features": (
        lambda: network(features=0),
        "Backbone: features must be a positive",
    ),
    "features left out": (
        lambda: network(features=None),
        "NormalizedEmbedding: features must be a positive integer, got None",
    ),
    "features of a linear layer left out": (
        lambda: network(features=None, embedding=LinearEmbedding),
        "LinearEmbedding: features must be a positive integer, got None",
    ),
    "dropout": (
        lambda: network(embedding=functools.partial(FaceEmbedding, dropout_rate=1.0)),
        r"dropout_rate must be in \[0, 1\), got 1.0",
    ),
    "too small": (
        lambda: network((3, 4, 1), (Stage(2), Stage(2), Stage(2))),
        "too small: the map is 1 x 1 when stage 2 is to pool it",
    ),
    "another image": (
        lambda: network()(jnp.ones((2, 8, 7, 1))),
        r"must be \[..., 7, 7, 1\].*\(2, 8, 7, 1\)\.$",
    ),
    "no axis of channels": (
        lambda: network()(jnp.ones((2, 7, 7))),
        r"an axis as well: images\[..., None\]",
    ),
    "channels first": (
        lambda: network()(jnp.ones((2, 1, 7, 7))),
        "Channels come last",
    ),
    "a vector": (lambda: network()(jnp.ones(7)), r"got shape \(7,\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_teach(case):
    make_it, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        make_it()


def test_wrong_types():
    with pytest.raises(TypeError, match="Stage: pool must be an integer, got True"):
        Stage(8, pool=True)
    with pytest.raises(TypeError, match=r"got dtype uint8; scale them first"):
        network()(jnp.ones((2, 7, 7, 1), jnp.uint8))
