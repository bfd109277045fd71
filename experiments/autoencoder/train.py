"""Trains the autoencoders of the study, decodes images by them, and compares."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

import sphax as sx
from experiments.autoencoder.config import SOURCES, Config, Factor
from experiments.common import batches, loop
from experiments.common.images import ImageSet, load
from experiments.common.runs import Run, Work, pack

# Test images that are drawn, and those that are compared at a time.
_DRAWN, _BATCH = 12, 500
_INIT = nnx.initializers.he_normal()


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains one autoencoder, and decodes the test images by it.

    Returns:
        By source and measure what :func:`measure` returns, as its mean and standard
        deviation over the images; and some ``images``, and what was ``decoded`` of
        them by source, to draw.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If the loss is not a number.
        ValueError: If the images do not fit the convolutions or the batch.
    """
    (run,) = runs
    data = load(run.config.dataset, run.config.data_dir)
    with jax.default_matmul_precision("highest"):
        model = fit(run.config, data, run.seed, work)
        originals = data.test.images[:_DRAWN]
        found = decoded(model, pixels(originals))
        measured = measure(model, data)
    of_images = {"mean": np.mean, "deviation": np.std}
    return [
        {
            "sources": {
                name: {
                    key: {what: float(f(values)) for what, f in of_images.items()}
                    for key, values in row.items()
                }
                for name, row in measured.items()
            },
            "images": pack(originals, np.uint8),
            "decoded": {
                name: pack(np.round(255.0 * np.clip(image, 0.0, 1.0)), np.uint8)
                for name, image in found.items()
            },
        }
    ]


class Setting(NamedTuple):
    """What a step is compiled for."""

    graph: Any
    config: Config


class State(NamedTuple):
    """What a step changes."""

    params: Any
    rest: Any
    optimizer: Any


