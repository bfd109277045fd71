"""Maps onto orthogonal matrices, retractions, and how far matrices are from them."""

from sphax import _discovery
from sphax.orthogonal._almost_orthogonal import almost_orthogonal as almost_orthogonal
from sphax.orthogonal._almost_orthogonal import (
    almost_orthogonal_kernel as almost_orthogonal_kernel,
)
from sphax.orthogonal._cayley import cayley as cayley
from sphax.orthogonal._cayley import cayley_neumann as cayley_neumann
from sphax.orthogonal._error import orthogonality_error as orthogonality_error
from sphax.orthogonal._exponential import exponential as exponential
from sphax.orthogonal._gram_schmidt import gram_schmidt as gram_schmidt
from sphax.orthogonal._householder import householder as householder
from sphax.orthogonal._lowdin import lowdin as lowdin
from sphax.orthogonal._newton_schulz import newton_schulz as newton_schulz
from sphax.orthogonal._newton_schulz import polish as polish
from sphax.orthogonal._penalty import orthogonality_penalty as orthogonality_penalty
from sphax.orthogonal._polar_factor import polar_factor as polar_factor
from sphax.orthogonal._random import random_orthogonal as random_orthogonal
from sphax.orthogonal._retractions import cayley_retraction as cayley_retraction
from sphax.orthogonal._retractions import polar_retraction as polar_retraction
from sphax.orthogonal._retractions import project_to_tangent as project_to_tangent
from sphax.orthogonal._retractions import qr_retraction as qr_retraction
from sphax.orthogonal._retractions import tangent_generator as tangent_generator

__dir__ = _discovery.dir_of(__name__)
