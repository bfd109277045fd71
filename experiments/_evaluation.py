"""What a trained network says of images, and what is measured of a classifier."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import sphax as sx
from experiments import _data, _training

_BATCH = 500


class Outputs(NamedTuple):
    """What the model says of images."""

    predictions: Any
    cosines: Any  # to all prototypes
    embeddings: Any


def evaluate(
    setting: _training.Setting,
    state: _training.State,
    data: _data.ImageSet,
) -> dict[str, Any]:
    """Error rate and angles on the test images.

    Returns:
        ``error``: wrong predictions, in percent. ``margin``: angle to the nearest other
        prototype less the angle to the own one, mean over the images, in degrees.
        ``within``: the latter alone. ``parameters``: a digest of the trained ones, by
        which two runs can be told to be the same.
    """
    predictions, cosines, _ = outputs(setting, state, data, data.test.images)
    cosines = cosines.astype(np.float64)
    labels = data.test.labels[:, None]
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    own = np.take_along_axis(angles, labels, 1)[:, 0]
    others = np.where(np.arange(data.classes) == labels, np.inf, angles).min(1)
    return {
        "error": float(100.0 * np.mean(predictions != data.test.labels)),
        "margin": float(np.mean(others - own)),
        "within": float(np.mean(own)),
        "parameters": _digest(state.params),
    }


def outputs(
    setting: _training.Setting,
    state: _training.State,
    data: _data.ImageSet,
    images: np.ndarray,
) -> Outputs:
    """The model's outputs for raw images, ``[n, ...]`` each."""
    return _in_batches(
        lambda part: _forward(setting.graph, state, part, data.mean), images
    )


def embeddings(
    setting: _training.Setting,
    state: _training.State,
    data: _data.ImageSet,
    images: np.ndarray,
) -> np.ndarray:
    """What the network alone makes of raw images, ``[n, features]``."""
    model = nnx.merge(setting.graph, state.params, state.rest)
    # Without the head, so that one compiled function serves all losses.
    graph, variables = nnx.split(model.network)
    return _in_batches(lambda part: _embed(graph, variables, part, data.mean), images)


def _in_batches(function: Callable[[np.ndarray], Any], images: np.ndarray) -> Any:
    rest = -len(images) % _BATCH  # one shape, one compilation
    padded = np.concatenate([images, np.repeat(images[:1], rest, axis=0)])
    parts = [
        jax.device_get(function(part))
        for part in np.split(padded, len(padded) // _BATCH)
    ]
    return jax.tree.map(lambda *column: np.concatenate(column)[: len(images)], *parts)


@partial(jax.jit, static_argnums=0)
def _embed(graph, variables, images, mean):
    network = nnx.merge(graph, variables, copy=True)
    prepared = _training.prepare(images, mean)
    return network(prepared, use_running_average=True)


@partial(jax.jit, static_argnums=0)
def _forward(graph, state, images, mean):
    model = nnx.merge(graph, state.params, state.rest, copy=True)
    prepared = _training.prepare(images, mean)
    embeddings = model.network(prepared, use_running_average=True)
    cosines = sx.sphere.cosine_similarity(embeddings, model.head.prototypes[...])
    return Outputs(jnp.argmax(model.head(embeddings), axis=-1), cosines, embeddings)


def _digest(params: Any) -> str:
    content = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    return hashlib.sha256(content).hexdigest()[:16]
