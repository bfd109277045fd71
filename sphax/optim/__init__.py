"""Optax transforms that see the neurons in a params pytree."""

from sphax.optim._neurons import NeuronDimensions as NeuronDimensions
from sphax.optim._orthogonality import (
    add_orthogonality_gradient as add_orthogonality_gradient,
)
from sphax.optim._regularizer import RegularizerState as RegularizerState
from sphax.optim._sphere import NeuronsState as NeuronsState
from sphax.optim._sphere import keep_params_on_sphere as keep_params_on_sphere
from sphax.optim._sphere import project_to_tangent as project_to_tangent
from sphax.optim._sphere import scale_by_neuron_norm as scale_by_neuron_norm
