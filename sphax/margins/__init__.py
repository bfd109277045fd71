"""Margins: functions that modify the target's cosine, and those of other classes."""

from sphax import _discovery
from sphax.margins._adaface import AdaFace as AdaFace
from sphax.margins._arcface import ArcFace as ArcFace
from sphax.margins._arcface import Combined as Combined
from sphax.margins._circle import Circle as Circle
from sphax.margins._cosface import CosFace as CosFace
from sphax.margins._curricularface import CurricularFace as CurricularFace
from sphax.margins._custom import NoMargin as NoMargin
from sphax.margins._custom import Psi as Psi
from sphax.margins._elasticface import ElasticFace as ElasticFace
from sphax.margins._generalized_angular import GeneralizedAngular as GeneralizedAngular
from sphax.margins._inter_class_filter import InterClassFilter as InterClassFilter
from sphax.margins._li_arcface import LiArcFace as LiArcFace
from sphax.margins._magface import MagFace as MagFace
from sphax.margins._margin import Margin as Margin
from sphax.margins._margin import Target as Target
from sphax.margins._margin_logits import margin_logits as margin_logits
from sphax.margins._mvsoftmax import MVSoftmax as MVSoftmax
from sphax.margins._sphereface import SphereFace as SphereFace
from sphax.margins._sphereface import SphereFaceR as SphereFaceR
from sphax.margins._sphereface import annealing_schedule as annealing_schedule

__dir__ = _discovery.dir_of(__name__)
