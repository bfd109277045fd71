"""Flax NNX modules: the state of the functions of the other rooms."""

from sphax.layers._activations import PReLU as PReLU
from sphax.layers._cosine import CosineDense as CosineDense
from sphax.layers._margin_head import MarginHead as MarginHead
from sphax.layers._margin_head import MarginState as MarginState
