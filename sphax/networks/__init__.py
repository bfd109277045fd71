"""Networks that end in an embedding; their convolution is an argument."""

from sphax import _discovery
from sphax.networks._architectures import TABLE_2_1 as TABLE_2_1
from sphax.networks._architectures import Architecture as Architecture
from sphax.networks._architectures import Stage as Stage
from sphax.networks._backbone import Backbone as Backbone
from sphax.networks._backbones import BACKBONES as BACKBONES
from sphax.networks._convnet import ConvNet as ConvNet
from sphax.networks._designs import Design as Design
from sphax.networks._designs import Units as Units

__dir__ = _discovery.dir_of(__name__)
