"""Every objective, one row each: what ``tests/losses/test_objectives.py`` runs over."""

from tests.losses.objectives.batchwise import BATCHWISE
from tests.losses.objectives.classwise import CLASSWISE
from tests.losses.objectives.pairwise import PAIRWISE
from tests.losses.objectives.softmax import SOFTMAX

OBJECTIVES = PAIRWISE | CLASSWISE | SOFTMAX | BATCHWISE
