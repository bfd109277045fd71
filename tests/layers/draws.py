"""Graph and tree mode of NNX, and a small batch of a classifier."""

import numpy as np
import pytest

MODES = [pytest.param(True, id="graph"), pytest.param(False, id="tree")]


def draw_batch(seed=0, n=6, d=5, classes=4):
    """Embeddings, prototypes and labels."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(n, d)), rng.normal(size=(classes, d))
    return x, w, rng.integers(0, classes, n)
