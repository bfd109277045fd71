"""Many devices: batches and classes split over them, classes sampled in each step."""

from sphax import _discovery
from sphax.sharding._energy import hyperspherical_energy as hyperspherical_energy
from sphax.sharding._losses import class_logits as class_logits
from sphax.sharding._losses import hinge as hinge
from sphax.sharding._losses import margin_softmax as margin_softmax
from sphax.sharding._losses import p2sgrad as p2sgrad
from sphax.sharding._losses import padded_rows as padded_rows
from sphax.sharding._losses import proxy_anchor as proxy_anchor
from sphax.sharding._losses import proxy_nca as proxy_nca
from sphax.sharding._losses import soft_triple as soft_triple
from sphax.sharding._losses import sphereface2 as sphereface2
from sphax.sharding._losses import uce as uce
from sphax.sharding._pairwise import pairwise as pairwise
from sphax.sharding._sample_classes import SampledClasses as SampledClasses
from sphax.sharding._sample_classes import sample_classes as sample_classes
from sphax.sharding._sparse_rows import apply_rows as apply_rows
from sphax.sharding._sparse_rows import sparse_rows as sparse_rows

__dir__ = _discovery.dir_of(__name__)
