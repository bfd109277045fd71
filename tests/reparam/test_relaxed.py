"""Relaxed OPT: the penalty."""

from typing import Any

import jax
import numpy as np

import sphax as sx
from tests.reparam.draws import draw, perturbed

sr: Any = sx.reparam


def test_the_relaxed_form_has_a_penalty(key):
    training = sr.relaxed_orthogonal(0.3, block_size=2)
    free, frozen = training.init(key, {"kernel": draw(6, 4), "bias": draw(4)})
    value, gradient = jax.value_and_grad(training.penalty)(free)
    assert value == 0.0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    free = perturbed(free, 1)
    blocks = np.asarray(free["kernel"].left, np.float64)[0, 0]
    errors = [np.linalg.norm(r.T @ r - np.eye(2)) for r in blocks]
    np.testing.assert_allclose(training.penalty(free), 0.3 * sum(errors), rtol=1e-5)
    full = np.zeros((6, 6))
    for i, block in enumerate(blocks):
        full[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
    kernel = training.apply(free, frozen)["kernel"]
    np.testing.assert_allclose(kernel, full @ frozen["kernel"].kernel, atol=1e-5)
    assert sr.orthogonal().penalty(free) == 0.0
