"""Tables of the memory and the time that a class-parallel training takes."""

import math
from collections.abc import Iterator, Mapping

import jax
from flax import nnx

from experiments.common import class_parallel, costs, tables
from experiments.common.class_recipes import Recipe

_DEVICES = 8


def table(recipes: Mapping[str, Recipe], images: int, identities: int) -> Iterator[str]:
    """Lines of Markdown: a row for each recipe on each of two machines.

    Args:
        recipes: By their titles.
        images: Number of training images.
        identities: Number of classes.
    """
    rows = [["", "machine", "parameters", "held", "temporary", "--accumulate"]]
    rows[0] += ["s a step", "images/s", "hours"]
    for title, recipe in recipes.items():
        network, found = class_parallel.costs_of(recipe, identities, _DEVICES)
        leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
        prototypes = identities * recipe.subcenters * network.features
        steps = recipe.epochs * (images // recipe.batch)
        for name in ("TPU v5e", "H100"):
            machine = costs.MACHINES[name]
            seconds = found.seconds(machine) * recipe.accumulate
            # Into how many parts the batch has to be cut for it to fit.
            left = machine.memory - found.held
            parts = math.ceil(recipe.accumulate * found.temporaries / max(left, 1.0))
            cells = [
                title,
                f"{_DEVICES} {name}",
                f"{sum(x.size for x in leaves) / 1e6:.1f} + {prototypes / 1e6:.1f} M",
                f"{found.held / 1e9:.2f} GB",
                f"{found.temporaries / 1e9:.2f} of {machine.memory / 1e9:.0f} GB",
                f"{parts} or more" if parts > recipe.accumulate else "fits",
                f"{seconds:.3f}",
                f"{recipe.batch / seconds:.0f}",
                f"{steps * seconds / 3600:.1f}",
            ]
            rows.append(cells)
    yield from tables.markdown(rows)
    yield ""
    yield (
        "Parameters are those of the network and of the prototypes; bytes are of each"
        " device, before the compiler fuses operations; times are of machines at the"
        " peaks of their data sheets, without reading images and verifying."
    )
