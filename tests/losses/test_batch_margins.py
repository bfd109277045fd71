"""Margins that look at their batch, keep a state, draw, or edit the other classes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from sphax import margins as sm
from tests import reference

SCALE, KEY = 8.0, 7
LABELS = np.array([0, 3, 3, 6, 1, 5])
FORMS = {"plain": None, "blocked": 3}


def draw(dtype: Any = np.float64):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(6, 5)), rng.normal(size=(7, 5))
    # One example beyond pi - m, where guards differ, and one in the cone of others.
    x[4] = -w[1] + 0.3 * x[4]
    x[5] = w[5] + 0.9 * w[2]
    x *= np.array([0.6, 1.0, 1.5, 2.0, 0.9, 0.3])[:, None]
    return x.astype(dtype), w.astype(dtype)


class Batch(NamedTuple):
    """What a definition is a function of, in float64."""

    cosines: np.ndarray
    theta: np.ndarray  # to the target
    norms: np.ndarray


def batch_of(x, w):
    angles = reference.angles(x, w)
    own = angles[np.arange(len(x)), LABELS]
    return Batch(np.cos(angles), own, np.linalg.norm(x, axis=1))


def shifted(theta, m, past):
    return np.where(theta + m < np.pi, np.cos(theta + m), past(np.cos(theta), m))


def fallback(cosine, m):
    return cosine - m * np.sin(m)


def joined(cosine, m):
    return cosine - 1 + np.cos(m)


def curricular(now, held):
    t = 0.05 * np.cos(held.theta).mean() + 0.95 * 0.2
    border = np.cos(now.theta + 0.5)[:, None]
    others = np.where(
        now.cosines > border, now.cosines * (t + now.cosines), now.cosines
    )
    return shifted(now.theta, 0.5, fallback), others, 0


def misclassified(psi, adaptive):
    def definition(now, held):
        target, c = psi(now.theta), now.cosines
        lifted = 1.2 * c + 0.2 if adaptive else c + 0.2
        return target, np.where(c > target[:, None], lifted, c), 0

    return definition


def magface(now, held):
    a = np.clip(now.norms, 1.0, 4.0)
    m = 0.45 + 0.35 * (a - 1) / 3
    return shifted(now.theta, m, joined), now.cosines, 2.0 * (a / 16 + 1 / a)


def adaface(beyond):
    def definition(now, held):
        n = np.clip(held.norms, 1e-3, 100)
        mean = 0.5 * n.mean() + 0.5 * 2.0
        deviation = 0.5 * n.std(ddof=1) + 0.5 * 1.0
        z = np.clip(0.7 * (n - mean) / (deviation + 1e-3), -1, 1)
        moved = now.theta - 0.4 * z
        psi = np.cos(moved)
        if beyond == "clamp":
            psi = np.cos(np.clip(moved, 0, np.pi))
        elif beyond == "continuous":
            plain = np.cos(now.theta)
            psi = np.where(moved < 0, plain + 1 - np.cos(0.4 * z), psi)
            psi = np.where(moved > np.pi, plain - 1 + np.cos(0.4 * z), psi)
        return psi - 0.4 * (1 + z), now.cosines, 0

    return definition


def elastic(kind, ranked):
    def definition(now, held):
        noise = np.asarray(jax.random.normal(jax.random.key(KEY), (6,), float))
        if ranked:
            noise = np.sort(noise)[np.argsort(np.argsort(held.theta))]
        m = 0.4 + 0.1 * noise
        if kind == "cos":
            return np.cos(now.theta) - m, now.cosines, 0
        return shifted(now.theta, m, joined), now.cosines, 0

    return definition


def filtered(psi):
    return lambda now, held: (
        psi(now.theta),
        np.where(now.cosines > 0.3, 0.0, now.cosines),
        0,
    )


def circle(now, held):
    target = np.maximum(1.25 - np.cos(held.theta), 0) * (np.cos(now.theta) - 0.75)
    others = np.maximum(held.cosines + 0.25, 0) * (now.cosines - 0.25)
    return target, others, 0


def filtered_magface(now, held):
    psi, _, penalty = magface(now, held)
    return psi, np.where(now.cosines > 0.3, 0.0, now.cosines), penalty


ARC = partial(shifted, m=0.5, past=joined)
MAG = sm.MagFace(lower_norm=1.0, upper_norm=4.0, weight=2.0)
ADA = partial(sm.AdaFace, h=0.7, mean=2.0, deviation=1.0, rate=0.5)


class Row(NamedTuple):
    """A margin; psi, the others and the penalty of a batch, ``held`` without slope."""

    margin: sm.Margin
    definition: Callable


ROWS = {
    "curricular": Row(sm.CurricularFace(t=0.2, rate=0.05), curricular),
    "mv-am": Row(sm.MVSoftmax(t=0.2), misclassified(lambda a: np.cos(a) - 0.35, True)),
    "mv-am-fixed": Row(
        sm.MVSoftmax(t=0.2, adaptive=False),
        misclassified(lambda a: np.cos(a) - 0.35, False),
    ),
    "mv-arc": Row(sm.MVSoftmax(sm.ArcFace(), t=0.2), misclassified(ARC, True)),
    "magface": Row(MAG, magface),
    "adaface": Row(ADA(), adaface("continuous")),
    "adaface-clamp": Row(ADA(beyond="clamp"), adaface("clamp")),
    "adaface-pure": Row(ADA(beyond="pure"), adaface("pure")),
    "elastic-arc": Row(
        sm.ElasticFace(margin=0.4, deviation=0.1), elastic("arc", False)
    ),
    "elastic-arc+": Row(
        sm.ElasticFace(margin=0.4, deviation=0.1, ranked=True), elastic("arc", True)
    ),
    "elastic-cos": Row(
        sm.ElasticFace(margin=0.4, deviation=0.1, kind="cos"), elastic("cos", False)
    ),
    "filter": Row(sm.InterClassFilter(sm.ArcFace(), threshold=0.3), filtered(ARC)),
    "filter-magface": Row(sm.InterClassFilter(MAG, threshold=0.3), filtered_magface),
    "circle": Row(sm.Circle(margin=0.25), circle),
}


def radius_of(x, w, normalize):
    if normalize == "both":
        return np.full((len(x), len(w)), SCALE)
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.ones(len(w))
    return lengths * np.linalg.norm(w, axis=1) if normalize == "none" else lengths


def logits_of(row, x, w, held, normalize):
    psi, others, penalty = row.definition(batch_of(x, w), batch_of(*held))
    modified = np.array(others)
    modified[np.arange(len(x)), LABELS] = psi
    return radius_of(x, w, normalize) * modified, penalty


def cross_entropy(logits):
    top = logits.max(1)
    sums = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    return sums - logits[np.arange(len(logits)), LABELS]


def step_of(margin, form="plain", normalize="both", **kwargs):
    """Value and aux, and both gradients, compiled as one piece."""
    if normalize == "both":
        kwargs.setdefault("scale", SCALE)
    loss = partial(
        sx.losses.margin_softmax,
        margin=margin,
        normalize=normalize,
        block_size=FORMS[form],
        has_aux=True,
        **kwargs,
    )
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


# Psi stands outside the two forms, which differ in what they do with the others.
EVERY_FORM = [
    *((name, "plain") for name in ROWS),
    *(
        (name, "blocked")
        for name in ("curricular", "mv-arc", "filter-magface", "circle")
    ),
]
CASES = [
    *((name, form, "both") for name, form in EVERY_FORM),
    *((name, "plain", "none") for name in ("curricular", "magface", "mv-arc")),
    ("curricular", "blocked", "none"),
    ("adaface", "plain", "prototypes"),
]


@pytest.mark.parametrize(("name", "form", "normalize"), CASES)
@pytest.mark.usefixtures("x64")
def test_value_and_gradients_are_those_of_the_definition(name, form, normalize):
    x, w = held = draw()
    row = ROWS[name]
    step = step_of(row.margin, form, normalize, key=jax.random.key(KEY))
    (value, _), gradients = step(jnp.asarray(x), jnp.asarray(w), jnp.asarray(LABELS))

    def definition(x, w):
        logits, penalty = logits_of(row, x, w, held, normalize)
        return (cross_entropy(logits) + penalty).mean()

    np.testing.assert_allclose(value, definition(x, w), rtol=1e-12)
    expected = (
        reference.numerical_gradient(lambda x: definition(x, w), x),
        reference.numerical_gradient(lambda w: definition(x, w), w),
    )
    for gradient, numerical in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "form"),
    [("curricular", "plain"), ("mv-am", "blocked"), ("magface", "plain")],
)
@pytest.mark.usefixtures("x64")
def test_detached_gradient_is_the_plain_cosines_and_the_penaltys(name, form):
    x, w = held = draw()
    row = ROWS[name]
    step = step_of(row.margin, form, gradient="detached")
    (value, _), (gradient, _) = step(
        jnp.asarray(x), jnp.asarray(w), jnp.asarray(LABELS)
    )
    logits, penalty = logits_of(row, x, w, held, "both")
    np.testing.assert_allclose(value, (cross_entropy(logits) + penalty).mean())
    delta = np.exp(logits - logits.max(1, keepdims=True))
    delta /= delta.sum(1, keepdims=True)
    delta[np.arange(6), LABELS] -= 1

    def surrogate(x):
        _, penalty = logits_of(row, x, w, held, "both")
        cosines = np.cos(reference.angles(x, w))
        return (SCALE * np.sum(delta * cosines) + np.sum(penalty)) / 6

    expected = reference.numerical_gradient(surrogate, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "form"), EVERY_FORM)
def test_finite_at_every_singular_point(name, form):
    axis = np.eye(4)
    x = np.stack([axis[0], -axis[0], 0 * axis[0], axis[1], axis[2], 0 * axis[0]])
    w = np.stack([axis[0], 3 * axis[0], -axis[0], 0 * axis[0], axis[1]])
    labels = jnp.array([0, 0, 0, 3, 2, 3])
    for dtype in (jnp.float32, jnp.bfloat16):
        step = step_of(ROWS[name].margin, form, key=jax.random.key(0))
        (value, aux), gradients = step(
            jnp.asarray(x, dtype), jnp.asarray(w, dtype), labels
        )
        for array in jax.tree.leaves((value, aux.margin, gradients)):
            assert np.isfinite(np.asarray(array, np.float32)).all()


@pytest.mark.parametrize("name", [name for name in ROWS if "elastic" not in name])
def test_where_drops_rows_whatever_is_in_them(name):
    x, w = map(jnp.asarray, draw(np.float32))
    keep = np.array([True, False, True, True, False, True])
    kept = step_of(ROWS[name].margin)(x[keep], w, jnp.asarray(LABELS[keep]))
    dirty = x.at[1].set(jnp.nan).at[4].set(jnp.inf)
    wrong = jnp.asarray(LABELS).at[1].set(-1).at[4].set(99)
    masked = step_of(ROWS[name].margin, where=jnp.asarray(keep))(dirty, w, wrong)
    (value, aux), (of_x, of_w) = masked
    np.testing.assert_allclose(value, kept[0][0], rtol=2e-6)
    np.testing.assert_allclose(of_x[keep], kept[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_w, kept[1][1], rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(of_x)[~keep] == 0)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6), aux.margin, kept[0][1].margin
    )


def test_the_state_moves_by_the_kept_examples_and_by_nothing_else():
    angle, norm = jnp.array([0.3, 1.2, 2.0]), jnp.array([0.5, 30.0, 400.0])
    target = sm.Target(angle, norm, jnp.array([True, False, True]))
    t = sm.CurricularFace(t=0.5).update(target).t
    np.testing.assert_allclose(
        t, 0.99 * 0.5 + 0.01 * np.cos([0.3, 2.0]).mean(), rtol=1e-6
    )
    moved = sm.AdaFace().update(target)
    lengths = np.array([0.5, 100.0])  # clipped
    np.testing.assert_allclose(moved.mean, 0.99 * 20 + 0.01 * lengths.mean(), rtol=1e-6)
    np.testing.assert_allclose(
        moved.deviation, 0.99 * 100 + 0.01 * lengths.std(ddof=1), rtol=1e-6
    )


@pytest.mark.parametrize("margin", [sm.CurricularFace(t=0.5), sm.AdaFace()])
def test_the_state_survives_what_it_cannot_learn_from(margin):
    one = jnp.ones(1)
    nothing = sm.Target(one, one, jnp.array([False]))
    broken = sm.Target(one * jnp.nan, one * jnp.nan, jnp.array([True]))
    for target in (nothing, broken):
        assert jax.tree.leaves(margin.update(target)) == jax.tree.leaves(margin)
    single = sm.AdaFace().update(sm.Target(one, one, jnp.array([True])))
    assert float(single.deviation) == 100.0  # of one length there is none
    assert float(single.mean) == pytest.approx(0.99 * 20 + 0.01)


def test_the_state_is_used_in_the_step_that_moves_it_and_carried_on():
    x, w = map(jnp.asarray, draw(np.float32))
    margin, seen = sm.CurricularFace(), []
    for _ in range(3):
        (_, aux), _ = step_of(margin)(x, w, jnp.asarray(LABELS))
        margin = aux.margin
        seen.append(float(margin.t))
    mean = np.cos(batch_of(*draw()).theta).mean()
    expected = mean * (1 - 0.99 ** np.arange(1, 4))
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"CurricularFace keeps a running state.*aux"):
        sx.losses.margin_softmax(x, w, LABELS, margin)
    with pytest.raises(ValueError, match="InterClassFilter keeps a running state"):
        sx.losses.margin_softmax_per_example(
            x, w, LABELS, sm.InterClassFilter(sm.AdaFace())
        )


@pytest.mark.parametrize("margin", [sm.CurricularFace, sm.AdaFace])
def test_the_state_is_one_over_all_devices(margin):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, w = map(jnp.asarray, draw(np.float32))

    def by_device(x, labels):
        _, aux = sx.losses.margin_softmax(
            x, w, labels, margin(axis_name="batch"), scale=SCALE, has_aux=True
        )
        return aux.margin

    specs = (jax.P("batch"), jax.P("batch"))
    sharded = jax.jit(
        jax.shard_map(by_device, mesh=mesh, in_specs=specs, out_specs=jax.P())
    )(x, jnp.asarray(LABELS))
    (_, aux), _ = step_of(margin())(x, w, jnp.asarray(LABELS))
    for ours, whole in zip(
        jax.tree.leaves(sharded), jax.tree.leaves(aux.margin), strict=True
    ):
        np.testing.assert_allclose(ours, whole, rtol=1e-6)


def test_draws_follow_the_key():
    x, w = map(jnp.asarray, draw(np.float32))
    margin = sm.ElasticFace()
    loss = jax.jit(
        lambda key: sx.losses.margin_softmax(x, w, LABELS, margin, scale=SCALE, key=key)
    )
    first, again, other = (float(loss(jax.random.key(seed))) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    with pytest.raises(ValueError, match="ElasticFace draws .* give the loss a key"):
        sx.losses.margin_softmax(x, w, LABELS, margin)
    many = sm.Target(jnp.ones(40_000), jnp.ones(40_000), jnp.full(40_000, True))
    drawn = margin.for_batch(many, jax.random.key(0)).margin
    assert float(jnp.mean(drawn)) == pytest.approx(0.5, abs=1e-3)
    assert float(jnp.std(drawn)) == pytest.approx(0.05, rel=2e-2)


def test_margins_dealt_by_rank_grow_with_the_angle():
    angle = jax.random.uniform(jax.random.key(1), (2, 20)) * math.pi
    is_kept = jax.random.bernoulli(jax.random.key(2), 0.7, (2, 20))
    margin = sm.ElasticFace(ranked=True)
    drawn = margin.for_batch(sm.Target(angle, angle, is_kept), jax.random.key(3)).margin
    order = np.argsort(np.asarray(angle)[np.asarray(is_kept)])
    dealt = np.asarray(drawn)[np.asarray(is_kept)][order]
    assert np.all(np.diff(dealt) > 0)
    # The same margins as without ranks, among those that count.
    plain = sm.ElasticFace().for_batch(
        sm.Target(angle, angle, is_kept), jax.random.key(3)
    )
    np.testing.assert_array_equal(
        np.sort(dealt), np.sort(np.asarray(plain.margin)[np.asarray(is_kept)])
    )


def test_adaface_is_arcface_for_short_and_cosface_for_average_embeddings():
    angle = jnp.linspace(0.5, 2.5, 5)
    margin = sm.AdaFace(h=1.0, mean=20.0, deviation=10.0)

    def psi(norm):
        target = sm.Target(angle, jnp.full(5, norm), jnp.full(5, True))
        return margin.for_batch(target)(angle)

    np.testing.assert_allclose(psi(1.0), np.cos(angle + 0.4), atol=1e-6)
    np.testing.assert_allclose(psi(20.0), np.cos(angle) - 0.4, atol=1e-6)
    np.testing.assert_allclose(psi(90.0), np.cos(angle - 0.4) - 0.8, atol=1e-6)
    np.testing.assert_allclose(margin(angle), psi(20.0), atol=1e-6)


def test_the_regulariser_of_magface_pulls_the_length_up_to_its_end():
    """g(a) = a / u^2 + 1 / a has slope 0 at u, and none outside of [l, u]."""
    slope = jax.vmap(
        jax.grad(
            lambda norm: sm.MagFace(weight=1.0).penalty(
                sm.Target(jnp.array(0.0), norm, jnp.array(True))
            )
        )
    )
    norms = np.array([5.0, 20.0, 109.99, 200.0])
    expected = np.where((norms > 10) & (norms < 110), 1 / 110**2 - 1 / norms**2, 0.0)
    np.testing.assert_allclose(slope(jnp.asarray(norms)), expected, atol=1e-8)


def test_a_lift_of_nothing_and_a_filter_of_nothing_are_the_base():
    x, w = map(jnp.asarray, draw(np.float32))
    (expected, _), _ = step_of(sm.CosFace())(x, w, jnp.asarray(LABELS))
    for margin in (sm.MVSoftmax(t=0.0), sm.InterClassFilter(sm.CosFace(), 1.0)):
        (value, _), _ = step_of(margin)(x, w, jnp.asarray(LABELS))
        np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_hyperparameters_are_leaves_and_compile_nothing_anew(name):
    margin = ROWS[name].margin
    leaves, structure = jax.tree.flatten(margin)
    assert leaves
    assert all(isinstance(leaf, float) for leaf in leaves)
    traces = []

    @jax.jit
    def psi(margin, angle):
        traces.append(1)
        return margin(angle)

    angles = jnp.linspace(0.1, 3.0, 5)
    np.testing.assert_array_equal(psi(margin, angles).shape, (5,))
    psi(jax.tree.unflatten(structure, [leaf * 0.9 for leaf in leaves]), angles)
    assert len(traces) == 1
    jax.tree.map(lambda _: object(), margin)


def test_errors_teach():
    arc, cos = sm.ArcFace(), sm.CosFace()
    cases = [
        (r"CurricularFace: t must lie in \[-1, 1\]", lambda: sm.CurricularFace(t=2)),
        ("AdaFace: beyond must be one of", lambda: sm.AdaFace(beyond="fallback")),
        ("MagFace: upper_norm must lie in .* got 5", lambda: sm.MagFace(10, 5)),
        ("ElasticFace: margin must lie in", lambda: sm.ElasticFace(margin=4)),
        ("MVSoftmax: t must lie in", lambda: sm.MVSoftmax(cos, t=-1)),
        ("InterClassFilter: threshold", lambda: sm.InterClassFilter(arc, threshold=2)),
        ("Circle: margin must lie in", lambda: sm.Circle(margin=1.5)),
    ]
    for match, call in cases:
        with pytest.raises(ValueError, match=match):
            call()
    base: Any = 0.3
    for margin in (sm.MVSoftmax, sm.InterClassFilter):
        with pytest.raises(TypeError, match=f"{margin.__name__}: base must be a sphax"):
            margin(base)
        with pytest.raises(TypeError, match=f"{margin.__name__}: base must be a sphax"):
            margin(jnp.cos)  # pyright: ignore[reportArgumentType]


def test_a_negative_concentration_turns_the_order_round():
    target = sm.Target(jnp.zeros(3), jnp.array([1.0, 20.0, 99.0]), jnp.full(3, True))
    plain = sm.AdaFace(h=0.333, deviation=20.0).for_batch(target)
    turned = sm.AdaFace(h=-0.333, deviation=20.0).for_batch(target)
    np.testing.assert_allclose(turned.m2, -plain.m2, rtol=1e-6)
    np.testing.assert_allclose(turned.m3 - 0.4, 0.4 - plain.m3, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="AdaFace: h must lie in"):
        sm.AdaFace(h=float("nan"))
