"""Decoupled operators: definitions, geometry, identities, singular points, dtypes."""

import dataclasses
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from sphax import operators as so
from sphax.sphere import arcsin
from tests.jaxprs import largest_array
from tests.operators.tables import ANGULARS, MAGNITUDES
from tests.reference import numerical_gradient

WEIGHTED: list[Any] = ["none", "linear", "nonlinear"]
# The output is the product of two independent factors, as proved by
# `test_the_output_is_the_product_of_its_factors`, computed in one of three forms: as a
# product with the filters (linear and cosine), with one factor for all filters (cosine,
# not weighted), or in general. So this set has each magnitude, each angular function
# with each weighting, and each form; the other pairs would repeat them.
FACTORS = [
    (angular, WEIGHTED[(number + shift) % len(WEIGHTED)])
    for shift in range(len(WEIGHTED))
    for number, angular in enumerate(ANGULARS)
]
ROWS = [
    (list(MAGNITUDES)[n % len(MAGNITUDES)], *FACTORS[n % len(FACTORS)])
    for n in range(max(len(MAGNITUDES), len(FACTORS)))
]
ROWS += [("linear", "cosine", weighted) for weighted in WEIGHTED]


def make(magnitude, angular, weighted="none") -> tuple[dict[str, Any], Any]:
    """The functions, and the operator of a patch and a filter in NumPy."""
    kind, settings, h = MAGNITUDES[magnitude]
    function, g = ANGULARS[angular]

    def definition(patch, neuron):
        n, w = np.sqrt(np.sum(patch**2)), np.sqrt(np.sum(neuron**2))
        if n * w == 0:
            return 0.0
        theta = np.arccos(np.clip(np.sum(patch * neuron) / (n * w), -1, 1))
        radius = {"none": h(n), "linear": w * h(n), "nonlinear": h(w * n)}[weighted]
        return radius * g(theta)

    functions: dict[str, Any] = dict(
        magnitude=kind(**settings, weighted=weighted), angular=function
    )
    return functions, definition


def convolve(
    definition, x, w, pads, strides: Any = 1, spread: Any = 1, reach: Any = 1, groups=1
):
    """The operator at every patch, one after the other."""
    rank = w.ndim - 2
    strides, spread, reach = (np.ones(rank, int) * v for v in (strides, spread, reach))
    space = np.array(x.shape[1:-1])
    wide = np.zeros((len(x), *(spread * (space - 1) + 1), x.shape[-1]))
    wide[(slice(None), *(slice(None, None, s) for s in spread))] = x
    wide = np.pad(wide, [(0, 0), *pads, (0, 0)])
    extent = reach * (np.array(w.shape[:rank]) - 1) + 1
    size = (np.array(wide.shape[1:-1]) - extent) // strides + 1
    out = np.zeros((len(x), *size, w.shape[-1]))
    channels, filters = w.shape[-2], w.shape[-1] // groups
    for n, *at in np.ndindex(len(x), *size):
        low = strides * at
        window = [
            slice(a, a + e, r) for a, e, r in zip(low, extent, reach, strict=True)
        ]
        patch = wide[(n, *window)]
        for f in range(w.shape[-1]):
            first = f // filters * channels
            part = patch[..., first : first + channels]
            out[(n, *at, f)] = definition(part, w[..., f])
    return out


def wide(x) -> Any:
    return np.asarray(x, np.float64)


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


