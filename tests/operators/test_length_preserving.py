"""Convolutions that keep lengths, against dense matrices in NumPy; group sort."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import sphax as sx

so = sx.operators
KINDS: dict[str, Any] = {
    "skew": so.skew_convolution,
    "skew, circular": lambda x, k: so.skew_convolution(x, k, padding="CIRCULAR"),
    "cayley": so.cayley_convolution,
}
# Kind, window, channels, filters, and space.
ROWS: list[tuple[str, tuple[int, ...], int, int, tuple[int, ...]]] = [
    ("skew", (3, 3), 4, 4, (5, 5)),
    ("skew, circular", (3, 1), 4, 4, (5, 5)),
    ("skew", (5,), 3, 3, (4,)),
    ("cayley", (3, 3), 4, 4, (5, 5)),
    ("cayley", (2, 3), 3, 5, (4, 3)),
    ("cayley", (3,), 5, 2, (6,)),
    ("cayley", (1, 3, 2), 2, 2, (2, 2, 4)),
]


def dense(kernel, space, is_circular):
    """The matrix of a correlation, ``[*space, filters, *space, channels]``."""
    *window, channels, filters = kernel.shape
    out = np.zeros((*space, filters, *space, channels))
    for at, tap in itertools.product(np.ndindex(*space), np.ndindex(*window)):
        to = [a + t - (k - 1) // 2 for a, t, k in zip(at, tap, window, strict=True)]
        if is_circular:
            to = [p % n for p, n in zip(to, space, strict=True)]
        if all(0 <= p < n for p, n in zip(to, space, strict=True)):
            out[(*at, slice(None), *to, slice(None))] += kernel[tap].T
    return out


def expected(kind, kernel, space):
    """The matrix of the operator, ``[outputs, inputs]``."""
    channels, filters = kernel.shape[-2:]
    pixels, rank = int(np.prod(space)), len(space)
    whole = dense(kernel, space, kind != "skew")
    if kind.startswith("skew"):
        matrix = whole.reshape(pixels * filters, pixels * channels)
        skew = matrix - matrix.T
        return scipy.linalg.expm(skew)
    if filters < channels:  # the transpose, pixel by pixel
        turned = np.swapaxes(kernel, -1, -2)
        whole = dense(turned, space, True)
        channels, filters = filters, channels
    by_filter = np.moveaxis(whole, rank, 0).reshape(filters, pixels, -1)
    upper, lower = (
        part.swapaxes(0, 1).reshape(pixels * len(part), pixels * channels)
        for part in np.split(by_filter, [channels])
    )
    skew = upper - upper.T + lower.T @ lower
    identity = np.eye(len(skew))
    inverse = np.linalg.inv(identity + skew)
    parts = [(identity - skew) @ inverse, -2 * lower @ inverse]
    blocks = [x.reshape(pixels, len(x) // pixels, pixels, channels) for x in parts]
    matrix = np.concatenate(blocks, 1)
    if filters > kernel.shape[-1]:
        matrix = matrix.swapaxes(1, 3)
    return matrix.reshape(pixels * kernel.shape[-1], -1)


def draw(row, dtype: Any = np.float64):
    kind, window, channels, filters, space = row
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*window, channels, filters)) / np.prod(window) / channels
    return KINDS[kind], kernel.astype(dtype), (*space, channels)


def matrix_of(function, kernel, shape):
    """What the operator does to every unit image, ``[outputs, inputs]``."""
    size = int(np.prod(shape))
    images = np.eye(size, dtype=kernel.dtype).reshape(size, *shape)
    return np.asarray(function(images, kernel), np.float64).reshape(size, -1).T


@pytest.mark.parametrize("row", ROWS)
def test_it_is_the_orthogonal_matrix_of_the_definition(row, x64):
    function, kernel, shape = draw(row)
    found = matrix_of(function, kernel, shape)
    np.testing.assert_allclose(found, expected(row[0], kernel, row[4]), atol=1e-12)
    small = found.T @ found if len(found) >= found.shape[1] else found @ found.T
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)
    if row[2] == row[3]:
        inverse = matrix_of(function, -kernel, shape)
        np.testing.assert_allclose(inverse @ found, np.eye(len(found)), atol=1e-12)


@pytest.mark.parametrize("row", [ROWS[0], ROWS[1], ROWS[3]])
def test_lengths_of_images_and_gradients_in_float32(row):
    function, kernel, shape = draw(row, np.float32)
    found = matrix_of(function, kernel, shape)
    np.testing.assert_allclose(found.T @ found, np.eye(len(found)), atol=1e-6)
    x = np.random.default_rng(1).normal(size=(2, 3, *shape)).astype(np.float32)
    outputs, pull_back = jax.vjp(lambda x: function(x, kernel), x)
    assert outputs.shape == x.shape
    (gradient,) = pull_back(jnp.asarray(x))
    transposed = np.flip(kernel, tuple(range(kernel.ndim - 2))).swapaxes(-1, -2)
    back = function(outputs, transposed)
    np.testing.assert_allclose(back, x, atol=1e-5)
    for moved in (outputs, gradient):
        lengths = np.linalg.norm(np.reshape(moved, (6, -1)), axis=1)
        np.testing.assert_allclose(
            lengths, np.linalg.norm(x.reshape(6, -1), axis=1), rtol=1e-5
        )


@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_the_series_is_of_a_skew_map_and_as_accurate_as_said(padding, x64):
    row: Any = ("skew" if padding == "SAME" else "skew, circular", *ROWS[0][1:])
    _, kernel, shape = draw(row)

    def series(terms):
        return matrix_of(
            lambda x, k: so.skew_convolution(x, k, terms=terms, padding=padding),
            kernel,
            shape,
        )

    skew = series(1) - np.eye(100)
    np.testing.assert_allclose(skew, -skew.T, atol=1e-15)
    norm = np.linalg.norm(skew, 2)
    for terms, factorial in (3, 24), (6, 5040):
        error = np.linalg.norm(series(terms) - scipy.linalg.expm(skew), 2)
        bound = norm ** (terms + 1) / factorial
        assert 0.5 * bound < error <= bound


def test_cayley_gradients_by_differences(x64):
    x, kernel = np.ones((4, 3)), draw(("cayley", (3,), 3, 4, (4,)))[1]
    weights = np.cos(np.arange(16.0)).reshape(4, 4)

    @jax.jit
    def loss(x, kernel):
        return jnp.sum(weights * so.cayley_convolution(x, kernel))

    check_grads(loss, (x, kernel), order=1, modes=["rev"])


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4, 1e30])
@pytest.mark.parametrize("filters", [3, 5])
def test_cayley_keeps_lengths_for_any_kernel(scale, filters):
    _, kernel, _ = draw(("cayley", (3,), 3, filters, (4,)), np.float32)
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

    def squares(kernel):
        return jnp.sum(so.cayley_convolution(x, kernel) ** 2)

    value, gradient = jax.value_and_grad(squares)(jnp.asarray(scale * kernel))
    np.testing.assert_allclose(value, np.sum(x**2), rtol=1e-5)
    assert np.all(np.isfinite(gradient))


def test_a_response_is_computed_once_for_many_images():
    _, kernel, _ = draw(("cayley", (3, 3), 4, 4, (5, 5)), np.float32)
    x = np.random.default_rng(1).normal(size=(2, 5, 5, 4)).astype(np.float32)
    response = so.cayley_response(kernel, (5, 5))
    assert response.shape == (5, 3, 4, 4)
    np.testing.assert_array_equal(
        so.fourier_convolution(x, response), so.cayley_convolution(x, kernel)
    )


def test_16_bits_go_in_and_come_out():
    row: Any
    for row in ROWS[0], ROWS[3]:
        function, kernel, shape = draw(row, np.float32)
        half = jnp.asarray(kernel, jnp.bfloat16)
        found = function(jnp.ones(shape, jnp.bfloat16), half)
        assert found.dtype == jnp.bfloat16
        exact = function(np.ones(shape, np.float32), half.astype(np.float32))
        np.testing.assert_allclose(found.astype(np.float32), exact, rtol=1e-2)


@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
def test_groups_are_sorted_and_gradients_go_back_to_their_places(group_size):
    x = np.random.default_rng(0).integers(0, 4, (5, 6)).astype(np.float32)
    groups = x.reshape(5, -1, group_size)
    expected = np.sort(groups, -1)[..., ::-1].reshape(5, 6)
    found, pull_back = jax.vjp(lambda x: so.group_sort(x, group_size), x)
    np.testing.assert_array_equal(found, expected)
    # Of equal channels, too, each passes one entry on.
    (gradient,) = pull_back(jnp.arange(30.0).reshape(5, 6))
    np.testing.assert_array_equal(np.sort(np.ravel(gradient)), np.arange(30.0))


def test_space_to_depth_moves_each_pixel_of_a_block():
    x = np.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    found = so.space_to_depth(x, (2, 3))
    assert found.shape == (2, 2, 2, 18)
    np.testing.assert_array_equal(found[1, 1, 0], x[1, 2:, :3].ravel())


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: so.skew_convolution(np.ones((4, 2)), np.ones((2, 2, 2))),
        ValueError,
        r"kernel must be \[\*window, channels, channels\] with odd sizes",
    ),
    (
        lambda: so.skew_convolution(np.ones((4, 3)), np.ones((3, 2, 2))),
        ValueError,
        "inputs must have the 2 channels",
    ),
    (
        lambda: so.skew_convolution(np.ones((4, 2)), np.ones((3, 2, 2)), terms=0),
        ValueError,
        "terms must be 1 or more",
    ),
    (
        lambda: so.skew_convolution(
            np.ones((4, 2)),
            np.ones((3, 2, 2)),
            padding="VALID",  # pyright: ignore
        ),
        ValueError,
        "padding must be one of",
    ),
    (
        lambda: so.cayley_convolution(np.ones((4, 3)), np.ones((3, 2, 2))),
        ValueError,
        r"inputs must be \[..., \*space, 2\] with 1 axes",
    ),
    (
        lambda: so.cayley_response(np.ones((3, 2, 2)), (4, 4)),
        ValueError,
        "space must have 1 positive integers",
    ),
    (
        lambda: so.fourier_convolution(np.ones((4, 2)), np.ones((3, 2, 2))),
        TypeError,
        "response must be complex, got dtype float32",
    ),
    (
        lambda: so.fourier_convolution(np.ones((6, 2)), np.ones((3, 2, 2), complex)),
        ValueError,
        r"response must be \[4, channels, filters\] .* got shape \(3, 2, 2\)",
    ),
    (
        lambda: so.group_sort(np.ones(5)),
        ValueError,
        r"channels a multiple of 2 \(group_size\), got shape \(5,\)",
    ),
    (
        lambda: so.space_to_depth(np.ones((4, 5, 1))),
        ValueError,
        r"multiples of block \(2, 2\), got shape \(4, 5, 1\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), ERRORS)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
