"""Deep learning on the hypersphere in JAX."""

from sphax import _discovery
from sphax import convert as convert
from sphax import data as data
from sphax import distributions as distributions
from sphax import energy as energy
from sphax import layers as layers
from sphax import losses as losses
from sphax import margins as margins
from sphax import metrics as metrics
from sphax import networks as networks
from sphax import neurons as neurons
from sphax import operators as operators
from sphax import optim as optim
from sphax import orthogonal as orthogonal
from sphax import plots as plots
from sphax import reparam as reparam
from sphax import sharding as sharding
from sphax import sphere as sphere

__dir__ = _discovery.dir_of(__name__)
__version__ = "0.1.0"
