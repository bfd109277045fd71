"""Orthogonal reparameterizations of params, and adapters that finetune them."""

from sphax import _discovery
from sphax.reparam._adapt import adapt as adapt
from sphax.reparam._adapt import adapters as adapters
from sphax.reparam._adapt import merge_adapter as merge_adapter
from sphax.reparam._adapt import rotate as rotate
from sphax.reparam._adapt import rotation_matrix as rotation_matrix
from sphax.reparam._adapters import BlockRotation as BlockRotation
from sphax.reparam._adapters import ButterflyRotation as ButterflyRotation
from sphax.reparam._adapters import Reflections as Reflections
from sphax.reparam._adapters import SubspaceRotation as SubspaceRotation
from sphax.reparam._boft import boft as boft
from sphax.reparam._core import FrozenNeurons as FrozenNeurons
from sphax.reparam._core import Reparameterization as Reparameterization
from sphax.reparam._core import Rotations as Rotations
from sphax.reparam._core import rotation_mask as rotation_mask
from sphax.reparam._describe import Description as Description
from sphax.reparam._describe import LeafDescription as LeafDescription
from sphax.reparam._describe import describe as describe
from sphax.reparam._dropout import multiplicative_dropout as multiplicative_dropout
from sphax.reparam._moments import reset_moments as reset_moments
from sphax.reparam._oft import oft as oft
from sphax.reparam._opt import orthogonal as orthogonal
from sphax.reparam._peft import from_peft as from_peft
from sphax.reparam._peft import to_peft as to_peft
from sphax.reparam._poet import poet as poet
from sphax.reparam._relaxed import relaxed_orthogonal as relaxed_orthogonal
from sphax.reparam._stochastic import stochastic_orthogonal as stochastic_orthogonal

__dir__ = _discovery.dir_of(__name__)
