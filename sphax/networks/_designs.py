"""What a backbone is made of: units of layers that are named by words."""

import dataclasses
from typing import Literal, NamedTuple

from flax import nnx

from sphax._checks import check_choice
from sphax.layers._common import check_sizes
from sphax.networks._common import HE_INIT

# Caffe's "xavier", which is not Glorot's: uniform, variance 1 / fan_in.
CAFFE_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")

_WORDS = ("conv", "norm", "relu", "prelu", "+")


@dataclasses.dataclass(frozen=True)
class Units:
    """Units of one kind at one size of the map, which their first may reduce.

    A unit is a sentence of layers, in their order. ``"conv norm relu"`` is a plain
    layer. ``+`` adds the input of the unit, so that ``"conv norm relu conv norm +
    relu"`` is the residual unit of He et al. and ``"norm conv norm prelu conv norm +"``
    that of insightface. The words:

    - ``conv``: convolution to ``features`` channels, by the operator of the backbone;
      padding of ``kernel_size // 2`` keeps the size of the map at stride 1.
    - ``norm``: batch normalisation. ``relu``, ``prelu``: activation, the latter with
      one slope for each channel.
    - ``+``: adds the shortcut, which is the input itself wherever the shapes agree.

    Args:
        layers: The sentence; ``+`` at most once and after every ``conv``.
        features: Channels of each convolution.
        repeats: Number of units.
        kernel_size: Side of the square windows, odd.
        stride: Of one convolution of the first unit; all others have stride 1.
        stride_at: Which convolution of the unit that is, from 0.
        shortcut: What stands for the input where the shapes differ: ``"projection"``, a
            plain convolution of 1 x 1 and batch normalisation, or ``"padding"``, every
            ``stride``-th position with zeros for the further channels (options B and A
            of He et al.).
        pool: Side of the max pooling, of stride 2, that follows the last unit; None for
            no pooling.
        use_bias: Whether the convolutions have a bias.
        kernel_init: Initializer of the convolutions, that of a projection included.

    Raises:
        ValueError: If the sentence is not as above, a number is not a positive integer,
            ``kernel_size`` is even, or there is no convolution ``stride_at``.

    Example:
        >>> sx.networks.Units("conv norm relu", 64, repeats=3).repeats
        3

    References:
        He et al., `Deep Residual Learning for Image Recognition
        <https://arxiv.org/abs/1512.03385>`_, CVPR 2016, Sec. 3.3 and 4.1.
    """

    layers: str
    features: int
    repeats: int = 1
    _: dataclasses.KW_ONLY
    kernel_size: int = 3
    stride: int = 1
    stride_at: int = 0
    shortcut: Literal["projection", "padding"] = "projection"
    pool: int | None = None
    use_bias: bool = False
    kernel_init: nnx.Initializer = dataclasses.field(default=HE_INIT, repr=False)

    def __post_init__(self):
        check_sizes(
            "Units",
            features=self.features,
            repeats=self.repeats,
            kernel_size=self.kernel_size,
            stride=self.stride,
            pool=2 if self.pool is None else self.pool,
        )
        check_choice("Units: shortcut", self.shortcut, ("projection", "padding"))
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "Units: kernel_size must be odd, for a padding of kernel_size // 2 to"
                f" keep the size of the map, got {self.kernel_size}."
            )
        _check_sentence(self.layers)
        convolutions = self.layers.split().count("conv")
        if self.stride_at not in range(convolutions):
            raise ValueError(
                f"Units: stride_at must be one of the {convolutions} convolutions of"
                f" {self.layers!r}, counted from 0, got {self.stride_at!r}."
            )


class Design(NamedTuple):
    """The positional arguments of :class:`Backbone`: ``Backbone(*design, ...)``.

    Attributes:
        input_shape: ``(height, width, channels)`` of an image.
        stages: :class:`Units`, first to last.
        embedding: Sentence of the layers that turn the last map into the embedding.
        features: Dimension of the embedding where a layer of that sentence chooses it.

    Example:
        >>> design = sx.networks.BACKBONES["resnet20"]
        >>> design._replace(embedding="mean linear", features=2).features
        2
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Units, ...]
    embedding: str
    features: int | None = None


def _check_sentence(layers: str) -> None:
    """Raises unless ``layers`` says a unit."""
    words = layers.split()
    for word in words:
        check_choice("Units: words of layers", word, _WORDS)
    _, _, after = layers.partition("+")
    if "conv" not in words or "conv" in after or "+" in after:
        raise ValueError(
            "Units: layers must have a conv, and + at most once, after every conv, got"
            f" {layers!r}."
        )
