"""Very many classes: split over devices, sampled in each step, updated by rows."""

from sphax import _discovery
from sphax.sharding._losses import class_logits as class_logits
from sphax.sharding._losses import hinge as hinge
from sphax.sharding._losses import margin_softmax as margin_softmax
from sphax.sharding._losses import p2sgrad as p2sgrad
from sphax.sharding._losses import padded_rows as padded_rows
from sphax.sharding._losses import proxy_anchor as proxy_anchor
from sphax.sharding._losses import proxy_nca as proxy_nca
from sphax.sharding._losses import sphereface2 as sphereface2

__dir__ = _discovery.dir_of(__name__)
