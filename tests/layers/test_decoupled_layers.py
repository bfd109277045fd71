"""Decoupled layers: their functions, radii, hyperparameters, presets, attention."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx

so, sl = sx.operators, sx.layers
FUNCTIONS: dict[str, Any] = dict(magnitude=so.Tanh(rho=2.0), angular=so.Sigmoid())

# What the tests that hold for all of them make, each called with [2, 4, 4, 6].
LAYERS: dict[str, Any] = {
    "conv": partial(sl.DecoupledConv, 6, 4, (3, 3), **FUNCTIONS, learn=("rho", "k")),
    "learned radius": partial(
        sl.DecoupledConv,
        6,
        4,
        (3, 3),
        2,
        **FUNCTIONS,
        radius="learned",
        feature_group_count=2,
        use_bias=True,
    ),
    "dense": partial(sl.DecoupledLinear, 6, 4, **FUNCTIONS, radius="mean"),
    "sphere": partial(sl.SphereConv, 6, 4, (3, 3), operator="learned_sigmoid"),
    "norm": partial(sl.SphereNorm, 6, 4, (3, 3)),
    "attention": partial(sl.CosineAttention, 2, 6, decode=False),
}


def wide(x) -> Any:
    return np.asarray(x, np.float64)


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def call(layer, x, **options):
    """Compiled, since operation by operation takes ten times as long."""
    return nnx.jit(lambda layer, x: layer(x, **options))(layer, x)


def gradient_of(layer, x):
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    @jax.jit
    def gradient(params):
        def total(params):
            outputs = nnx.merge(graphdef, params, rest, copy=True)(x)
            return jnp.sum(jnp.sin(outputs))

        return jax.grad(total)(params)

    return gradient(params)


def test_the_convolution_is_the_function_of_its_variables():
    options: dict[str, Any] = dict(
        strides=(2, 1), padding=((1, 0), (2, 1)), feature_group_count=2
    )
    conv = sl.DecoupledConv(
        6, 4, (2, 3), **FUNCTIONS, **options, use_bias=True, rngs=nnx.Rngs(0)
    )
    (x,) = draw((2, 4, 5, 6))
    conv.bias[...] = jnp.arange(4.0)
    function = partial(so.decoupled_conv, x, conv.kernel[...], **FUNCTIONS, **options)
    expected = jax.jit(function)() + conv.bias[...].reshape(1, 1, 1, 4)
    np.testing.assert_allclose(call(conv, x), expected, rtol=1e-6, atol=1e-6)
    angle = jax.jit(partial(function, part="angle"))()
    emitted = call(conv, x, part="angle")
    np.testing.assert_allclose(emitted, angle, rtol=1e-5, atol=1e-6)
    conv.rho[...] = 5.0
    longer: dict[str, Any] = dict(FUNCTIONS, magnitude=so.Tanh(rho=5.0))
    expected = jax.jit(partial(function, **longer, part="magnitude"))()
    moved = call(conv, x, part="magnitude")
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    single = sl.DecoupledConv(3, 2, 3, **FUNCTIONS, rngs=nnx.Rngs(0))
    assert single.kernel.shape == (3, 3, 2)
    assert single(jnp.ones((7, 3))).shape == (7, 2)


PLANE: dict[str, Any] = dict(kernel_size=(3, 4), strides=(1, 2))


@pytest.mark.parametrize(
    ("padding", "options"),
    [
        ("SAME_LOWER", PLANE),
        ("CIRCULAR", dict(kernel_size=(4, 3), kernel_dilation=(1, 2))),
        ("CIRCULAR", dict(kernel_size=(2,), strides=2, feature_group_count=3)),
        ("REFLECT", PLANE),
        ("CAUSAL", dict(kernel_size=(3,), kernel_dilation=2)),
        (2, PLANE),
        ([1, 0], PLANE),
        ((2, (0, 1)), PLANE),
    ],
)
def test_padding_is_that_of_flax(padding, options):
    options = {**options, "padding": padding, "rngs": nnx.Rngs(0)}
    linear: dict[str, Any] = dict(
        magnitude=so.Linear(weighted="linear"), angular=so.Cosine()
    )
    conv = sl.DecoupledConv(6, 3, **options, **linear)
    plain, ones = (
        nnx.Conv(6, 3, **options, use_bias=False, kernel_init=jax.nn.initializers.ones)
        for _ in range(2)
    )
    plain.kernel[...] = conv.kernel[...]
    (x,) = draw((2, 5, 6, 6))

    @nnx.jit
    def run(conv, plain, ones, x):
        return conv(x), plain(x), conv(x, part="magnitude"), ones(x**2)

    outputs, expected, magnitudes, squares = run(conv, plain, ones, x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    lengths = np.linalg.norm(wide(conv.kernel[...]).reshape(-1, 3), axis=0)
    np.testing.assert_allclose(magnitudes, lengths * np.sqrt(squares), rtol=1e-5)


def test_dense_is_the_function_of_its_variables():
    layer = sl.DecoupledLinear(6, 4, **FUNCTIONS, use_bias=True, rngs=nnx.Rngs(0))
    (x,) = draw((2, 3, 6))
    layer.bias[...] = jnp.arange(4.0)
    expected = so.decoupled_dense(x, layer.kernel[...], **FUNCTIONS)
    np.testing.assert_allclose(layer(x), expected + layer.bias[...].reshape(1, 1, 4))
    angle = so.decoupled_dense(x, layer.kernel[...], **FUNCTIONS, part="angle")
    np.testing.assert_array_equal(layer(x, part="angle"), angle)


def patch_means(x, groups):
    """Mean norm of the patches of a 3 x 3 window, for each group of channels."""
    x = np.pad(np.asarray(x, np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    squares = np.sum(np.square(x).reshape(*x.shape[:-1], groups, -1), -1)
    windows = np.lib.stride_tricks.sliding_window_view(squares, (3, 3), (1, 2))
    return np.sqrt(windows.sum((-1, -2))).mean((0, 1, 2))


@pytest.mark.parametrize("radius", ["mean", "learned"])
def test_the_radius_is_measured(radius):
    ball: dict[str, Any] = dict(magnitude=so.Ball(rho=0.5), angular=so.Cosine())
    conv = sl.DecoupledConv(
        6,
        4,
        (3, 3),
        **ball,
        radius=radius,
        momentum=0.9,
        feature_group_count=2,
        rngs=nnx.Rngs(0),
    )
    np.testing.assert_allclose(conv.mean_norm[...], [27**0.5] * 2, rtol=1e-6)
    (x,) = draw((2, 4, 5, 6))
    mean, root = patch_means(x, 2), 1.0
    if radius == "learned":
        conv.radius_root[...] = jnp.array([1.0, 2.0, 0.5, 0.1])
        root = np.array([1.0, 2.0, 0.5, 0.1]) ** 2 + 1e-4

    def expected(mean):
        rho = jnp.asarray(0.5 * root * (np.repeat(mean, 2) + 1e-6), jnp.float32)
        of: dict[str, Any] = dict(
            ball, magnitude=so.Ball(rho=rho), feature_group_count=2
        )
        return jax.jit(partial(so.decoupled_conv, x, conv.kernel[...], **of))()

    np.testing.assert_allclose(call(conv, x), expected(mean), rtol=1e-5, atol=1e-6)
    running = 0.9 * 27**0.5 + 0.1 * mean
    np.testing.assert_allclose(conv.mean_norm[...], running, rtol=1e-5)
    outputs = call(conv, x, use_running_average=True)
    np.testing.assert_allclose(outputs, expected(running), rtol=1e-5, atol=1e-6)
    conv.eval()
    np.testing.assert_array_equal(call(conv, x), outputs)
    np.testing.assert_allclose(conv.mean_norm[...], running, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_measured_radius_is_differentiated():
    layer = sl.DecoupledLinear(
        3, 2, **FUNCTIONS, radius="learned", param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    x, direction = (v.astype(float) for v in draw((5, 3), (5, 3)))

    @jax.jit
    def total(x, root):
        same: Any = nnx.merge(*nnx.split(layer), copy=True)
        same.radius_root = nnx.Param(root)
        return jnp.sum(jnp.sin(same(x)))

    root = jnp.array([1.0, 0.7])
    for argument, along in ((0, direction), (1, jnp.array([1.0, -2.0]))):
        gradient = jax.grad(total, argument)(x, root)

        def at(step, argument=argument, along=along):
            moved = [x, root]
            moved[argument] = moved[argument] + step * along
            return total(*moved)

        slope = (at(1e-6) - at(-1e-6)) / 2e-6
        np.testing.assert_allclose(jnp.sum(gradient * along), slope, rtol=1e-7)


def test_hyperparameters_are_learned_by_name():
    (x,) = draw((2, 4, 4, 6))
    conv = LAYERS["conv"](rngs=nnx.Rngs(0))
    assert set(nnx.state(conv, nnx.Param)) == {"kernel", "rho", "k"}
    assert set(nnx.state(conv, sl.Hyperparameter)) == {"alpha"}
    assert conv.rho.shape == conv.k.shape == (4,)
    np.testing.assert_allclose(conv.rho[...], 2.0)
    gradient = gradient_of(conv, x)

    def total(rho):
        of: dict[str, Any] = dict(magnitude=so.Tanh(rho=rho), angular=so.Sigmoid())
        return jnp.sum(jnp.sin(so.decoupled_conv(x, conv.kernel[...], **of)))

    expected = jax.jit(jax.grad(total))(jnp.full(4, 2.0))
    np.testing.assert_allclose(gradient["rho"][...], expected, rtol=1e-4, atol=1e-5)
    assert np.all(np.abs(gradient["k"][...]) > 0)


def test_a_new_hyperparameter_does_not_compile_anew():
    traces = []

    @nnx.jit
    def forward(layer, x):
        traces.append(None)
        return layer(x)

    layer = sl.DecoupledLinear(6, 4, **FUNCTIONS, rngs=nnx.Rngs(0))
    (x,) = draw((2, 6))
    first = forward(layer, x)
    layer.rho[...] = 3.0
    assert np.all(forward(layer, x) != first)
    assert len(traces) == 1


@pytest.mark.parametrize("operator", ["linear", "cosine", "sigmoid", "learned_sigmoid"])
def test_sphere_conv(operator):
    conv = sl.SphereConv(6, 4, (1, 1), operator=operator, rngs=nnx.Rngs(0))
    (x,) = draw((2, 3, 3, 6))
    width = 0.3
    if operator == "learned_sigmoid":
        np.testing.assert_allclose(conv.k_raw[...], [0.7] * 4)
        conv.k_raw[...] = jnp.array([0.7, -0.7, 0.1, -0.2])
        width = np.array([0.75, 0.75, 0.15, 0.25])
    kernel, rows = wide(conv.kernel[...])[0, 0], wide(x)
    cosines = rows @ kernel / np.linalg.norm(kernel, axis=0)
    cosines /= np.linalg.norm(rows, axis=-1, keepdims=True)
    angles = np.arccos(cosines)
    q = np.pi / (2 * width)
    rise = np.exp(angles / width - q)
    expected = {
        "linear": 1 - 2 * angles / np.pi,
        "cosine": cosines,
    }.get(operator, (1 + np.exp(-q)) / (1 - np.exp(-q)) * (1 - rise) / (1 + rise))
    np.testing.assert_allclose(call(conv, x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(call(conv, 1e3 * x), expected, rtol=1e-5, atol=1e-6)


def test_sphere_norm_runs_from_sphere_conv_to_the_plain_convolution():
    norm = sl.SphereNorm(6, 4, (3, 3), exponent=0.25, radius="fixed", rngs=nnx.Rngs(0))
    (x,) = draw((2, 4, 4, 6))
    kernel = norm.kernel[...]
    np.testing.assert_allclose(jax.nn.sigmoid(norm.logit[...]), [0.25] * 4, rtol=1e-6)
    lengths = jnp.linalg.norm(kernel.reshape(-1, 4), axis=0)

    @jax.jit
    def plain(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        conv = partial(jax.lax.conv_general_dilated, dimension_numbers=layout)
        products = conv(x, kernel, (1, 1), "SAME")
        norms = jnp.sqrt(conv(x**2, jnp.ones_like(kernel), (1, 1), "SAME"))
        return products, products / lengths.reshape(1, 1, 1, 4), norms

    products, projections, norms = plain(x, kernel)
    forward = nnx.jit(lambda layer, x: layer(x))
    norm.rho[...] = 2.0
    for logit, exponent in ((-np.log(3.0), 0.25), (-200.0, 0.0), (200.0, 1.0)):
        norm.logit[...] = jnp.full(4, logit)
        expected = (norms / 2) ** exponent * projections / norms
        np.testing.assert_allclose(forward(norm, x), expected, rtol=1e-4, atol=1e-6)
    norm.scale[...] = 2.0 * lengths
    np.testing.assert_allclose(forward(norm, x), products, rtol=1e-4, atol=1e-5)


def attention_in_numpy(layer, x, mask: Any = True):
    """For each head the softmax of s cos, one query after the other."""

    def project(linear):
        kernel, bias = wide(linear.kernel[...]), wide(linear.bias[...])
        return np.einsum("bld,dhe->bhle", x, kernel) + bias[:, None]

    x = wide(x)
    q, k, v = map(project, (layer.query, layer.key, layer.value))
    lengths = (np.linalg.norm(t, axis=-1, keepdims=True) for t in (q, k))
    q, k = (t / n for t, n in zip((q, k), lengths, strict=True))
    weights = np.exp(wide(layer.scale)[:, None, None] * q @ k.swapaxes(-1, -2))
    weights = np.where(mask, weights, 0)
    heads = weights / weights.sum(-1, keepdims=True) @ v
    out = wide(layer.out.kernel[...])
    return np.einsum("bhle,hed->bld", heads, out) + wide(layer.out.bias[...])


def test_cosine_attention():
    layer = sl.CosineAttention(2, 6, decode=False, scale=3.0, rngs=nnx.Rngs(0))
    (x,) = draw((2, 5, 6))
    layer.query_ln.log_scale[...] = jnp.log(jnp.array([3.0, 7.0]))
    expected = attention_in_numpy(layer, x)
    np.testing.assert_allclose(call(layer, x), expected, rtol=1e-4, atol=1e-5)
    mask = np.tril(np.ones((5, 5), bool))
    masked = nnx.jit(lambda layer, x: layer(x, mask=mask[None, None]))(layer, x)
    expected = attention_in_numpy(layer, x, mask)
    np.testing.assert_allclose(masked, expected, rtol=1e-4, atol=1e-5)
    # Neither the length of queries nor that of keys counts.
    for linear, factor in ((layer.query, 100.0), (layer.key, 0.01)):
        linear.kernel[...] *= factor
        linear.bias[...] *= factor
    expected = attention_in_numpy(layer, x)
    np.testing.assert_allclose(call(layer, x), expected, rtol=1e-4, atol=1e-5)
    layer.query_ln.log_scale[...] = jnp.full(2, 50.0)
    np.testing.assert_allclose(layer.scale, 100.0, rtol=1e-5)


def test_a_zero_query_attends_to_all_alike():
    layer = sl.CosineAttention(2, 6, decode=False, rngs=nnx.Rngs(0))
    (x,) = draw((1, 5, 6))
    x = x.at[0, 2].set(0.0)
    mean = jnp.mean(layer.value(x), axis=1, keepdims=True)
    np.testing.assert_allclose(call(layer, x)[:, 2], layer.out(mean)[:, 0], rtol=1e-4)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient_of(layer, x)))


def inputs_of(name):
    (x,) = draw((2, 4, 4, 6))
    return x.reshape(2, 16, 6) if name == "attention" else x


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_finite_where_patches_and_filters_are_zero(name):
    layer = LAYERS[name](rngs=nnx.Rngs(0))
    if name != "attention":
        layer.kernel[...] = layer.kernel[...].at[..., 1].set(0.0)
    gradient = gradient_of(layer, inputs_of(name).at[0].set(0.0))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("name", "graph"), [*((name, True) for name in LAYERS), ("learned radius", False)]
)
def test_split_merge_and_what_a_call_changes(name, graph):
    with nnx.set_graph_mode(graph):
        layer = LAYERS[name](rngs=nnx.Rngs(0))
        before = jax.tree.map(np.array, nnx.state(layer))
        expected = call(layer, inputs_of(name))
        after = nnx.state(layer)
        assert jax.tree.structure(before) == jax.tree.structure(after)
        for path, old in nnx.to_flat_state(before):
            is_moved = not np.array_equal(
                old[...], dict(nnx.to_flat_state(after))[path][...]
            )
            assert is_moved == (path == ("mean_norm",)), path
        merged = nnx.merge(*nnx.split(layer, nnx.Param, ...))
        np.testing.assert_array_equal(call(merged, inputs_of(name)), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_dtypes(name):
    def dtype_of(x_dtype, **dtypes):
        layer, x = LAYERS[name](**dtypes, rngs=nnx.Rngs(0)), inputs_of(name)
        params = jax.tree.leaves(nnx.state(layer, nnx.Param))
        assert {p.dtype for p in params} == {jnp.dtype(dtypes["param_dtype"])}
        graphdef, state = nnx.split(layer)

        def forward(state, x):
            return nnx.merge(graphdef, state, copy=True)(x)

        return jax.eval_shape(forward, state, x.astype(x_dtype)).dtype

    assert dtype_of(jnp.bfloat16, param_dtype=jnp.bfloat16) == jnp.bfloat16
    assert dtype_of(jnp.bfloat16, param_dtype=jnp.float32) == jnp.float32
    mixed: dict[str, Any] = dict(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert dtype_of(jnp.float32, **mixed) == jnp.bfloat16


@pytest.mark.parametrize("name", ["conv", "learned radius", "attention"])
def test_linen(name):
    x, kind = inputs_of(name), LAYERS[name]
    module = nnx.bridge.to_linen(kind.func, *kind.args, **kind.keywords)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    layer = kind(rngs=nnx.Rngs(1))
    for path, value in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        given = variables["params"]
        for key in path:
            given = given[key]
        value[...] = given
    apply = jax.jit(partial(module.apply, mutable=["batch_stats"]))
    outputs, changed = apply(variables, x)
    np.testing.assert_allclose(outputs, call(layer, x), rtol=1e-5, atol=1e-6)
    if hasattr(layer, "mean_norm"):
        moved = changed["batch_stats"]["mean_norm"]
        np.testing.assert_allclose(moved, layer.mean_norm[...], rtol=1e-6)


CONV = partial(sl.DecoupledConv, 6, 4, (3, 3), rngs=nnx.Rngs(0))
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "window": (
        lambda: sl.DecoupledConv(6, 4, (3, 0), **FUNCTIONS, rngs=nnx.Rngs(0)),
        ValueError,
        r"kernel_size\[1\] must be a positive integer",
    ),
    "groups": (
        lambda: CONV(**FUNCTIONS, feature_group_count=4),
        ValueError,
        "must divide in_features .* got 4 for 6 and 4",
    ),
    "features": (
        lambda: sl.DecoupledLinear(6, 0, **FUNCTIONS, rngs=nnx.Rngs(0)),
        ValueError,
        "DecoupledLinear: out_features must be",
    ),
    "magnitude": (
        lambda: CONV(magnitude=jnp.tanh, angular=so.Cosine()),
        TypeError,
        r"magnitude must be a sphax.operators.Magnitude",
    ),
    "mask": (
        lambda: CONV(**FUNCTIONS, mask=jnp.ones((3, 3, 6, 4))),
        TypeError,
        "DecoupledConv: mask is not an option",
    ),
    "radius": (
        lambda: CONV(**FUNCTIONS, radius="batch"),
        ValueError,
        r"radius must be one of .*'batch'",
    ),
    "no radius": (
        lambda: CONV(magnitude=so.Sphere(), angular=so.Cosine(), radius="mean"),
        ValueError,
        "'mean' needs a magnitude with .* got Sphere",
    ),
    "learn": (
        lambda: CONV(**FUNCTIONS, learn=["beta"]),
        ValueError,
        r"\('rho', 'alpha', 'k'\), got \('beta',\)",
    ),
    "channels": (
        lambda: CONV(**FUNCTIONS)(jnp.ones((2, 4, 4, 3))),
        ValueError,
        r"inputs must be \[..., 6\]",
    ),
    "integers": (
        lambda: CONV(**FUNCTIONS)(jnp.ones((2, 4, 4, 6), int)),
        TypeError,
        "inputs must be floating",
    ),
    "operator": (
        lambda: LAYERS["sphere"](operator="tanh", rngs=nnx.Rngs(0)),
        ValueError,
        "operator must be one of .*'tanh'",
    ),
    "exponent": (
        lambda: sl.SphereNorm(6, 4, (3, 3), exponent=1.0, rngs=nnx.Rngs(0)),
        ValueError,
        r"SphereNorm: exponent must lie in \(0, 1\)",
    ),
    "scale": (
        lambda: sl.CosineAttention(2, 6, scale=200.0, rngs=nnx.Rngs(0)),
        ValueError,
        "scale must be positive and at most max_scale",
    ),
    "normalize_qk": (
        lambda: sl.CosineAttention(2, 6, normalize_qk=True, rngs=nnx.Rngs(0)),
        ValueError,
        "normalize_qk has no place here",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_teach(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()
