"""Calls of ``sphax.convert``, which is host code."""

import json
import tempfile
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

import sphax as sx
from tests.calls._call import Call, normal
from tests.convert.torch_networks import FILE, draw

sc: Any = sx.convert
ARRAYS = draw(json.loads(FILE.read_text())["bare_sfnet"]["shapes"])
ROWS = normal(0, 3, 2)
STATE = {name: np.ones(1) for name in ("t", "batch_mean", "batch_std")}


def head():
    """A head whose margin has a state."""
    margin = sx.margins.AdaFace()
    return sx.layers.MarginHead(2, 3, margin=margin, rngs=nnx.Rngs(0))


def through_a_file(arrays):
    """Written and read again."""
    with tempfile.TemporaryDirectory() as folder:
        sc.write(f"{folder}/x.npz", arrays)
        return sc.read(f"{folder}/x.npz")


def through_a_folder(raw):
    """An adapter, written and read again."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = sx.reparam.BlockRotation(raw, dimension=6)
        sc.write_adapters(folder, {"up": adapter})
        return sc.read_adapters(folder)["up"].raw


def row(name, function, *arguments):
    """Host code."""
    return Call(f"convert.{name}", function, arguments, is_host=True)


CALLS = [
    row("read", through_a_file, {"w": ROWS}),
    row("write", through_a_file, {"w": ROWS}),
    row("read_adapters", through_a_folder, normal(0, 2, 3)),
    row("write_adapters", through_a_folder, normal(0, 2, 3)),
    row("from_opensphere[network]", sc.from_opensphere, ARRAYS),
    row(
        "to_opensphere[network]",
        lambda arrays: sc.to_opensphere(sc.from_opensphere(arrays)),
        ARRAYS,
    ),
]
for library, arrays in (
    ("insightface", {"weight": ROWS}),
    ("opensphere", {"w": ROWS.T}),
    ("adaface", {"kernel": ROWS.T} | STATE),
):
    read = partial(getattr(sc, f"from_{library}"), module=head())
    CALLS.append(row(f"from_{library}", read, arrays))
    CALLS.append(row(f"to_{library}", getattr(sc, f"to_{library}"), head()))
EXEMPT = {}
