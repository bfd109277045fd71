"""Every objective, one row each: what ``tests/test_objectives.py`` runs over."""

from tests.objectives.classwise import CLASSWISE
from tests.objectives.pairwise import PAIRWISE
from tests.objectives.softmax import SOFTMAX

OBJECTIVES = PAIRWISE | CLASSWISE | SOFTMAX
