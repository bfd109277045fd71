"""Class-wise, proxy and center objectives: what the common battery does not ask."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests import reference
from tests.jaxprs import largest_array
from tests.losses.objectives.classwise import CLASSWISE


def draw(seed, n=6, classes=7, d=5):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, d)), rng.normal(size=(classes, d))
    return x, w, rng.integers(0, classes, n)


def draw_row(name, seed=0):
    row, rng = CLASSWISE[name], np.random.default_rng(seed)
    operands = [rng.normal(size=shape) for shape in row.shapes]
    return row, operands, [] if row.labels is None else [np.array(row.labels)]


def with_bias(x, w, labels, bias=-0.4, **options):
    return sx.losses.sphereface2(x, w, labels, bias, **options)


def uce(x, w, labels, bias=0.3, **options):
    return sx.losses.uce(x, w, labels, bias=bias, **options)


def soft_triple(x, w, labels, **options):
    """With three centers for each class, two of which are one direction."""
    turned = jnp.roll(w, 1, axis=-1)
    centers = jnp.stack([w, turned, 2.0 * turned], axis=1)
    return sx.losses.soft_triple(x, centers, labels, **options)


# Each with all that it is differentiated by, beside embeddings and prototypes.
BLOCKED = {
    "C": (with_bias, dict(bias=-0.4, scale=4.0, margin=0.3, exponent=2.5, balance=0.6)),
    "A": (partial(with_bias, variant="A"), dict(bias=0.2, scale=4.0, margin=0.3)),
    "M": (partial(with_bias, variant="M"), dict(bias=0.2, exponent=2.0, margin=1.3)),
    "detached": (
        partial(with_bias, gradient="detached", scale=4.0),
        dict(bias=0.2, balance=0.6),
    ),
    "uce": (uce, dict(bias=0.3, scale=4.0, margin=0.2, negative_weight=0.6)),
    "soft_triple": (
        soft_triple,
        dict(scale=5.0, inner_scale=3.0, margin=0.1, regularization=0.7),
    ),
    "p2sgrad": (sx.losses.p2sgrad, {}),
    "hinge": (sx.losses.hinge, {}),
    "hinge, prototypes": (partial(sx.losses.hinge, normalize="prototypes"), {}),
    "hinge, squared": (
        partial(sx.losses.hinge, power=2, normalize="both"),
        dict(scale=np.linspace(1.0, 4.0, 6)),
    ),
}


def value_and_gradients(name, x, w, labels, **options):
    loss, parameters = BLOCKED[name]
    step = jax.value_and_grad(
        lambda x, w, p: loss(x, w, labels, **p, **options), (0, 1, 2)
    )
    return jax.jit(step)(x, w, jax.tree.map(jnp.asarray, parameters))


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.usefixtures("x64")
def test_blocked_form_is_the_plain_one(name):
    args = draw(0)
    plain = value_and_gradients(name, *args)
    # More than there are, once: it is all the same to what a class adds.
    for size in (3, 100) if name == "p2sgrad" else (3,):
        blocked = value_and_gradients(name, *args, block_size=size)
        assert_close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15)
        jax.tree.map(assert_close, blocked, plain)


def test_blocked_form_sums_in_float32():
    """The gradient of the embeddings is rounded once, not once for each block."""
    x, w, labels = draw(1, classes=256, d=8)
    half = [jnp.asarray(a, jnp.bfloat16) for a in (x, w)]
    with jax.enable_x64(True):
        wide = [np.asarray(a, np.float64) for a in half]
        exact = value_and_gradients("p2sgrad", wide[0], wide[1], labels)
        exact = jax.tree.map(np.asarray, exact)
    value, gradients = value_and_gradients(
        "p2sgrad", half[0], half[1], labels, block_size=1
    )
    np.testing.assert_allclose(value, exact[0], rtol=1e-5)
    for gradient, other in zip(gradients[:2], exact[1][:2], strict=True):
        assert gradient.dtype == jnp.bfloat16
        error = np.linalg.norm(np.asarray(gradient, np.float64) - other)
        assert error < 1e-2 * np.linalg.norm(other)


@pytest.mark.parametrize("name", ["C", "p2sgrad", "hinge", "soft_triple"])
def test_blocked_form_never_makes_all_the_products(name):
    n, classes, d, block = 64, 4000, 4, 128
    loss, _ = BLOCKED[name]
    args = jnp.ones((n, d)), jnp.ones((classes, d)), jnp.zeros(n, jnp.int32)
    sizes = {}
    for size in (None, block):
        step = jax.value_and_grad(partial(loss, block_size=size), (0, 1))
        sizes[size] = largest_array(jax.make_jaxpr(step)(*args).jaxpr)
    rows = 3 * classes if name == "soft_triple" else classes
    assert sizes[None] >= n * classes
    assert sizes[block] == rows * d  # the gradient of the prototypes


@pytest.mark.usefixtures("x64")
def test_second_derivatives():
    """Forward over reverse in the plain form, reverse over reverse in the blocked."""
    x, w, labels = draw(2, n=2, classes=3, d=3)
    plain = partial(with_bias, labels=jnp.asarray(labels))
    expected = jax.jit(jax.jacfwd(jax.grad(plain)))(x, w)
    second = jax.jit(jax.jacrev(jax.grad(partial(plain, block_size=2))))(x, w)
    np.testing.assert_allclose(second, expected, rtol=1e-9, atol=1e-12)


def test_sharded_over_the_batch():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, w, labels = draw(3, n=8)
    args = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32), labels
    for size in (None, 3):
        loss = partial(with_bias, block_size=size)
        mapped = jax.shard_map(
            lambda *args, loss=loss: jax.lax.pmean(loss(*args), "batch"),
            mesh=mesh,
            in_specs=(jax.P("batch"), jax.P(), jax.P("batch")),
            out_specs=jax.P(),
        )
        value = jax.jit(mapped)(*args)
        np.testing.assert_allclose(value, jax.jit(loss)(*args), rtol=1e-6)


# SphereFace2's bias


def test_bias_is_that_of_the_authors():
    bias = sx.losses.sphereface2_bias
    assert bias(8631) == pytest.approx(5.784568, abs=1e-6)
    assert bias(10572) == pytest.approx(5.581649, abs=1e-6)
    large = bias(93431, balance=0.8, scale=64.0, margin=0.5)
    assert large == pytest.approx(5.941369, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 40])
@pytest.mark.parametrize(("variant", "margin"), [("C", 0.6), ("A", 0.5), ("M", 1.7)])
@pytest.mark.usefixtures("x64")
def test_bias_starts_in_balance(variant, margin, classes):
    """At right angles only, the loss is flat in the bias; with few classes too."""
    options: Any = dict(variant=variant, margin=margin, scale=50.0)
    x, w = jnp.eye(1, 3), jnp.zeros((classes, 3)).at[:, 1].set(1.0)
    bias = sx.losses.sphereface2_bias(classes, **options)
    loss = partial(sx.losses.sphereface2, x, w, jnp.array([0]), **options)
    pull = jax.jit(jax.grad(lambda bias, balance: loss(bias, balance=balance)))
    # What the negatives pull, all but without a positive.
    alone = 0.3 * pull(bias, 1e-12)
    assert abs(pull(bias, 0.7)) < 1e-9 * alone


def test_bias_needs_two_classes():
    with pytest.raises(ValueError, match="classes must be 2 or more, got 1"):
        sx.losses.sphereface2_bias(1)
    with pytest.raises(ValueError, match=r"balance must lie in \(0, 1\)"):
        sx.losses.sphereface2_bias(10, balance=0.0)


@pytest.mark.usefixtures("x64")
def test_detached_gradient_does_not_fade_at_the_far_side():
    """An embedding almost opposite to its prototype: slope of g is next to nothing."""
    x = jnp.array([[-1.0, 1e-3]])
    w, labels = jnp.array([[1.0, 0.0]]), jnp.array([0])
    lengths = {}
    for gradient in ("exact", "detached"):
        loss = partial(sx.losses.sphereface2, bias=0.0, gradient=gradient)
        lengths[gradient] = np.linalg.norm(jax.jit(jax.grad(loss))(x, w, labels))
    # dL/dx = -alpha sigmoid(-z) dc/dx, sigmoid next to 1, |dc/dx| = sin(theta) / |x|.
    assert lengths["detached"] == pytest.approx(0.7e-3, rel=1e-3)
    assert lengths["exact"] < 1e-9


# Weights, axes and dtypes


BY_EXAMPLE = [
    *("sphereface2-C", "p2sgrad", "hinge", "proxy_nca"),
    *("center", "ring", "alignment"),
]


@pytest.mark.parametrize("name", BY_EXAMPLE)
@pytest.mark.usefixtures("x64")
def test_where_as_weights_is_a_weighted_mean(name):
    row, operands, labels = draw_row(name)
    weights = np.array([0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
    value = jax.jit(row.loss)(*operands, *labels, where=weights)
    each = []
    for i in range(len(weights)):
        one = slice(i, i + 1)
        taken = [a[one] if j in row.masked else a for j, a in enumerate(operands)]
        each.append(row.definition(*taken, *(y[one] for y in labels)))
    np.testing.assert_allclose(value, np.average(each, weights=weights), rtol=1e-12)


@pytest.mark.parametrize("name", [*BY_EXAMPLE, "proxy_anchor"])
@pytest.mark.usefixtures("x64")
def test_leading_axes_are_one_batch(name):
    row, operands, labels = draw_row(name)
    keep = np.array([True, True, False, True, True, True])
    folded = [
        a.reshape(2, 3, -1) if j in row.masked else a for j, a in enumerate(operands)
    ]
    value = jax.jit(row.loss)(
        *folded, *(y.reshape(2, 3) for y in labels), where=keep.reshape(2, 3)
    )
    expected = jax.jit(row.loss)(*operands, *labels, where=keep)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("size", [None, 100])
def test_narrow_labels_and_mixed_dtypes(size):
    x, w, labels = draw(4, classes=300)
    x, w = jnp.asarray(x, jnp.bfloat16), jnp.asarray(w, jnp.float32)
    labels = jnp.asarray(labels % 256, jnp.uint8)
    step = jax.jit(
        jax.value_and_grad(partial(sx.losses.p2sgrad, block_size=size), (0, 1))
    )
    for rows, prototypes in ((x, w), (x.astype(jnp.float32), w.astype(jnp.bfloat16))):
        value, gradients = step(rows, prototypes, labels)
        expected = CLASSWISE["p2sgrad"].definition
        cosines = np.cos(
            reference.angles(*(np.asarray(a, np.float64) for a in (rows, prototypes)))
        )
        cosines[np.arange(6), np.asarray(labels)] -= 1
        expected = 0.5 * (cosines**2).sum(1).mean()
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert [g.dtype for g in gradients] == [rows.dtype, prototypes.dtype]


# Proxies


@pytest.mark.usefixtures("x64")
def test_proxy_nca_with_the_target_is_a_softmax_at_twice_the_scale():
    x, w, labels = draw(5)
    softmax = partial(sx.losses.margin_softmax, margin=sx.margins.NoMargin(), scale=6.0)
    nca = partial(sx.losses.proxy_nca, scale=3.0, include_target=True)
    values = jax.jit(lambda *args: (nca(*args), softmax(*args)))(x, w, labels)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_proxy_anchor_counts_a_weight_as_so_many_examples():
    x, w, labels = draw(6)
    times = np.array([1, 0, 2, 1, 3, 1])
    loss = jax.jit(sx.losses.proxy_anchor)
    value = loss(x, w, labels, where=times.astype(float))
    repeated = loss(np.repeat(x, times, 0), w, np.repeat(labels, times))
    np.testing.assert_allclose(value, repeated, rtol=1e-12)


def test_proxy_anchor_does_not_overflow():
    """A scale at which exponentials of float32 would; closed form of one example."""
    x, w = jnp.array([[-1.0, 0.0]]), jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    loss = partial(sx.losses.proxy_anchor, scale=200.0, margin=0.1)
    step = jax.jit(jax.value_and_grad(loss))
    for weight in (1.0, 1e-12):
        value, gradient = step(x, w, jnp.array([0]), where=jnp.array([weight]))
        # 220 + log w each, attraction of one proxy, repulsion a mean of two.
        expected = 1.5 * (220 + math.log(weight))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.isfinite(gradient).all()


# SoftTriple and UniFace


@pytest.mark.usefixtures("x64")
def test_soft_triple_of_one_center_is_cosface():
    x, w, labels = draw(7)
    triple = partial(sx.losses.soft_triple, scale=6.0, margin=0.2)
    softmax = partial(
        sx.losses.margin_softmax, margin=sx.margins.CosFace(margin=0.2), scale=6.0
    )
    values = jax.jit(lambda x, w, y: (triple(x, w[:, None], y), softmax(x, w, y)))
    np.testing.assert_allclose(*values(x, w, labels), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_inner_scale_goes_from_the_mean_to_the_nearest_center():
    x, w, labels = draw(8, classes=12)
    centers = w.reshape(4, 3, 5)
    loss = partial(sx.losses.soft_triple, regularization=0.0, margin=0.1, scale=6.0)
    run = jax.jit(lambda inner: loss(x, centers, labels % 4, inner_scale=inner))
    nearest = sx.losses.margin_softmax(
        x, centers, labels % 4, sx.margins.CosFace(margin=0.1), scale=6.0
    )
    np.testing.assert_allclose(run(1e6), nearest, rtol=1e-9)
    logits = np.cos(reference.angles(x, w)).reshape(-1, 4, 3).mean(-1)
    logits[np.arange(6), labels % 4] -= 0.1
    own = 6.0 * logits[np.arange(6), labels % 4]
    expected = np.mean(np.log(np.exp(6.0 * logits).sum(1)) - own)
    np.testing.assert_allclose(run(1e-9), expected, rtol=1e-8)


def test_centers_of_a_class_that_all_but_coincide():
    """Their distance has its digits, and is 0 without gradient at rounding."""
    x, labels = jnp.array([[0.0, 0.0]]), jnp.array([0])
    # Embeddings without a direction: log 1 is left, and the regularizer.
    loss = partial(sx.losses.soft_triple, margin=0.0, regularization=2.0)
    step = jax.jit(jax.value_and_grad(lambda w: loss(x, w, labels)))
    value, gradient = step(jnp.array([[[1.0, 0.0], [2.0, 2e-5]]]))
    np.testing.assert_allclose(value, 1e-5, rtol=1e-6)
    expected = [[[0.0, -1.0], [0.0, 0.5]]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-4)
    for other, distance in (([2.0, 1e-7], 0.0), ([0.0, 0.0], math.sqrt(2.0))):
        value, gradient = step(jnp.array([[[1.0, 0.0], other]]))
        np.testing.assert_allclose(value, distance, rtol=1e-6)
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("classes", [4, 1000])
def test_uce_starts_where_all_negatives_cost_a_tenth(classes):
    """At right angles; with the share of the classes that are there."""
    x, w = jnp.eye(1, 3), jnp.zeros((classes, 3)).at[:, 1].set(1.0)
    bias = sx.losses.uce_bias(10 * classes, share=0.1)
    assert bias == pytest.approx(math.log(10 * classes))
    loss = partial(sx.losses.uce, x, w, jnp.array([0]), bias=bias)
    negatives = float(loss()) - float(loss(negative_weight=0.0))
    assert negatives == pytest.approx(0.1 * (classes - 1) / classes, rel=2e-2)


# Centers


def test_update_centers_by_hand():
    centers = jnp.array([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    x = jnp.array([[3.0, 0.0], [1.0, 4.0], [jnp.nan, 0.0], [0.0, 0.0]])
    labels, where = jnp.array([0, 0, -1, 1]), jnp.array([True, True, False, True])
    # Class 0: differences (2, 0) + (0, 4) over 1 + 2; class 1: (0, -2) over 1 + 1.
    expected = [[1 + 2 / 6, 4 / 6], [0.0, 1.5], [5.0, 5.0]]
    update = jax.jit(sx.losses.update_centers)
    moved = update(centers, x, labels, where=where)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    # Weight 2 is the same example twice: (4, 0) + (0, 4) over 1 + 3.
    moved = update(centers, x, labels, where=jnp.array([2.0, 1.0, 0.0, 1.0]), rate=1.0)
    np.testing.assert_allclose(moved[0], [2.0, 1.0], rtol=1e-6)
    half = update(centers.astype(jnp.bfloat16), x, labels, where=where)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), expected, rtol=1e-2)


def test_update_centers_of_an_unknown_label_is_loud():
    centers, x = jnp.ones((3, 2)), jnp.zeros((2, 2))
    for label in (-1, 3):
        moved = jax.jit(sx.losses.update_centers)(centers, x, jnp.array([0, label]))
        assert np.isnan(moved).all()
    masked = jax.jit(partial(sx.losses.update_centers, where=jnp.zeros(2)))
    still = masked(centers, x, jnp.array([0, 7]))
    np.testing.assert_array_equal(still, centers)


def test_centers_settle_at_the_mean_of_their_class():
    """Fixed point of the update, where center loss has no slope either."""
    x, labels = jnp.array([[2.0, 0.0], [4.0, 2.0]]), jnp.array([1, 1])
    centers = jnp.array([[7.0, 7.0], [3.0, 1.0]])
    moved = jax.jit(sx.losses.update_centers)(centers, x, labels)
    np.testing.assert_array_equal(moved, centers)
    slope = jax.jit(jax.grad(sx.losses.center, 1))(x, centers, labels)
    np.testing.assert_array_equal(slope, 0.0)


def test_ring_settles_at_the_mean_length():
    x = jnp.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    loss = partial(sx.losses.ring, weight=1.0)
    slopes = jax.jit(jax.grad(loss, (0, 1)))(x, 2.0)
    np.testing.assert_allclose(slopes[1], 0.0, atol=1e-7)
    # (|x| - R) x / |x| / 3, and nothing at zero.
    expected = [[0.6, 0.8], [0.0, -1 / 3], [0.0, 0.0]]
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_uniform_face_at_and_near_coincident_centers(offset):
    """Also far from the origin, where squared lengths cancel most."""
    base = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]) + offset
    step = jax.jit(jax.value_and_grad(sx.losses.uniform_face))
    for gap in (0.0, 2.0**-6):
        base[2] = base[0] + [0.0, gap, 0.0]
        value, gradient = step(jnp.asarray(base, jnp.float32))
        near, far = np.linalg.norm(base[2] - base[1]), np.sqrt(2)
        pairs = np.array([1 / (gap + 1), 1 / (far + 1), 1 / (near + 1)])
        np.testing.assert_allclose(value, pairs.mean(), rtol=1e-5)
        along = 2 / 6 / (gap + 1) ** 2 if gap else 0.0
        np.testing.assert_allclose(gradient[0, 1], along, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("length", [1e20, 1e38, 1e-30])
def test_uniform_face_of_huge_and_tiny_centers(length):
    """Distances of sqrt(2) of the length: squares of them are not in range."""
    step = jax.jit(jax.value_and_grad(sx.losses.uniform_face))
    value, gradient = step(jnp.asarray(length * np.eye(3, 5), jnp.float32))
    expected = 1 / (np.sqrt(2) * length + 1)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-37)
    # The gradient of each center, in 4 of 6 pairs, is along 2 e_a - e_b - e_c.
    slope = -4 / 6 / (np.sqrt(2) * length + 1) ** 2 / np.sqrt(2)
    np.testing.assert_allclose(gradient[0, 0], slope, rtol=1e-5, atol=1e-37)


def test_uniform_face_of_equal_centers_is_flat():
    step = jax.jit(jax.value_and_grad(sx.losses.uniform_face))
    value, gradient = step(0.1 * jnp.ones((5, 7)))
    assert float(value) == pytest.approx(1.0)
    np.testing.assert_array_equal(gradient, 0.0)


def test_uniform_face_takes_weights_of_centers():
    centers = np.array([[0.0], [1.0], [3.0]])
    value = sx.losses.uniform_face(
        jnp.asarray(centers, jnp.float32), where=jnp.array([1.0, 2.0, 0.5])
    )
    # Distances 1, 3, 2 have weights 2, 0.5, 1.
    np.testing.assert_allclose(value, (2 / 2 + 0.5 / 4 + 1 / 3) / 3.5, rtol=1e-6)


# Alignment and uniformity


def test_uniformity_of_orthonormal_and_of_equal_points():
    step = jax.jit(jax.value_and_grad(lambda x, t: sx.energy.uniformity(x, scale=t)))
    assert step(jnp.eye(4), 2.0)[0] == pytest.approx(-4.0)
    # exp(-400) is no number of float32; its logarithm is.
    assert step(jnp.eye(4), 200.0)[0] == pytest.approx(-400.0)
    value, gradient = step(jnp.ones((4, 4)), 2.0)
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


@pytest.mark.parametrize("loss", [sx.energy.uniformity, sx.losses.uniform_face])
def test_one_point_is_no_pair(loss):
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.ones((1, 4)))
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_uniformity_takes_weights_of_points():
    points = jnp.array([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    value = sx.energy.uniformity(points, where=jnp.array([1.0, 2.0, 0.5]), scale=0.5)
    # Squared distances 2, 4, 2 have weights 2, 0.5, 1.
    expected = math.log((3 * math.exp(-1) + 0.5 * math.exp(-2)) / 3.5)
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_alignment_at_equal_and_opposite_directions(power):
    x = jnp.array([[3.0, 4.0], [0.1, 0.3]])
    loss = partial(sx.energy.alignment, power=power)
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    for y, distance in ((2.0 * x, 0.0), (-x, 2.0), (0.0 * x, math.sqrt(2))):
        value, gradients = step(x, y)
        assert float(value) == pytest.approx(distance**power)
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.usefixtures("x64")
def test_alignment_keeps_the_digits_of_small_distances():
    x, y = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1e-9]])
    loss = partial(sx.energy.alignment, power=1.0)
    value, gradient = jax.jit(jax.value_and_grad(loss))(x, y)
    assert float(value) == pytest.approx(1e-9, rel=1e-12)
    np.testing.assert_allclose(gradient, [[0.0, -1.0]], rtol=1e-12, atol=1e-8)


def test_hyperparameters_may_be_traced():
    """A schedule does not compile again, and gradients are finite at equal points."""
    x = jnp.eye(3)
    slopes = jax.jit(jax.grad(lambda p: sx.energy.alignment(x, x, power=p)))(0.5)
    assert float(slopes) == 0.0
    spread = jax.jit(lambda t: sx.energy.uniformity(x, scale=t))
    assert float(spread(3.0)) == pytest.approx(-6.0)
    hinged = jax.jit(
        lambda s: sx.losses.hinge(x, x, jnp.arange(3), normalize="both", scale=s)
    )
    assert float(hinged(0.5)) == pytest.approx(0.5 + 2.0)
