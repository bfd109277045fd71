"""Operators of layers: decoupled ones, rotations, and maps that keep lengths."""

from sphax import _discovery
from sphax.operators._angular import Angular as Angular
from sphax.operators._angular import Cosine as Cosine
from sphax.operators._angular import LinearAngle as LinearAngle
from sphax.operators._angular import Sigmoid as Sigmoid
from sphax.operators._angular import SquareCosine as SquareCosine
from sphax.operators._bounded import Ball as Ball
from sphax.operators._bounded import Sphere as Sphere
from sphax.operators._bounded import Tanh as Tanh
from sphax.operators._cayley_convolution import cayley_convolution as cayley_convolution
from sphax.operators._cayley_convolution import cayley_response as cayley_response
from sphax.operators._cayley_convolution import (
    fourier_convolution as fourier_convolution,
)
from sphax.operators._convolution import decoupled_conv as decoupled_conv
from sphax.operators._convolution import patch_norms as patch_norms
from sphax.operators._dense import decoupled_dense as decoupled_dense
from sphax.operators._group_sort import group_sort as group_sort
from sphax.operators._magnitude import Magnitude as Magnitude
from sphax.operators._rotary import rotary as rotary
from sphax.operators._skew_convolution import skew_convolution as skew_convolution
from sphax.operators._space_to_depth import space_to_depth as space_to_depth
from sphax.operators._transposed import (
    decoupled_conv_transpose as decoupled_conv_transpose,
)
from sphax.operators._unbounded import Linear as Linear
from sphax.operators._unbounded import Log as Log
from sphax.operators._unbounded import Mix as Mix
from sphax.operators._unbounded import Power as Power
from sphax.operators._unbounded import Segmented as Segmented

__dir__ = _discovery.dir_of(__name__)
