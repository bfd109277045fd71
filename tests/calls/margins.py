"""Calls of ``sphax.margins``: every margin at work on given cosines, and in a loss."""

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.calls._call import Call, normal
from tests.margins.tables import MARGINS

X, W, LABELS = normal(0, 8, 4), normal(1, 8, 4), np.arange(8, dtype=np.int32)
COSINES = np.tanh(normal(2, 8, 8))
KEY = jax.random.key(0)


# One of each class.
PLAIN = {
    **{type(row.margin).__name__: row.margin for row in MARGINS.values()},
    "GeneralizedAngular": sx.margins.GeneralizedAngular(
        angular=sx.operators.LinearAngle()
    ),
    "InterClassFilter": sx.margins.InterClassFilter(sx.margins.ArcFace()),
    "MVSoftmax": sx.margins.MVSoftmax(),
    "Circle": sx.margins.Circle(),
}
# What the loss asks of them, batch by batch.
OF_BATCHES = {
    "AdaFace": sx.margins.AdaFace(),
    "CurricularFace": sx.margins.CurricularFace(),
    "ElasticFace": sx.margins.ElasticFace(ranked=True),
    "MagFace": sx.margins.MagFace(lower_norm=1.0, upper_norm=3.0),
}


def logits(margin):
    """The logits of a margin."""
    return lambda cosines, labels: sx.margins.margin_logits(
        cosines, labels, margin, scale=8.0
    )


def loss(margin):
    """The loss of a margin, and its new state."""

    def function(x, w, labels, key):
        value, aux = sx.losses.margin_softmax(
            x, w, labels, margin, scale=8.0, key=key, has_aux=True
        )
        return value, jax.tree.map(jnp.asarray, aux.margin)

    return function


CALLS = [
    *(
        Call(
            f"margins.{name}",
            logits(margin),
            (COSINES, LABELS),
            (("batch", "classes"), ("batch",)),
        )
        for name, margin in PLAIN.items()
    ),
    *(
        Call(
            f"margins.{name}",
            loss(margin),
            (X, W, LABELS, KEY),
            (("batch", "features"), ("classes", "features"), ("batch",), ()),
            (0, 1),
        )
        for name, margin in OF_BATCHES.items()
    ),
    Call(
        "margins.margin_logits",
        logits(sx.margins.ArcFace(beyond="easy")),
        (COSINES, LABELS),
        (("batch", "classes"), ("batch",)),
    ),
    Call(
        "margins.annealing_schedule",
        sx.margins.annealing_schedule(),
        (np.float32(3.0),),
        ((),),
        (),
    ),
]
EXEMPT = {"margins.Margin": "abstract: its subclasses are called"}
