"""All maps onto orthogonal matrices: values, derivatives, singular points, errors."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.orthogonal.definitions import cayley, draw, exponential, skew
from tests.orthogonal.tables import MAPS

so = sx.orthogonal


EXACT = [name for name, row in MAPS.items() if row.is_exact]
# Other maps invert small matrices, or none, without LAPACK.
FACTORED = [name for name in EXACT if name.startswith(("gram", "house", "lowdin"))]
SQUARE = [name for name in EXACT if MAPS[name].shape == (4, 4)]


def derivatives(name):
    """Value, and gradient and second derivative along ``da``, of the product with w."""

    def compute(a, w, da):
        gradient = jax.grad(lambda a: jnp.vdot(w, MAPS[name].map(a)))
        return MAPS[name].map(a), *jax.jvp(gradient, (a,), (da,))

    return jax.jit(compute)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("x64")
def test_value_and_derivatives_are_those_of_the_definition(name):
    row, compute = MAPS[name], derivatives(name)
    a, da = draw(0, *row.shape), draw(1, *row.shape)
    w = draw(2, *row.definition(a).shape)
    value, gradient, second = compute(a, w, da)
    np.testing.assert_allclose(value, row.definition(a), rtol=1e-10, atol=1e-10)
    expected = reference.numerical_gradient(lambda a: np.vdot(w, row.definition(a)), a)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)
    ahead, behind = (compute(a + t * da, w, da)[1] for t in (1e-5, -1e-5))
    np.testing.assert_allclose(second, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [64, 512])
@pytest.mark.parametrize("name", SQUARE)
def test_float32_is_orthogonal_to_rounding(name, n):
    q = np.asarray(jax.jit(MAPS[name].map)(jnp.float32(draw(n, n, n))), np.float64)
    assert np.linalg.norm(q.T @ q - np.eye(n)) <= 2e-6 * n**0.5
    expected = {"householder": 1.0, "cayley": 1.0, "exponential": 1.0}
    if name in expected:
        np.testing.assert_allclose(np.linalg.det(q), expected[name], rtol=1e-4)


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "identity": np.eye(3),
    "negative": -2.0 * np.eye(3),
    "equal columns": np.ones((3, 1)) * [1.0, 1.0, 1.0],
    "equal rows": np.ones((3, 3)) * [1.0, 2.0, 3.0],
    "a zero row": np.diag([1.0, 0.0, 2.0]),
    "graded": np.diag([1.0, 1e-5, 1e-10]),
}


@pytest.mark.parametrize("name", SQUARE)
def test_known_and_finite_at_singular_points(name):
    w = jnp.float32(draw(3, 3, 3))
    twist = np.asarray(w - w.T)

    @jax.jit
    def step(a):
        loss = lambda a: jnp.vdot(w, MAPS[name].map(a))  # noqa: E731
        return MAPS[name].map(a), jax.grad(loss)(a)

    found = {key: step(jnp.float32(a)) for key, a in SINGULAR.items()}
    for key, (value, gradient) in found.items():
        assert np.all(np.isfinite(gradient)), key
        np.testing.assert_allclose(value.T @ value, np.eye(3), atol=1e-6, err_msg=key)
    at_zero = MAPS[name].slope(twist)
    np.testing.assert_allclose(found["zero"][0], np.eye(3), atol=1e-7)
    np.testing.assert_allclose(found["zero"][1], at_zero, atol=1e-6)
    at_identity = {"gram_schmidt": np.tril(twist, -1), "lowdin": twist / 2.0}
    if name in at_identity:
        np.testing.assert_allclose(found["identity"][0], np.eye(3), atol=1e-7)
        np.testing.assert_allclose(
            found["identity"][1], at_identity[name], rtol=1e-5, atol=1e-6
        )


# Magnitudes of the entries of 5 x 5 matrices, from the smallest to the largest.
MAGNITUDES = {
    "float16": (1e-6, 1e-3, 1.0, 30.0, 1e4),
    "bfloat16": (1e-30, 1e-3, 1.0, 30.0, 1e30),
    "float32": (1e-30, 1e-10, 1.0, 30.0, 1e3, 1e6, 1e8, 1e12, 1e30),
    "float64": (1e-150, 1e-30, 1.0, 30.0, 1e6, 1e9, 1e14, 1e30, 1e150),
}
ROUNDING = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 5e-6, "float64": 1e-14}
ANY_SIZE = {name: MAPS[name].map for name in SQUARE} | {
    "newton_schulz": partial(so.newton_schulz, iterations=40)
}
# The 16-bit dtypes are all computed in float32: one of them for each map.
NARROW = {"gram_schmidt": "float16", "cayley": "float16", "newton_schulz": "float16"}
AT_MAGNITUDES = [
    (name, dtype)
    for name in ANY_SIZE
    for dtype in (NARROW.get(name, "bfloat16"), "float32", "float64")
]
# These maps depend on directions only: a factor does not change them.
OF_DIRECTIONS = ("gram_schmidt", "householder", "lowdin", "newton_schulz")


def cayley_of_infinity(a):
    """Half a turn, but for the axis that an odd number of dimensions has."""
    axis = np.linalg.svd(skew(a) / np.abs(a).max())[2][-1]
    return 2.0 * np.outer(axis, axis) - np.eye(len(a))


@pytest.mark.parametrize(("name", "dtype"), AT_MAGNITUDES)
def test_orthogonal_at_every_magnitude(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        function, sizes = ANY_SIZE[name], np.array(MAGNITUDES[dtype])
        a = jnp.asarray(draw(11, 5, 5) * sizes[:, None, None], dtype)
        w = draw(12, *a.shape)

        def weighted(a):
            q = function(a)
            return jnp.sum(q * w.astype(q.dtype)), q

        (_, q), slope = jax.jit(jax.value_and_grad(weighted, has_aux=True))(a)
        a, q, slope = (np.asarray(x, np.float64) for x in (a, q, slope))
    gram = np.einsum("bki,bkj->bij", q, q)
    rounding = ROUNDING[dtype]
    np.testing.assert_allclose(
        gram, np.broadcast_to(np.eye(5), gram.shape), 0, rounding
    )
    unit = a / np.abs(a).max((1, 2), keepdims=True)
    sign = {"lowdin": 0, "newton_schulz": 0, "gram_schmidt": 0, "householder": -1.0}
    expected = sign.get(name, 1.0) or np.sign(np.linalg.det(unit))
    np.testing.assert_allclose(np.linalg.det(q), expected, rtol=10 * rounding)
    assert np.all(np.isfinite(slope))
    if name in OF_DIRECTIONS and dtype in ("float32", "float64"):
        size = np.linalg.norm(slope, axis=(1, 2)) * sizes
        assert np.all((size > 1e-2) & (size < 1e2))
    if name == "cayley":
        exact = [
            cayley(x) if size < 1e8 else cayley_of_infinity(x)
            for x, size in zip(a, sizes, strict=True)
        ]
        np.testing.assert_allclose(q, np.stack(exact), atol=3e-4 + rounding)


def rank_three():
    """An 8 x 8 matrix of integers, which has rank three exactly."""
    left = np.random.default_rng(14).integers(-3, 4, (8, 3))
    return left @ np.random.default_rng(15).integers(-3, 4, (3, 8)) / 1.0


RANK_DEFICIENT = {
    "half zero": np.diag([1.0] * 4 + [0.0] * 4),
    "rank three": rank_three(),
    "twins": np.repeat(draw(16, 8, 4), 2, axis=1),
    "tall": np.repeat(draw(16, 12, 4), 2, axis=1),
}
# Newton-Schulz steps multiply small singular values, and slopes at zero, by 1.5.
STEEPEST = {"newton_schulz": 1.5**15}
OF_SINGULAR = {
    name: getattr(so, name)
    for name in ("gram_schmidt", "householder", "lowdin", "newton_schulz")
}


@pytest.mark.parametrize("name", OF_SINGULAR)
def test_slopes_at_singular_matrices_are_not_rounding(name):
    """Singular values that are rounding count as zero: nothing is divided by them."""
    w = draw(17, 12, 8).astype(np.float32)

    @jax.jit
    def slopes(a):  # [cases, m, n], one compilation for all cases of a shape
        weights = w[None, : 8 if name == "householder" else a.shape[-2]]
        return jax.grad(lambda a: jnp.sum(weights * OF_SINGULAR[name](a)))(a)

    square = ("half zero", "rank three", "twins")
    for cases in (square, ("tall",)):
        given = np.stack([RANK_DEFICIENT[case] for case in cases])
        for case, a, slope in zip(
            cases, given, slopes(jnp.float32(given)), strict=True
        ):
            largest = np.linalg.norm(slope) * np.linalg.norm(a, 2) / 8**0.5
            assert largest < 500 * STEEPEST.get(name, 1.0), case
            if name == "lowdin" and case == "half zero":
                # In the space of the other four, as at the identity.
                expected = (w[:4, :4] - w[:4, :4].T) / 2
                np.testing.assert_allclose(
                    slope[:4, :4], expected, rtol=1e-5, atol=1e-6
                )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_no_factorization_of_a_batch_on_a_cpu(name, is_mapped):
    """Some of them, side by side on two threads, would never end."""
    a = jnp.ones((3, *MAPS[name].shape))
    step = jax.grad(lambda a: jnp.sum(MAPS[name].map(a)))
    text = jax.jit(jax.vmap(step) if is_mapped else step).lower(a).as_text()
    assert set(re.findall(r'num_batch_dims = "(\d+)"', text)) <= {"0"}
    assert is_mapped or "lapack" in text or name not in FACTORED


@pytest.mark.parametrize("name", SQUARE)
def test_batches_are_loops(name):
    stack = jnp.float32(draw(7, 2, 4, 4) * np.array([1.0, 30.0])[:, None, None])
    single = jax.jit(MAPS[name].map)
    loop = np.stack([single(a) for a in stack])
    np.testing.assert_allclose(single(stack), loop, atol=3e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(single))(stack), loop, atol=3e-6)


def test_a_batch_of_rotations_of_all_sizes_is_a_loop():
    """The largest does not take the digits of the others."""
    a = (draw(13, 3, 4, 4) * np.array([[[1.0]], [[1e4]], [[1e-3]]])).astype("float32")
    q = np.asarray(jax.jit(so.exponential)(a), np.float64)
    for i, atol in ((0, 1e-6), (2, 1e-6)):
        np.testing.assert_allclose(q[i], exponential(np.float64(a[i])), atol=atol)


@pytest.mark.parametrize("name", MAPS)
def test_dtypes_and_shapes(name):
    row = MAPS[name]
    out = row.definition(draw(0, *row.shape)).shape
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        for batch in ((), (3,), (2, 3)):
            a = jax.ShapeDtypeStruct((*batch, *row.shape), dtype)
            spec = jax.eval_shape(row.map, a)
            assert (spec.shape, spec.dtype) == ((*batch, *out), dtype)
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(row.map, jax.ShapeDtypeStruct(row.shape, jnp.float32))


def test_bfloat16_is_rounded_once():
    a = jnp.bfloat16(draw(8, 32, 32))
    q = np.asarray(so.cayley(a), np.float64)
    exact = cayley(np.asarray(a, np.float64))
    np.testing.assert_allclose(q, exact, rtol=2**-8, atol=1e-5)
    assert 1e-4 < np.linalg.norm(q.T @ q - np.eye(32)) / 32**0.5 < 3e-3


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, "a must be floating", lambda: so.cayley(jnp.eye(2, dtype=int))),
        (ValueError, r"a must be \[..., n, n\]", lambda: so.cayley(jnp.ones((2, 3)))),
        (ValueError, r"\[..., n, n\], got", lambda: so.exponential(jnp.ones(3))),
        (ValueError, "transpose a wide one", lambda: so.lowdin(jnp.ones((2, 3)))),
        (ValueError, "transpose a wide one", lambda: so.gram_schmidt(jnp.ones((2, 3)))),
        (ValueError, r"v must be \[..., k, n\]", lambda: so.householder(jnp.ones(3))),
        (ValueError, "terms", lambda: so.cayley_neumann(jnp.eye(2), terms=0)),
        (ValueError, "iterations", lambda: so.newton_schulz(jnp.eye(2), iterations=-1)),
        (
            ValueError,
            "rotations are square",
            lambda: so.random_orthogonal(jax.random.key(0), (3, 2), special=True),
        ),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()
