"""Properties of every objective: a row of ``tests.losses.objectives`` for each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.losses.objectives import OBJECTIVES
from tests.losses.objectives.pairwise import PAIRWISE

# One row for each loss: its options and forms share what could go wrong there.
EACH_LOSS = {name.split("-")[0]: name for name in reversed(OBJECTIVES)}
EACH_LOSS |= {
    name: name
    for name in ("triplet-batch-hard", "margin_softmax-blocked", "sphereface2-blocked")
}
each_loss = pytest.mark.parametrize("name", EACH_LOSS.values())
# Half precision of one row for each loss, in one of its two formats in turn, since all
# compute in single precision; single precision of all.
OF_DTYPES = [
    *((name, jnp.float32) for name in OBJECTIVES),
    *((name, jnp.bfloat16) for name in list(EACH_LOSS.values())[::2]),
    *((name, jnp.float16) for name in list(EACH_LOSS.values())[1::2]),
]
ERRORS_OF_DTYPES = {jnp.float32: 2e-5, jnp.float16: 5e-3, jnp.bfloat16: 4e-2}


@functools.cache
def step_of(name, takes_where=False):
    """``step(operands, labels, where)``: value and all gradients, in one piece."""
    row = OBJECTIVES[name]

    def loss(operands, labels, where):
        kwargs = {"where": where} if takes_where else {}
        return row.loss(*operands, *([] if labels is None else [labels]), **kwargs)

    return jax.jit(jax.value_and_grad(loss))


def draw(name, seed=0) -> tuple[list[np.ndarray], Any]:
    """The row's operands in float64, and its labels."""
    row, rng = OBJECTIVES[name], np.random.default_rng(seed)
    operands = [rng.normal(size=shape) for shape in row.shapes]
    for index in row.positive:
        operands[index] = np.asarray(0.5 + np.abs(operands[index]))
    return operands, None if row.labels is None else np.array(row.labels)


def definition_of(name, labels, held):
    row = OBJECTIVES[name]
    args = [] if labels is None else [labels]
    return lambda operands: row.definition(*operands, *args, held=held)


def slopes_of(definition, operands):
    """Central differences of the definition by every operand."""
    slopes = []
    for i in range(len(operands)):
        before, after = operands[:i], operands[i + 1 :]
        slopes.append(
            reference.numerical_gradient(
                lambda x, b=before, a=after: definition([*b, x, *a]), operands[i]
            )
        )
    return slopes


def assert_close(arrays, expected, **tolerances):
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(array, other, **tolerances)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(name):
    operands, labels = draw(name)
    value, gradients = step_of(name)(operands, labels, None)
    definition = definition_of(name, labels, operands)
    assert definition(operands) != 0
    np.testing.assert_allclose(value, definition(operands), rtol=1e-11)
    expected = slopes_of(definition, operands)
    assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


SINGULAR = {
    "coincident, opposite and zero": [0, 1, 2, 3, 0, 0, 3, 1, 2],
    "zero": [3] * 9,
    "one point": [0] * 9,
}


def singular_operand(operand, choice):
    """Rows of ``operand`` replaced by an axis, its opposite, another axis, or zero."""
    if operand.ndim < 2:
        return operand
    axes = np.eye(operand.shape[-1])
    points = np.stack([axes[0], -2 * axes[0], axes[1], 0 * axes[0]])
    rows = np.resize(choice, operand.shape[:-1])
    return points[rows]


@pytest.mark.parametrize(("name", "dtype"), OF_DTYPES)
def test_finite_at_every_singular_point(name, dtype):
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    for choice in SINGULAR.values():
        points = [
            operand if i in row.positive else singular_operand(operand, choice)
            for i, operand in enumerate(operands)
        ]
        value, gradients = step_of(name)(
            [jnp.asarray(point, dtype) for point in points], labels, None
        )
        assert value.dtype == jnp.float32
        for array in (value, *gradients):
            assert np.isfinite(np.asarray(array, np.float32)).all()
        for i in row.scales:
            # No direction, no gradient.
            is_zero = ~np.any(points[i], axis=-1)
            assert np.all(np.asarray(gradients[i], np.float32)[is_zero] == 0)


