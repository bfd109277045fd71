"""Rows of the objectives with fixed prototypes, and with those of an episode."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from sphax import losses
from tests.losses.objectives._objective import Objective
from tests.reference import angles, directions

N, CLASSES, FEATURES = 6, 4, 3
LABELS = (2, 0, 1, 1, 3, 0)
# Of the support, which has one to three examples of each class.
OF_SUPPORT = (1, 0, 3, 2, 2, 1, 1, 3)
X, W, Y = jnp.ones((N, FEATURES)), jnp.ones((CLASSES, FEATURES)), jnp.array(LABELS)


def hyperspherical_prototype(x, w, labels, held=None):
    cosines = np.cos(angles(np.asarray(x), np.asarray(w)))
    return np.mean((1 - cosines[np.arange(len(x)), labels]) ** 2)


def vmf_likelihood(x, w, k, labels, held=None):
    d, k = np.shape(x)[1], np.asarray(k)
    cosines = np.cos(angles(np.asarray(x), np.asarray(w)))[np.arange(len(x)), labels]
    order = d / 2 - 1
    bessel = np.log(special.ive(order, k)) + k
    logs = k * cosines + order * np.log(k) - d / 2 * np.log(2 * np.pi) - bessel
    return -logs.mean()


def bad_likelihood(concentration: Any = 1.0, **options):
    return lambda: losses.vmf_likelihood(X, W, Y, concentration, **options)


LOW, HIGH = np.array([-2.0, 1.0]), np.array([3.0, 1.5])


def polar_regression(x, poles, y, held=None):
    wanted = (2 * (y - LOW) / (HIGH - LOW) - 1) / np.sqrt(2)
    return ((wanted - np.cos(angles(x, poles))) ** 2).sum(1).mean()


def bad_polar(**options):
    given: dict = dict(poles=W[:2], targets=X[:, :2]) | options
    return lambda: losses.polar_regression(X, **given)


def prototypical(x, support, scale, labels, held=None, *, on_sphere):
    logits = episode_logits(x, support, OF_SUPPORT, scale, on_sphere=on_sphere)
    own = logits[np.arange(len(x)), labels]
    return np.mean(np.log(np.exp(logits).sum(1)) - own)


def episode_logits(x, support, of_support, scale, *, on_sphere):
    """Of each query and class, one by one."""
    x, support, of_support = map(np.asarray, (x, support, of_support))
    if on_sphere:
        x, support = directions(x), directions(support)
    logits = np.zeros((len(x), CLASSES))
    for i, j in np.ndindex(logits.shape):
        mean = support[of_support == j].mean(0)
        if on_sphere:
            logits[i, j] = scale * x[i] @ mean / np.linalg.norm(mean)
        else:
            logits[i, j] = -scale * ((x[i] - mean) ** 2).sum()
    return logits


def prototypical_row(on_sphere, errors=()):
    def loss(x, support, scale, labels, where=None):
        return losses.prototypical(
            x,
            labels,
            support,
            np.array(OF_SUPPORT),
            num_classes=CLASSES,
            on_sphere=on_sphere,
            scale=scale,
            where=where,
        )

    return Objective(
        loss,
        partial(prototypical, on_sphere=on_sphere),
        shapes=((N, FEATURES), (len(OF_SUPPORT), FEATURES), ()),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1) if on_sphere else (),
        positive=(2,),
        errors=errors,
    )


def bad_episode(**options):
    given: dict = dict(support=W, support_labels=Y[:4], num_classes=4) | options
    return lambda: losses.prototypical(X, Y, **given)


PROTOTYPES = {
    "hyperspherical_prototype": Objective(
        losses.hyperspherical_prototype,
        hyperspherical_prototype,
        shapes=((N, FEATURES), (CLASSES, FEATURES)),
        labels=LABELS,
        classes=CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=(
            (
                ValueError,
                "turned by neurons.to_rows",
                lambda: losses.hyperspherical_prototype(X, W.T, Y),
            ),
            (
                ValueError,
                "labels must have the shape",
                lambda: losses.hyperspherical_prototype(X, W, Y[:2]),
            ),
        ),
    ),
    "vmf_likelihood": Objective(
        lambda x, w, k, labels, where=None: losses.vmf_likelihood(
            x, w, labels, k, where=where
        ),
        vmf_likelihood,
        shapes=((N, FEATURES), (CLASSES, FEATURES), (N,)),
        labels=LABELS,
        classes=CLASSES,
        masked=(0, 2),
        rotated=(0, 1),
        scales=(0, 1),
        positive=(2,),
        errors=(
            (
                ValueError,
                r"concentration must .* \[0, inf\), got -1",
                bad_likelihood(-1),
            ),
            (ValueError, r"shape of labels, \(6,\), got \(4, 3\)", bad_likelihood(W)),
            (TypeError, "concentration must be floating", bad_likelihood(Y)),
            (TypeError, "no argument kappa: it is", bad_likelihood(kappa=1.0)),
        ),
    ),
    "polar_regression": Objective(
        partial(losses.polar_regression, low=LOW, high=HIGH),
        polar_regression,
        shapes=((N, FEATURES), (2, FEATURES), (N, 2)),
        labels=None,
        masked=(0, 2),
        rotated=(0, 1),
        scales=(0, 1),
        errors=(
            (ValueError, r"targets must be .*\(6, 2\), got", bad_polar(targets=X)),
            (TypeError, "targets must be floating", bad_polar(targets=Y)),
            (ValueError, r"poles must be \[n, feat", bad_polar(poles=X[0])),
            (ValueError, r"radius must lie in \(0, 1\], got 2", bad_polar(radius=2)),
            (ValueError, r"high must be a real scalar or \[t", bad_polar(high=X)),
            (ValueError, "low must be below high, got 1.0", bad_polar(low=1.0)),
            (ValueError, "where must have the shape", bad_polar(where=X)),
        ),
    ),
    "prototypical": prototypical_row(
        on_sphere=False,
        errors=(
            (ValueError, "num_classes must be 1 or more", bad_episode(num_classes=0)),
            (TypeError, "on_sphere must be True or False", bad_episode(on_sphere=2)),
            (ValueError, r"scale must lie in \(0, inf\)", bad_episode(scale=0.0)),
            (ValueError, r"support must be \[n, feat", bad_episode(support=W[0])),
            (ValueError, "support_labels must have", bad_episode(support_labels=Y)),
            (ValueError, "with the features of support", bad_episode(support=W[:, 1:])),
            (TypeError, "no argument temperature: give", bad_episode(temperature=1)),
        ),
    ),
    "prototypical-sphere": prototypical_row(on_sphere=True),
}
