"""The margin softmax: values, gradients, masks, dtypes, forms, transformations.

What it has in common with all other objectives is in ``test_objectives.py``.
"""

import functools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from sphax import margins as sm
from tests import reference
from tests.jaxprs import largest_array
from tests.margins import batch_margins
from tests.margins.tables import MARGINS

NORMALIZE = ["both", "prototypes", "none"]
FORMS = {"plain": None, "blocked": 3, "one block": 100}


def draw(seed, n=6, classes=7, d=5):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, d)), rng.normal(size=(classes, d))
    return x, w, rng.integers(0, classes, n)


def loss_of(margin, normalize="both", form="plain", **kwargs):
    if normalize == "both":
        kwargs.setdefault("scale", 8.0)
    # Compiled as one piece: operation by operation takes ten times as long.
    return jax.jit(
        partial(
            sx.losses.margin_softmax,
            margin=MARGINS[margin].margin if isinstance(margin, str) else margin,
            normalize=normalize,
            block_size=FORMS[form],
            **kwargs,
        )
    )


@functools.cache
def step_of(margin, normalize="both", form="plain", **kwargs):
    """Value and both gradients, compiled as one piece."""
    loss = loss_of(margin, normalize, form, **kwargs)
    has_aux = kwargs.get("has_aux", False)
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=has_aux))


def check(found, definition, x, w):
    """Value and both gradients against a definition in float64."""
    value, gradients = found
    np.testing.assert_allclose(value, definition(x, w), rtol=1e-12)
    expected = (
        reference.numerical_gradient(lambda x: definition(x, w), x),
        reference.numerical_gradient(lambda w: definition(x, w), w),
    )
    for gradient, numerical in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


# Definitions. A margin that modifies only the target's cosine enters in one place, and
# tests/margins has the values and slopes of each. Here are those that differ in what
# the loss does with them, for every normalization.


@pytest.mark.parametrize(
    ("name", "normalize"),
    [
        *((name, "both") for name in ("none", "sphereface4", "arcface", "psi")),
        *((name, "both") for name in ("spherefacer2", "liarcface")),
        *(
            (name, normalize)
            for name in ("none", "sphereface4", "arcface", "spherefacer2")
            for normalize in ("prototypes", "none")
        ),
    ],
)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(name, normalize):
    x, w, labels = draw(3)
    row = MARGINS[name]

    def definition(x, w):
        return reference.margin_softmax(
            x, w, labels, row.psi, row.eta, scale=8.0, normalize=normalize
        ).mean()

    check(step_of(name, normalize)(x, w, labels), definition, x, w)


SCALE = 8.0


def logit_scale_of(x, w, normalize):
    if normalize == "both":
        return np.full((len(x), len(w)), SCALE)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.ones(len(w))
    return lengths * np.linalg.norm(w, axis=1) if normalize == "none" else lengths


def logits_of(row, x, w, held, normalize):
    psi, others, penalty = row.definition(
        batch_margins.batch_of(x, w), batch_margins.batch_of(*held)
    )
    modified = np.array(others)
    modified[np.arange(len(x)), batch_margins.LABELS] = psi
    return logit_scale_of(x, w, normalize) * modified, penalty


def cross_entropy(logits, labels):
    top = logits.max(1)
    sums = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    return sums - logits[np.arange(len(logits)), labels]


def batch_step(margin, form="plain", normalize="both", **kwargs):
    """Value with aux, and both gradients."""
    return step_of(margin, normalize, form, has_aux=True, **kwargs)


