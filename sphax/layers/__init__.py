"""Flax NNX layers over the functions of the other packages."""

from sphax import _discovery
from sphax.layers._activations import PReLU as PReLU
from sphax.layers._attention import CosineAttention as CosineAttention
from sphax.layers._cosine import CosineLinear as CosineLinear
from sphax.layers._decoupled import DecoupledConv as DecoupledConv
from sphax.layers._decoupled import DecoupledLinear as DecoupledLinear
from sphax.layers._decoupled import Hyperparameter as Hyperparameter
from sphax.layers._distribution_head import DistributionHead as DistributionHead
from sphax.layers._margin_head import MarginHead as MarginHead
from sphax.layers._margin_head import MarginState as MarginState
from sphax.layers._orthogonal import OrthogonalConv as OrthogonalConv
from sphax.layers._orthogonal import OrthogonalLinear as OrthogonalLinear
from sphax.layers._over_parameterized import Frozen as Frozen
from sphax.layers._over_parameterized import OPTConv as OPTConv
from sphax.layers._over_parameterized import OPTLinear as OPTLinear
from sphax.layers._sphere import SphereConv as SphereConv
from sphax.layers._sphere import SphereNorm as SphereNorm

__dir__ = _discovery.dir_of(__name__)
