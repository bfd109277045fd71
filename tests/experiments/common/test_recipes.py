"""Recipes of image classifiers: rates, what decays, what is kept orthogonal."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classify.config import Config
from experiments.common import recipes

PARAMS = {
    "stages": {"kernel": 1.0 + jnp.arange(4.0).reshape(1, 1, 2, 2)},
    "shortcut": {"kernel": 2.0 * jnp.ones((1, 1, 2, 2))},
    "norm": {"scale": jnp.ones(2), "bias": 3.0 * jnp.ones(2)},
    "slope": jnp.ones(2),
    "prototypes": jnp.ones((5, 2)),
}
ALL = {"stages", "shortcut", "norm", "prototypes"}


def chosen(mask):
    """Names of the parameters of which all leaves are in a mask."""
    found = {name for name in mask if all(jax.tree.leaves(mask[name]))}
    rest = (mask[name] for name in mask if name not in found)
    assert not any(jax.tree.leaves(list(rest)))
    return found


@pytest.mark.parametrize(
    ("has_length", "norms", "expected"),
    [
        (True, True, ALL),
        (True, False, ALL - {"norm"}),
        (False, True, ALL - {"stages"}),
        (False, False, ALL - {"stages", "norm"}),
    ],
)
def test_filters_decay_if_their_length_counts(has_length, norms, expected):
    mask = recipes.decaying(PARAMS, has_length=has_length, norms=norms)
    assert chosen(mask) == expected


def test_kernels_and_filters():
    assert chosen(recipes.kernels(PARAMS)) == ALL - {"norm"}
    assert chosen(recipes.filters(PARAMS)) == {"stages"}


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("of_directions", [True, False])
def test_an_update_decays_parameters_or_keeps_them_orthogonal(
    has_length, of_directions
):
    config = Config(
        operator=("plain" if has_length else "tanh-cosine",),
        learning_rate=1.0,
        weight_decay=0.1,
        decay_norms=True,
        orthogonality=0.01,
        of_directions=of_directions,
    )
    optimizer = config.optimizer
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found, _ = optimizer.update(zero, optimizer.init(PARAMS), PARAMS)
    expected = jax.tree.map(lambda leaf: -0.1 * np.asarray(leaf), PARAMS)
    expected["slope"] *= 0.0
    if not has_length:
        kernel = np.asarray(PARAMS["stages"]["kernel"], np.float64)
        slope = slope_of_penalty(kernel, of_directions)
        expected["stages"]["kernel"] = -0.01 * slope
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), found, expected
    )


def slope_of_penalty(kernel, of_directions):
    """Slope of |W W' - I|^2 by finite differences, with neurons in the columns."""

    def penalty(flat):
        columns = flat.reshape(2, 2)
        if of_directions:
            columns = columns / np.linalg.norm(columns, axis=0)
        return np.sum((columns.T @ columns - np.eye(2)) ** 2)

    steps = 1e-5 * np.eye(kernel.size)
    flat = kernel.ravel()
    slopes = [(penalty(flat + e) - penalty(flat - e)) / 2e-5 for e in steps]
    return np.reshape(slopes, kernel.shape)


def test_stretched_recipes_fall_as_much_in_other_steps():
    paper = recipes.dissertation(Config(), "mnist")
    short = recipes.stretched(paper, 1_800)
    assert (short.steps, short.drops) == (1_800, (1_200, 1_500))
    lambdas = [
        recipe.annealing[0] * (1 + recipe.annealing[1] * recipe.steps)
        for recipe in (paper, short)
    ]
    assert lambdas[0] == pytest.approx(lambdas[1])
    rates = [np.asarray(short.rate(step)) for step in (0, 1_199, 1_201, 1_501)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.001], rtol=1e-6)
    assert recipes.quick(Config(), "digits") == Config()
    same = {"steps", "drops", "annealing", "batch", "precision", "checkpoint_every"}
    quick = dataclasses.asdict(recipes.quick(Config(), "mnist"))
    for name, value in dataclasses.asdict(paper).items():
        assert (quick[name] == value) == (name not in same), name
