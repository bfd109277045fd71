"""Dataclasses of hyperparameters as pytrees, which `jit` must distinguish."""

import inspect
import itertools

import jax
import pytest

import sphax as sx
from sphax._hyperparameters import register

PACKAGES = (sx.margins, sx.operators)


def instances():
    """One instance of every public class whose arguments all have defaults."""
    for package in PACKAGES:
        for value in vars(package).values():
            if not inspect.isclass(value) or inspect.isabstract(value):
                continue
            if not hasattr(value, "__dataclass_fields__"):
                continue
            parameters = inspect.signature(value).parameters.values()
            if all(p.default is not p.empty for p in parameters):
                yield value()


def test_classes_differ_in_structure():
    found = list(instances())
    assert len(found) > 20
    for one, other in itertools.combinations(found, 2):
        assert jax.tree.structure(one) != jax.tree.structure(other), (one, other)


def test_jit_distinguishes_classes():
    def numbered(i):
        body = {"__annotations__": {"x": float}, "number": i}
        return register(type(f"Numbered{i}", (), body))

    classes = [numbered(i) for i in range(60)]
    run = jax.jit(lambda instance: instance.x + instance.number)
    assert [float(run(made(0.5))) for made in classes] == [i + 0.5 for i in range(60)]


@pytest.mark.parametrize("margin", [sx.margins.ArcFace(margin=0.4)])
def test_leaves_are_named(margin):
    ((path, leaf),) = jax.tree.leaves_with_path(margin)
    assert jax.tree_util.keystr(path) == ".margin"
    assert leaf == 0.4
    doubled = jax.tree.map(lambda x: 2 * x, margin)
    assert doubled == sx.margins.ArcFace(margin=0.8)


@pytest.mark.parametrize(
    ("made", "other", "ours"),
    [
        (sx.margins.ArcFace, {"s": 64, "m": 0.5}, "losses.margin_softmax"),
        (sx.margins.ArcFace, {"m": 0.5}, "margin"),
        (sx.margins.CosFace, {"scale": 30.0}, "losses.margin_softmax"),
        (sx.margins.ArcFace, {"easy_margin": True}, 'beyond="easy"'),
        (sx.margins.AdaFace, {"t_alpha": 0.01}, "rate"),
        (sx.margins.ElasticFace, {"std": 0.05}, "deviation"),
    ],
)
def test_names_of_other_libraries_are_explained(made, other, ours):
    with pytest.raises(TypeError, match=f"{made.__name__} has no argument .*{ours}"):
        made(**other)


def test_other_unknown_names_raise_what_python_says():
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        sx.margins.ArcFace(nothing=1)  # pyright: ignore[reportCallIssue]
    assert sx.margins.SphereFace(m=3).m == 3.0  # a name of ours
    assert str(inspect.signature(sx.margins.CosFace)).startswith("(margin:")
