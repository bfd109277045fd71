"""The neurons of a classifier: those of its hidden layers, and its prototypes."""

from typing import Any

import jax

import sphax as sx

# Of a classifier, all that has no kernel in Flax layout.
NEURONS = {"head/prototypes": sx.neurons.NeuronDimensions(index_axis=0)}
OUTPUT = "head/prototypes"


def hidden(params: Any) -> Any:
    """Mask of all but the prototypes."""
    return jax.tree.map_with_path(lambda path, _: _name(path) != OUTPUT, params)


def output(params: Any) -> Any:
    """Mask of the prototypes."""
    return jax.tree.map_with_path(lambda path, _: _name(path) == OUTPUT, params)


def neurons(params: Any) -> dict[str, jax.Array]:
    """Neurons as rows ``[n, d]``, by the path of their layer."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = _name(path)
        if name == OUTPUT:
            found[name] = leaf
        elif name.endswith("kernel"):
            found[name] = leaf.reshape(-1, leaf.shape[-1]).T
    return found


def _name(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.removesuffix("/value")
