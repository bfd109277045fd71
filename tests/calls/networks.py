"""Calls of ``sphax.networks``: the smallest of each kind."""

import sphax as sx
from tests.calls._call import normal
from tests.calls.layers import module

IMAGES = normal(0, 8, 3, 3, 1)
AXES = ("batch", None, None, None)
UNITS = sx.networks.Units("conv norm relu", 2)

CALLS = [
    module(
        "networks.ConvNet",
        lambda rngs: sx.networks.ConvNet(
            (3, 3, 1), [sx.networks.Stage(2, convolutions=1)], 4, rngs=rngs
        ),
        (IMAGES,),
        (AXES,),
    ),
    module(
        "networks.Backbone",
        lambda rngs: sx.networks.Backbone((3, 3, 1), [UNITS], "mean", rngs=rngs),
        (IMAGES,),
        (AXES,),
    ),
]
EXEMPT = {
    "networks.Units": "says what a network is made of; networks.Backbone takes it",
    "networks.Stage": "says what a network is made of; networks.ConvNet takes it",
    "networks.TABLE_2_1": "a table of architectures",
    "networks.BACKBONES": "a table of designs",
}
