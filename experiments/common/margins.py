"""Softmax with and without margins, by the names of the command line."""

from typing import Literal, NamedTuple

from flax import nnx

import sphax as sx


class Method(NamedTuple):
    """Softmax loss with a margin."""

    title: str
    margin: sx.margins.Margin
    normalize: Literal["none", "prototypes", "both"]
    label_smoothing: float = 0.0

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> sx.layers.MarginHead:
        """The head for training; ``scale`` matters only if both are normalized."""
        return sx.layers.MarginHead(
            features,
            classes,
            margin=self.margin,
            normalize=self.normalize,
            scale=scale if self.normalize == "both" else None,
            label_smoothing=self.label_smoothing,
            rngs=rngs,
        )


MarginName = Literal[
    "softmax",
    "l-softmax-2",
    "l-softmax-3",
    "l-softmax-4",
    "a-softmax",
    "cosface",
    "arcface",
]
MARGINS: dict[MarginName, Method] = {
    "softmax": Method("Softmax", sx.margins.NoMargin(), "none"),
    "l-softmax-2": Method("L-Softmax, m = 2", sx.margins.SphereFace(m=2), "none"),
    "l-softmax-3": Method("L-Softmax, m = 3", sx.margins.SphereFace(m=3), "none"),
    "l-softmax-4": Method("L-Softmax, m = 4", sx.margins.SphereFace(m=4), "none"),
    "a-softmax": Method("A-Softmax, m = 4", sx.margins.SphereFace(m=4), "prototypes"),
    "cosface": Method("CosFace, m = 0.35", sx.margins.CosFace(margin=0.35), "both"),
    "arcface": Method("ArcFace, m = 0.5", sx.margins.ArcFace(margin=0.5), "both"),
}
