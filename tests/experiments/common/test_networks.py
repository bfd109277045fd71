"""Networks by the names of the command line: shapes, width, and the plane."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import sphax as sx
from experiments.classify import config
from experiments.common import classifier, networks
from experiments.common.margins import MARGINS
from experiments.common.operators import operator


def test_every_network_takes_any_shape_and_width():
    columns = {"small", "mnist", "cifar10", "cifar100"}
    assert columns | set(sx.networks.BACKBONES) <= set(networks.NAMES)
    for name in columns | set(sx.networks.BACKBONES):
        networks.check(name)
        assert networks.design(name, (8, 9, 2)).input_shape == (8, 9, 2)
    whole = networks.design("vgg9", (32, 32, 3))
    assert whole == sx.networks.BACKBONES["vgg9"]
    narrow = networks.design("vgg9", (32, 32, 3), 0.02)
    assert [stage.features for stage in narrow.stages] == [3, 4, 5]
    assert narrow.features == 5


# One network for each kind of last layer: dense, a convolution, pooling; and the two
# columns of Table 2.1, of which MNIST's has another network in the plane.
@pytest.mark.parametrize(
    ("name", "features"),
    [("small", 3), ("mnist", 13), ("cifar10", 13), ("vgg9", 13), ("resnet20", 3)],
)
@pytest.mark.parametrize("in_plane", [False, True])
def test_a_network_has_its_features_with_any_operator(name, features, in_plane):
    design = networks.design(name, (8, 9, 2), 0.05, in_plane=in_plane)
    conv = operator("tanh-square-cosine").conv
    model = nnx.eval_shape(
        lambda: classifier.Classifier(
            config.Config(), design, 10, MARGINS["softmax"], conv, rngs=nnx.Rngs(0)
        )
    )
    images = jax.ShapeDtypeStruct((3, 8, 9, 2), jnp.float32)
    out = nnx.eval_shape(
        lambda network, x: network(x, use_running_average=False), model.network, images
    )
    assert out.shape == (3, 2 if in_plane else features)


def test_images_that_are_too_small_for_a_network_are_refused():
    design = networks.design("cifar10", (4, 4, 1))
    with pytest.raises(ValueError, match=r"input_shape \(4, 4, 1\) is too small"):
        classifier.initial(config.Config(), design, MARGINS["softmax"], 10, 0)
