"""Neurons of a params pytree: which leaves hold them, along which axes."""

from sphax import _discovery
from sphax.neurons._declarations import Declarations as Declarations
from sphax.neurons._dimensions import Axes as Axes
from sphax.neurons._dimensions import NeuronDimensions as NeuronDimensions
from sphax.neurons._find import Neurons as Neurons
from sphax.neurons._find import find as find
from sphax.neurons._find import replace as replace
from sphax.neurons._find import select as select
from sphax.neurons._of import of as of
from sphax.neurons._rows import from_rows as from_rows
from sphax.neurons._rows import to_rows as to_rows

__dir__ = _discovery.dir_of(__name__)
