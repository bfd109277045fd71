"""Image classifiers: the state of training that a checkpoint has to hold."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest

import sphax as sx
from experiments.classify import config
from experiments.common import classifier, images
from experiments.common.margins import MARGINS
from experiments.common.operators import operator
from experiments.common.runs import Work

TINY = sx.networks.Design((8, 8, 1), (sx.networks.Stage(3),), 4)


@pytest.mark.slow
def test_a_run_continues_from_its_checkpoint_with_the_same_bits(tmp_path):
    """With a running norm, the moments of Adam and the state of the penalty."""
    recipe = dataclasses.replace(
        config.preset("spherenet-9"),
        operator=("tanh-cosine",),
        steps=4,
        batch=8,
        checkpoint_every=2,
        precision="float32",
    )
    data = dataclasses.replace(images.load("digits"), gray=True)
    conv, method = operator("tanh-cosine").conv, MARGINS["softmax"]
    reported = []

    def run():
        work = Work(tmp_path, lambda steps, metrics: reported.append(steps))
        _, (fitted,) = classifier.fit(recipe, TINY, method, data, (0,), work, conv=conv)
        return fitted

    whole = run()
    (tmp_path / "000000004.ckpt").unlink()
    resumed = run()
    assert reported == [0, 2, 2, 2, 2]
    for a, b in ((resumed.state, whole.state), (resumed.losses, whole.losses)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    values: Any = optax.tree.get(whole.state.optimizer, "values")
    assert list(values) == ["network/stages/0/units/0/conv/kernel"]
    assert all(value > 0.0 for value in values.values())
    unit = whole.state.rest["network"]["stages"][0]["units"][0]
    assert unit["conv"]["mean_norm"][...] != 3.0  # that of a window before any step
