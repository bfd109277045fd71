"""Training steps whose classes and examples are split over all processes.

Run as a program, on each process, it prints the losses. With two arguments, "kill" or
"raise" and the number of a process, it goes on for ever, until that process does it.
"""

import json
import os
import signal
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import sphax as sx

CLASSES, FEATURES, BATCH = 24, 8, 16


def steps(devices, how="", ends="0"):
    """Losses of a few steps of gradient descent on the prototypes."""
    mesh = jax.make_mesh((len(devices),), ("c",), devices=devices)
    draw = np.random.default_rng(0)
    embeddings, prototypes = (
        draw.normal(size=shape).astype(np.float32)
        for shape in ((BATCH, FEATURES), (CLASSES, FEATURES))
    )
    labels = draw.integers(CLASSES, size=BATCH)

    def put(array):
        sharding = NamedSharding(mesh, PartitionSpec("c"))
        return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

    embeddings, prototypes, labels = map(put, (embeddings, prototypes, labels))

    @jax.jit
    def step(embeddings, prototypes, labels):
        def loss(prototypes):
            return sx.sharding.margin_softmax(
                embeddings,
                prototypes,
                labels,
                sx.margins.CosFace(),
                scale=8.0,
                mesh=mesh,
                class_axis="c",
                batch_axis="c",
            )

        loss, gradient = jax.value_and_grad(loss)(prototypes)
        return loss, prototypes - gradient

    losses = []
    while how or len(losses) < 3:
        loss, prototypes = step(embeddings, prototypes, labels)
        losses.append(float(loss))
        if how and len(losses) == 3 and int(ends) == jax.process_index():
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("as it was told")
    return losses


if __name__ == "__main__":
    from experiments.common import distributed

    distributed.start(heartbeat=10, shutdown=10)
    assert jax.process_count() == 2
    print(json.dumps(steps(jax.devices(), *sys.argv[1:])))
