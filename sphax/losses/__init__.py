"""Objectives on the sphere."""

from sphax.losses._margin_softmax import MarginAux as MarginAux
from sphax.losses._margin_softmax import margin_softmax as margin_softmax
from sphax.losses._margin_softmax import (
    margin_softmax_per_example as margin_softmax_per_example,
)
