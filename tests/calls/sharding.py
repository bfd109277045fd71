"""Calls of ``sphax.sharding``."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from sphax import losses, margins, sharding
from tests.calls._call import Call, normal

KEY = jax.random.key(0)
LABELS = np.array([3, 0, 3, 15, 7, 7, 7, 1], np.int32)
PARAMS = {"prototypes": normal(0, 16, 4), "scale": normal(1, 16)}
CENTERS = normal(5, 16, 2, 4)
GRADS = {"prototypes": normal(2, 8, 4), "scale": normal(3, 8)}
ROWS = np.array([0, 1, 4, 5, 9, 11, 12, 15], np.int32)
OF_PARAMS = {"prototypes": ("classes", "features"), "scale": ("classes",)}
OF_GRADS = {"prototypes": ("rows", "features"), "scale": ("rows",)}


def sampled(key, prototypes, labels):
    found = sharding.sample_classes(key, prototypes, labels, 8, num_classes=16)
    return found.rows, found.labels, found.log_inclusion


def steps(untouched, grads, params, rows):
    """Two steps of Adam."""
    tx = sharding.sparse_rows(optax.adam(0.1), untouched=untouched)
    state: Any = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(grads, state, params, rows=rows)
        params = sharding.apply_rows(params, updates, rows)
    return params


def on_mesh(name, *more, **options):
    """Eager calls of a loss; it makes a mesh, and has tests of its own on others."""

    def call(x, w, labels):
        mesh = jax.make_mesh((4, 2), ("b", "c"))
        where = {"mesh": mesh, "class_axis": ("b", "c"), "batch_axis": "b"}
        function = getattr(sharding, name)
        if labels is None:
            return function(x, w, **where, **options)
        return function(x, w, labels, *more, **where, **options)

    labels = None if name == "class_logits" else LABELS
    w = CENTERS if name == "soft_triple" else PARAMS["prototypes"]
    arguments = normal(4, 8, 4), w, labels
    return Call(f"sharding.{name}", call, arguments, is_host=True)


CALLS = [
    on_mesh("margin_softmax", margins.ArcFace()),
    on_mesh("sphereface2", 0.5),
    on_mesh("uce", bias=0.5),
    on_mesh("soft_triple"),
    on_mesh("hinge"),
    on_mesh("p2sgrad"),
    on_mesh("proxy_nca"),
    on_mesh("proxy_anchor"),
    on_mesh("class_logits", num_classes=15),
    Call(
        "sharding.pairwise",
        lambda x, labels: sharding.pairwise(
            losses.nt_xent,
            x,
            labels,
            mesh=jax.make_mesh((4, 2), ("b", "c")),
            batch_axis="b",
        ),
        (normal(4, 8, 4), LABELS),
        is_host=True,
    ),
    Call(
        "sharding.sample_classes",
        sampled,
        (KEY, PARAMS["prototypes"], LABELS),
        ((), ("classes", "features"), ("batch",)),
        (),
    ),
    *(
        Call(
            f"sharding.sparse_rows[{untouched}]",
            partial(steps, untouched),
            (GRADS, PARAMS, ROWS),
            (OF_GRADS, OF_PARAMS, ("rows",)),
            (),
            1,
        )
        for untouched in ("frozen", "dense")
    ),
    Call(
        "sharding.apply_rows",
        sharding.apply_rows,
        (PARAMS, GRADS, ROWS),
        (OF_PARAMS, OF_GRADS, ("rows",)),
        (0, 1),
        0,
    ),
]
EXEMPT: dict[str, str] = {
    "sharding.padded_rows": "it returns a Python number",
    "sharding.hyperspherical_energy": "it takes a mesh; tests/sharding has its calls",
}
