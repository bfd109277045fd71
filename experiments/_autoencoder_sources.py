"""What an autoencoder decodes its images from, and how like them that is."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import _data, _similarity
from experiments._autoencoder import Autoencoder, Factor
from experiments._autoencoder_training import pixels

_AT_A_TIME = 500


class Source(NamedTuple):
    """What images are decoded from."""

    title: str
    emit: Factor
    everywhere: bool = False


SOURCES = {
    "output": Source("inner product", "output"),
    "magnitude": Source("magnitude", "magnitude"),
    "angle": Source("angle", "angle"),
    "magnitude_everywhere": Source("magnitude, all layers", "magnitude", True),
    "angle_everywhere": Source("angle, all layers", "angle", True),
}
# What "nothing" is.
BASELINES = {"mean": "*the mean image*", "another": "*another image*"}


def decoded(model: Autoencoder, images: jax.Array) -> dict[str, jax.Array]:
    """What images come out as from each source, matched to them, by its name."""
    graph, state = nnx.split(model)
    return _decoded(graph, state, images)


@partial(jax.jit, static_argnums=0)
def _decoded(graph, state, images):
    model = nnx.merge(graph, state)
    return {
        name: _similarity.matched(
            model(images, emit=source.emit, everywhere=source.everywhere), images
        )
        for name, source in SOURCES.items()
    }


def measure(
    model: Autoencoder, data: _data.ImageSet
) -> dict[str, dict[str, np.ndarray]]:
    """Correlation and SSIM of all test images with what is to be like them.

    Returns:
        ``[n]`` by source or baseline, and by measure.
    """
    graph, state = nnx.split(model)
    images = data.test.images
    parts = -(-len(images) // _AT_A_TIME)
    # A neighbour is another image: none of the sets is sorted by class.
    pairs = (np.array_split(x, parts) for x in (images, np.roll(images, 1, axis=0)))
    found = [
        jax.device_get(_measure(graph, state, data.mean, *pair))
        for pair in zip(*pairs, strict=True)
    ]
    return jax.tree.map(lambda *column: np.concatenate(column), *found)


@partial(jax.jit, static_argnums=0)
def _measure(graph, state, mean, images, others):
    images, others = pixels(images), pixels(others)
    mean = jnp.broadcast_to(mean[None], images.shape)
    shown = _decoded(graph, state, images) | {
        "mean": _similarity.matched(mean, images),
        "another": _similarity.matched(others, images),
    }
    return {
        name: {
            "correlation": _similarity.correlation(image, images),
            "ssim": _similarity.structural_similarity(image, images),
        }
        for name, image in shown.items()
    }
