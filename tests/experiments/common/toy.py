"""A study of a moment: vectors that are drawn to the means of random batches."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import cli, loop, runs


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Vectors drawn to random batches."""

    seeds: int = 2
    """Runs of each method."""
    methods: tuple[str, ...] = ("slow", "fast")
    """What to compare."""
    steps: int = 50
    """Steps of a run."""
    learning_rate: float = 0.1
    """Learning rate; that of the fast method is twice as high."""
    checkpoint_every: int = 5
    """Steps between checkpoints."""
    side_by_side: bool = False
    """Whether seeds train in one step."""
    pause: float = 1e-9
    """Seconds of each step."""

    study: ClassVar[str] = "toy"
    group: ClassVar[str] = "quick-toy"
    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "pause")


def presets():
    yield Config()


def planned(config):
    return [
        runs.Run(
            dataclasses.replace(config, methods=(method,)),
            config.group,
            method,
            seed,
            config.steps,
        )
        for method in config.methods
        for seed in range(config.seeds)
    ]


def parse():
    return cli.parse("tests.experiments.common.toy", Config)


def step(setting, shared, state, batch, count, seed):
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), count), (3,))
    difference = state["x"] - batch.mean(0) - shared * noise
    loss = jnp.sum(difference**2)
    return {"x": state["x"] - setting * difference}, {"loss": loss}


def train(together: Sequence[runs.Run], work: runs.Work):
    config = together[0].config

    def batches(seed, start):
        while True:
            yield np.random.default_rng((seed, start)).normal(size=(4, 3)).astype("f")
            start += 1

    def before(state, batch, count):
        time.sleep(config.pause)
        return state, batch

    fitted = loop.fit(
        step,
        config.learning_rate * (1 + (config.methods[0] == "fast")),
        [{"x": jnp.full(3, float(run.seed))} for run in together],
        batches,
        work,
        title=config.methods[0],
        advice="Lower --learning-rate.",
        seeds=[run.seed for run in together],
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
        shared=0.1,
        before=before,
        record=lambda state, done: {"x": state["x"], "done": done},
        record_every=20,
    )
    return [
        {
            "x": found.state["x"].tolist(),
            "losses": found.losses.tolist(),
            "done": found.records["done"].tolist(),
            "path": found.records["x"].tolist(),
        }
        for found in fitted
    ]


def table(config, found):
    yield "| method | x |"
    for run, record in found:
        yield f"| {run.method}, seed {run.seed} | {record['metrics']['x'][0]:.3f} |"


def draw(config, found, folder: pathlib.Path):
    (folder / f"{found[0][0].group}.png").write_bytes(b"a figure")


def main():
    cli.main(parse, sys.modules[__name__], train, sys.modules[__name__])


if __name__ == "__main__":
    main()