# Not compiled, unlike elsewhere: the operators share their primitive operations, which
# are compiled once, where each of these tests would compile a program of its own.
@pytest.mark.parametrize(("magnitude", "angular", "weighted"), ROWS)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(magnitude, angular, weighted):
    functions, definition = make(magnitude, angular, weighted)
    x, w, weights = draw((1, 4, 2), (3, 2, 2), (1, 4, 2))

    def reference(x, w):
        return convolve(definition, x, w, [(1, 1)])

    outputs, pull = jax.vjp(partial(so.decoupled_conv, **functions), x, w)
    np.testing.assert_allclose(outputs, reference(x, w), rtol=1e-11)
    of_x, of_w = pull(jnp.asarray(weights))
    for gradient, numerical in (
        (of_x, numerical_gradient(lambda x: np.sum(reference(x, w) * weights), x)),
        (of_w, numerical_gradient(lambda w: np.sum(reference(x, w) * weights), w)),
    ):
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)
    rows = so.decoupled_dense(x[0], w[0], **functions)
    expected = [[definition(row, column) for column in w[0].T] for row in x[0]]
    np.testing.assert_allclose(rows, expected, rtol=1e-11)


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("magnitude", ["linear", "tanh"])
@pytest.mark.usefixtures("x64")
def test_dense_is_a_convolution_whose_window_has_one_place(magnitude, weighted):
    x, w, weights = draw((2, 3, 4), (4, 5), (2, 3, 5))
    functions, _ = make(magnitude, "cosine", weighted)

    @jax.jit
    def both(x, w, weights):
        dense, pull = jax.vjp(partial(so.decoupled_dense, **functions), x, w)
        conv, pull_conv = jax.vjp(partial(so.decoupled_conv, **functions), x, w[None])
        of_x, of_w = pull_conv(weights)
        return (dense, *pull(weights)), (conv, of_x, of_w[0])

    for ours, expected in zip(*both(x, w, weights), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-14)


GEOMETRIES: dict[str, Any] = {
    # inputs, kernel, options of the operator, options of the reference
    "1d same": ((2, 6, 2), (3, 2, 4), {}, dict(pads=[(1, 1)])),
    "1d even": ((2, 6, 2), (4, 2, 4), {}, dict(pads=[(1, 2)])),
    "1d valid": (
        (2, 7, 2),
        (3, 2, 4),
        dict(padding="VALID", strides=2),
        dict(pads=[(0, 0)], strides=2),
    ),
    "2d strided same": (
        (2, 5, 6, 2),
        (3, 3, 2, 4),
        dict(strides=(2, 3)),
        dict(pads=[(1, 1), (0, 0)], strides=(2, 3)),
    ),
    "2d explicit": (
        (2, 4, 5, 2),
        (3, 2, 2, 4),
        dict(padding=((2, 0), (1, 3))),
        dict(pads=[(2, 0), (1, 3)]),
    ),
    "2d dilated": (
        (1, 6, 5, 2),
        (2, 3, 2, 4),
        dict(kernel_dilation=(3, 2)),
        dict(pads=[(1, 2), (2, 2)], reach=(3, 2)),
    ),
    "2d spread out": (
        (1, 3, 4, 2),
        (3, 3, 2, 4),
        dict(input_dilation=(3, 2), padding=((1, 2), (0, 1))),
        dict(pads=[(1, 2), (0, 1)], spread=(3, 2)),
    ),
    "2d spread out same": (
        (1, 3, 4, 2),
        (3, 3, 2, 4),
        dict(input_dilation=2),
        dict(pads=[(1, 1), (1, 1)], spread=2),
    ),
    "3d": ((1, 3, 2, 4, 2), (2, 1, 3, 2, 4), {}, dict(pads=[(0, 1), (0, 0), (1, 1)])),
    "groups": (
        (2, 4, 6),
        (3, 2, 9),
        dict(feature_group_count=3),
        dict(pads=[(1, 1)], groups=3),
    ),
    "depthwise": (
        (1, 4, 4, 3),
        (3, 3, 1, 6),
        dict(feature_group_count=3, strides=2),
        dict(pads=[(0, 1), (0, 1)], groups=3, strides=2),
    ),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.usefixtures("x64")
def test_geometry(geometry):
    of_x, of_w, options, settings = GEOMETRIES[geometry]
    x, w = draw(of_x, of_w)
    functions, definition = make("tanh", "sigmoid", "linear")
    expected = convolve(definition, x, w, **settings)
    (weights,) = draw(expected.shape, seed=1)

    @jax.jit
    def run(x, w, weights):
        conv = partial(so.decoupled_conv, **functions, **options)
        outputs, pull = jax.vjp(conv, x, w)
        return outputs, pull(weights), so.patch_norms(x, w.shape[:-2], **options)

    outputs, gradients, norms = run(x, w, weights)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11)
    dx, dw = draw(of_x, of_w, seed=2)
    slopes = [np.sum(d * g) for d, g in zip((dx, dw), gradients, strict=True)]

    def along(t):
        return np.sum(
            convolve(definition, x + t * dx, w + t * dw, **settings) * weights
        )

    slope = (along(1e-6) - along(-1e-6)) / 2e-6
    np.testing.assert_allclose(sum(slopes), slope, rtol=1e-6)
    ones = np.ones((*w.shape[:-1], options.get("feature_group_count", 1)))
    measured = convolve(lambda p, _: np.sqrt(np.sum(p**2)), x, ones, **settings)
    np.testing.assert_allclose(norms, measured, rtol=1e-12)


