"""Layers: the functions of their state, what is trained, both graph modes, Linen."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import sphax as sx
from tests import reference
from tests.layers.draws import MODES, draw_batch
from tests.margins.tables import MARGINS

sm, sl = sx.margins, sx.layers
NORMALIZE = ["both", "prototypes", "none"]


def make_head(w, **options):
    """A head with the prototypes given."""
    options = dict(margin=sm.ArcFace(margin=0.4)) | options
    head = sl.MarginHead(
        w.shape[1],
        w.shape[0],
        prototype_init=lambda key, shape, dtype: jnp.asarray(w, dtype),
        rngs=nnx.Rngs(0),
        **options,
    )
    assert head.prototypes.shape == w.shape
    return head


def loss_and_gradients(head, x, labels):
    """Compiled, since operation by operation takes ten times as long."""
    graphdef, params, rest = nnx.split(head, nnx.Param, ...)

    def loss_of(params, x):
        return nnx.merge(graphdef, params, rest).loss(x, jnp.asarray(labels))

    return jax.jit(jax.value_and_grad(loss_of, (0, 1)))(
        params, jnp.asarray(x, jnp.float32)
    )


# What a layer is called with, for the tests that hold for each of them.
LAYERS = {
    "head": lambda rngs, **dtypes: sl.MarginHead(
        5, 4, margin=sm.SphereFace(m=2), rngs=rngs, **dtypes
    ),
    "cosine": lambda rngs, **dtypes: sl.CosineLinear(5, 4, rngs=rngs, **dtypes),
    "prelu": lambda rngs, **dtypes: sl.PReLU(5, rngs=rngs, **dtypes),
}


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_the_head_predicts_without_its_margin(normalize):
    x, w, _ = draw_batch()
    head = make_head(w, normalize=normalize)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    expected = {
        "both": 64 * np.cos(reference.angles(x, w)),
        "prototypes": lengths * np.cos(reference.angles(x, w)),
        "none": x @ w.T,
    }[normalize]
    logits = head(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    batched = head(jnp.asarray(x, jnp.float32).reshape(2, 3, 5))
    np.testing.assert_allclose(batched.reshape(6, 4), logits, rtol=1e-6)


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.usefixtures("x64")
def test_the_head_trains_by_the_margin_softmax(normalize):
    x, w, labels = draw_batch()
    scale = 8.0 if normalize == "both" else None
    options = dict(normalize=normalize, scale=scale, param_dtype=jnp.float64)
    head = make_head(w, margin=sm.CosFace(margin=0.3), **options)
    losses = reference.margin_softmax(
        x, w, labels, lambda a: np.cos(a) - 0.3, normalize=normalize, scale=8.0
    )
    loss_of = nnx.jit(
        lambda head, where: head.loss(
            jnp.asarray(x), jnp.asarray(labels), where=where, has_aux=True
        )
    )
    loss, aux = loss_of(head, jnp.ones(6))
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-12)
    np.testing.assert_allclose(aux.norm, np.linalg.norm(x, axis=1), rtol=1e-12)
    best = np.argmax(head(jnp.asarray(x)), axis=-1)
    np.testing.assert_array_equal(aux.correct, best == labels)
    where = np.array([1.0, 0.0, 2.0, 0.0, 0.0, 1.0])
    masked, _ = loss_of(head, jnp.asarray(where))
    np.testing.assert_allclose(masked, losses @ where / where.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        dict(block_size=3, precision="highest"),
        dict(gradient="detached", scale=8.0),
        dict(label_smoothing=0.1, normalize="prototypes"),
    ],
)
def test_the_settings_of_the_head_are_those_of_the_loss(options):
    """The same operations, whatever they compute."""
    x, w, labels = map(jnp.asarray, draw_batch())
    # As the head keeps it.
    margin = make_head(w, margin=sm.SphereFace(m=3)).margin
    graphdef, params, rest = nnx.split(
        make_head(w, margin=margin, **options), nnx.Param, ...
    )

    def by_head(params, x, labels):
        return nnx.merge(graphdef, params, rest).loss(x, labels, has_aux=True)

    def by_loss(params, x, labels):
        w = params["prototypes"][...]
        return sx.losses.margin_softmax(x, w, labels, margin, **options, has_aux=True)

    ours, expected = (
        str(jax.make_jaxpr(f)(params, x, labels)) for f in (by_head, by_loss)
    )
    assert _without_addresses(ours) == _without_addresses(expected)


def _without_addresses(text):
    return re.sub("0x[0-9a-f]+", "", text)


def test_predictions_have_the_precision_of_the_head():
    x, w, _ = draw_batch()
    head = make_head(w, precision=jax.lax.Precision.HIGHEST)
    assert "HIGHEST" in str(jax.make_jaxpr(head)(jnp.asarray(x, jnp.float32)))


@pytest.mark.usefixtures("x64")
def test_cosine_dense_is_its_function():
    x, w, _ = draw_batch()
    layer = sl.CosineLinear(5, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(w.T)
    cosines = layer(jnp.asarray(x))
    np.testing.assert_allclose(cosines, np.cos(reference.angles(x, w)), atol=1e-12)
    function = sx.sphere.cosine_similarity(jnp.asarray(x), jnp.asarray(w))
    np.testing.assert_array_equal(cosines, function)
    moved = layer(jnp.asarray(x).reshape(3, 2, 5) * 1e-3)
    np.testing.assert_allclose(moved.reshape(6, 4), cosines, atol=1e-12)


def test_prelu_has_a_slope_for_each_channel():
    layer = sl.PReLU(3, slope_init=0.1)
    layer.slope[...] = jnp.array([0.1, 0.5, -2.0])
    x = np.array([[[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]]])
    expected = [[[1.0, 2.0, 3.0], [-0.1, -1.0, 6.0], [0.0, 0.0, 0.0]]]
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), expected, rtol=1e-6)
    graphdef, state = nnx.split(layer)
    slopes, inputs = jax.grad(
        lambda state, x: nnx.merge(graphdef, state)(x).sum(), (0, 1)
    )(state, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(slopes["slope"][...], [-1.0, -2.0, -3.0])
    # At zero the slope of the left side, as the paper has it.
    np.testing.assert_allclose(inputs[0, 1:], [[0.1, 0.5, -2.0]] * 2)


@pytest.mark.parametrize("name", LAYERS)
def test_a_call_changes_no_variable(name):
    layer = LAYERS[name](nnx.Rngs(0))
    before = jax.tree.map(np.array, nnx.state(layer))
    x = jnp.ones((2, 5))
    nnx.jit(lambda layer, x: layer(x))(layer, x)
    if name == "head":
        nnx.jit(lambda layer, x: layer.loss(x, jnp.array([0, 1])))(layer, x)
    after = nnx.state(layer)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("graph", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_split_merge_and_update_round_trip(name, graph):
    x = jnp.arange(10.0).reshape(2, 5) - 5.0
    with nnx.set_graph_mode(graph):
        layer, other = LAYERS[name](nnx.Rngs(0)), LAYERS[name](nnx.Rngs(1))
        expected = layer(x)
        merged = nnx.merge(*nnx.split(layer, nnx.Param, ...))
        np.testing.assert_array_equal(merged(x), expected)
        nnx.update(other, nnx.state(layer))
        np.testing.assert_array_equal(other(x), expected)
        np.testing.assert_array_equal(nnx.clone(layer)(x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_dtypes(name):
    def dtype_of(x_dtype, **dtypes):
        layer = LAYERS[name](nnx.Rngs(0), **dtypes)
        params = jax.tree.leaves(nnx.state(layer, nnx.Param))
        assert {p.dtype for p in params} == {jnp.dtype(dtypes["param_dtype"])}
        return layer(jnp.ones((2, 5), x_dtype)).dtype

    assert dtype_of(jnp.bfloat16, param_dtype=jnp.bfloat16) == jnp.bfloat16
    assert dtype_of(jnp.bfloat16, param_dtype=jnp.float32) == jnp.float32
    mixed = dict(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert dtype_of(jnp.float32, **mixed) == jnp.bfloat16


def test_half_precision_computes_and_float32_trains():
    x, w, labels = draw_batch(d=8, n=16)
    head = make_head(w, dtype=jnp.bfloat16, scale=8.0)
    loss, (gradient, _) = loss_and_gradients(head, x, labels)
    expected = reference.margin_softmax(
        x, w, labels, lambda a: np.cos(a + 0.4), scale=8.0
    ).mean()
    assert loss.dtype == gradient["prototypes"][...].dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-2)


@pytest.mark.usefixtures("x64")
def test_float64_hyperparameters_follow_float64_parameters():
    head = make_head(draw_batch()[1], param_dtype=jnp.float64)
    assert head.margin.margin == 0.4  # not its float32 neighbour
    assert make_head(draw_batch()[1]).margin.margin.dtype == jnp.float32


@pytest.mark.parametrize("graph", MODES)
def test_a_new_margin_does_not_compile_anew(graph):
    traces = []
    schedule = sm.annealing_schedule()
    x, w, labels = draw_batch()
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)

    @nnx.jit
    def loss_of(head, x, labels):
        traces.append(None)
        return head.loss(x, labels)

    with nnx.set_graph_mode(graph):
        head = make_head(w, margin=sm.SphereFace(m=4), normalize="prototypes")
        losses = [loss_of(head, x, labels)]
        for margin in (
            sm.SphereFace(m=3, annealing=2),
            sm.SphereFace(m=4, annealing=schedule(10)),
            sm.SphereFace(m=4, annealing=np.float64(schedule(10))),
            sm.SphereFace(m=jnp.array(4.0), annealing=0.0),
        ):
            head.margin = margin
            losses.append(loss_of(head, x, labels))
    assert len(traces) == 1
    assert len({float(loss) for loss in losses}) == 3
    assert losses[2] == losses[3]
    assert losses[4] == losses[0]


@pytest.mark.parametrize("graph", MODES)
def test_a_margin_is_scheduled_inside_a_compiled_step(graph):
    traces = []
    schedule = sm.annealing_schedule()

    @nnx.jit
    def step(head, t):
        traces.append(None)
        head.margin = sm.SphereFace(m=4, annealing=schedule(t))

    with nnx.set_graph_mode(graph):
        head = make_head(draw_batch()[1], margin=sm.SphereFace(m=4))
        for t in range(3):
            step(head, jnp.array(t))
            np.testing.assert_allclose(head.margin.annealing, schedule(t), rtol=1e-6)
    assert len(traces) == 1


def test_a_margin_of_another_kind_takes_its_place():
    x, w, labels = draw_batch()
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)
    head = make_head(w, margin=sm.NoMargin())
    loss_of = nnx.jit(lambda head: head.loss(x, labels))
    loss_of(head)
    for margin in (sm.Psi(lambda a, m: jnp.cos(a) - m * a, 0.1), sm.CosFace()):
        head.margin = margin
        expected = loss_of(make_head(w, margin=margin))
        np.testing.assert_allclose(loss_of(head), expected, rtol=1e-6)


def test_params_are_what_is_trained():
    head = make_head(draw_batch()[1], scale=nnx.Param(16.0))
    params, margin, rest = nnx.state(head, nnx.Param, sl.MarginState, ...)
    assert set(params) == {"prototypes", "scale"}
    assert set(margin) == {"margin_state"}
    assert not rest
    fixed = make_head(draw_batch()[1], scale=16.0)
    assert set(nnx.state(fixed, nnx.Param)) == {"prototypes"}


def test_a_learned_scale_has_the_gradient_of_the_loss():
    x, w, labels = draw_batch()
    given = nnx.Param(6)
    options = dict(margin=MARGINS["cosface"].margin, scale=given)
    head, other = make_head(w, **options), make_head(w, **options)
    assert head.scale is not other.scale  # nothing is shared
    _, (gradient, _) = loss_and_gradients(head, x, labels)

    def definition(scale):
        psi = MARGINS["cosface"].psi
        return reference.margin_softmax(x, w, labels, psi, scale=scale).mean()

    slope = (definition(6.001) - definition(5.999)) / 0.002
    np.testing.assert_allclose(gradient["scale"][...], slope, rtol=1e-3)
    logits = head(jnp.asarray(x, jnp.float32))
    expected = 6 * np.cos(reference.angles(x, w))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_rows_without_a_direction_are_finite(normalize):
    x, w, labels = draw_batch()
    x[0], w[1], w[labels[2]] = 0, 0, x[2]
    head = make_head(w, normalize=normalize)
    results = loss_and_gradients(head, x, labels), head(jnp.asarray(x, jnp.float32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


def test_cosine_dense_without_a_direction():
    layer = sl.CosineLinear(3, 2, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.array([[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    graphdef, state = nnx.split(layer)
    x = jnp.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    np.testing.assert_allclose(layer(x), [[0.0, 0.0], [1.0, 0.0]], rtol=1e-6)
    of_kernel, of_x = jax.grad(
        lambda state, x: nnx.merge(graphdef, state)(x).sum(), (0, 1)
    )(state, x)
    np.testing.assert_allclose(of_x[0], 0.0)
    np.testing.assert_allclose(of_kernel["kernel"][:, 1], 0.0)
    assert np.isfinite(of_x).all()


class Classifier(nnx.Module):
    """All layers in one model."""

    def __init__(self, rngs: nnx.Rngs):
        self.dense = sl.CosineLinear(5, 8, rngs=rngs)
        self.activation = sl.PReLU(8, rngs=rngs)
        self.head = sl.MarginHead(
            8,
            4,
            margin=sm.CosFace(margin=0.1),
            scale=nnx.Param(jnp.array(8.0)),
            rngs=rngs,
        )

    def loss(self, x, labels):
        return self.head.loss(self.activation(self.dense(x)), labels)


@pytest.mark.parametrize("graph", MODES)
def test_training_by_an_nnx_optimizer(graph):
    x, _, labels = draw_batch()
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)

    @nnx.jit
    def step(model, optimizer, x, labels):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        loss, gradient = jax.value_and_grad(
            lambda params: nnx.merge(graphdef, params, rest).loss(x, labels)
        )(params)
        optimizer.update(model, gradient)
        return loss

    with nnx.set_graph_mode(graph):
        model = Classifier(nnx.Rngs(0))
        margin = model.head.margin
        optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
        losses = [step(model, optimizer, x, labels) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert model.head.margin == margin
    assert model.head.scale.get_value() != 8.0


def test_training_by_optax_alone():
    x, _, labels = draw_batch()
    x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)
    graphdef, params, rest = nnx.split(Classifier(nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(
            lambda params: nnx.merge(graphdef, params, rest).loss(x, labels)
        )(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    losses = []
    for _ in range(20):
        params, state, loss = step(params, state)
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0]


def test_a_vmap_over_seeds_makes_the_heads_of_the_seeds():
    graphdef = nnx.graphdef(LAYERS["head"](nnx.Rngs(0)))
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    states = jax.vmap(lambda key: nnx.state(LAYERS["head"](nnx.Rngs(key))))(keys)
    x = jnp.ones((2, 5))
    logits = jax.vmap(lambda state: nnx.merge(graphdef, state, copy=True)(x))(states)
    for seed in range(3):
        expected = LAYERS["head"](nnx.Rngs(seed))(x)
        np.testing.assert_allclose(logits[seed], expected, rtol=1e-5)


@pytest.mark.parametrize("graph", MODES)
@pytest.mark.parametrize(
    ("layer", "arguments", "options"),
    [
        (sl.MarginHead, (5, 4), dict(margin=sm.SphereFace(m=2))),
        (sl.MarginHead, (5, 4), dict(margin=sm.NoMargin(), scale=nnx.Param(8.0))),
        (sl.CosineLinear, (5, 4), {}),
        (sl.PReLU, (5,), {}),
    ],
)
def test_linen(layer, arguments, options, graph):
    x = jnp.arange(10.0).reshape(2, 5) - 5.0
    labels = jnp.array([0, 3])
    with nnx.set_graph_mode(graph):
        module = nnx.bridge.to_linen(layer, *arguments, **options)
        variables = jax.jit(module.init)(jax.random.key(0), x)
        original = layer(*arguments, **options, rngs=nnx.Rngs(1))
        for name, value in variables["params"].items():
            getattr(original, name)[...] = value
        outputs: Any = jax.jit(module.apply)(variables, x)
        np.testing.assert_allclose(outputs, original(x), rtol=1e-6)
        if layer is sl.MarginHead:
            loss: Any = module.apply(variables, x, labels, nnx_method="loss")
            np.testing.assert_allclose(loss, original.loss(x, labels), rtol=1e-6)


def test_initial_directions_are_uniform_and_of_length_about_one():
    head = sl.MarginHead(100, 400, margin=sm.NoMargin(), rngs=nnx.Rngs(0))
    dense = sl.CosineLinear(100, 400, rngs=nnx.Rngs(0))
    for rows in (head.prototypes[...], sx.neurons.to_rows(dense.kernel[...])):
        assert rows.shape == (400, 100)
        np.testing.assert_allclose(jnp.mean(jnp.sum(rows**2, -1)), 1.0, rtol=0.02)
        # A Gaussian's fourth moment; a truncated or uniform one's is smaller.
        np.testing.assert_allclose(jnp.mean((10 * rows) ** 4), 3.0, rtol=0.05)


def head(*sizes, **options):
    options = dict(margin=sm.ArcFace()) | options
    return sl.MarginHead(*(sizes or (5, 4)), rngs=nnx.Rngs(0), **options)


def cosine(*sizes):
    return sl.CosineLinear(*sizes, rngs=nnx.Rngs(0))


def assign(margin):
    head().margin = margin


X = jnp.ones((2, 5))
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "classes": (
        lambda: head(5, 0),
        ValueError,
        r"MarginHead: num_classes must be a positive integer, got 0",
    ),
    "a function": (
        lambda: head(margin=jnp.cos),
        TypeError,
        r"margin must be a sphax.margins.Margin.* is wrapped by Psi\(function\)",
    ),
    "a class": (
        lambda: head(margin=sm.ArcFace),
        TypeError,
        r"margin must be .*, got the class: call it, as in ArcFace\(\)",
    ),
    "an assigned number": (
        lambda: assign(0.5),
        TypeError,
        r"margin must be a sphax.margins.Margin, got a number",
    ),
    "scale of no cosines": (
        lambda: head(normalize="none", scale=30.0),
        ValueError,
        'scale has no effect with normalize="?.none',
    ),
    "learned scale of no cosines": (
        lambda: head(normalize="prototypes", scale=nnx.Param(jnp.array(30.0))),
        ValueError,
        "scale has no effect",
    ),
    "negative scale": (
        lambda: head(scale=-1.0),
        ValueError,
        "scale must be positive, got -1",
    ),
    "learned scale of 0": (
        lambda: head(scale=nnx.Param(0.0)),
        ValueError,
        "scale must be positive, got 0",
    ),
    "three scales": (
        lambda: head(scale=nnx.Param(jnp.ones(3))),
        ValueError,
        "scale must be a scalar",
    ),
    "normalize": (
        lambda: head(normalize="l2"),
        ValueError,
        r"normalize must be one of .*'l2'",
    ),
    "gradient": (
        lambda: head(gradient="stopped"),
        ValueError,
        r"gradient must be one of .*'stopped'",
    ),
    "block_size": (
        lambda: head(block_size=0),
        ValueError,
        "block_size must be 1 or more",
    ),
    "subcenters": (
        lambda: head(subcenters=0),
        ValueError,
        "MarginHead: subcenters must be a positive",
    ),
    "subcenters of products": (
        lambda: head(normalize="none", subcenters=2),
        ValueError,
        r"sub-cent.* need normalize",
    ),
    "label_smoothing": (
        lambda: head(label_smoothing=1.5),
        ValueError,
        r"label_smoothing must lie in \[0, 1\)",
    ),
    "dimension": (
        lambda: head()(jnp.ones((2, 6))),
        ValueError,
        r"embeddings must be \[..., 5\].*\(2, 6\)",
    ),
    "dimension in the loss": (
        lambda: head().loss(jnp.ones((2, 6)), jnp.array([0, 1])),
        ValueError,
        r"embeddings must be \[..., 5\]",
    ),
    "integers": (
        lambda: head()(X.astype(int)),
        TypeError,
        "embeddings must be floating, got dtype int32",
    ),
    "one label": (
        lambda: head().loss(X, jnp.array([0])),
        ValueError,
        "labels must have the shape of embeddings",
    ),
    "CosineLinear": (
        lambda: cosine(5, 2.0),
        ValueError,
        "CosineLinear: out_features must be a positive",
    ),
    "inputs of CosineLinear": (
        lambda: cosine(5, 2)(jnp.ones((2, 1))),
        ValueError,
        r"inputs must be \[..., 5\]",
    ),
    "PReLU": (lambda: sl.PReLU(-1), ValueError, "PReLU: features"),
    "inputs of PReLU": (
        lambda: sl.PReLU(3)(jnp.ones(1)),
        ValueError,
        r"inputs must be \[..., 3\].*\(1,\)",
    ),
    "integers for PReLU": (
        lambda: sl.PReLU(3)(jnp.arange(3)),
        TypeError,
        "inputs must be floating",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_teach(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()
