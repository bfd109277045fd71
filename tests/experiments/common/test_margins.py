"""Margins by the names of the command line."""

import jax
import jax.numpy as jnp
import pytest

import sphax as sx
from experiments.common import margins


def test_every_margin_of_cosines_has_a_name():
    made = {type(margins.margin_of(name)) for name in margins.CONSTRUCTORS}
    public = {getattr(sx.margins, name) for name in dir(sx.margins)}
    all_of_them = {
        each
        for each in public
        if isinstance(each, type) and issubclass(each, sx.margins.Margin)
    }
    # An abstract class, and those that take a function.
    without = {sx.margins.Margin, sx.margins.Psi, sx.margins.GeneralizedAngular}
    assert made == all_of_them - without


@pytest.mark.parametrize("name", margins.CONSTRUCTORS)
def test_a_margin_trains(name):
    x = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    labels, key = jnp.arange(4), jax.random.key(0)

    def loss_of(x):
        margin = margins.margin_of(name)
        return sx.losses.margin_softmax(x, x, labels, margin, key=key, has_aux=True)

    assert jax.eval_shape(loss_of, x)[0].shape == ()


def test_options():
    found = margins.margin_of("adaface", ["margin=0.3", "h=-1", "beyond=pure"])
    assert found == sx.margins.AdaFace(margin=0.3, h=-1.0, beyond="pure")
    assert margins.margin_of("arcface") == sx.margins.ArcFace(beyond="pure")
    for name, options, message in (
        ("arcfase", [], "--margins must be some of none, sphereface, "),
        ("none", ["m=1"], "hyperparameters of none, which has none; got m=1"),
        ("cosface", ["margin"], "hyperparameters of cosface, .*margin; got margin"),
        ("cosface", ["scale=3"], "got scale=3"),
        ("cosface", ["margin=x"], "--margin-options margin=x: CosFace: margin must"),
        ("arcface", ["margin=4"], "--margin-options margin=4: ArcFace: margin must"),
    ):
        with pytest.raises(ValueError, match=message):
            margins.margin_of(name, options)