@pytest.mark.parametrize(
    ("space", "window", "options"),
    [
        ((5,), (3,), dict(strides=2)),
        ((5,), (2,), dict(strides=4)),
        ((4, 3), (3, 4), dict(strides=(2, 1))),
        ((3,), (2,), dict(strides=4, padding="VALID")),
        ((4,), (3,), dict(strides=2, kernel_dilation=2)),
        ((4,), (3,), dict(strides=2, padding=((1, 0),))),
    ],
)
@pytest.mark.usefixtures("x64")
def test_transposed_convolution(space, window, options):
    x, w = map(jnp.asarray, draw((2, *space, 2), (*window, 2, 3)))
    functions, definition = make("tanh", "linear")
    dims = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}[len(space)]
    per_axis: dict[str, Any] = {
        name: (value,) * len(space) if isinstance(value, int) else value
        for name, value in options.items()
    }
    plain = jax.lax.conv_transpose(
        x,
        w,
        per_axis["strides"],
        per_axis.get("padding", "SAME"),
        rhs_dilation=per_axis.get("kernel_dilation"),
        dimension_numbers=dims,
    )
    linear: dict[str, Any] = dict(
        magnitude=so.Linear(weighted="linear"), angular=so.Cosine()
    )
    ours = so.decoupled_conv_transpose(x, w, **linear, **options)
    np.testing.assert_allclose(ours, plain, rtol=1e-12)
    outputs = so.decoupled_conv_transpose(x, w, **functions, **options)
    # Spread out by hand, padded until the shape is that of JAX, and convolved.
    reach = per_axis.get("kernel_dilation", (1,) * len(space))
    settings: dict[str, Any] = dict(spread=per_axis["strides"], reach=reach)
    pads = _pads_that_give(np.asarray(x), np.asarray(w), np.asarray(plain), settings)
    expected = convolve(definition, np.asarray(x), np.asarray(w), pads, **settings)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11)


def _pads_that_give(x, w, plain, settings):
    """The one padding under which the plain products are the ones given."""
    rank = w.ndim - 2
    extent = [
        (k - 1) * r + 1 for k, r in zip(w.shape[:rank], settings["reach"], strict=True)
    ]
    spread = [
        (n - 1) * s + 1 for n, s in zip(x.shape[1:-1], settings["spread"], strict=True)
    ]
    choices = []
    for axis in range(rank):
        total = plain.shape[1 + axis] + extent[axis] - 1 - spread[axis]
        choices.append([(low, total - low) for low in range(total + 1)])
    fits = []
    for pads in itertools.product(*choices):
        products = convolve(lambda p, v: np.sum(p * v), x, w, pads, **settings)
        if np.allclose(products, plain):
            fits.append(list(pads))
    assert len(fits) == 1
    return fits[0]


