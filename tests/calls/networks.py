"""Calls of ``sphax.networks``: the smallest of each kind."""

import jax
import numpy as np

import sphax as sx
from tests.calls._call import normal
from tests.calls.layers import module

IMAGES = normal(0, 8, 3, 3, 1)
AXES = ("batch", None, None, None)
STAGE = sx.networks.Stage(2, unit=sx.networks.ResidualUnit, pool=None)
TOKENS = np.arange(24, dtype=np.int32).reshape(8, 3) % 5


def small_ngpt(rngs):
    """A language model of five tokens."""
    return sx.networks.NGPT(5, 4, 1, 1, hidden=4, rngs=rngs)


def trained_and_evaluated(network, images):
    """Outputs in both modes; gradients of the second one alone.

    Through two normalizations by eight images, float32 would lose half its digits.
    """
    trained = jax.lax.stop_gradient(network(images))
    return trained, network(images, use_running_average=True)


CALLS = [
    module(
        "networks.Backbone",
        lambda rngs: sx.networks.Backbone(
            (3, 3, 1), [sx.networks.Stage(2)], 4, rngs=rngs
        ),
        (IMAGES,),
        (AXES,),
    ),
    module(
        "networks.Backbone[residual]",
        lambda rngs: sx.networks.Backbone(
            (3, 3, 1), [STAGE], embedding=sx.networks.MeanEmbedding, rngs=rngs
        ),
        (IMAGES,),
        (AXES,),
    ),
    module(
        "networks.VisionTransformer",
        lambda rngs: sx.networks.VisionTransformer(
            (3, 3, 1), 4, 2, 2, patch=1, num_heads=2, rngs=rngs
        ),
        (IMAGES,),
        (AXES,),
        trained_and_evaluated,
    ),
    module("networks.NGPT", small_ngpt, (TOKENS,), (("batch", None),))._replace(
        differentiable=(0,)
    ),
    module(
        "networks.generate",
        small_ngpt,
        (TOKENS, jax.random.key(0)),
        (("batch", None), ()),
        lambda model, tokens, key: sx.networks.generate(model, tokens, 3, key=key),
    )._replace(differentiable=()),
]
EXEMPT = {
    **{
        f"networks.{name}": "a part of a network; networks.Backbone calls it"
        for name in (
            "ConvUnit",
            "ResidualUnit",
            "SphereFaceUnit",
            "ImprovedResidualUnit",
            "MeanEmbedding",
            "ConvEmbedding",
            "LinearEmbedding",
            "NormalizedEmbedding",
            "FaceEmbedding",
        )
    },
    "networks.Stage": "says what a network is made of; networks.Backbone takes it",
    "networks.Design": "the positional arguments of networks.Backbone",
    "networks.TABLE_2_1": "a table of designs",
    "networks.BACKBONES": "a table of designs",
    "networks.VISION_TRANSFORMERS": "a table of sizes of networks.VisionTransformer",
}
