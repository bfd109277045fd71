"""The margin softmax: values, gradients, masks, dtypes, forms, transformations."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import sphax as sx
from tests import reference
from tests.jaxprs import largest_array
from tests.margins.tables import MARGINS

NORMALIZE = ["both", "prototypes", "none"]
FORMS = {"plain": None, "blocked": 3, "one block": 100}


def draw(seed, n=6, classes=7, d=5):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, d)), rng.normal(size=(classes, d))
    return x, w, rng.integers(0, classes, n)


def loss_of(name, normalize, form="plain", **kwargs):
    if normalize == "both":
        kwargs.setdefault("scale", 8.0)
    # Compiled as one piece: operation by operation takes ten times as long.
    return jax.jit(
        partial(
            sx.losses.margin_softmax,
            margin=MARGINS[name].margin,
            normalize=normalize,
            block_size=FORMS[form],
            **kwargs,
        )
    )


def step_of(name, normalize, form="plain", **kwargs):
    """Value and both gradients, compiled as one piece."""
    loss = loss_of(name, normalize, form, **kwargs)
    return jax.jit(jax.value_and_grad(loss, (0, 1)))


# Psi stands outside of forms and normalisations, which differ in what they do with the
# others: a margin that leaves those alone is as good as any other.
EVERY_FORM = [
    *((name, "both", "plain") for name in MARGINS),
    *(
        (name, normalize, "plain")
        for name in ("none", "sphereface4", "arcface", "spherefacer2")
        for normalize in ("prototypes", "none")
    ),
    *(
        (name, normalize, "blocked")
        for name in ("arcface", "spherefacer2", "liarcface")
        for normalize in NORMALIZE
    ),
    ("arcface", "both", "one block"),
]


@pytest.mark.parametrize(("name", "normalize", "form"), EVERY_FORM)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(name, normalize, form):
    x, w, labels = draw(3)
    row = MARGINS[name]
    value, gradients = step_of(name, normalize, form)(
        jnp.asarray(x), jnp.asarray(w), jnp.asarray(labels)
    )

    def definition(x, w):
        return reference.margin_softmax(
            x, w, labels, row.psi, row.eta, scale=8.0, normalize=normalize
        ).mean()

    np.testing.assert_allclose(value, definition(x, w), rtol=1e-12)
    for gradient, expected in zip(
        gradients,
        (
            reference.numerical_gradient(lambda x: definition(x, w), x),
            reference.numerical_gradient(lambda w: definition(x, w), w),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", ["plain", "blocked"])
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("name", ["arcface", "spherefacer2"])
@pytest.mark.usefixtures("x64")
def test_detached_gradient_is_the_plain_cosines(name, normalize, form):
    """Probabilities of the margin, slopes of the logits without it."""
    x, w, labels = draw(4)
    row = MARGINS[name]
    value, (gradient, _) = step_of(name, normalize, form, gradient="detached")(
        jnp.asarray(x), jnp.asarray(w), jnp.asarray(labels)
    )
    exact = loss_of(name, normalize, form)
    np.testing.assert_allclose(value, exact(jnp.asarray(x), w, labels), rtol=1e-12)

    def radius(x):
        lengths = np.linalg.norm(x, axis=1)[:, None]
        of_w = np.linalg.norm(w, axis=1)[None] if normalize == "none" else 1.0
        return 8.0 if normalize == "both" else lengths * of_w

    theta, own = reference.angles(x, w), (np.arange(len(x)), labels)
    modified = row.eta(theta)
    modified[own] = row.psi(theta[own])
    logits = radius(x) * modified
    delta = np.exp(logits - logits.max(1, keepdims=True))
    delta /= delta.sum(1, keepdims=True)
    delta[own] -= 1
    # The margin's offset from the cosine is held; the radius is not.
    offset = modified - np.cos(theta)

    def surrogate(x):
        held = radius(x) * (np.cos(reference.angles(x, w)) + offset)
        return np.sum(delta * held) / len(x)

    expected = reference.numerical_gradient(surrogate, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


ANGLES = [0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 1.0, math.pi - 1e-3, math.pi]


def arcface_gradient(x, w, y, m=0.5, s=64.0):
    """Gradient of ArcFace's loss for one embedding in float64, from spec's tangents."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    u, v = reference.directions(x), reference.directions(w)
    sign = np.where(v @ u < 0, -1.0, 1.0)[:, None]
    gaps = v - sign * u
    tangents = gaps - (gaps @ u)[:, None] * u
    sines = np.linalg.norm(tangents, axis=1)
    theta = np.arctan2(sines, v @ u)
    units = np.divide(
        tangents, sines[:, None], out=np.zeros_like(v), where=sines[:, None] > 0
    )
    beyond = theta[y] >= np.pi - m
    logits = s * np.cos(theta)
    if beyond:
        logits[y] = s * (np.cos(theta[y]) - 1 + np.cos(m))
    else:
        logits[y] = s * np.cos(theta[y] + m)
    slopes = s * np.sin(theta)
    slopes[y] = s * np.sin(theta[y] if beyond else theta[y] + m)
    delta = np.exp(logits - logits.max())
    delta /= delta.sum()
    # p - 1 from the others: it keeps its digits when the target is nearly certain.
    delta[y] = -(delta.sum() - delta[y])
    return (delta * slopes) @ units / np.linalg.norm(x)