@pytest.mark.parametrize(
    ("weighted", "dtype"), [("linear", "float32"), ("nonlinear", "bfloat16")]
)
def test_weighted_linear_cosine_is_the_plain_convolution(weighted, dtype):
    conv = nnx.Conv(
        6,
        4,
        (3, 3),
        2,
        feature_group_count=2,
        use_bias=False,
        param_dtype=dtype,
        rngs=nnx.Rngs(0),
    )
    x = jnp.asarray(draw((2, 5, 5, 6))[0], dtype).at[0].set(0.0)
    functions: dict[str, Any] = dict(
        magnitude=so.Linear(weighted=weighted), angular=so.Cosine()
    )

    def ours(x, kernel):
        return so.decoupled_conv(
            x, kernel, **functions, strides=2, feature_group_count=2
        )

    def plain(x, kernel):
        same: Any = nnx.merge(*nnx.split(conv))
        same.kernel = nnx.Param(kernel)
        return same(x)

    kernel = conv.kernel[...]
    (ours_out, ours_pull), (out, pull) = (jax.vjp(f, x, kernel) for f in (ours, plain))
    np.testing.assert_array_equal(ours_out, out)
    jax.tree.map(np.testing.assert_array_equal, ours_pull(out), pull(out))
    assert "sqrt" not in str(jax.make_jaxpr(ours)(x, kernel))
    dense = so.decoupled_dense(x, kernel[0, 0].repeat(2, 0), **functions)
    linear = nnx.Linear(6, 4, use_bias=False, param_dtype=dtype, rngs=nnx.Rngs(0))
    linear.kernel[...] = kernel[0, 0].repeat(2, 0)
    np.testing.assert_array_equal(dense, linear(x))


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.usefixtures("x64")
def test_functions_contain_others(weighted):
    norm, filter_norm = jnp.array([0.0, 0.3, 1.9, 2.1, 7.0]), jnp.array(1.4)
    linear = so.Linear(alpha=0.7, weighted=weighted)
    alike = [
        (so.Segmented(alpha=0.7, beta=0.7, rho=2.0, weighted=weighted), linear),
        (so.Power(alpha=0.7, exponent=1.0, weighted=weighted), linear),
        (
            so.Segmented(alpha=0.5, beta=0.0, rho=2.0, weighted=weighted),
            so.Ball(rho=2.0, weighted=weighted),
        ),
    ]
    for function, other in alike:
        ours, expected = (h.weigh(norm, filter_norm) for h in (function, other))
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    power = so.Power(exponent=0.0)(norm[1:])
    np.testing.assert_allclose(power, so.Sphere()(norm[1:]), rtol=1e-12)
    angles = jnp.linspace(0.0, jnp.pi, 7)
    wide = so.Sigmoid(k=1e4)(angles)
    np.testing.assert_allclose(wide, so.LinearAngle()(angles), atol=1e-7)
    # The linear one, which needs no norm of a patch, is computed in another way.
    x, w = draw((1, 4, 4, 2), (3, 3, 2, 5))
    conv = partial(so.decoupled_conv, x, w, angular=so.Cosine())
    general = conv(magnitude=alike[0][0])
    np.testing.assert_allclose(general, conv(magnitude=linear), rtol=1e-12)


@pytest.mark.parametrize("angular", ANGULARS)
@pytest.mark.usefixtures("x64")
def test_sphere_is_invariant_to_the_scale_of_inputs_and_filters(angular):
    x, w = draw((1, 4, 4, 2), (3, 3, 2, 3))
    functions, _ = make("sphere", angular)
    outputs = so.decoupled_conv(x, w, **functions)
    scaled = so.decoupled_conv(1e-5 * x, w * np.array([1e4, 1.0, 1e-6]), **functions)
    np.testing.assert_allclose(scaled, outputs, rtol=1e-9)
    np.testing.assert_allclose(so.decoupled_conv(-x, w, **functions), -outputs)


# Each magnitude, each angular function, and each of the special forms.
@pytest.mark.parametrize(("magnitude", "angular", "weighted"), ROWS[:8] + ROWS[-3:])
@pytest.mark.usefixtures("x64")
def test_the_output_is_the_product_of_its_factors(magnitude, angular, weighted):
    x, w = draw((1, 4, 2), (3, 2, 2))
    functions, _ = make(magnitude, angular, weighted)
    conv = partial(so.decoupled_conv, **functions)
    output, h, g = (conv(x, w, part=part) for part in ("output", "magnitude", "angle"))
    assert output.shape == h.shape == g.shape == (1, 4, 2)
    np.testing.assert_allclose(output, h * g, rtol=1e-11)
    # Each factor is that of its function alone.
    others, _ = make("tanh", "square", weighted)
    same_h = so.decoupled_conv(
        x, w, **(functions | {"angular": others["angular"]}), part="magnitude"
    )
    np.testing.assert_array_equal(same_h, h)
    same_g = so.decoupled_conv(
        3 * x, w, **(functions | {"magnitude": others["magnitude"]}), part="angle"
    )
    np.testing.assert_allclose(same_g, g, rtol=1e-11)
    dense = so.decoupled_dense(x, w[0], **functions, part="magnitude")
    single = conv(x, w[:1], part="magnitude")
    np.testing.assert_allclose(dense, single, rtol=1e-12)


