"""A convolutional autoencoder whose encoder can be asked for one factor alone."""

from collections.abc import Sequence
from typing import Literal

import jax
from flax import nnx

import sphax as sx
from sphax.operators import Cosine, Linear

Factor = Literal["output", "magnitude", "angle"]

_INIT = nnx.initializers.he_normal()


class Autoencoder(nnx.Module):
    """Images to a map of codes and back, by plain convolutions and rectifiers.

    Every convolution of the encoder has stride 2 and is the inner product of patch and
    filter, taken apart on demand. Those of the decoder make four pixels of one. There
    are no biases and no normalisation, so that the network is positively homogeneous:
    codes in another unit come out with another contrast, and as nothing worse. The
    codes are rectified, so that what the decoder is given is never negative, be it the
    inner product, its magnitude, or the angle.

    Args:
        shape: Height, width and channels of an image.
        channels: After each convolution of the encoder; the last are those of the code.
        rngs: Key stream; uses ``params``.

    Raises:
        ValueError: If the image cannot be halved as often.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: Sequence[int],
        *,
        rngs: nnx.Rngs,
    ):
        *space, depth = shape
        parts = 2 ** len(channels)
        if any(size % parts for size in space):
            raise ValueError(
                f"channels must leave height and width whole: {len(channels)}"
                f" convolutions halve {space[0]} x {space[1]} pixels as often, which"
                f" {parts} does not divide; name fewer of them."
            )
        sizes = [depth, *channels]
        self.encoder = nnx.List(
            sx.layers.DecoupledConv(
                *pair,
                (3, 3),
                2,
                magnitude=Linear(weighted="linear"),
                angular=Cosine(),
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
        self,
        images: jax.Array,
        *,
        emit: Factor = "output",
        everywhere: bool = False,
    ) -> jax.Array:
        """What the decoder makes of the codes of images ``[n, height, width, depth]``.

        Args:
            images: Pixels in [0, 1].
            emit: What the last convolution of the encoder gives: the inner product, its
                magnitude, or the cosine of the angle.
            everywhere: Whether those before it give the same.
        """
        x = images
        *early, last = self.encoder
        for conv in early:
            x = nnx.relu(conv(x, part=emit if everywhere else "output"))
        x = nnx.relu(last(x, part=emit))
        *early, last = self.decoder
        for conv in early:
            x = nnx.relu(_spread(conv(x)))
        return _spread(last(x))


def _spread(x: jax.Array) -> jax.Array:
    """Four channels as four pixels, ``[n, h, w, 4 c]`` to ``[n, 2 h, 2 w, c]``."""
    n, height, width, depth = x.shape
    x = x.reshape(n, height, width, 2, 2, depth // 4).swapaxes(2, 3)
    return x.reshape(n, 2 * height, 2 * width, depth // 4)
