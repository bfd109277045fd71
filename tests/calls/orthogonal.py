"""Calls of ``sphax.orthogonal``."""

from functools import partial

import jax
import numpy as np

import sphax as sx
from tests.calls._call import Call, normal
from tests.orthogonal.tables import MAPS

so = sx.orthogonal
SQUARE, TALL, BATCH = normal(0, 8, 8), normal(1, 16, 8), normal(2, 8, 4, 4)
FRAME, STEP = np.linalg.qr(normal(3, 16, 8))[0], 0.1 * normal(4, 16, 8)
MATRIX, BATCHED = ("rows", "columns"), ("batch", None, None)
KEY = jax.random.key(0)
POINTS, ROWS = normal(5, 16, 8), ("points", "features")


def of_matrix(name, function, row, argument=SQUARE, axes=MATRIX):
    name = f"orthogonal.{name}[{row}]" if row else f"orthogonal.{name}"
    return Call(name, function, (argument,), (axes,))


def retraction(name, function):
    return Call(
        f"orthogonal.{name}",
        function,
        (FRAME, STEP),
        (("rows", "columns"), ("rows", "columns")),
        (0, 1),
    )


def penalty(row, **options):
    return Call(
        f"orthogonal.orthogonality_penalty[{row}]",
        partial(so.orthogonality_penalty, **options),
        (POINTS,),
        (ROWS,),
    )


CALLS = [
    *(
        of_matrix(name, row.map, "batch", BATCH, BATCHED)
        for name, row in MAPS.items()
        if "-" not in name  # one of each map
    ),
    of_matrix("gram_schmidt", so.gram_schmidt, "tall", TALL),
    of_matrix("lowdin", so.lowdin, "tall", TALL),
    of_matrix("polish", so.polish, "", FRAME),
    of_matrix("polar_factor", so.polar_factor, "wide", TALL.T),
    of_matrix("polar_factor", so.polar_factor, "batch", BATCH, BATCHED),
    of_matrix("orthogonality_error", so.orthogonality_error, "", TALL),
    of_matrix("almost_orthogonal", so.almost_orthogonal, ""),
    of_matrix(
        "almost_orthogonal_kernel",
        so.almost_orthogonal_kernel,
        "",
        normal(6, 3, 4, 8),
        (None, None, "filters"),
    ),
    Call(
        "orthogonal.random_orthogonal",
        lambda key: so.random_orthogonal(key, (2, 3, 3), special=True),
        (KEY,),
        ((),),
        (),
    ),
    penalty("double", kind="double_soft", normalize=True),
    penalty("coherence", kind="mutual_coherence"),
    Call(
        "orthogonal.orthogonality_penalty[spectral]",
        lambda x, key: so.orthogonality_penalty(x, kind="spectral", key=key),
        (POINTS, KEY),
        (ROWS, ()),
    ),
    retraction("project_to_tangent", so.project_to_tangent),
    retraction("qr_retraction", so.qr_retraction),
    retraction("polar_retraction", so.polar_retraction),
    retraction("cayley_retraction", so.cayley_retraction),
    retraction("tangent_generator", so.tangent_generator),
]
EXEMPT: dict[str, str] = {}