# Between them, they have all of rho, alpha, beta and exponent.
@pytest.mark.parametrize("magnitude", ["segmented", "power"])
@pytest.mark.usefixtures("x64")
def test_hyperparameters_for_each_filter_and_their_gradients(magnitude):
    """Each group's filters have entries of their own; compared one by one."""
    x, w = draw((1, 4, 4), (3, 2, 4))
    kind, settings, _ = MAGNITUDES[magnitude]
    each = {name: v * np.linspace(0.7, 1.3, 4) for name, v in settings.items()}
    k = np.linspace(0.2, 0.5, 4)

    @jax.jit
    def total(magnitude, angular):
        options: dict[str, Any] = dict(
            magnitude=magnitude, angular=angular, feature_group_count=2
        )
        return jnp.sum(jnp.sin(so.decoupled_conv(x, w, **options)))

    def one_by_one(each, k):
        outputs = []
        for f in range(4):
            alone = kind(**{name: float(v[f]) for name, v in each.items()})
            group = x[..., 2 * (f // 2) : 2 * (f // 2) + 2]
            sigmoid = so.Sigmoid(k=float(k[f]))
            outputs.append(
                so.decoupled_conv(
                    group, w[..., f : f + 1], magnitude=alone, angular=sigmoid
                )
            )
        return np.sum(np.sin(outputs))

    value, gradients = jax.value_and_grad(total, (0, 1))(
        kind(**each), so.Sigmoid(k=jnp.asarray(k))
    )
    np.testing.assert_allclose(value, one_by_one(each, k), rtol=1e-11)
    for name in each:

        def of(values, name=name):
            return one_by_one(each | {name: values}, k)

        numerical = numerical_gradient(of, each[name])
        np.testing.assert_allclose(
            getattr(gradients[0], name), numerical, rtol=1e-6, atol=1e-9
        )
    numerical = numerical_gradient(lambda k: one_by_one(each, k), k)
    np.testing.assert_allclose(gradients[1].k, numerical, rtol=1e-6, atol=1e-9)


DTYPES = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}


def run(functions, x, w, cotangent=None):
    """Outputs and both gradients of a convolution, compiled as one piece."""

    @jax.jit
    def step(x, w):
        outputs, pull = jax.vjp(partial(so.decoupled_conv, **functions), x, w)
        weights = jnp.ones_like(outputs) if cotangent is None else cotangent
        return outputs, *pull(jnp.asarray(weights, outputs.dtype))

    return step(x, w)


@pytest.mark.parametrize(
    ("magnitude", "angular"), [("tanh", "linear"), ("ball", "cosine")]
)
@pytest.mark.usefixtures("x64")
def test_dtypes(magnitude, angular):
    functions, definition = make(magnitude, angular, "linear")
    # Rounded to bfloat16, so that they are the same in all dtypes.
    rounded = [jnp.asarray(v, "bfloat16") for v in draw((2, 4, 6), (3, 6, 4))]
    exact = run(functions, *(v.astype("float64") for v in rounded))
    x, w = map(wide, rounded)
    expected = convolve(definition, x, w, [(1, 1)])
    np.testing.assert_allclose(exact[0], expected, rtol=1e-12)
    for dtype, tolerance in DTYPES.items():
        results = run(functions, *(v.astype(dtype) for v in rounded))
        assert {result.dtype for result in results} == {jnp.dtype(dtype)}
        for result, expected in zip(results, exact, strict=True):
            error = np.linalg.norm(wide(result) - expected)
            assert error <= tolerance * np.linalg.norm(expected)


# Each angular function; with that of an angle, whose gradient ends, in both dtypes.
@pytest.mark.parametrize(
    ("magnitude", "angular", "dtype"),
    [
        ("tanh", "linear", "float32"),
        ("tanh", "linear", "bfloat16"),
        ("sphere", "sigmoid", "bfloat16"),
        ("ball", "cosine", "float32"),
        ("log", "square", "bfloat16"),
    ],
)
def test_singular_points(magnitude, angular, dtype):
    """Zero patches and filters, filters along a patch and against it."""
    (x,) = draw((4, 1, 6))
    x[1] = 0.0
    w = np.stack([x[0, 0], -2 * x[0, 0], 0 * x[0, 0], x[3, 0]], -1)[None]
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    functions, _ = make(magnitude, angular, "nonlinear")
    outputs, of_x, of_w = map(wide, run(functions, x, w))
    for result in (outputs, of_x, of_w):
        assert np.isfinite(result).all()
    # A zero patch, a zero filter: at right angles to everything.
    assert not outputs[1].any()
    assert not of_x[1].any()
    assert not outputs[..., 2].any()
    assert not of_w[..., 2].any()
    # A filter along the patch, and one against it.
    h = wide(so.decoupled_conv(x, w, **functions, part="magnitude"))
    np.testing.assert_allclose(outputs[0, 0, :2], h[0, 0, :2] * [1, -1], rtol=1e-2)


@pytest.mark.parametrize(
    ("dtype", "end", "right", "error"),
    [
        # Squared sine where it ends, angle from which on it is right, and how right.
        ("float32", 2.0**-23, 4e-3, 0.02),
        ("bfloat16", (4 * 2.0**-7) ** 2, 0.04, 0.04),
        ("float16", (4 * 2.0**-10) ** 2, 5e-3, 0.04),
    ],
)
def test_the_gradient_of_an_angle_has_its_full_length_or_none(dtype, end, right, error):
    """1 / |w| within (0, pi), as far as products resolve, bounded, 0 at the ends."""
    angles = np.concatenate([[0.0], 10 ** np.linspace(-5, 0, 200)])
    angles = np.concatenate([angles, np.pi - angles])
    # In a random plane of 48 dimensions for each angle.
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.normal(size=(len(angles), 48, 2)))[0].transpose(2, 0, 1)
    w = np.cos(angles)[:, None] * u + np.sin(angles)[:, None] * v
    x, w = jnp.asarray(5 * u, dtype), jnp.asarray(3 * w, dtype)
    linear: dict[str, Any] = dict(magnitude=so.Sphere(), angular=so.LinearAngle())

    @jax.jit
    @jax.vmap
    def gradients(x, w):
        def output(x, w):
            return so.decoupled_conv(x[None], w[None, :, None], **linear)[0, 0]

        return jax.grad(output, (0, 1))(x, w)

    # The reference takes the vectors as they are in their dtype.
    pairs = zip(wide(x), wide(w), strict=True)
    sines = np.sin([_angle(*pair) for pair in pairs])
    for gradient, radius in zip(gradients(x, w), (5.0, 3.0), strict=True):
        lengths = np.linalg.norm(wide(gradient), axis=1) * radius * np.pi / 2
        assert lengths.max() < 2.1
        assert np.sum(sines > right) > 50
        np.testing.assert_allclose(lengths[sines > right], 1.0, atol=error)
        # What rounding lets through below the end is short, as the tangent is.
        assert np.sum(sines**2 < 0.2 * end) > 50
        assert lengths[sines**2 < 0.2 * end].max() < 0.5
        assert lengths[angles == 0].max() < 0.01


