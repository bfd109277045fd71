"""Objectives of a whole batch: what the common battery does not ask."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import losses, margins
from tests.jaxprs import largest_array
from tests.losses.objectives.pairwise import contrastive, mean_of

X = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
LABELS = jnp.array([0, 0, 1, 1])
CENTERS = jnp.array(
    [[[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [-0.6, 0.8]], [[0.0, -1.0], [0.0, -1.0]]]
)


def test_four_points_of_a_plane():
    """Worked out from the formulas by hand."""
    lengths = jnp.arange(1.0, 5.0)[:, None]
    found = [
        losses.soft_triple(X, CENTERS, LABELS),
        losses.uce(X, CENTERS[:, 0], LABELS, bias=3.0, scale=8.0, margin=0.2),
        losses.koleo(X),
        losses.norm_variance(lengths * X),
        losses.ge2e(X, LABELS),
        losses.ge2e(X, LABELS, form="contrast"),
    ]
    expected = [0.042484, 0.617818, 0.458145, 1.25, 0.003954, 0.116229]
    np.testing.assert_allclose(found, expected, atol=1e-6)


# KoLeo


@pytest.mark.usefixtures("x64")
def test_blocked_neighbors_are_the_plain_ones():
    """In the last block, of one row, too, and where rows are equal or have none."""
    x = np.random.default_rng(0).normal(size=(7, 5))
    x[2] = 0.0
    x[4], x[5], x[6] = x[0] * 0.5, 2.0 * x[3], -x[0]
    where = np.array([1.0, 0.5, 1.0, 2.0, 0.0, 1.0, 1.0])
    steps = [
        jax.jit(jax.value_and_grad(partial(losses.koleo, where=where, block_size=size)))
        for size in (None, 2, 100)
    ]
    expected, slope = steps[0](x)
    assert np.any(slope[0] != 0)
    assert not np.any(slope[np.array([2, 4])])
    for step in steps[1:]:
        value, gradient = step(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-15)


def test_no_array_of_all_pairs():
    x = jnp.ones((512, 4))
    for size, largest in ((None, 512**2), (16, 512 * 4)):
        step = jax.value_and_grad(partial(losses.koleo, block_size=size))
        assert largest_array(jax.make_jaxpr(step)(x).jaxpr) == largest


def test_near_neighbors_keep_their_digits_until_four_epsilons():
    step = jax.jit(jax.value_and_grad(losses.koleo))
    value, gradient = step(jnp.array([[1.0, 0.0], [2.0, 2e-5]]))
    np.testing.assert_allclose(value, -math.log(1e-5), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.0, 1e5], [0.0, -5e4]], rtol=1e-4, atol=2.0)
    for gap in (4e-7, 0.0):
        value, gradient = step(jnp.array([[1.0, 0.0], [1.0, gap]]))
        np.testing.assert_allclose(value, 21 * math.log(2.0), rtol=1e-6)
        np.testing.assert_array_equal(gradient, 0.0)


def test_the_first_of_equal_neighbors_is_taken():
    x = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [-0.6, 0.8]])
    where = jnp.array([1.0, 1e-9, 1e-9, 1e-9])
    _, gradient = jax.jit(jax.value_and_grad(partial(losses.koleo, where=where)))(x)
    assert np.all(np.abs(gradient[1]) > 0.1)
    np.testing.assert_allclose(gradient[2], 0.0, atol=1e-6)


def test_a_neighbor_takes_two_rows_with_a_direction():
    x = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    step = jax.jit(jax.value_and_grad(losses.koleo))
    for where in (jnp.array([True, True, False]), jnp.zeros(3)):
        value, gradient = step(x, where=where)
        assert float(value) == 0.0
        np.testing.assert_array_equal(gradient, 0.0)
    value, _ = step(x, where=jnp.ones(3))
    np.testing.assert_allclose(value, -0.5 * math.log(2.0), rtol=1e-6)
    value, _ = step(x.at[1, 0].set(jnp.nan), where=jnp.ones(3))
    assert np.isnan(value)


# The variance of norms


def test_no_gradient_passes_to_the_center():
    x = jnp.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    step = jax.jit(
        jax.value_and_grad(lambda x, c: losses.norm_variance(x, center=c), (0, 1))
    )
    value, (gradient, slope) = step(x, 2.0)
    np.testing.assert_allclose(value, (9 + 1 + 4) / 3, rtol=1e-6)
    # 2 (|x| - c) x / |x| / 3, and nothing at zero.
    expected = [[1.2, 1.6], [0.0, -2 / 3], [0.0, 0.0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert float(slope) == 0.0
    weighted = losses.norm_variance(x, where=jnp.array([1.0, 3.0, 0.0]))
    np.testing.assert_allclose(weighted, 3.0, rtol=1e-6)  # of 5, 1, 1 and 1


def test_second_derivatives_pass_through_the_mean():
    x = jnp.array([[1.0], [2.0], [4.0]])
    second = jax.jit(jax.hessian(losses.norm_variance))(x)[:, 0, :, 0]
    np.testing.assert_allclose(second, 2 / 3 * (np.eye(3) - 1 / 3), rtol=1e-6)


# GE2E


@pytest.mark.parametrize("form", ["softmax", "contrast"])
def test_one_class_has_no_rival(form):
    value, gradient = jax.jit(
        jax.value_and_grad(partial(losses.ge2e, scale=2.0, bias=-1.0, form=form))
    )(X, jnp.array([7, 7, 3, 3]), where=jnp.array([True, True, False, False]))
    expected = 0.0 if form == "softmax" else 1 - 1 / (1 + math.exp(1 - 1.6))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(gradient).all()


@pytest.mark.usefixtures("x64")
def test_a_row_has_its_weight_in_the_mean_alone():
    x = np.random.default_rng(0).normal(size=(6, 4))
    labels, weights = np.array([0, 0, 0, 1, 1, 2]), np.array([0.5, 2, 1, 3, 0.25, 4])
    loss = jax.jit(losses.ge2e)
    # Of one row each: the others stay in the centroids.
    each = [
        loss(x, labels, where=np.where(np.arange(6) == i, 1.0, 1e-13)) for i in range(5)
    ]
    expected = np.average(each, weights=weights[:5])  # the last one has no mate
    np.testing.assert_allclose(loss(x, labels, where=weights), expected, rtol=1e-9)


# Matryoshka


@pytest.mark.usefixtures("x64")
def test_a_weighted_sum_over_prefixes():
    x = np.random.default_rng(0).normal(size=(6, 5))
    labels = np.array([5, -2, 5, -2, 5, 8])
    loss = losses.matryoshka(losses.contrastive, sizes=(2, 4), weights=(0.5, 2.0))
    value, gradient = jax.jit(jax.value_and_grad(loss))(x, labels)
    parts = (0.5, x[:, :2]), (2.0, x[:, :4])
    expected = sum(c * mean_of(contrastive, x, labels, margin=1.0) for c, x in parts)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_array_equal(gradient[:, 4], 0.0)


def test_towers_and_prototypes_are_cut_by_position_with_aux():
    margin, w = margins.ArcFace(), jnp.eye(3, 4) + 0.1
    loss = partial(losses.margin_softmax, margin=margin, scale=4.0, has_aux=True)
    x, labels = jnp.ones((2, 4)), jnp.array([0, 2])
    nested = losses.matryoshka(loss, sizes=(2, 3), cut=2)
    value, aux = jax.jit(nested)(x, w, labels)
    each = [loss(x[:, :m], w[:, :m], labels) for m in (2, 3)]
    np.testing.assert_allclose(value, each[0][0] + each[1][0], rtol=1e-6)
    assert len(aux) == 2
    np.testing.assert_allclose(aux[0].norm, math.sqrt(2.0), rtol=1e-6)
    np.testing.assert_allclose(aux[1].norm, math.sqrt(3.0), rtol=1e-6)


def test_references_queue_and_memory_are_cut_by_name():
    memory = losses.enqueue(losses.init_memory(4, 5), jnp.ones((3, 5)), jnp.arange(3))

    def widths(x, *, references, queue, memory, other):
        del x
        given = references, queue.embeddings, memory.embeddings, other
        return jnp.array(1.0), [array.shape[-1] for array in given]

    nested = losses.matryoshka(widths, sizes=(2, 3), weights=(1.0, jnp.array(0.5)))
    array = jnp.ones((4, 5))
    value, aux = nested(
        array, references=array, queue=memory, memory=memory, other=array
    )
    assert float(value) == 1.5
    assert aux == ([2, 2, 2, 5], [3, 3, 3, 5])
    x, labels = np.random.default_rng(0).normal(size=(4, 5)), LABELS
    loss = losses.matryoshka(losses.contrastive, sizes=(2,))
    options: Any = {"reference_labels": labels}
    found = loss(x, labels, references=-x, memory=memory, **options)
    cut = memory._replace(embeddings=memory.embeddings[:, :2])
    x = x[:, :2]
    expected = losses.contrastive(x, labels, references=-x, memory=cut, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"sizes": ()}, ValueError, r"sizes must be one or more, rising, got \(\)"),
        ({"sizes": (2, 2)}, ValueError, "rising"),
        ({"sizes": (4, 2)}, ValueError, "rising"),
        ({"sizes": (0, 2)}, ValueError, "sizes must be 1 or more, got 0"),
        ({"sizes": (1.0,)}, TypeError, "sizes must be an integer"),
        ({"sizes": (3,)}, ValueError, r"at most .* got 3 and argument 0 \(4, 2\)"),
        ({"weights": (1.0,)}, ValueError, "one for each of the 2 sizes, got 1"),
        ({"weights": (1.0, -1.0)}, ValueError, "weights must lie in"),
        ({"cut": 0}, ValueError, "cut must be 1 or more"),
        ({"cut": 3}, TypeError, "the first 3 positional arguments, got 2"),
        ({"loss": X}, TypeError, "loss must be a function"),
        ({"nesting_list": (1,)}, TypeError, "nesting_list: it is called sizes"),
    ],
)
def test_errors_of_matryoshka_teach(options, error, match):
    given: Any = {"loss": losses.contrastive, "sizes": (1, 2), **options}
    with pytest.raises(error, match=match):
        losses.matryoshka(given.pop("loss"), **given)(X, LABELS)