@pytest.mark.parametrize(("name", "dtype"), OF_DTYPES)
def test_dtypes(name, dtype):
    tolerance = ERRORS_OF_DTYPES[dtype]
    operands, labels = draw(name, seed=1)
    rounded = [jnp.asarray(operand, dtype) for operand in operands]
    value, gradients = step_of(name)(rounded, labels, None)
    assert value.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = [np.asarray(operand, np.float64) for operand in rounded]
        expected, slopes = step_of(name)(exact, labels, None)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for gradient, slope in zip(gradients, map(np.asarray, slopes), strict=True):
        assert gradient.dtype == dtype
        error = np.linalg.norm(np.asarray(gradient, np.float64) - slope)
        assert error <= tolerance * np.linalg.norm(slope)


@pytest.mark.parametrize(
    "name", [name for name in EACH_LOSS.values() if OBJECTIVES[name].masked]
)
@pytest.mark.usefixtures("x64")
def test_where_drops_rows_whatever_is_in_them(name):
    row, (operands, labels) = OBJECTIVES[name], draw(name, seed=2)
    n = len(operands[row.masked[0]])
    keep = np.arange(n) % 4 != 1
    dirty = [operand.copy() for operand in operands]
    for i in row.masked:
        dirty[i][1::4] = np.nan
        dirty[i][5::8] = np.inf
    wrong = labels if labels is None else np.where(keep, labels, -(2**40))
    value, gradients = step_of(name, takes_where=True)(dirty, wrong, keep)

    def take(array, i=None):
        return array[keep] if i is None or i in row.masked else array

    kept = [take(operand, i) for i, operand in enumerate(operands)]
    labels = labels if labels is None else take(labels)
    definition = definition_of(name, labels, kept)
    assert definition(kept) != 0
    np.testing.assert_allclose(value, definition(kept), rtol=1e-11)
    expected = slopes_of(definition, kept)
    taken = [take(gradient, i) for i, gradient in enumerate(gradients)]
    assert_close(taken, expected, rtol=1e-6, atol=1e-7)
    assert all(np.all(gradients[i][~keep] == 0) for i in row.masked)

    negative = np.where(np.arange(n) == 0, -1.0, 1.0)
    with pytest.raises(ValueError, match="where must not be negative, got -1"):
        row.loss(*operands, *([] if wrong is None else [wrong]), where=negative)
    nothing = np.zeros_like(keep)
    value, gradients = step_of(name, takes_where=True)(dirty, wrong, nothing)
    assert float(value) == 0.0
    assert all(np.all(np.asarray(gradient) == 0) for gradient in gradients)


@each_loss
def test_not_compiled_and_of_numpy_arrays(name):
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    operands = [operand.astype(np.float32) for operand in operands]
    with jax.numpy_dtype_promotion("strict"):
        value = row.loss(*operands, *([] if labels is None else [labels]))
    expected, _ = step_of(name)(operands, labels, None)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@each_loss
@pytest.mark.usefixtures("x64")
def test_vmap_is_a_loop(name):
    _, labels = draw(name)
    batches = [draw(name, seed)[0] for seed in (0, 1)]
    # Labels that differ, too: a loop may then have another number of iterations.
    labels = labels if labels is None else np.stack([labels, np.roll(labels, 1)])
    if labels is not None and OBJECTIVES[name].classes is None:
        labels[1] = np.where(labels[1] == 2, 4, labels[1])
    stacked = [np.stack(operands) for operands in zip(*batches, strict=True)]
    step = step_of(name)
    value, gradients = jax.jit(jax.vmap(lambda x, y: step(x, y, None)))(stacked, labels)
    for b, operands in enumerate(batches):
        labels_b = labels if labels is None else labels[b]
        expected, slopes = step(operands, labels_b, None)
        np.testing.assert_allclose(value[b], expected, rtol=1e-12)
        taken = [gradient[b] for gradient in gradients]
        assert_close(taken, slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.usefixtures("x64")
def test_a_rotation_of_the_space_rotates_the_gradients(name):
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    d = operands[0].shape[-1]
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(d, d)))[0]

    def rotated(arrays):
        return [a @ rotation if i in row.rotated else a for i, a in enumerate(arrays)]

    expected, slopes = step_of(name)(operands, labels, None)
    value, gradients = step_of(name)(rotated(operands), labels, None)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    assert_close(gradients, rotated(slopes), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, r in OBJECTIVES.items() if r.scales])
@pytest.mark.usefixtures("x64")
def test_lengths_do_not_count(name):
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    rng = np.random.default_rng(4)
    factors = [rng.uniform(0.1, 10.0, a.shape[:-1] + (1,)) for a in operands]

    def scaled(arrays, power):
        pairs = enumerate(zip(arrays, factors, strict=True))
        return [a * f**power if i in row.scales else a for i, (a, f) in pairs]

    expected, slopes = step_of(name)(operands, labels, None)
    value, gradients = step_of(name)(scaled(operands, 1), labels, None)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    assert_close(gradients, scaled(slopes, -1), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, r in OBJECTIVES.items() if r.classes])
