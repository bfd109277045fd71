"""Networks from images to embeddings, whose convolution is an argument, and nGPT."""

from sphax import _discovery
from sphax.networks._backbone import Backbone as Backbone
from sphax.networks._backbone import Design as Design
from sphax.networks._backbone import Stage as Stage
from sphax.networks._embeddings import ConvEmbedding as ConvEmbedding
from sphax.networks._embeddings import FaceEmbedding as FaceEmbedding
from sphax.networks._embeddings import LinearEmbedding as LinearEmbedding
from sphax.networks._embeddings import MeanEmbedding as MeanEmbedding
from sphax.networks._embeddings import NormalizedEmbedding as NormalizedEmbedding
from sphax.networks._generate import generate as generate
from sphax.networks._ngpt import NGPT as NGPT
from sphax.networks._presets import BACKBONES as BACKBONES
from sphax.networks._presets import TABLE_2_1 as TABLE_2_1
from sphax.networks._units import ConvUnit as ConvUnit
from sphax.networks._units import ImprovedResidualUnit as ImprovedResidualUnit
from sphax.networks._units import ResidualUnit as ResidualUnit
from sphax.networks._units import SphereFaceUnit as SphereFaceUnit
from sphax.networks._vision_transformer import (
    VISION_TRANSFORMERS as VISION_TRANSFORMERS,
)
from sphax.networks._vision_transformer import VisionTransformer as VisionTransformer

__dir__ = _discovery.dir_of(__name__)
