"""Very many classes: split over devices, sampled in each step, updated by rows."""

from sphax import _discovery
from sphax.sharding._sample_classes import SampledClasses as SampledClasses
from sphax.sharding._sample_classes import sample_classes as sample_classes
from sphax.sharding._sparse_rows import apply_rows as apply_rows
from sphax.sharding._sparse_rows import sparse_rows as sparse_rows

__dir__ = _discovery.dir_of(__name__)
