"""Energies of directions: how well they are spread over the sphere."""

from sphax import _discovery
from sphax.energy._class_energy import class_energy as class_energy
from sphax.energy._compressive import compressive_energy as compressive_energy
from sphax.energy._hyperspherical import energy_and_grad as energy_and_grad
from sphax.energy._hyperspherical import (
    hyperspherical_energy as hyperspherical_energy,
)
from sphax.energy._inter_class import inter_class_energy as inter_class_energy
from sphax.energy._learned_projections import (
    adversarial_projection as adversarial_projection,
)
from sphax.energy._learned_projections import (
    angle_preserving_projection as angle_preserving_projection,
)
from sphax.energy._of_params import energy_of_params as energy_of_params
from sphax.energy._penalty import energy_penalty as energy_penalty
from sphax.energy._projections import group_projections as group_projections
from sphax.energy._projections import random_projections as random_projections
from sphax.energy._ranking import semantic_ranking as semantic_ranking
from sphax.energy._report import EnergyReport as EnergyReport
from sphax.energy._report import KernelReport as KernelReport
from sphax.energy._report import energy_report as energy_report
from sphax.energy._theory._bounds import closest_angle_bound as closest_angle_bound
from sphax.energy._theory._bounds import energy_lower_bound as energy_lower_bound
from sphax.energy._theory._expectations import expected_energy as expected_energy
from sphax.energy._thomson._minimize import EnergyMinimum as EnergyMinimum
from sphax.energy._thomson._minimize import minimize_energy as minimize_energy
from sphax.energy._thomson._separate import SeparatedPrototypes as SeparatedPrototypes
from sphax.energy._thomson._separate import (
    separated_prototypes as separated_prototypes,
)
from sphax.energy._uniformity._covering import covering as covering
from sphax.energy._uniformity._gram_determinant import (
    max_gram_determinant as max_gram_determinant,
)
from sphax.energy._uniformity._polarization import polarization as polarization
from sphax.energy._uniformity._resultant import resultant_length as resultant_length
from sphax.energy._uniformity._separation import separation as separation
from sphax.energy._uniformity._uniformity import alignment as alignment
from sphax.energy._uniformity._uniformity import uniformity as uniformity

__dir__ = _discovery.dir_of(__name__)
