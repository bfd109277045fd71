"""Calls of ``sphax.operators``: every function of lengths and angles at work."""

import jax.numpy as jnp
import numpy as np

import sphax as sx
from tests.calls._call import Call, normal
from tests.operators.tables import ANGULARS, MAGNITUDES

X, W = normal(0, 8, 4), normal(1, 4, 8)
IMAGES, KERNEL = normal(2, 8, 8, 2), normal(3, 3, 2, 8)
WIDE, SQUARE = normal(4, 8, 8, 8), normal(7, 3, 8, 8) / 16
RESPONSE = normal(5, 5, 2, 8) + 1j * normal(6, 5, 2, 8)
DENSE = (("batch", "features"), ("features", "filters"))
CONV = (("batch", "space", None), (None, None, "filters"))
# Not over space: XLA's own strided convolution has wrong gradients there where more
# devices than outputs share an axis (jaxlib 0.10.2, CPU).
STRIDED = (("batch", None, None), (None, None, "filters"))
# Nor over a part of the devices alone: XLA's own convolution in groups has wrong
# gradients by its kernel there (the same).
REPLICATED = ((None, None, None), (None, None, None))
COSINE, LINEAR = sx.operators.Cosine(), sx.operators.LinearAngle()


def dense(magnitude, angular, **options):
    """The dense operator of these functions."""
    return lambda x, w: sx.operators.decoupled_dense(
        x, w, magnitude=magnitude, angular=angular, **options
    )


def conv(magnitude, angular, **options):
    """The convolution of these functions."""
    return lambda x, w: sx.operators.decoupled_conv(
        x, w, magnitude=magnitude, angular=angular, **options
    )


TANH = sx.operators.Tanh(weighted="nonlinear")
WEIGHTED = "none", "linear", "nonlinear"

CALLS = [
    *(
        Call(
            f"operators.{kind.__name__}",
            dense(kind(weighted=WEIGHTED[number % 3]), LINEAR),
            (X, W),
            DENSE,
            (0, 1),
        )
        for number, (kind, *_) in enumerate(MAGNITUDES.values())
    ),
    *(
        Call(
            f"operators.{type(function).__name__}",
            dense(TANH, function),
            (X, W),
            DENSE,
            (0, 1),
        )
        for function, _ in ANGULARS.values()
    ),
    Call(
        "operators.decoupled_dense",
        dense(sx.operators.Linear(), COSINE),
        (X, W),
        DENSE,
        (0, 1),
    ),
    Call(
        "operators.decoupled_conv", conv(TANH, LINEAR), (IMAGES, KERNEL), CONV, (0, 1)
    ),
    Call(
        "operators.decoupled_conv[circular]",
        conv(TANH, COSINE, padding="CIRCULAR"),
        (IMAGES, KERNEL),
        CONV,
        (0, 1),
    ),
    Call(
        "operators.decoupled_conv[groups]",
        conv(TANH, COSINE, feature_group_count=2),
        (IMAGES, KERNEL[:, :1]),
        REPLICATED,
        (0, 1),
    ),
    Call(
        "operators.decoupled_conv[linear]",
        conv(sx.operators.Linear(), COSINE, strides=2),
        (IMAGES, KERNEL),
        STRIDED,
        (0, 1),
    ),
    Call(
        "operators.decoupled_conv_transpose",
        lambda x, w: sx.operators.decoupled_conv_transpose(
            x, w, magnitude=TANH, angular=COSINE, strides=2
        ),
        (IMAGES, KERNEL),
        CONV,
        (0, 1),
    ),
    Call(
        "operators.patch_norms",
        lambda x: sx.operators.patch_norms(x, (3,)),
        (IMAGES,),
        CONV[:1],
    ),
    Call(
        "operators.rotary",
        sx.operators.rotary,
        (IMAGES, np.arange(8, dtype=np.int32)),
        (("batch", "space", "features"), ("space",)),
    ),
    Call(
        "operators.skew_convolution",
        lambda x, k: sx.operators.skew_convolution(x, k, terms=3, padding="CIRCULAR"),
        (WIDE, SQUARE),
        CONV,
        (0, 1),
    ),
    Call(
        "operators.cayley_convolution",
        sx.operators.cayley_convolution,
        (IMAGES, KERNEL),
        CONV,
        (0, 1),
    ),
    Call(
        "operators.cayley_response",
        lambda k: jnp.abs(sx.operators.cayley_response(k, (8,))) ** 2,
        (KERNEL,),
        CONV[1:],
    ),
    Call(
        "operators.fourier_convolution",
        sx.operators.fourier_convolution,
        (IMAGES, RESPONSE),
        CONV,
    ),
    Call("operators.group_sort", sx.operators.group_sort, (X,), DENSE[:1]),
    Call(
        "operators.space_to_depth",
        lambda x: sx.operators.space_to_depth(x, (2,)),
        (IMAGES,),
        CONV[:1],
    ),
]
EXEMPT = {
    "operators.Magnitude": "abstract: its subclasses are called",
    "operators.Angular": "abstract: its subclasses are called",
}