def fit(config: Config, data: ImageSet, seed: int, work: Work) -> "Autoencoder":
    """Trains one autoencoder, on inner products.

    Raises:
        FloatingPointError: If the loss is not a number.
        ValueError: If there are fewer images than in a batch, or they do not fit the
            convolutions.
    """
    number = len(data.train.images)
    batches.check_size(config.batch, number)
    model = Autoencoder(data.shape, config.channels, rngs=nnx.Rngs(seed))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def drawn(seed: int, start: int) -> Iterator[np.ndarray]:
        for count in range(start, config.steps):
            rng = np.random.default_rng((seed, count))
            yield data.train.images[rng.choice(number, config.batch, replace=False)]

    (fitted,) = loop.fit(
        step,
        Setting(graph, config),
        [State(params, rest, config.optimizer.init(params))],
        drawn,
        work,
        title="autoencoder",
        advice="Lower --learning-rate.",
        seeds=[seed],
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    return nnx.merge(graph, fitted.state.params, fitted.state.rest)


def step(setting: Setting, shared, state: State, images, count, seed):
    """One step of gradient descent on the squared error, by :func:`.loop.fit`."""
    images = pixels(images)

    def loss(params):
        decoded = nnx.merge(setting.graph, params, state.rest)(images)
        return jnp.mean((decoded - images) ** 2)

    value, gradients = jax.value_and_grad(loss)(state.params)
    updates, optimizer = setting.config.optimizer.update(gradients, state.optimizer)
    params = optax.apply_updates(state.params, updates)
    return State(params, state.rest, optimizer), {"loss": value}


def pixels(images: np.ndarray | jax.Array) -> jax.Array:
    """Raw images with intensities in [0, 1]."""
    return jnp.asarray(images, jnp.float32) / 255.0


class Autoencoder(nnx.Module):
    """Images to a map of codes and back, by plain convolutions and rectifiers.

    Each convolution of the encoder has stride 2, and can return one factor of the inner
    product of patch and filter. Those of the decoder make four pixels of one. There are
    no biases and no normalization, so that the network is positively homogeneous: codes
    in another unit come out with another contrast, and nothing else changes. The codes
    are rectified, so that the decoder never gets a negative one, whatever the factor.

    Args:
        shape: Height, width and channels of an image.
        channels: After each convolution of the encoder; the last are those of the code.
        rngs: Key stream; uses ``params``.

    Raises:
        ValueError: If the image cannot be halved as often.
    """

    def __init__(
        self, shape: tuple[int, int, int], channels: Sequence[int], *, rngs: nnx.Rngs
    ):
        *space, depth = shape
        parts = 2 ** len(channels)
        if any(size % parts for size in space):
            raise ValueError(
                f"--channels must leave height and width whole: {len(channels)}"
                f" convolutions halve {space[0]} x {space[1]} pixels as often, which"
                f" {parts} does not divide; name fewer of them."
            )
        sizes = [depth, *channels]
        self.encoder = nnx.List(
            sx.layers.DecoupledConv(
                *pair,
                (3, 3),
                2,
                magnitude=sx.operators.Linear(weighted="linear"),
                angular=sx.operators.Cosine(),
                kernel_init=_INIT,
                rngs=rngs,
            )
            for pair in zip(sizes, channels, strict=False)
        )
        self.decoder = nnx.List(
            nnx.Conv(
                wide, 4 * narrow, (3, 3), use_bias=False, kernel_init=_INIT, rngs=rngs
            )
            for narrow, wide in reversed(list(zip(sizes, channels, strict=False)))
        )

    def __call__(
        self, images: jax.Array, *, factor: Factor = "output", everywhere: bool = False
    ) -> jax.Array:
        """Images decoded from the codes of images ``[n, height, width, depth]``.

        Args:
            images: Pixels in [0, 1].
            factor: What the last convolution of the encoder emits: the inner product,
                its magnitude, or the cosine of the angle.
            everywhere: Whether those before it return the same factor.
        """
        x = images
        *early, last = self.encoder
        for conv in early:
            x = nnx.relu(conv(x, part=factor if everywhere else "output"))
        x = nnx.relu(last(x, part=factor))
        *early, last = self.decoder
        for conv in early:
            x = nnx.relu(_spread(conv(x)))
        return _spread(last(x))


def _spread(x: jax.Array) -> jax.Array:
    """Four channels as four pixels, ``[n, h, w, 4 c]`` to ``[n, 2 h, 2 w, c]``."""
    n, height, width, depth = x.shape
    x = x.reshape(n, height, width, 2, 2, depth // 4).swapaxes(2, 3)
    return x.reshape(n, 2 * height, 2 * width, depth // 4)


def decoded(model: Autoencoder, images: jax.Array) -> dict[str, jax.Array]:
    """Images decoded from each source, matched to the given ones, by its name."""
    graph, state = nnx.split(model)
    return _decoded(graph, state, images)


@partial(jax.jit, static_argnums=0)
def _decoded(graph, state, images):
    model = nnx.merge(graph, state)
    return {
        name: matched(
            model(images, factor=source.factor, everywhere=source.everywhere), images
        )
        for name, source in SOURCES.items()
    }


def measure(model: Autoencoder, data: ImageSet) -> dict[str, dict[str, np.ndarray]]:
    """Correlation and SSIM of all test images with what was decoded, ``[n]`` each.

    Beside the sources there are ``mean``, the mean training image, and ``another``, the
    neighbor of each image in the test set.
    """
    graph, state = nnx.split(model)
    images = data.test.images
    parts = -(-len(images) // _BATCH)
    # None of the sets is sorted by class.
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
        "mean": matched(mean, images),
        "another": matched(others, images),
    }
    return {
        name: {
            "correlation": correlation(image, images),
            "ssim": structural_similarity(image, images),
        }
        for name, image in shown.items()
    }


def correlation(images: jax.Array, others: jax.Array) -> jax.Array:
    """Pearson's, over pixels and channels: the cosine between images less their means.

    No affine change of intensity with positive contrast changes it.

    Args:
        images: ``[..., height, width, channels]``.
        others: The images that they are compared with, of the same shape.

    Returns:
        ``[...]``; 0 where an image is constant.
    """
    units = [sx.sphere.normalize(_centered(x)) for x in (images, others)]
    return jnp.sum(units[0] * units[1], axis=-1)


def matched(images: jax.Array, others: jax.Array) -> jax.Array:
    """``images``, each with the mean and the standard deviation of the other."""
    directions = sx.sphere.normalize(_centered(images))
    lengths = jnp.linalg.norm(_centered(others), axis=-1, keepdims=True)
    mean = jnp.mean(others, axis=(-3, -2, -1), keepdims=True)
    return (lengths * directions).reshape(images.shape) + mean


def _centered(images: jax.Array) -> jax.Array:
    """Flat and less their means, ``[..., pixels]``."""
    flat = images.reshape(*images.shape[:-3], -1)
    return flat - jnp.mean(flat, axis=-1, keepdims=True)


def structural_similarity(
    images: jax.Array, others: jax.Array, *, window: int = 7
) -> jax.Array:
    r"""SSIM of pixels in [0, 1], mean over the windows within the image.

    .. math::
        \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}, \qquad
        C_1 = 0.01^2,\ C_2 = 0.03^2,

    with means and sample covariances over square windows with equal weights; those of
    the paper are Gaussian, and wider than a digit.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural
        Similarity, IEEE TIP 2004, Eq. 13.
    """

    def mean(x: jax.Array) -> jax.Array:
        shape = (*(1,) * (x.ndim - 3), window, window, 1)
        sums = lax.reduce_window(x, 0.0, lax.add, shape, (1,) * x.ndim, "VALID")
        return sums / window**2

    def covariance(x: jax.Array, y: jax.Array) -> jax.Array:
        return (mean(x * y) - mean(x) * mean(y)) * window**2 / (window**2 - 1)

    x, y, c1, c2 = images, others, 0.01**2, 0.03**2
    of_means = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
    variances = covariance(x, x) + covariance(y, y)
    of_patterns = (2 * covariance(x, y) + c2) / (variances + c2)
    return jnp.mean(of_means * of_patterns, axis=(-3, -2, -1))
