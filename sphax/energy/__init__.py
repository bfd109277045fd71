"""Energies of directions: how well they are spread over the sphere."""

from sphax.energy._orthogonality import (
    orthogonality_penalty as orthogonality_penalty,
)
from sphax.energy._uniformity import alignment as alignment
from sphax.energy._uniformity import uniformity as uniformity
