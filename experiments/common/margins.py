"""Softmax with and without margins, by the names of the command line."""

import ast
import inspect
from collections.abc import Callable, Sequence
from functools import partial
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

m = sx.margins
# Margins of cosines, as in the code of their authors where it is not the default.
CONSTRUCTORS: dict[str, Callable[..., sx.margins.Margin]] = {
    "none": m.NoMargin,
    "sphereface": m.SphereFace,
    "sphereface-r": m.SphereFaceR,
    "cosface": m.CosFace,
    "arcface": partial(m.ArcFace, beyond="pure"),
    "combined": m.Combined,
    "li-arcface": m.LiArcFace,
    "curricularface": m.CurricularFace,
    "mv-softmax": m.MVSoftmax,
    "inter-class-filter": partial(m.InterClassFilter, m.ArcFace(beyond="pure")),
    "magface": partial(m.MagFace, beyond="easy"),
    "adaface": partial(m.AdaFace, beyond="clamp"),
    "elasticface": m.ElasticFace,
    "circle": m.Circle,
}


def margin_of(name: str, options: Sequence[str] = ()) -> sx.margins.Margin:
    """A margin by its name, with hyperparameters such as ``"margin=0.4"``.

    Raises:
        ValueError: If there is no such margin, or an option is not one of its
            hyperparameters; names the flag.
    """
    if name not in CONSTRUCTORS:
        raise ValueError(
            f"--margins must be some of {', '.join(CONSTRUCTORS)}, got {name}."
        )
    make, found = CONSTRUCTORS[name], {}
    known = [*inspect.signature(make).parameters]
    for option in options:
        key, _, text = option.partition("=")
        if key not in known or not text:
            raise ValueError(
                "--margin-options must be NAME=VALUE with hyperparameters of"
                f" {name}, {', '.join(known) or 'which has none'}; got {option}."
            )
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    try:
        return make(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--margin-options {' '.join(options)}: {error}") from error
