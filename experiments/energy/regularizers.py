"""Regularizers by the names of the command line, with the weights of their authors.

A regularizer is a sum over layers, with one weight for the hidden layers and another
one for the output layer, which is always taken in full space.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import optax

import sphax as sx

# All other layers of a classifier have kernels in Flax layout.
OUTPUT = "head/prototypes"
_NEURONS = {OUTPUT: sx.neurons.NeuronDimensions(index_axis=0)}
# Dimensions of projections, random and learned. Layers of no more are not projected.
_RANDOM, _LEARNED = 40, 30
_SEED = 0


def neurons(params: Any) -> dict[str, jax.Array]:
    """The neurons of a classifier as rows ``[n, d]``, by the path of their layer."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = _name(path)
        if name == OUTPUT:
            found[name] = leaf
        elif name.endswith("kernel"):
            found[name] = leaf.reshape(-1, leaf.shape[-1]).T
    return found


def output(params: Any, *, is_hidden: bool = False) -> Any:
    """Mask of the output layer's parameters, or of all others."""
    return jax.tree.map_with_path(
        lambda path, _: (_name(path) != OUTPUT) is is_hidden, params
    )


hidden = partial(output, is_hidden=True)


def _name(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.removesuffix("/value")


class Part(NamedTuple):
    """A sum over some layers, and its weight."""

    add: Callable[..., optax.GradientTransformation]  # its gradient, by weight and mask
    weight: float


class Regularizer(NamedTuple):
    """A way to keep neurons apart."""

    title: str  # in tables
    hidden: Part | None = None
    output: Part | None = None
    decays: bool = True  # whether weights decay beside it
    is_long: bool = False  # whether its authors trained for 75 000 steps, not 42 500

    def gradients(self, strength: float) -> list[optax.GradientTransformation]:
        """The transforms that add its gradient, times ``strength``."""
        parts = ((hidden, self.hidden), (output, self.output))
        return [
            part.add(strength * part.weight, mask=mask)
            for mask, part in parts
            if part is not None
        ]


def _penalty(weight: float, penalty: Any) -> Part:
    """A penalty of rows and a key, or one that keeps a state from step to step."""

    def add(weight, *, mask):
        return sx.optim.add_penalty_gradient(
            penalty,
            weight,
            reduce="sum",
            # An array for a key, as checkpoints have them.
            key=jax.random.PRNGKey(_SEED),
            neurons=_NEURONS,
            mask=mask,
        )

    return Part(add, weight)


def _energy(weight: float, **options: Any) -> Part:
    """The hyperspherical energy."""
    add = partial(
        sx.optim.add_energy_gradient, reduce="sum", neurons=_NEURONS, **options
    )
    return Part(add, weight)


def _rows(weight: float, energy: Callable[..., jax.Array], **options: Any) -> Part:
    """An energy that is a function of the neurons alone."""
    return _penalty(weight, lambda rows, _: energy(rows, **options))


def _pole(weight: float, energy: Callable[..., Any], **options: Any) -> Part:
    """An energy at one pole for each layer, which moves to where neurons are far."""

    def init(rows, key):
        return sx.sphere.sample_uniform(key, (1, rows.shape[1]))

    def apply(rows, pole, key):
        return energy(rows, pole, **options)

    return _penalty(weight, sx.optim.StatefulPenalty(init, apply))


def _line_energy(rows: jax.Array) -> jax.Array:
    return sx.energy.hyperspherical_energy(rows, power=2.0, half_space=True)


def _new_projections(rows: jax.Array, key: jax.Array) -> jax.Array:
    """Energy after projections that are drawn in every step."""
    if rows.shape[1] <= _RANDOM:
        return _line_energy(rows)
    projections = sx.energy.random_projections(key, rows.shape[1], _RANDOM)
    return sx.energy.compressive_energy(rows, projections)


def _learned_projection(improve: Callable[..., jax.Array], **options: Any) -> Part:
    """Energy after one projection for each layer, improved in every step."""

    def init(rows, key):
        if rows.shape[1] <= _LEARNED:
            return None
        return sx.energy.random_projections(key, rows.shape[1], _LEARNED, count=1)

    def apply(rows, projection, key):
        if projection is None:
            return _line_energy(rows), None
        projection = improve(rows, projection, **options)
        return sx.energy.compressive_energy(rows, projection), projection

    return _penalty(1.0, sx.optim.StatefulPenalty(init, apply))


def _energies() -> dict[str, Regularizer]:
    """Three powers of two distances, in full and in half space."""
    # The authors' logarithm is of the squared distance; their angles are shares of pi.
    weights = {
        ("euclidean", 0): 2.0,
        ("euclidean", 1): 1.0,
        ("euclidean", 2): 1.0,
        ("geodesic", 0): 1.0,
        ("geodesic", 1): 0.1 * math.pi,
        ("geodesic", 2): 0.1 * math.pi**2,
    }
    names = {"euclidean": ("mhe", "MHE"), "geodesic": ("angular-mhe", "angular MHE")}
    found = {}
    for half_space in (False, True):
        for (distance, power), weight in weights.items():
            name, title = names[distance]
            options = {"power": float(power), "distance": distance}
            found[f"{name}-{power}" + "-half" * half_space] = Regularizer(
                f"{title}, s = {power}" + ", half space" * half_space,
                hidden=_energy(weight, half_space=half_space, **options),
                output=_energy(10.0 * weight, **options),
            )
    return found


def _orthogonality(weight: float) -> Part:
    """Orthogonality of directions, as all others are of directions."""
    options = {"normalize": True, "precision": "highest", "neurons": _NEURONS}
    return Part(partial(sx.optim.add_orthogonality_gradient, **options), weight)


_e, _long = sx.energy, partial(Regularizer, is_long=True)
# Those of CoMHE have the energy itself in the output layer.
_end = _energy(10.0, power=2.0)
# The weights of orthogonality and uniformity are ours. Rates of poles go with weights.
REGULARIZERS: Mapping[str, Regularizer] = MappingProxyType(
    {
        "none": Regularizer("none", decays=False),
        "decay": Regularizer("weight decay"),
        "orthogonality": Regularizer(
            "orthogonality", hidden=_orthogonality(1e-3), output=_orthogonality(1e-2)
        ),
        **_energies(),
        "rp-comhe": _long(
            "CoMHE, random",
            hidden=_penalty(1.0, _new_projections),
            output=_end,
        ),
        "ap-comhe": _long(
            "CoMHE, angle-preserving",
            hidden=_learned_projection(_e.angle_preserving_projection, steps=1),
            output=_end,
        ),
        "adversarial-comhe": _long(
            "CoMHE, adversarial",
            hidden=_learned_projection(_e.adversarial_projection),
            output=_end,
        ),
        "separation": _long(
            "maximum separation",
            hidden=_rows(0.1, _e.separation, half_space=True),
            output=_rows(1.0, _e.separation),
        ),
        "polarization": _long(
            "maximum polarization",
            hidden=_pole(1.0, _e.polarization, half_space=True),
            output=_pole(10.0, _e.polarization, learning_rate=1.0),
        ),
        "covering": _long(
            "minimum covering",
            hidden=_pole(0.01, _e.covering, half_space=True, learning_rate=1e-3),
            output=_pole(0.1, _e.covering),
        ),
        "gram-determinant": _long(
            "maximum Gram determinant",
            hidden=_rows(0.01, _e.max_gram_determinant, half_space=True),
            output=_rows(0.1, _e.max_gram_determinant),
        ),
        "resultant": _long(
            "minimum resultant",
            hidden=_rows(0.01, _e.resultant_length),
            output=_rows(0.1, _e.resultant_length),
        ),
        "uniformity": _long(
            "Gaussian uniformity",
            hidden=_rows(0.1, _e.uniformity, half_space=True, precision="highest"),
            output=_rows(1.0, _e.uniformity, precision="highest"),
        ),
    }
)


def regularizer(name: str) -> Regularizer:
    """The regularizer of a name; a ValueError says which names there are."""
    if name not in REGULARIZERS:
        raise ValueError(
            f"--regularizers must be of {', '.join(REGULARIZERS)}; got {name!r}."
        )
    return REGULARIZERS[name]
