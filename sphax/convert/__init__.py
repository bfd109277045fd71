"""Checkpoints of insightface, opensphere, AdaFace and PEFT, read and written."""

from sphax import _discovery
from sphax.convert._adaface import from_adaface as from_adaface
from sphax.convert._adaface import to_adaface as to_adaface
from sphax.convert._adapters import read_adapters as read_adapters
from sphax.convert._adapters import write_adapters as write_adapters
from sphax.convert._files import read as read
from sphax.convert._files import write as write
from sphax.convert._insightface import from_insightface as from_insightface
from sphax.convert._insightface import to_insightface as to_insightface
from sphax.convert._opensphere import from_opensphere as from_opensphere
from sphax.convert._opensphere import to_opensphere as to_opensphere

__dir__ = _discovery.dir_of(__name__)
