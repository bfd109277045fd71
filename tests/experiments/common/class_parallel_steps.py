"""Training steps whose classes are split over the devices of all processes.

Run as a program, on each process, it prints the losses. With the number of a process as
its argument, it goes on for ever, until that process kills itself.
"""

import json
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

CLASSES, FEATURES, BATCH = 24, 8, 16


def _loss(embeddings, prototypes, labels):
    logits = embeddings @ prototypes.T
    first = jax.lax.axis_index("c") * len(prototypes)
    is_target = labels[:, None] == first + jnp.arange(len(prototypes))[None]
    total = jax.lax.psum(jnp.exp(logits).sum(-1), "c")
    target = jax.lax.psum(jnp.where(is_target, logits, 0.0).sum(-1), "c")
    return jnp.mean(jnp.log(total) - target)


def steps(devices, kill=None):
    """Losses of a few steps of gradient descent on the prototypes."""
    mesh = jax.make_mesh((len(devices),), ("c",), devices=devices)
    draw = np.random.default_rng(0)
    embeddings, prototypes = (
        draw.normal(size=shape).astype(np.float32)
        for shape in ((BATCH, FEATURES), (CLASSES, FEATURES))
    )
    labels = draw.integers(CLASSES, size=BATCH)

    def put(array, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

    embeddings, labels = put(embeddings, PartitionSpec()), put(labels, PartitionSpec())
    prototypes = put(prototypes, PartitionSpec("c"))

    @jax.jit
    def step(prototypes):
        specs = PartitionSpec(), PartitionSpec("c"), PartitionSpec()
        loss = jax.shard_map(_loss, in_specs=specs, out_specs=PartitionSpec())
        loss, gradient = jax.value_and_grad(loss, argnums=1)(
            embeddings, prototypes, labels
        )
        return loss, prototypes - gradient

    losses = []
    with jax.set_mesh(mesh):
        while kill is not None or len(losses) < 3:
            loss, prototypes = step(prototypes)
            losses.append(float(loss))
            if len(losses) == 3 and kill == jax.process_index():
                os.kill(os.getpid(), signal.SIGKILL)
    return losses


if __name__ == "__main__":
    from experiments.common import distributed

    distributed.start(heartbeat=10)
    assert jax.process_count() == 2
    print(json.dumps(steps(jax.devices(), *map(int, sys.argv[1:]))))
