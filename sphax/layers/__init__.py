"""Flax NNX layers over the functions of the other packages."""

from sphax import _discovery
from sphax.layers._activations import PReLU as PReLU
from sphax.layers._adapted import AdaptedLinear as AdaptedLinear
from sphax.layers._almost_orthogonal import AlmostOrthogonalConv as AlmostOrthogonalConv
from sphax.layers._almost_orthogonal import (
    AlmostOrthogonalLinear as AlmostOrthogonalLinear,
)
from sphax.layers._attention import CosineAttention as CosineAttention
from sphax.layers._cosine import CosineLinear as CosineLinear
from sphax.layers._decoupled import DecoupledConv as DecoupledConv
from sphax.layers._decoupled import DecoupledLinear as DecoupledLinear
from sphax.layers._decoupled import Hyperparameter as Hyperparameter
from sphax.layers._distribution_head import DistributionHead as DistributionHead
from sphax.layers._length_preserving import CayleyConv as CayleyConv
from sphax.layers._length_preserving import FourierConv as FourierConv
from sphax.layers._length_preserving import GroupSort as GroupSort
from sphax.layers._length_preserving import SkewConv as SkewConv
from sphax.layers._margin_head import MarginHead as MarginHead
from sphax.layers._margin_head import MarginState as MarginState
from sphax.layers._ngpt import AttentionCache as AttentionCache
from sphax.layers._ngpt import LearnedScale as LearnedScale
from sphax.layers._ngpt import NormalizedAttention as NormalizedAttention
from sphax.layers._ngpt import NormalizedBlock as NormalizedBlock
from sphax.layers._ngpt import NormalizedMLP as NormalizedMLP
from sphax.layers._orthogonal import OrthogonalConv as OrthogonalConv
from sphax.layers._orthogonal import OrthogonalLinear as OrthogonalLinear
from sphax.layers._over_parameterized import Frozen as Frozen
from sphax.layers._over_parameterized import OPTConv as OPTConv
from sphax.layers._over_parameterized import OPTLinear as OPTLinear
from sphax.layers._sphere import SphereConv as SphereConv
from sphax.layers._sphere import SphereNorm as SphereNorm

__dir__ = _discovery.dir_of(__name__)
