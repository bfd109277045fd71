"""Rows of the margin softmax; its margins have tests of their own."""

from functools import partial

import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.losses.objectives._objective import Objective
from tests.margins.tables import MARGINS
from tests.reference import angles

CLASSES, FEATURES, SCALE = 4, 3, 6.0
LABELS = (2, 0, 1, 1, 3, 0)
ARCFACE = MARGINS["arcface"]


def arcface(x, w, labels, held=(), *, smoothing=0.0):
    """Cross-entropy with the smoothed mass on the cosines without a margin."""
    theta = angles(x, w.reshape(-1, FEATURES)).reshape(len(x), CLASSES, -1).min(-1)
    own, logits = (np.arange(len(x)), labels), SCALE * np.cos(theta)
    spread = logits.mean(1)
    logits[own] = SCALE * ARCFACE.psi(theta[own])
    sums = np.log(np.exp(logits).sum(1))
    return (sums - (1 - smoothing) * logits[own] - smoothing * spread).mean()


def row(*subcenters, smoothing=0.0, **options):
    margin, x = sx.margins.ArcFace(margin=0.5), jnp.ones((len(LABELS), FEATURES))
    loss = partial(
        sx.losses.margin_softmax,
        margin=margin,
        scale=SCALE,
        label_smoothing=smoothing,
        **options,
    )
    w, labels = jnp.ones((CLASSES, *subcenters, FEATURES)), jnp.array(LABELS)
    return Objective(
        loss,
        partial(arcface, smoothing=smoothing),
        ((len(LABELS), FEATURES), (CLASSES, *subcenters, FEATURES)),
        LABELS,
        CLASSES,
        rotated=(0, 1),
        scales=(0, 1),
        errors=(
            (ValueError, "labels must have the shape", lambda: loss(x, w, labels[:2])),
            (TypeError, "labels must be integer", lambda: loss(x, w, labels * 1.0)),
            (ValueError, "embeddings must be", lambda: loss(x[:, :2], w, labels)),
        ),
    )


SOFTMAX = {
    "margin_softmax": row(),
    "margin_softmax-blocked": row(block_size=3, smoothing=0.1),
    "margin_softmax-subcenters": row(2, smoothing=0.1),
}
