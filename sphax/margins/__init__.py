"""Margins: what becomes of the target's cosine, and of the others'."""

from sphax import _discovery
from sphax.margins._additive import ArcFace as ArcFace
from sphax.margins._additive import Combined as Combined
from sphax.margins._additive import CosFace as CosFace
from sphax.margins._additive import LiArcFace as LiArcFace
from sphax.margins._composite import InterClassFilter as InterClassFilter
from sphax.margins._composite import MVSoftmax as MVSoftmax
from sphax.margins._generalized import GeneralizedAngular as GeneralizedAngular
from sphax.margins._logits import margin_logits as margin_logits
from sphax.margins._margin import Margin as Margin
from sphax.margins._margin import Target as Target
from sphax.margins._multiplicative import SphereFace as SphereFace
from sphax.margins._multiplicative import SphereFaceR as SphereFaceR
from sphax.margins._plain import NoMargin as NoMargin
from sphax.margins._plain import Psi as Psi
from sphax.margins._running import AdaFace as AdaFace
from sphax.margins._running import CurricularFace as CurricularFace
from sphax.margins._schedule import annealing_schedule as annealing_schedule
from sphax.margins._varied import ElasticFace as ElasticFace
from sphax.margins._varied import MagFace as MagFace
from sphax.margins._weighted import Circle as Circle

__dir__ = _discovery.dir_of(__name__)