def test_an_unknown_label_never_trains_silently(name):
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    operands = [jnp.asarray(operand, jnp.float32) for operand in operands]
    for label in (-1, row.classes):
        wrong = np.where(np.arange(len(labels)) == 0, label, labels)
        value, gradients = step_of(name)(operands, wrong, None)
        assert np.isnan(float(value))
        assert any(np.isnan(np.asarray(gradient)).any() for gradient in gradients)


@each_loss
def test_nothing_is_no_loss(name):
    """An empty batch costs 0 and moves nothing."""
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    given = [
        operand[:0] if i in row.masked else operand
        for i, operand in enumerate(np.asarray(x, np.float32) for x in operands)
    ]
    labels = labels if labels is None else labels[:0]
    value, gradients = step_of(name)(given, labels, None)
    assert float(value) == 0.0
    for gradient, operand in zip(gradients, given, strict=True):
        np.testing.assert_array_equal(gradient, np.zeros_like(operand))


@each_loss
def test_one_row(name):
    """No pair, or one example, and what its definition says."""
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    given = [x[:1] if i in row.masked else x for i, x in enumerate(operands)]
    labels = labels if labels is None else labels[:1]
    single = [np.asarray(x, np.float32) for x in given]
    value, gradients = step_of(name)(single, labels, None)
    if name in ("uniformity", "uniform_face"):  # whose definitions are means of pairs
        expected = 0.0
    else:
        expected = definition_of(name, labels, given)(given)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_collapsed_batch_costs_what_the_definition_says(name):
    """All embeddings in one point: no distance, and the whole margin."""
    x, labels = np.ones(PAIRWISE[name].shapes[0]), np.array(PAIRWISE[name].labels)
    value, gradients = step_of(name)([np.float32(x)], labels, None)
    np.testing.assert_allclose(value, PAIRWISE[name].definition(x, labels), rtol=1e-5)
    assert np.isfinite(gradients[0]).all()


@pytest.mark.parametrize("length", [1e20, 2e38, 1e-30])
@pytest.mark.parametrize(
    "name", [n for n in EACH_LOSS.values() if OBJECTIVES[n].scales]
)
def test_huge_and_tiny_lengths_do_not_count(name, length):
    row, (operands, labels) = OBJECTIVES[name], draw(name)

    def at(length):
        return [
            length * reference.directions(operand) if i in row.scales else operand
            for i, operand in enumerate(operands)
        ]

    def step(operands):
        return step_of(name)(
            [np.asarray(x, np.float32) for x in operands], labels, None
        )

    (value, gradients), (_, slopes) = step(at(length)), step(at(1.0))
    expected = definition_of(name, labels, at(1.0))(at(1.0))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for i, (gradient, slope) in enumerate(zip(gradients, slopes, strict=True)):
        if i not in row.scales:
            np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-5)
        elif length == 2e38:  # what is left of it is not a normal number
            assert np.all(np.abs(gradient) < 1e-35)
        else:
            found = np.asarray(gradient, np.float64) * length
            error = np.abs(found - slope).max()
            assert error <= 2e-4 * np.abs(slope).max()


@each_loss
def test_gradients_of_a_short_embedding_fit_in_half_precision(name):
    """A length of 1e-5 is a divisor. Its own row is clipped, and no other one."""
    row, (operands, labels) = OBJECTIVES[name], draw(name)
    half = [np.asarray(operand, np.float16) for operand in operands]
    if 0 in row.scales:
        half[0][0] *= np.float16(1e-5)
    value, gradients = step_of(name)(half, labels, None)
    exact = [np.asarray(operand, np.float32) for operand in half]
    expected, slopes = step_of(name)(exact, labels, None)
    np.testing.assert_allclose(value, expected, rtol=1e-3)
    for i, (gradient, slope) in enumerate(zip(gradients, slopes, strict=True)):
        assert gradient.dtype == np.float16
        assert np.isfinite(gradient).all()
        others = slice(1 if i == 0 and slope.ndim else 0, None)
        found, slope = np.atleast_1d(gradient)[others], np.atleast_1d(slope)[others]
        largest = np.abs(slope).max(axis=-1, keepdims=True)
        assert np.all(np.abs(found - slope) <= 1e-2 * largest + 1e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_errors_teach(name):
    for error, match, call in OBJECTIVES[name].errors:
        with pytest.raises(error, match=match):
            call()