@pytest.mark.parametrize(
    ("name", "normalize"),
    [
        *((name, "both") for name in batch_margins.ROWS),
        *((name, "none") for name in ("curricular", "magface", "mv-arc")),
        ("adaface", "prototypes"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_margins_of_a_batch_are_those_of_the_definition(name, normalize):
    x, w = held = batch_margins.draw()
    row = batch_margins.ROWS[name]
    # A function, since the key belongs to one precision of numbers.
    step = batch_step(row.margin, "plain", normalize)
    (value, _), gradients = step(
        x, w, batch_margins.LABELS, key=jax.random.key(batch_margins.KEY)
    )

    def definition(x, w):
        logits, penalty = logits_of(row, x, w, held, normalize)
        return (cross_entropy(logits, batch_margins.LABELS) + penalty).mean()

    check((value, gradients), definition, x, w)


# The blocked form shares with the plain one what a block of classes contributes. It
# differs in what passes through the loop: no margin, a margin with leaves, a state, a
# penalty; each normalization, options, a block for all.
@pytest.mark.parametrize(
    ("margin", "normalize", "form", "options"),
    [
        (MARGINS["arcface"].margin, "both", "one block", {}),
        (MARGINS["arcface"].margin, "both", "blocked", dict(gradient="detached")),
        (MARGINS["arcface"].margin, "prototypes", "blocked", {}),
        (MARGINS["arcface"].margin, "none", "blocked", dict(label_smoothing=0.2)),
        (MARGINS["spherefacer2"].margin, "both", "blocked", dict(label_smoothing=0.2)),
        (MARGINS["spherefacer2"].margin, "prototypes", "blocked", {}),
        (
            MARGINS["spherefacer2"].margin,
            "none",
            "blocked",
            dict(gradient="detached"),
        ),
        (MARGINS["liarcface"].margin, "none", "blocked", {}),
        (batch_margins.ROWS["curricular"].margin, "none", "blocked", {}),
        (
            batch_margins.ROWS["mv-am"].margin,
            "both",
            "blocked",
            dict(gradient="detached"),
        ),
        (batch_margins.ROWS["filter-magface"].margin, "both", "blocked", {}),
        (batch_margins.ROWS["circle"].margin, "both", "blocked", {}),
    ],
)
@pytest.mark.usefixtures("x64")
def test_blocked_form_is_the_plain_one(margin, normalize, form, options):
    args = *batch_margins.draw(), batch_margins.LABELS
    plain = batch_step(margin, "plain", normalize, **options)(*args)
    blocked = batch_step(margin, form, normalize, **options)(*args)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13), blocked, plain
    )


@pytest.mark.parametrize(
    ("name", "normalize"),
    [
        ("arcface", "both"),
        ("arcface", "none"),
        *(("spherefacer2", normalize) for normalize in NORMALIZE),
    ],
)
@pytest.mark.usefixtures("x64")
def test_detached_gradient_is_the_plain_cosines(name, normalize):
    """Probabilities of the margin, slopes of the logits without it."""
    x, w, labels = draw(4)
    row = MARGINS[name]
    value, (gradient, _) = step_of(name, normalize, gradient="detached")(
        jnp.asarray(x), jnp.asarray(w), jnp.asarray(labels)
    )
    exact, _ = step_of(name, normalize)(x, w, labels)
    np.testing.assert_allclose(value, exact, rtol=1e-12)

    def logit_scale(x):
        lengths = np.linalg.norm(x, axis=1)[:, None]
        w_lengths = np.linalg.norm(w, axis=1)[None] if normalize == "none" else 1.0
        return 8.0 if normalize == "both" else lengths * w_lengths

    theta, target = reference.angles(x, w), (np.arange(len(x)), labels)
    modified = row.eta(theta)
    modified[target] = row.psi(theta[target])
    logits = logit_scale(x) * modified
    delta = np.exp(logits - logits.max(1, keepdims=True))
    delta /= delta.sum(1, keepdims=True)
    delta[target] -= 1
    # The margin's offset from the cosine is held; the logit_scale is not.
    offset = modified - np.cos(theta)

    def surrogate(x):
        held = logit_scale(x) * (np.cos(reference.angles(x, w)) + offset)
        return np.sum(delta * held) / len(x)

    expected = reference.numerical_gradient(surrogate, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_detached_gradient_is_the_plain_cosines_and_the_penaltys():
    x, w = held = batch_margins.draw()
    row = batch_margins.ROWS["magface"]
    step = batch_step(row.margin, gradient="detached")
    (value, _), (gradient, _) = step(
        jnp.asarray(x), jnp.asarray(w), batch_margins.LABELS
    )
    logits, penalty = logits_of(row, x, w, held, "both")
    np.testing.assert_allclose(
        value, (cross_entropy(logits, batch_margins.LABELS) + penalty).mean()
    )
    delta = np.exp(logits - logits.max(1, keepdims=True))
    delta /= delta.sum(1, keepdims=True)
    delta[np.arange(6), batch_margins.LABELS] -= 1

    def surrogate(x):
        _, penalty = logits_of(row, x, w, held, "both")
        cosines = np.cos(reference.angles(x, w))
        return (SCALE * np.sum(delta * cosines) + np.sum(penalty)) / 6

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
    step = step_of("arcface", "both", form, scale=64.0)
    gradient = step(x[None], w, jnp.array([0]))[1][0][0]
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
    step = step_of("arcface", "both", scale=64.0)
    gradient = step(x[None], w, jnp.array([0]))[1][0][0]
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


# Slopes of every margin at these points are tested in tests/margins. The loss differs
# by normalization and form; half precision is taken in turns.
@pytest.mark.parametrize(
    ("margin", "normalize", "form", "dtype"),
    [
        ("arcface", "both", "plain", jnp.float32),
        ("arcface", "both", "blocked", jnp.bfloat16),
        ("arcface", "none", "plain", jnp.bfloat16),
        ("sphereface4", "prototypes", "plain", jnp.float32),
        ("spherefacer2", "none", "plain", jnp.float32),
        ("spherefacer2", "both", "blocked", jnp.float32),
        ("liarcface", "prototypes", "blocked", jnp.bfloat16),
        ("liarcface", "both", "plain", jnp.float32),
        (batch_margins.ROWS["curricular"].margin, "both", "blocked", jnp.float32),
        (batch_margins.ROWS["filter-magface"].margin, "both", "plain", jnp.bfloat16),
        (batch_margins.ROWS["adaface"].margin, "both", "plain", jnp.float32),
    ],
)
def test_finite_at_every_singular_point(margin, normalize, form, dtype):
    axis = np.eye(4)
    x = np.stack([axis[0], -axis[0], 0 * axis[0], axis[1], axis[2], 0 * axis[0]])
    w = np.stack([axis[0], 3 * axis[0], -axis[0], 0 * axis[0], axis[1]])
    (value, aux), gradients = batch_step(
        MARGINS[margin].margin if isinstance(margin, str) else margin, form, normalize
    )(jnp.asarray(x, dtype), jnp.asarray(w, dtype), jnp.array([0, 0, 0, 3, 2, 3]))
    assert value.dtype == jnp.float32
    for array in jax.tree.leaves((value, aux.margin, gradients)):
        assert np.isfinite(np.asarray(array, np.float32)).all()
    if normalize == "both" and isinstance(margin, str):
        # No direction, no gradient: zero embeddings and zero prototypes.
        assert np.all(np.asarray(gradients[0], np.float32)[[2, 5]] == 0)
        assert np.all(np.asarray(gradients[1], np.float32)[3] == 0)


# The mask itself is tested for all objectives. Here is what margins make of it: a state
# of the kept examples, a penalty, and an edit of the others.
@pytest.mark.parametrize("name", ["curricular", "adaface", "filter-magface"])
def test_where_drops_rows_from_the_state_and_the_penalty(name):
    x, w = map(jnp.asarray, batch_margins.draw(np.float32))
    keep = np.array([True, False, True, True, False, True])
    step = batch_step(batch_margins.ROWS[name].margin)
    kept = step(x[keep], w, jnp.asarray(batch_margins.LABELS[keep]))
    dirty = x.at[1].set(jnp.nan).at[4].set(jnp.inf)
    wrong = jnp.asarray(batch_margins.LABELS).at[1].set(-1).at[4].set(99)
    masked = step(dirty, w, wrong, where=jnp.asarray(keep))
    (value, aux), (d_x, d_w) = masked
    np.testing.assert_allclose(value, kept[0][0], rtol=2e-6)
    np.testing.assert_allclose(d_x[keep], kept[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d_w, kept[1][1], rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(d_x)[~keep] == 0)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6), aux.margin, kept[0][1].margin
    )


def test_the_state_is_used_in_the_step_that_moves_it_and_carried_on():
    x, w = map(jnp.asarray, batch_margins.draw(np.float32))
    margin, seen = sm.CurricularFace(), []
    step = jax.jit(partial(sx.losses.margin_softmax, scale=SCALE, has_aux=True))
    for _ in range(3):
        _, aux = step(x, w, jnp.asarray(batch_margins.LABELS), margin)
        margin = aux.margin
        seen.append(float(margin.t))
    mean = np.cos(batch_margins.batch_of(*batch_margins.draw()).theta).mean()
    expected = mean * (1 - 0.99 ** np.arange(1, 4))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"CurricularFace keeps a running state.*aux"):
        sx.losses.margin_softmax(x, w, batch_margins.LABELS, margin)
    with pytest.raises(ValueError, match="InterClassFilter keeps a running state"):
        sx.losses.margin_softmax_per_example(
            x, w, batch_margins.LABELS, sm.InterClassFilter(sm.AdaFace())
        )