def _angle(x, y):
    u, v = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))


@pytest.mark.parametrize("scale", [1e-25, 1e-15, 1e15, 1e25])
def test_extreme_lengths(scale):
    functions, _ = make("sphere", "linear")
    x, w = (jnp.asarray(v, jnp.float32) for v in draw((1, 5, 3), (3, 3, 4)))
    ordinary, scaled = run(functions, x, w), run(functions, scale * x, w)
    np.testing.assert_allclose(scaled[0], ordinary[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scaled[1] * scale, ordinary[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scaled[2], ordinary[2], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_transformations():
    functions, _ = make("tanh", "sigmoid", "nonlinear")
    x, w = draw((3, 4, 2), (2, 2, 3))
    conv = partial(so.decoupled_conv, **functions)
    dx, dw = draw(x.shape, w.shape, seed=1)

    @jax.jit
    def slopes(t):
        def along(t):
            return jnp.sum(jnp.sin(conv(x + t * dx, w + t * dw)))

        forward = jax.jvp(along, (t,), (1.0,))[1]
        return along(t), forward, jax.jvp(jax.grad(along), (t,), (1.0,))

    _, forward, (backward, second) = slopes(0.0)
    ahead, behind = slopes(1e-6), slopes(-1e-6)
    np.testing.assert_allclose(forward, backward, rtol=1e-12)
    np.testing.assert_allclose(forward, (ahead[0] - behind[0]) / 2e-6, rtol=1e-7)
    np.testing.assert_allclose(second, (ahead[1] - behind[1]) / 2e-6, rtol=1e-7)
    outputs = conv(x, w)
    each = jax.vmap(conv, (0, None))(x, w)
    np.testing.assert_allclose(each, outputs, rtol=1e-12)
    kernels = jax.vmap(conv, (None, 0))(x, np.stack([w, 2 * w]))
    np.testing.assert_allclose(kernels[0], outputs, rtol=1e-12)
    deep = conv(x.reshape(1, 3, 1, 4, 2), w)
    np.testing.assert_allclose(deep.reshape(outputs.shape), outputs, rtol=1e-12)
    assert conv(x[:0], w).shape == (0, 4, 3)


def test_a_new_hyperparameter_compiles_nothing():
    traces = []

    @jax.jit
    def call(x, w, magnitude, angular):
        traces.append(None)
        return so.decoupled_conv(x, w, magnitude=magnitude, angular=angular)

    x, w = jnp.ones((4, 2)), jnp.ones((3, 2, 3))
    for value in (1, 0.5, 2.0):
        call(x, w, so.Ball(rho=value), so.Sigmoid(k=value))
    assert len(traces) == 1
    call(x, w, so.Ball(weighted="linear"), so.Sigmoid())
    assert len(traces) == 2


@pytest.mark.usefixtures("x64")
def test_hyperparameters_take_the_dtype_of_the_computation():
    x, w = jnp.ones((4, 2), "float32"), jnp.ones((3, 2, 3), "float32")
    with jax.numpy_dtype_promotion("strict"):
        for leaf in (jnp.ones(3, "bfloat16"), jnp.ones(3, "float64"), 1.0):
            of: dict[str, Any] = dict(
                magnitude=so.Ball(rho=leaf), angular=so.Sigmoid(k=leaf)
            )
            conv = jax.eval_shape(partial(so.decoupled_conv, **of), x, w)
            dense = jax.eval_shape(partial(so.decoupled_dense, **of), x, w[0])
            assert conv.dtype == dense.dtype == jnp.float32


def test_no_patch_is_ever_formed():
    functions, _ = make("tanh", "sigmoid", "linear")
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))

    def step(x, w):
        outputs, pull = jax.vjp(partial(so.decoupled_conv, **functions), x, w)
        return pull(outputs)

    assert largest_array(jax.make_jaxpr(step)(x, w)) == x.size


def test_functions_of_ones_own():
    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Half(so.Angular):
        def __call__(self, angle):
            return jnp.cos(angle) / 2

    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Square(so.Magnitude):
        def __call__(self, length):
            return length**2

    x, w = (jnp.asarray(v, jnp.float32) for v in draw((5, 3), (1, 3, 4)))
    outputs = so.decoupled_conv(x, w, magnitude=Square(), angular=Half())
    lengths = jnp.linalg.norm(x, axis=-1, keepdims=True)
    cosines = sx.sphere.cosine_similarity(x, w[0].T)
    np.testing.assert_allclose(outputs, lengths**2 * cosines / 2, rtol=1e-5, atol=1e-6)


def test_fast_arcsin():
    x = np.linspace(-1, 1, 20001, dtype=np.float32)
    x = np.concatenate([x, np.float32(10.0) ** np.linspace(-37, -1, 500)])
    x = x.astype(np.float32)
    exact = np.arcsin(x.astype(np.float64))
    ours = np.asarray(jax.jit(lambda x: arcsin(x, 1e-7))(x), np.float64)
    error = np.abs(ours - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert error.max() < 3
    assert arcsin(jnp.zeros(1), 1e-7)[0] == 0
    beyond = arcsin(jnp.array([1.01, -1.01]), 1e-7)
    np.testing.assert_allclose(beyond, [np.pi / 2, -np.pi / 2], rtol=1e-7)


X, W = jnp.ones((4, 6)), jnp.ones((3, 6, 4))
FUNCTIONS: dict[str, Any] = dict(magnitude=so.Ball(), angular=so.Cosine())


def conv(x=X, w=W, **options):
    return lambda: so.decoupled_conv(x, w, **(FUNCTIONS | options))


NO_PADDING = r"an integer, or 1 integers or pairs"
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "rho": (
        lambda: so.Ball(rho=0.0),
        ValueError,
        r"Ball: rho must lie in \[1.17549e-38, inf\)",
    ),
    "alpha": (
        lambda: so.Linear(alpha=-1),
        ValueError,
        "Linear: alpha must lie .* got -1",
    ),
    "weighted": (
        lambda: so.Log(weighted="both"),  # pyright: ignore[reportArgumentType]
        ValueError,
        r"Log: weighted must be one of .*'both'",
    ),
    "k": (lambda: so.Sigmoid(k=0), ValueError, "Sigmoid: k must lie"),
    "magnitude": (
        conv(magnitude=1.0),
        TypeError,
        r"magnitude must be a sphax.operators.Magnitude, such as Tanh\(\), got 1.0",
    ),
    "angular": (
        conv(angular=so.Cosine),
        TypeError,
        r"angular must be a sphax.operators.Angular, .* got <class .*Cosine'>",
    ),
    "part": (conv(part="theta"), ValueError, "part must be one of .*'theta'"),
    "integers": (
        conv(X.astype(int)),
        TypeError,
        "inputs must be floating, got dtype int32",
    ),
    "two dtypes": (
        conv(X.astype("bfloat16")),
        TypeError,
        "kernel must have the dtype of inputs, bfloat",
    ),
    "no window": (
        conv(w=W[0]),
        ValueError,
        r"kernel must be \[\*window.*shape \(6, 4\)",
    ),
    "no space": (conv(X[0]), ValueError, r"inputs must be .* with 1 axes of space"),
    "channels": (
        conv(feature_group_count=2),
        ValueError,
        r"channels / 2, filters\].*\(3, 6, 4\)",
    ),
    "filters": (
        conv(w=W[:, :2], feature_group_count=3),
        ValueError,
        "filters a multiple of 3",
    ),
    "groups": (
        conv(feature_group_count=4),
        ValueError,
        "feature_group_count must be positive and",
    ),
    "strides": (
        conv(strides=0),
        ValueError,
        "strides must be a positive integer, or 1 of",
    ),
    "dilation": (
        conv(kernel_dilation=(1, 1)),
        ValueError,
        "kernel_dilation must be a positive",
    ),
    "two numbers": (conv(padding=(1, 1)), ValueError, NO_PADDING),
    "two pairs": (conv(padding=((1, 1), (1, 1))), ValueError, NO_PADDING),
    "a triple": (conv(padding=((1, 1, 1),)), ValueError, NO_PADDING),
    "a word": (conv(padding="SOME"), ValueError, NO_PADDING),
    "a half": (conv(padding=0.5), ValueError, NO_PADDING),
    "causal": (
        conv(X[None], W[None], padding="CAUSAL"),
        ValueError,
        r'"CAUSAL" with one axis.* got .CAUSAL',
    ),
    "circular": (
        conv(padding="CIRCULAR", input_dilation=2),
        ValueError,
        r"CIRCULAR.* got input_dilation \(2,\)",
    ),
    "circular transpose": (
        lambda: so.decoupled_conv_transpose(X, W, **FUNCTIONS, padding="CIRCULAR"),
        ValueError,
        r'"VALID", integers or pairs, got .CIRCULAR',
    ),
    "hyperparameters": (
        conv(magnitude=so.Ball(rho=jnp.ones(3))),
        ValueError,
        r"for each filter, \(4,\), got shape \(3,\)",
    ),
    "no kernel_size": (
        lambda: so.patch_norms(X, ()),
        ValueError,
        r"kernel_size must have one to three axes",
    ),
    "dense": (
        lambda: so.decoupled_dense(X, W, **FUNCTIONS),
        ValueError,
        r"kernel must be \[in, out\] and inputs",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_teach(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()
