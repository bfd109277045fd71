"""Trains the classifiers of the study, and records the energies of their layers."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.common import classifier
from experiments.common.images import load
from experiments.common.margins import MARGINS
from experiments.common.runs import Run, Work
from experiments.energy.config import Config
from experiments.energy.regularizers import OUTPUT, neurons, regularizer

_POWER = 2.0


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains seeds with one regularizer.

    Returns:
        For each seed ``error``, on the test images in percent; ``energies``, curves of
        :func:`excess`; ``every``, the steps between their points; and ``least``.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
    """
    config: Config = runs[0].config
    data = load(config.dataset, config.data_dir)
    title = regularizer(config.regularizers[0]).title
    setting, fitted = classifier.fit(
        config,
        config.design(data.shape),
        MARGINS["softmax"]._replace(title=title),
        data,
        [run.seed for run in runs],
        work,
        record=lambda state, done: energies(state.params),
        record_every=config.record_every,
    )
    return [
        {
            "error": classifier.evaluate(setting, state, data)["error"],
            "energies": {
                key: np.round(curve, 4).tolist()
                for key, curve in excess(records, state.params).items()
            },
            "every": config.record_every,
            "least": {key: float(x) for key, x in least(state.params).items()},
        }
        for state, _, records in fitted
    ]


@jax.jit
def energies(params: Any) -> dict[str, jax.Array]:
    """Energies in full and in half space, ``[2]``, of every layer, by path."""
    layers = neurons(params)
    # Padded to one shape, so that one compiled energy serves all layers.
    n, d = (max(rows.shape[axis] for rows in layers.values()) for axis in (0, 1))
    padded = jnp.stack(
        [
            jnp.pad(rows, ((0, n - len(rows)), (0, d - rows.shape[1])))
            for rows in layers.values()
        ]
    )
    where = jnp.stack([jnp.arange(n) < len(rows) for rows in layers.values()])
    energy = partial(sx.energy.hyperspherical_energy, power=_POWER, where=where)
    found = [energy(padded, half_space=half) for half in (False, True)]
    return dict(zip(layers, jnp.stack(found, axis=-1), strict=True))


def excess(found: Mapping[str, np.ndarray], params: Any) -> dict[str, np.ndarray]:
    """Energies above those of random neurons, in percent of them.

    Args:
        found: As from :func:`energies`, ``[..., 2]``.
        params: Parameters with the same layers.

    Returns:
        ``full`` and ``half`` space: the mean over hidden layers, ``[...]``. ``output``:
        the output layer's, for which full space alone makes sense.
    """
    above = {}
    for name, rows in neurons(params).items():
        random = sx.energy.expected_energy(rows.shape[1], power=_POWER)
        above[name] = 100.0 * (np.asarray(found[name], np.float64) / random - 1.0)
    output = above.pop(OUTPUT)
    hidden = np.mean(list(above.values()), axis=0)
    return {"full": hidden[..., 0], "half": hidden[..., 1], "output": output[..., 0]}


def least(params: Any) -> dict[str, np.ndarray]:
    """The lower bound of all neurons of these layers, as from :func:`excess`."""
    bound = partial(sx.energy.energy_lower_bound, power=_POWER)
    bounds = {
        name: np.array([bound(*rows.shape, half_space=x) for x in (False, True)])
        for name, rows in neurons(params).items()
    }
    return excess(bounds, params)
