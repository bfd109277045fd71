"""Optax transforms that see the neurons in a params pytree.

As with all of optax, an update is best part of a training step under :func:`jax.jit`.
The first update outside of ``jit`` compiles a program for each shape of kernels, and
later updates run these programs.
"""

from sphax import _discovery
from sphax.optim._decoupled import DecoupledState as DecoupledState
from sphax.optim._decoupled import decoupled as decoupled
from sphax.optim._decoupled import decoupled_energy as decoupled_energy
from sphax.optim._energy import add_energy_gradient as add_energy_gradient
from sphax.optim._hyperball import NormState as NormState
from sphax.optim._hyperball import project_to_norm as project_to_norm
from sphax.optim._orthogonal_descent import (
    OrthogonalDescentState as OrthogonalDescentState,
)
from sphax.optim._orthogonal_descent import orthogonal_descent as orthogonal_descent
from sphax.optim._orthogonality import (
    add_orthogonality_gradient as add_orthogonality_gradient,
)
from sphax.optim._penalty import RegularizerState as RegularizerState
from sphax.optim._penalty import StatefulPenalty as StatefulPenalty
from sphax.optim._penalty import add_penalty_gradient as add_penalty_gradient
from sphax.optim._pion import PionState as PionState
from sphax.optim._pion import pion as pion
from sphax.optim._riemannian import RiemannianState as RiemannianState
from sphax.optim._riemannian import riemannian_adam as riemannian_adam
from sphax.optim._riemannian import riemannian_sgd as riemannian_sgd
from sphax.optim._spectral_sphere import SpectralSphereState as SpectralSphereState
from sphax.optim._spectral_sphere import spectral_sphere as spectral_sphere
from sphax.optim._sphere import NeuronsState as NeuronsState
from sphax.optim._sphere import keep_params_on_sphere as keep_params_on_sphere
from sphax.optim._sphere import (
    project_gradients_to_tangent as project_gradients_to_tangent,
)
from sphax.optim._sphere import scale_by_neuron_norm as scale_by_neuron_norm
from sphax.optim._stiefel_muon import StiefelMuonState as StiefelMuonState
from sphax.optim._stiefel_muon import stiefel_muon as stiefel_muon

__dir__ = _discovery.dir_of(__name__)
