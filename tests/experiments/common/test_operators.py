"""Operators by the names of the command line: what a name stands for."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import operators

# The defaults are alpha = rho = 1, beta = 0.5, k = 0.3.
LENGTH = {
    "sphere": np.ones_like,
    "ball": lambda r: np.minimum(r, 1.0),
    "tanh": np.tanh,
    "linear": lambda r: r,
    "segmented": lambda r: np.where(r < 1.0, r, 0.5 * r + 0.5),
    "log": lambda r: np.log(1.0 + r),
    "mix": lambda r: r + 0.5 * np.log(1.0 + r),
}
ANGLE = {
    "linear": lambda t: 1.0 - 2.0 * t / np.pi,
    "cosine": np.cos,
    "sigmoid": lambda t: (
        np.tanh((np.pi / 2 - t) / 0.6) / np.tanh(np.pi / 1.2)  # 2 k and 4 k
    ),
    "square-cosine": lambda t: np.sign(np.cos(t)) * np.cos(t) ** 2,
}
WEIGHTED = {
    "": lambda h, r, w: h(r),
    "-weighted": lambda h, r, w: w * h(r),
    "-nonlinear": lambda h, r, w: h(w * r),
}
# A name's three parts are looked up in three tables, independently of each other. So it
# is enough that each entry of each table occurs once, not that all 84 names do.
CHOSEN = [
    ("sphere", "linear", ""),
    ("ball", "cosine", "-weighted"),
    ("tanh", "sigmoid", "-nonlinear"),
    ("linear", "square-cosine", ""),
    ("segmented", "linear", "-nonlinear"),
    ("log", "cosine", "-weighted"),
    ("mix", "sigmoid", ""),
]


def test_there_are_84_names_and_three_more():
    names = {f"{h}-{g}{w}" for h in LENGTH for g in ANGLE for w in WEIGHTED}
    assert len(names) == 84
    more = {"plain", "sphere-learned-sigmoid", "sphere-norm"}
    assert set(operators.OPERATORS) == names | more
    titles = {operator.title for operator in operators.OPERATORS.values()}
    assert len(titles) == 87
    found = operators.operator("tanh-square-cosine-weighted")
    assert found.title == "TanhConv, square cosine weighted"


@pytest.mark.parametrize(("length", "angle", "weighted"), CHOSEN)
def test_an_operator_is_what_its_name_says(length, angle, weighted):
    found = operators.operator(f"{length}-{angle}{weighted}")
    assert found.has_length == bool(weighted)
    options = found.conv.keywords
    lengths, norms = np.array([0.4, 1.7]), np.array([2.0, 3.0])
    magnitude = options["magnitude"].weigh(*map(jnp.asarray, (lengths, norms)))
    expected = WEIGHTED[weighted](LENGTH[length], lengths, norms)
    np.testing.assert_allclose(magnitude, expected, rtol=1e-6)
    angles = np.array([0.3, 2.1])
    cosines = options["angular"](jnp.asarray(angles))
    np.testing.assert_allclose(cosines, ANGLE[angle](angles), rtol=1e-5)
    has_radius = length in ("ball", "tanh", "segmented")
    assert options["radius"] == ("learned" if has_radius else "fixed")


def test_the_operators_with_other_parameters():
    assert operators.operator("plain") == ("Plain", nnx.Conv, True)
    for name, params in (
        ("sphere-learned-sigmoid", {"kernel", "k_raw"}),
        ("sphere-norm", {"kernel", "logit", "scale"}),
        ("tanh-cosine", {"kernel", "radius_root"}),
    ):
        conv = operators.operator(name).conv
        layer = nnx.eval_shape(lambda conv=conv: conv(2, 3, (3, 3), rngs=nnx.Rngs(0)))
        assert set(nnx.state(layer, nnx.Param)) == params


@pytest.mark.parametrize("name", ["tanh", "tanh-", "cosine", "tanh-cosine-linear", ""])
def test_other_names_are_refused_with_those_that_exist(name):
    with pytest.raises(ValueError, match=r"segmented, log, mix.*square-cosine.*got"):
        operators.operator(name)
