"""Margins that look at their batch, keep a state, draw, or modify the other classes.

Each with its definition in NumPy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from sphax import margins as sm
from tests import reference

KEY = 7
LABELS = np.array([0, 3, 3, 6, 1, 5])


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
