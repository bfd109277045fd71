"""Every objective, one row each: what ``tests/losses/test_objectives.py`` runs over."""

from tests.losses.objectives.batchwise import BATCHWISE
from tests.losses.objectives.classwise import CLASSWISE
from tests.losses.objectives.pairwise import PAIRWISE
from tests.losses.objectives.prototypes import PROTOTYPES
from tests.losses.objectives.softmax import SOFTMAX
from tests.losses.objectives.towers import TOWERS

OBJECTIVES = PAIRWISE | CLASSWISE | PROTOTYPES | SOFTMAX | BATCHWISE | TOWERS
