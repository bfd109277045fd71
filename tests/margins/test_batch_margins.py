"""Margins that look at their batch, keep a state, draw, or modify the other classes.

Their losses are tested in ``tests/losses/test_margin_softmax.py``.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import margins as sm
from tests.margins.batch_margins import ROWS


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
    assert float(single.deviation) == 100.0  # one length has no deviation
    assert float(single.mean) == pytest.approx(0.99 * 20 + 0.01)


def test_margins_assigned_by_rank_grow_with_the_angle():
    angle = jax.random.uniform(jax.random.key(1), (2, 20)) * math.pi
    is_kept = jax.random.bernoulli(jax.random.key(2), 0.7, (2, 20))
    margin = sm.ElasticFace(ranked=True)
    drawn = margin.for_batch(sm.Target(angle, angle, is_kept), jax.random.key(3)).margin
    order = np.argsort(np.asarray(angle)[np.asarray(is_kept)])
    assigned = np.asarray(drawn)[np.asarray(is_kept)][order]
    assert np.all(np.diff(assigned) > 0)
    # The same margins as without ranks, among those that count.
    plain = sm.ElasticFace().for_batch(
        sm.Target(angle, angle, is_kept), jax.random.key(3)
    )
    np.testing.assert_array_equal(
        np.sort(assigned), np.sort(np.asarray(plain.margin)[np.asarray(is_kept)])
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


def test_the_regularizer_of_magface_pulls_the_length_up_to_its_end():
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


@pytest.mark.parametrize("name", ROWS)
def test_hyperparameters_are_leaves_and_recompile_nothing(name):
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


def test_a_negative_concentration_reverses_the_order():
    target = sm.Target(jnp.zeros(3), jnp.array([1.0, 20.0, 99.0]), jnp.full(3, True))
    plain = sm.AdaFace(h=0.333, deviation=20.0).for_batch(target)
    reversed_ = sm.AdaFace(h=-0.333, deviation=20.0).for_batch(target)
    np.testing.assert_allclose(reversed_.m2, -plain.m2, rtol=1e-6)
    np.testing.assert_allclose(reversed_.m3 - 0.4, 0.4 - plain.m3, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="AdaFace: h must lie in"):
        sm.AdaFace(h=float("nan"))


def test_draws_need_a_key_and_have_the_mean_and_the_deviation():
    margin = sm.ElasticFace()
    many = sm.Target(jnp.ones(40_000), jnp.ones(40_000), jnp.full(40_000, True))
    with pytest.raises(ValueError, match="ElasticFace draws .* give the loss a key"):
        margin.for_batch(many)
    drawn = margin.for_batch(many, jax.random.key(0)).margin
    assert float(jnp.mean(drawn)) == pytest.approx(0.5, abs=1e-3)
    assert float(jnp.std(drawn)) == pytest.approx(0.05, rel=2e-2)


@pytest.mark.parametrize("name", ROWS)
def test_slopes_are_finite_at_the_ends(name):
    """At the angles 0 and pi, opposite and beyond, and with embeddings of length 0."""
    margin = ROWS[name].margin
    angle, norm = jnp.array([0.0, jnp.pi, 0.0, 1.0]), jnp.array([1.0, 2.0, 0.0, 0.0])
    cosines = jnp.tile(jnp.array([1.0, -1.0, 0.0, 1.0 + 1e-6]), (4, 1))

    @jax.jit
    @jax.grad
    def slopes(inputs):
        target = sm.Target(inputs["angle"], inputs["norm"], jnp.full(4, True))
        active = margin.for_batch(target, jax.random.key(0))
        negatives = active.negatives(inputs["cosines"], target.angle)
        penalty = jnp.sum(jnp.asarray(margin.penalty(target)))
        return jnp.sum(active(target.angle)) + jnp.sum(negatives) + penalty

    for slope in slopes(dict(angle=angle, norm=norm, cosines=cosines)).values():
        assert np.isfinite(slope).all()


def test_a_hook_without_its_attribute_is_loud():
    """Else the losses would leave the hook out."""
    members = {"__call__": lambda self, angle: angle}
    for hook, flag in (("negatives", "modifies_negatives"), ("update", "keeps_state")):
        overridden = members | {hook: lambda self, *arguments: arguments[0]}
        with pytest.raises(TypeError, match=f"Own overrides {hook}: set {flag} = True"):
            type("Own", (sm.Margin,), overridden)
        own: Any = type("Own", (sm.Margin,), overridden | {flag: True})
        assert getattr(own(), flag)
    assert not sm.InterClassFilter(sm.ArcFace()).keeps_state
    assert sm.InterClassFilter(sm.AdaFace()).keeps_state
    assert sm.MVSoftmax().modifies_negatives
    assert not sm.MagFace().modifies_negatives


ARC, COS = sm.ArcFace(), sm.CosFace()
BASE: Any = 0.3
FUNCTION: Any = jnp.cos


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (
            ValueError,
            r"CurricularFace: t must lie in \[-1, 1\]",
            lambda: sm.CurricularFace(t=2),
        ),
        (
            ValueError,
            "AdaFace: beyond must be one of",
            lambda: sm.AdaFace(beyond="fallback"),
        ),
        (
            ValueError,
            "MagFace: upper_norm must lie in .* got 5",
            lambda: sm.MagFace(10, 5),
        ),
        (
            ValueError,
            "ElasticFace: margin must lie in",
            lambda: sm.ElasticFace(margin=4),
        ),
        (ValueError, "MVSoftmax: t must lie in", lambda: sm.MVSoftmax(COS, t=-1)),
        (
            ValueError,
            "InterClassFilter: threshold",
            lambda: sm.InterClassFilter(ARC, threshold=2),
        ),
        (ValueError, "Circle: margin must lie in", lambda: sm.Circle(margin=1.5)),
        (
            TypeError,
            "MVSoftmax: base must be a sphax",
            lambda: sm.MVSoftmax(BASE),
        ),
        (
            TypeError,
            "MVSoftmax: base must be a sphax",
            lambda: sm.MVSoftmax(FUNCTION),
        ),
        (
            TypeError,
            "InterClassFilter: base must be a sphax",
            lambda: sm.InterClassFilter(BASE),
        ),
        (
            TypeError,
            "InterClassFilter: base must be a sphax",
            lambda: sm.InterClassFilter(FUNCTION),
        ),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()