def near_prototypes(basis, theta):
    """A target at ``theta`` from the first axis and two classes close to it."""
    along, across, third = basis
    target = math.cos(theta) * along + math.sin(theta) * across
    if theta == math.pi:
        target = -along
    elif theta > math.pi - 0.1:
        target = -math.cos(math.pi - theta) * along + math.sin(math.pi - theta) * across
    others = [target + 0.05 * third, target - 0.03 * third + 0.02 * across]
    return np.stack([target, *others])


@pytest.mark.parametrize("form", ["plain", "one block"])
@pytest.mark.parametrize("theta", ANGLES)
def test_gradient_at_and_near_the_singular_angles_along_axes(theta, form):
    x = np.array([2.0, 0, 0], np.float32)
    w = near_prototypes(np.eye(3), theta).astype(np.float32)
    loss = jax.jit(jax.grad(loss_of("arcface", "both", form, scale=64.0)))
    gradient = loss(jnp.asarray(x)[None], jnp.asarray(w), jnp.array([0]))[0]
    expected = arcface_gradient(x, w, 0)
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.parametrize("theta", ANGLES)
def test_gradient_at_and_near_the_singular_angles_in_general_position(theta):
    """Within the rounding of the inputs' own directions, a few eps / theta."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 3)))[0].T
    x = (3.7 * basis[0]).astype(np.float32)
    # Built on the rounded embedding, so that at 0 and pi they are parallel exactly.
    exact = np.stack([x / np.float32(3.7), *basis[1:]]).astype(np.float64)
    w = near_prototypes(exact, theta).astype(np.float32)
    if theta in (0.0, math.pi):
        w[0] = x if theta == 0.0 else -x
    gradient = jax.grad(loss_of("arcface", "both", scale=64.0))(
        jnp.asarray(x)[None], jnp.asarray(w), jnp.array([0])
    )[0]
    expected = arcface_gradient(x, w, 0)
    eps = np.finfo(np.float32).eps
    allowed = 20 * eps / max(math.sin(theta), 0.02)
    if 0 < theta < 1e-6:
        # Below eps the direction is rounding; the length is full, or zero where not
        # even the components differ by more than that.
        assert np.isfinite(gradient).all()
        ratio = np.linalg.norm(gradient) / np.linalg.norm(expected)
        assert 0.3 < ratio < 3 or theta < eps / 10
        return
    if math.sin(theta) > 1e-6:
        allowed = 20 * eps / math.sin(theta)
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    assert error < allowed + 1e-5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("name", "normalize", "form"), EVERY_FORM)
def test_finite_at_every_singular_point(name, normalize, form, dtype):
    axis = np.eye(4)
    x = np.stack([axis[0], -axis[0], 0 * axis[0], axis[1], axis[2], 0 * axis[0]])
    w = np.stack([axis[0], 3 * axis[0], -axis[0], 0 * axis[0], axis[1]])
    labels = jnp.array([0, 0, 0, 3, 2, 3])
    value, gradients = step_of(name, normalize, form)(
        jnp.asarray(x, dtype), jnp.asarray(w, dtype), labels
    )
    assert value.dtype == jnp.float32
    for array in (value, *gradients):
        assert np.isfinite(np.asarray(array, np.float32)).all()
    if normalize == "both":
        # No direction, no gradient: zero embeddings and zero prototypes.
        assert np.all(np.asarray(gradients[0], np.float32)[[2, 5]] == 0)
        assert np.all(np.asarray(gradients[1], np.float32)[3] == 0)


@pytest.mark.parametrize("form", ["plain", "blocked"])
def test_where_drops_rows_whatever_is_in_them(form):
    x, w, labels = (jnp.asarray(a) for a in draw(5))
    x = x.astype(jnp.float32)
    w = w.astype(jnp.float32)
    keep = jnp.array([True, False, True, True, False, True])
    dirty = x.at[1].set(jnp.nan).at[4].set(jnp.inf)
    wrong = labels.at[1].set(-1).at[4].set(99)
    loss = loss_of("arcface", "both", form)
    kept = jax.value_and_grad(loss, (0, 1))(x[keep], w, labels[keep])
    masked = jax.value_and_grad(partial(loss, where=keep), (0, 1))(dirty, w, wrong)
    np.testing.assert_allclose(masked[0], kept[0], rtol=1e-6)
    np.testing.assert_allclose(masked[1][0][keep], kept[1][0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(masked[1][1], kept[1][1], rtol=1e-5, atol=1e-7)
    assert np.all(np.asarray(masked[1][0][~keep]) == 0)
    nothing = partial(loss, where=jnp.zeros(6, bool))
    value, gradients = jax.value_and_grad(nothing, (0, 1))(dirty, w, wrong)
    assert float(value) == 0.0
    assert all(np.all(np.asarray(g) == 0) for g in gradients)


def test_where_as_weights_is_a_weighted_mean():
    x, w, labels = (jnp.asarray(a) for a in draw(6))
    weights = jnp.array([0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
    args = x.astype(jnp.float32), w.astype(jnp.float32), labels
    each = reference.margin_softmax(*draw(6), MARGINS["cosface"].psi, scale=8.0)
    loss, aux = loss_of("cosface", "both", has_aux=True)(*args, where=weights)
    np.testing.assert_allclose(loss, np.average(each, weights=weights), rtol=1e-6)
    assert float(aux.weight) == pytest.approx(6.75)
    negative = jax.jit(loss_of("cosface", "both"))(*args, where=-weights)
    assert np.isnan(float(negative))
    per_example = sx.losses.margin_softmax_per_example(
        *args, MARGINS["cosface"].margin, scale=8.0, where=weights
    )
    np.testing.assert_allclose(per_example, each * (weights != 0), rtol=1e-6)


@pytest.mark.parametrize("form", ["plain", "blocked"])
@pytest.mark.parametrize("label", [-1, -2, 7, 2**31 - 1])
def test_an_unknown_label_never_trains_silently(form, label):
    x, w, labels = (jnp.asarray(a) for a in draw(7))
    loss = loss_of("arcface", "both", form)
    value, gradients = jax.value_and_grad(loss, (0, 1))(
        x.astype(jnp.float32), w.astype(jnp.float32), labels.at[2].set(label)
    )
    assert np.isnan(float(value))
    assert np.isnan(np.asarray(gradients[0][2])).all()
    assert np.isnan(np.asarray(gradients[1])).all()


@pytest.mark.parametrize("form", ["plain", "blocked"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(jnp.float16, 5e-3), (jnp.bfloat16, 4e-2), (jnp.float32, 2e-6)],
)
def test_dtypes(dtype, tolerance, form):
    x, w, labels = draw(8, n=32, classes=50, d=64)
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    loss = loss_of("arcface", "both", form, scale=16.0)
    value, gradients = jax.value_and_grad(loss, (0, 1))(x, w, jnp.asarray(labels))
    assert value.dtype == jnp.float32
    x64, w64 = np.asarray(x, np.float64), np.asarray(w, np.float64)
    expected = reference.margin_softmax(
        x64, w64, labels, MARGINS["arcface"].psi, scale=16.0
    )
    np.testing.assert_allclose(value, expected.mean(), rtol=tolerance / 10)
    with jax.enable_x64(True):
        loss = loss_of("arcface", "both", scale=16.0)
        exact = jax.grad(loss, (0, 1))(jnp.asarray(x64), jnp.asarray(w64), labels)
    for gradient, other in zip(gradients, map(np.asarray, exact), strict=True):
        assert gradient.dtype == dtype
        error = np.linalg.norm(np.asarray(gradient, np.float64) - other)
        assert error < tolerance * np.linalg.norm(other)


@pytest.mark.usefixtures("x64")
def test_scale_is_differentiable_and_may_differ_by_example():
    x, w, labels = draw(9)
    scales = np.linspace(2.0, 30.0, 6)
    args = jnp.asarray(x), jnp.asarray(w), jnp.asarray(labels)

    def definition(scales):
        return reference.margin_softmax(
            x, w, labels, MARGINS["arcface"].psi, scale=scales
        ).mean()

    for form in ("plain", "blocked"):
        loss = partial(
            sx.losses.margin_softmax,
            *args,
            MARGINS["arcface"].margin,
            block_size=FORMS[form],
        )
        value, slope = jax.value_and_grad(lambda s, f=loss: f(scale=s))(
            jnp.asarray(scales)
        )
        np.testing.assert_allclose(value, definition(scales), rtol=1e-12)
        expected = reference.numerical_gradient(definition, scales)
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)
        slope = jax.grad(lambda s, f=loss: f(scale=s))(8.0)
        expected = reference.numerical_gradient(definition, np.array([8.0]))[0]
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["spherefacer2", "arcface"])
@pytest.mark.usefixtures("x64")
def test_margins_can_be_learned_in_both_forms(name):
    args = [jnp.asarray(a) for a in draw(10)]
    slopes = [
        jax.tree.leaves(
            jax.grad(
                lambda margin, size=size: sx.losses.margin_softmax(
                    *args, margin=margin, scale=8.0, block_size=size
                )
            )(MARGINS[name].margin)
        )
        for size in (None, 3)
    ]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-10)
    assert abs(slopes[0][0]) > 1e-3


@pytest.mark.parametrize("form", ["plain", "blocked"])
@pytest.mark.usefixtures("x64")
def test_a_margin_may_differ_by_example(form):
    x, w, labels = draw(15)
    factors = np.linspace(1.1, 2.0, 6)
    for make in (sx.margins.SphereFaceR, partial(sx.margins.SphereFaceR, version=2)):
        losses = jax.jit(
            partial(
                sx.losses.margin_softmax_per_example, scale=8.0, block_size=FORMS[form]
            )
        )(*map(jnp.asarray, (x, w, labels)), make(m=jnp.asarray(factors)))
        for i, m in enumerate(factors):
            stretched = partial(lambda a, m: np.cos(np.minimum(m * a, np.pi)), m=m)
            eased = partial(lambda a, m: np.cos(a / m), m=m)
            version = make(m=m).version
            psi, eta = (stretched, np.cos) if version == 1 else (np.cos, eased)
            row = slice(i, i + 1)
            expected = reference.margin_softmax(
                x[row], w, labels[row], psi, eta, scale=8.0
            )
            np.testing.assert_allclose(losses[row], expected, rtol=1e-12)


@pytest.mark.parametrize("form", ["plain", "blocked"])
@pytest.mark.parametrize("normalize", NORMALIZE)
def test_aux_is_what_training_logs(form, normalize):
    x, w, _ = draw(11)
    radius = np.ones_like(w) if normalize != "none" else w
    logits = np.cos(reference.angles(x, w)) * np.linalg.norm(radius, axis=1)
    best = logits.argmax(1)
    labels = np.where(np.arange(6) % 2, best, (best + 1) % 7)
    args = [jnp.asarray(a, jnp.float32) for a in (x, w)]
    # The margin lowers the target; being correct is judged without it.
    loss, aux = loss_of("cosface", normalize, form, has_aux=True)(
        *args, jnp.asarray(labels)
    )
    np.testing.assert_array_equal(aux.correct, labels == best)
    own = reference.angles(x, w)[np.arange(6), labels]
    np.testing.assert_allclose(aux.angle, own, rtol=1e-6)
    np.testing.assert_allclose(aux.norm, np.linalg.norm(x, axis=1), rtol=1e-6)
    assert float(aux.weight) == 6.0
    np.testing.assert_allclose(
        loss, loss_of("cosface", normalize, form)(*args, jnp.asarray(labels))
    )


def test_a_tie_is_not_correct():
    w = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    _, aux = loss_of("none", "both", has_aux=True)(w[:1], w, jnp.array([0]))
    assert not bool(aux.correct[0])


def test_small_losses_keep_their_digits():
    """NormFace's lower bound, reached by a simplex of prototypes."""
    classes, scale = 4, 20.0
    simplex = np.eye(classes) - 1 / classes
    bound = np.log1p((classes - 1) * np.exp(-scale * classes / (classes - 1)))
    loss = loss_of("none", "both", scale=scale)
    value = loss(*[jnp.asarray(simplex, jnp.float32)] * 2, jnp.arange(classes))
    assert bound < 1e-11
    np.testing.assert_allclose(value, bound, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_one_class_has_no_loss(form):
    loss = loss_of("arcface", "both", form)
    value, gradient = jax.value_and_grad(loss)(
        jnp.ones((2, 3)), jnp.ones((1, 3)), jnp.zeros(2, jnp.int32)
    )
    assert float(value) == 0.0
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.usefixtures("x64")
def test_higher_derivatives_of_the_plain_form(normalize):
    x, w, labels = (jnp.asarray(a) for a in draw(12, n=2, classes=3, d=3))
    loss = jax.jit(loss_of("arcface", normalize))
    check_grads(lambda x, w: loss(x, w, labels), (x, w), order=2, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_second_derivatives_of_the_blocked_form():
    x, w, labels = (jnp.asarray(a) for a in draw(12, n=2, classes=3, d=3))
    loss = partial(sx.losses.margin_softmax, margin=sx.margins.ArcFace(), scale=8.0)
    expected = jax.jit(jax.jacfwd(jax.grad(loss)))(x, w, labels)
    np.testing.assert_allclose(
        jax.jit(jax.jacrev(jax.grad(partial(loss, block_size=2))))(x, w, labels),
        expected,
        rtol=1e-9,
        atol=1e-12,
    )


def test_numpy_arrays_are_arrays_too():
    x, w, labels = (a.astype("float32") if a.ndim > 1 else a for a in draw(16))
    expected = loss_of("arcface", "both")(jnp.asarray(x), jnp.asarray(w), labels)
    keep = np.full(6, True)
    for size in (None, 3):
        loss = partial(
            sx.losses.margin_softmax,
            margin=MARGINS["arcface"].margin,
            scale=8.0,
            block_size=size,
        )
        closed = jax.jit(lambda x, loss=loss: loss(x, w, labels, where=keep))
        np.testing.assert_allclose(closed(x), expected, rtol=1e-6)
        np.testing.assert_allclose(loss(x, w, labels), expected, rtol=1e-6)


def test_transformations_agree():
    x, w, labels = draw(13, n=12)
    x = jnp.asarray(x.reshape(2, 2, 3, 5), jnp.float32)
    w, labels = jnp.asarray(w, jnp.float32), jnp.asarray(labels.reshape(2, 2, 3))
    for form in ("plain", "blocked"):
        loss = loss_of("sphereface4", "none", form)
        value = loss(x, w, labels)
        by_batch = jax.vmap(loss, (0, None, 0))(x, w, labels)
        np.testing.assert_allclose(by_batch.mean(), value, rtol=1e-6)
        slopes = jax.vmap(jax.grad(loss), (0, None, 0))(x, w, labels)
        np.testing.assert_allclose(
            slopes / 2, jax.grad(loss)(x, w, labels), rtol=1e-5, atol=1e-7
        )
        traces = []

        @jax.jit
        def jitted(x, w, labels, loss=loss, traces=traces):
            traces.append(1)
            return loss(x, w, labels)

        np.testing.assert_allclose(jitted(x, w, labels), value, rtol=1e-6)
        jitted(x + 1, w, labels)
        assert len(traces) == 1
        with jax.numpy_dtype_promotion("strict"):
            loss(x, w, labels)


def test_prototypes_that_all_devices_of_a_shard_map_have():
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, w, labels = draw(14, n=8)
    x, w, labels = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32), labels
    for form in ("plain", "blocked"):
        expected = loss_of("arcface", "both", form)(x, w, jnp.asarray(labels))

        def by_device(x, w, labels, form=form):
            loss = loss_of("arcface", "both", form)(x, w, labels)
            return jax.lax.pmean(loss, "batch")

        mapped = jax.shard_map(
            by_device,
            mesh=mesh,
            in_specs=(jax.P("batch"), jax.P(), jax.P("batch")),
            out_specs=jax.P(),
        )
        np.testing.assert_allclose(
            jax.jit(mapped)(x, w, jnp.asarray(labels)), expected, rtol=1e-6
        )


def test_blocked_form_never_makes_all_the_logits():
    n, classes, d, block = 64, 4000, 4, 100
    x, w = jnp.ones((n, d)), jnp.ones((classes, d))
    labels = jnp.zeros(n, jnp.int32)
    sizes = {}
    for form, size in (("plain", None), ("blocked", block)):
        step = jax.value_and_grad(
            partial(
                sx.losses.margin_softmax, margin=sx.margins.ArcFace(), block_size=size
            ),
            (0, 1),
        )
        sizes[form] = largest_array(jax.make_jaxpr(step)(x, w, labels).jaxpr)
    assert sizes["plain"] >= n * classes
    assert sizes["blocked"] == classes * d  # the gradient of the prototypes


def test_errors_teach():
    x, w, labels = jnp.ones((4, 3)), jnp.ones((5, 3)), jnp.zeros(4, jnp.int32)
    margin = sx.margins.ArcFace()
    loss: Any = sx.losses.margin_softmax
    cases = [
        (ValueError, r"prototypes must be \[classes, features\]", (x, w[0], labels)),
        (ValueError, r"embeddings must be .*\(4, 3\).*\(5, 2\)", (x, w[:, :2], labels)),
        (ValueError, r"turned by neurons.to_rows", (x, w.T, labels)),
        (ValueError, r"labels must have the shape", (x, w, labels[:2])),
        (TypeError, "labels must be integer", (x, w, labels * 1.0)),
        (TypeError, "embeddings must be floating", (x.astype(int), w, labels)),
        (TypeError, "prototypes must be floating", (x, w.astype(int), labels)),
    ]
    for error, match, args in cases:
        with pytest.raises(error, match=match):
            loss(*args, margin=margin)
    options = [
        (ValueError, "normalize must be one of", dict(normalize="x")),
        (ValueError, "gradient must be one of", dict(gradient="straight")),
        (ValueError, "scale has no effect", dict(scale=3.0, normalize="none")),
        (ValueError, "scale must be positive, got -1", dict(scale=-1)),
        (ValueError, "scale must be a scalar or", dict(scale=jnp.ones(3))),
        (TypeError, "where must be a boolean mask", dict(where=labels)),
        (ValueError, "where must have the shape", dict(where=jnp.ones(3))),
        (ValueError, "block_size must be 1 or more, got 0", dict(block_size=0)),
        (TypeError, "block_size must be an integer", dict(block_size=2.5)),
    ]
    for error, match, option in options:
        with pytest.raises(error, match=match):
            loss(x, w, labels, margin, **option)
    options = [
        (TypeError, "got the class: call it, as in ArcFace", sx.margins.ArcFace),
        (TypeError, r"got a number; .*ArcFace\(margin=0.5\) or CosFace", 0.5),
        (TypeError, r"wrapped by Psi\(function\)", jnp.cos),
    ]
    for error, match, wrong in options:
        with pytest.raises(error, match=match):
            loss(x, w, labels, wrong)
    with pytest.raises(TypeError, match="were labels given in their place"):
        loss(labels, w, x, margin)
    with pytest.raises(TypeError, match="block_size must be a Python .*mark it static"):
        jax.jit(lambda size: loss(x, w, labels, margin, block_size=size))(3)
    with pytest.raises(ValueError, match="vectors with one entry or more"):
        loss(x[:, :0], w[:, :0], labels, margin)
    for name, says in dict(temperature="scale", reduction="mean", s="scale").items():
        with pytest.raises(TypeError, match=f"no argument {name}: .*{says}"):
            loss(x, w, labels, margin, **{name: 0.5})
    with pytest.raises(TypeError, match="scale must be an array or a number, got '64'"):
        loss(x, w, labels, margin, scale="64")