@pytest.mark.parametrize("margin", [sm.CurricularFace, sm.AdaFace])
def test_the_state_is_one_over_all_devices(margin):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, w = map(jnp.asarray, batch_margins.draw(np.float32))

    def by_device(x, labels):
        _, aux = sx.losses.margin_softmax(
            x, w, labels, margin(axis_name="batch"), scale=SCALE, has_aux=True
        )
        return aux.margin

    specs = (jax.P("batch"), jax.P("batch"))
    sharded = jax.jit(
        jax.shard_map(by_device, mesh=mesh, in_specs=specs, out_specs=jax.P())
    )(x, jnp.asarray(batch_margins.LABELS))
    (_, aux), _ = batch_step(margin())(x, w, jnp.asarray(batch_margins.LABELS))
    for ours, whole in zip(
        jax.tree.leaves(sharded), jax.tree.leaves(aux.margin), strict=True
    ):
        np.testing.assert_allclose(ours, whole, rtol=1e-6)


def test_draws_follow_the_key():
    x, w = map(jnp.asarray, batch_margins.draw(np.float32))
    step = batch_step(sm.ElasticFace())
    first, again, other = (
        float(step(x, w, batch_margins.LABELS, key=jax.random.key(seed))[0][0])
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_lift_of_nothing_and_a_filter_of_nothing_are_the_base():
    x, w = map(jnp.asarray, batch_margins.draw(np.float32))
    loss = jax.jit(partial(sx.losses.margin_softmax, scale=SCALE))
    expected = loss(x, w, batch_margins.LABELS, sm.CosFace())
    for margin in (sm.MVSoftmax(t=0.0), sm.InterClassFilter(sm.CosFace(), 1.0)):
        value = loss(x, w, batch_margins.LABELS, margin)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_where_as_weights_is_a_weighted_mean():
    x, w, labels = (jnp.asarray(a) for a in draw(6))
    weights = jnp.array([0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
    args = x.astype(jnp.float32), w.astype(jnp.float32), labels
    each = reference.margin_softmax(*draw(6), MARGINS["cosface"].psi, scale=8.0)
    loss, aux = loss_of("cosface", "both", has_aux=True)(*args, where=weights)
    np.testing.assert_allclose(loss, np.average(each, weights=weights), rtol=1e-6)
    assert float(aux.weight) == pytest.approx(6.75)
    negative = loss_of("cosface", "both")(*args, where=-weights)
    assert np.isnan(float(negative))
    per_example = sx.losses.margin_softmax_per_example(
        *args, MARGINS["cosface"].margin, scale=8.0, where=weights
    )
    np.testing.assert_allclose(per_example, each * (weights != 0), rtol=1e-6)


@pytest.mark.parametrize("form", ["plain", "blocked"])
def test_an_unknown_label_never_trains_silently(form):
    x, w, labels = draw(7)
    step = step_of("arcface", "both", form)
    for label in (-1, -2, 7, 2**31 - 1):
        wrong = jnp.asarray(labels).at[2].set(label)
        value, gradients = step(x.astype(np.float32), w.astype(np.float32), wrong)
        assert np.isnan(float(value))
        assert np.isnan(np.asarray(gradients[0][2])).all()
        assert np.isnan(np.asarray(gradients[1])).all()


@pytest.mark.parametrize(
    ("dtype", "form", "tolerance"),
    [
        (jnp.float16, "plain", 5e-3),
        (jnp.bfloat16, "blocked", 4e-2),
        (jnp.float32, "plain", 2e-6),
    ],
)
def test_dtypes(dtype, form, tolerance):
    x, w, labels = draw(8, n=32, classes=50, d=64)
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    step = step_of("arcface", "both", form, scale=16.0)
    value, gradients = step(x, w, jnp.asarray(labels))
    assert value.dtype == jnp.float32
    x64, w64 = np.asarray(x, np.float64), np.asarray(w, np.float64)
    expected = reference.margin_softmax(
        x64, w64, labels, MARGINS["arcface"].psi, scale=16.0
    )
    np.testing.assert_allclose(value, expected.mean(), rtol=tolerance / 10)
    with jax.enable_x64(True):
        _, exact = step_of("arcface", "both", scale=16.0)(x64, w64, labels)
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
        step = jax.jit(jax.value_and_grad(lambda s, f=loss: f(scale=s)))
        value, slope = step(scales)
        np.testing.assert_allclose(value, definition(scales), rtol=1e-12)
        expected = reference.numerical_gradient(definition, scales)
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)
        _, slope = step(8.0)
        expected = reference.numerical_gradient(definition, np.array([8.0]))[0]
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["spherefacer2", "arcface"])
@pytest.mark.usefixtures("x64")
def test_margins_can_be_learned_in_both_forms(name):
    args = [jnp.asarray(a) for a in draw(10)]
    slopes = [
        jax.tree.leaves(
            jax.jit(
                jax.grad(
                    lambda margin, size=size: sx.losses.margin_softmax(
                        *args, margin=margin, scale=8.0, block_size=size
                    )
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


@pytest.mark.parametrize(
    ("normalize", "form"),
    [("both", "plain"), ("none", "blocked"), ("prototypes", "plain")],
)
def test_aux_is_what_training_logs(normalize, form):
    x, w, _ = draw(11)
    rows = np.ones_like(w) if normalize != "none" else w
    logits = np.cos(reference.angles(x, w)) * np.linalg.norm(rows, axis=1)
    best = logits.argmax(1)
    labels = np.where(np.arange(6) % 2, best, (best + 1) % 7)
    args = [jnp.asarray(a, jnp.float32) for a in (x, w)]
    # The margin lowers the target; being correct is judged without it.
    loss, aux = loss_of("cosface", normalize, form, has_aux=True)(
        *args, jnp.asarray(labels)
    )
    np.testing.assert_array_equal(aux.correct, labels == best)
    target = reference.angles(x, w)[np.arange(6), labels]
    np.testing.assert_allclose(aux.angle, target, rtol=1e-6)
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


@pytest.mark.parametrize("form", ["plain", "blocked"])
def test_one_class_has_no_loss(form):
    value, (gradient, _) = step_of("arcface", "both", form)(
        jnp.ones((2, 3)), jnp.ones((1, 3)), jnp.zeros(2, jnp.int32)
    )
    assert float(value) == 0.0
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.usefixtures("x64")
def test_second_derivatives_of_the_plain_form():
    """Forward over reverse, and reverse over reverse, against central differences."""
    x, w, labels = draw(12, n=2, classes=3, d=3)

    @jax.jit
    def curvatures(x, along):
        found = []
        for normalize in NORMALIZE:
            loss = partial(loss_of("arcface", normalize), prototypes=w, labels=labels)
            gradient = jax.grad(loss)
            _, forward = jax.jvp(gradient, (x,), (along,))
            reverse = jax.grad(lambda x, g=gradient: jnp.sum(g(x) * along))(x)
            found.append((gradient(x), forward, reverse))
        return found

    along = np.random.default_rng(17).normal(size=x.shape)
    ahead, behind = (curvatures(x + step * along, along) for step in (1e-6, -1e-6))
    for up, down, (_, forward, reverse) in zip(
        ahead, behind, curvatures(x, along), strict=True
    ):
        expected = (up[0] - down[0]) / 2e-6
        np.testing.assert_allclose(forward, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-12)


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
        by_batch = jax.jit(jax.vmap(loss, (0, None, 0)))(x, w, labels)
        np.testing.assert_allclose(by_batch.mean(), value, rtol=1e-6)
        slope = jax.grad(loss)
        slopes = jax.jit(jax.vmap(slope, (0, None, 0)))(x, w, labels)
        whole = jax.jit(slope)(x, w, labels)
        np.testing.assert_allclose(slopes / 2, whole, rtol=1e-5, atol=1e-7)
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


# Errors

X, W, Y = jnp.ones((4, 3)), jnp.ones((5, 3)), jnp.zeros(4, jnp.int32)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, r"prototypes must be \[classes, features\]", (X, W[0], Y)),
        (ValueError, r"embeddings must be .*\(4, 3\).*\(5, 2\)", (X, W[:, :2], Y)),
        (ValueError, r"turned by neurons.to_rows", (X, W.T, Y)),
        (ValueError, r"labels must have the shape", (X, W, Y[:2])),
        (TypeError, "labels must be integer", (X, W, Y * 1.0)),
        (TypeError, "embeddings must be floating", (X.astype(int), W, Y)),
        (TypeError, "prototypes must be floating", (X, W.astype(int), Y)),
        (TypeError, "were labels given in their place", (Y, W, X)),
        (ValueError, "vectors with one entry or more", (X[:, :0], W[:, :0], Y)),
    ],
)
def test_wrong_arguments(error, match, arguments):
    x, w, labels = arguments
    with pytest.raises(error, match=match):
        sx.losses.margin_softmax(x, w, labels, sm.ArcFace())


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "normalize must be one of", dict(normalize="x")),
        (ValueError, "gradient must be one of", dict(gradient="straight")),
        (ValueError, "scale has no effect", dict(scale=3.0, normalize="none")),
        (ValueError, "scale must be positive, got -1", dict(scale=-1)),
        (ValueError, "scale must be a scalar or", dict(scale=jnp.ones(3))),
        (TypeError, "scale must be an array or a number, got '64'", dict(scale="64")),
        (TypeError, "where must be a boolean mask", dict(where=Y)),
        (ValueError, "where must have the shape", dict(where=jnp.ones(3))),
        (ValueError, "block_size must be 1 or more, got 0", dict(block_size=0)),
        (TypeError, "block_size must be an integer", dict(block_size=2.5)),
        (
            ValueError,
            r"label_smoothing must lie in \[0, 1\)",
            dict(label_smoothing=1.0),
        ),
        (
            ValueError,
            "label_smoothing must be a scalar",
            dict(label_smoothing=jnp.ones(6)),
        ),
        (TypeError, "no argument temperature: .*scale", dict(temperature=0.5)),
        (TypeError, "no argument reduction: .*mean", dict(reduction=0.5)),
        (TypeError, "no argument s: .*scale", dict(s=0.5)),
        (TypeError, "got the class: call it, as in ArcFace", dict(margin=sm.ArcFace)),
        (
            TypeError,
            r"got a number; .*ArcFace\(margin=0.5\) or CosFace",
            dict(margin=0.5),
        ),
        (TypeError, r"wrapped by Psi\(function\)", dict(margin=jnp.cos)),
        (ValueError, "ElasticFace draws .* a key", dict(margin=sm.ElasticFace())),
    ],
)
def test_wrong_options(error, match, options):
    loss: Any = sx.losses.margin_softmax
    with pytest.raises(error, match=match):
        loss(X, W, Y, **{"margin": sm.ArcFace()} | options)


def test_a_traced_block_size_is_refused():
    def loss(size):
        return sx.losses.margin_softmax(X, W, Y, sm.ArcFace(), block_size=size)

    with pytest.raises(TypeError, match="block_size must be a Python .*mark it static"):
        jax.jit(loss)(3)


def test_options_are_checked_before_there_is_a_batch():
    checked: Any = sx.losses.check_margin_softmax
    margin = sm.CurricularFace()
    checked(margin, scale=8.0, subcenters=2, block_size=5, label_smoothing=0.1)
    for match, options in (
        ("sub-centers need normalize", dict(subcenters=2, normalize="none")),
        ("scale has no effect", dict(scale=8.0, normalize="prototypes")),
        ("scale must be a scalar", dict(scale=jnp.ones(2))),
        ("gradient must be one of", dict(gradient="straight")),
        ("block_size must be 1 or more", dict(block_size=0)),
        (r"label_smoothing must lie in \[0, 1\)", dict(label_smoothing=1.0)),
    ):
        with pytest.raises(ValueError, match=match):
            checked(margin, **options)
