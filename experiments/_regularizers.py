"""Regularisers by the names of the command line, with the weights of their authors.

A regulariser is a sum over layers, with one weight for the hidden layers and another
one for the output layer, which is always taken in full space.
"""

import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import optax

import sphax as sx
from experiments import _layers
from experiments import _regularizer_terms as _terms
from experiments._regularizer_terms import Add


class Term(NamedTuple):
    """The part of a regulariser in some layers, and its weight."""

    add: Add
    weight: float


class Regularizer(NamedTuple):
    """What keeps neurons apart.

    Attributes:
        title: Its name in tables.
        hidden: Its part in the hidden layers.
        output: Its part in the output layer.
        decays: Whether weights decay beside it.
        is_long: Whether its authors trained for 75 000 steps, and not for 42 500.
    """

    title: str
    hidden: Term | None = None
    output: Term | None = None
    decays: bool = True
    is_long: bool = False

    def gradients(self, strength: float) -> list[optax.GradientTransformation]:
        """What adds its gradient, times ``strength``, to the updates."""
        terms = ((_layers.hidden, self.hidden), (_layers.output, self.output))
        return [
            term.add(strength * term.weight, mask=mask)
            for mask, term in terms
            if term is not None
        ]


def _energies() -> dict[str, Regularizer]:
    """Three powers of two distances, in full and in half space."""
    # The authors' logarithm is of the squared distance; their angles are shares of pi.
    weights = {
        ("euclidean", 0): (2.0, 20.0),
        ("euclidean", 1): (1.0, 10.0),
        ("euclidean", 2): (1.0, 10.0),
        ("geodesic", 0): (1.0, 10.0),
        ("geodesic", 1): (0.1 * math.pi, math.pi),
        ("geodesic", 2): (0.1 * math.pi**2, math.pi**2),
    }
    names = {"euclidean": ("mhe", "MHE"), "geodesic": ("angular-mhe", "angular MHE")}
    found = {}
    for half_space in (False, True):
        for (distance, power), (hidden, output) in weights.items():
            name, title = names[distance]
            options = {"power": float(power), "distance": distance}
            found[f"{name}-{power}" + "-half" * half_space] = Regularizer(
                f"{title}, s = {power}" + ", half space" * half_space,
                Term(_terms.of_energy(half_space=half_space, **options), hidden),
                Term(_terms.of_energy(**options), output),
            )
    return found


def _compressive() -> dict[str, Regularizer]:
    """Projections in the hidden layers, the energy itself in the output layer."""
    output = Term(_terms.of_energy(power=2.0), 10.0)
    learned = _terms.learned_projection
    projected: dict[str, tuple[str, Add]] = {
        "rp-comhe": ("CoMHE, random", _terms.random_projections),
        "ap-comhe": (
            "CoMHE, angle-preserving",
            learned(sx.energy.angle_preserving_projection, steps=1),
        ),
        "adversarial-comhe": (
            "CoMHE, adversarial",
            learned(sx.energy.adversarial_projection),
        ),
    }
    return {
        name: Regularizer(title, Term(add, 1.0), output, is_long=True)
        for name, (title, add) in projected.items()
    }


def _uniformity() -> dict[str, Regularizer]:
    """The family of hyperspherical uniformity; the weights of the last are ours."""
    energy = sx.energy
    # Title, the two parts, and their weights. A pole's rate goes with the weight.
    rows: dict[str, tuple[str, Add, float, Add, float]] = {
        "separation": (
            "maximum separation",
            _terms.of_rows(energy.separation, half_space=True),
            0.1,
            _terms.of_rows(energy.separation),
            1.0,
        ),
        "polarization": (
            "maximum polarisation",
            _terms.at_pole(energy.polarization, half_space=True),
            1.0,
            _terms.at_pole(energy.polarization, learning_rate=1.0),
            10.0,
        ),
        "covering": (
            "minimum covering",
            _terms.at_pole(energy.covering, half_space=True, learning_rate=1e-3),
            0.01,
            _terms.at_pole(energy.covering),
            0.1,
        ),
        "gram-determinant": (
            "maximum Gram determinant",
            _terms.of_rows(energy.max_gram_determinant, half_space=True),
            0.01,
            _terms.of_rows(energy.max_gram_determinant),
            0.1,
        ),
        "resultant": (
            "minimum resultant",
            _terms.of_rows(energy.resultant_length),
            0.01,
            _terms.of_rows(energy.resultant_length),
            0.1,
        ),
        "uniformity": (
            "Gaussian uniformity",
            _terms.of_rows(energy.uniformity, half_space=True, precision="highest"),
            0.1,
            _terms.of_rows(energy.uniformity, precision="highest"),
            1.0,
        ),
    }
    return {
        name: Regularizer(title, Term(add, weight), Term(last, heavy), is_long=True)
        for name, (title, add, weight, last, heavy) in rows.items()
    }


def _orthogonality() -> Regularizer:
    # Of directions, as all others; the weights are ours.
    add = partial(
        sx.optim.add_orthogonality_gradient,
        normalize=True,
        precision="highest",
        neurons=_layers.NEURONS,
    )
    return Regularizer("orthogonality", Term(add, 1e-3), Term(add, 1e-2))


REGULARIZERS: Mapping[str, Regularizer] = MappingProxyType(
    {
        "none": Regularizer("none", decays=False),
        "decay": Regularizer("weight decay"),
        "orthogonality": _orthogonality(),
        **_energies(),
        **_compressive(),
        **_uniformity(),
    }
)


def regularizer(name: str) -> Regularizer:
    """The regulariser of a name.

    Raises:
        ValueError: If there is none; says which there are.
    """
    if name not in REGULARIZERS:
        raise ValueError(
            f"--regularizers must be of {', '.join(REGULARIZERS)}; got {name!r}."
        )
    return REGULARIZERS[name]
