"""Training steps whose classes and examples are split over all processes.

Run as a program, on each process, it prints the losses. With the number of a process as
its argument, it goes on for ever, until that process kills itself.
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


def steps(devices, kill=None):
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
    while kill is not None or len(losses) < 3:
        loss, prototypes = step(embeddings, prototypes, labels)
        losses.append(float(loss))
        if len(losses) == 3 and kill == jax.process_index():
            os.kill(os.getpid(), signal.SIGKILL)
    return losses


if __name__ == "__main__":
    from experiments.common import distributed

    distributed.start(heartbeat=10)
    assert jax.process_count() == 2
    print(json.dumps(steps(jax.devices(), *map(int, sys.argv[1:]))))
