"""The losses of the study, and what is searched of each."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

import sphax as sx

m = sx.margins


class Range(NamedTuple):
    """Values of a hyperparameter that are tried.

    Attributes:
        default: Of the first trial; published, or this repository's.
        low: Least value.
        high: Largest value.
        is_log: Whether the logarithm is spread evenly, and not the value.
    """

    default: float
    low: float
    high: float
    is_log: bool = False

    def at(self, share: float) -> float:
        """The value at a share of the way from low to high, four digits of it."""
        if self.is_log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return float(f"{value:.4g}")


class Choice(NamedTuple):
    """Hyperparameters of a training; margin and scale are 1 where there are none."""

    learning_rate: Any
    margin: Any
    scale: Any


class Loss(NamedTuple):
    """A loss.

    Attributes:
        title: Its name in tables.
        value: ``value(embeddings, prototypes, labels, choice, count, steps)``.
        margin: What is searched of its margin.
        scale: What is searched of its scale, or of the weight of its second term.
        has_prototypes: Whether it has a learned vector for each class.
    """

    title: str
    value: Callable[..., jax.Array]
    margin: Range | None = None
    scale: Range | None = None
    has_prototypes: bool = True


def _softmax(
    margin: Callable[..., sx.margins.Margin],
    normalize: Literal["none", "prototypes", "both"] = "both",
) -> Callable[..., jax.Array]:
    """Softmax with the margin ``margin(value, count, steps)``."""

    def value(embeddings, prototypes, labels, choice, count, steps):
        given: dict[str, Any] = {"normalize": normalize}
        if normalize == "both":
            given["scale"] = choice.scale
        made = margin(choice.margin, count, steps)
        return sx.losses.margin_softmax(embeddings, prototypes, labels, made, **given)

    return value


def _multiplied(factor: int) -> Callable[..., sx.margins.Margin]:
    """Multiplies the angle, after an introduction that lasts as long as the training.

    lambda falls along the curve of L-Softmax's authors, for SphereFace too: along that
    of its own authors, which is at its floor after 6 % of the steps, it does not learn.

    The value that is searched is the weight of the multiplied angle at the end,
    ``1 / (1 + lambda)``.
    """

    def margin(weight, count, steps):
        fade = sx.margins.annealing_schedule(1000.0, 0.45 / steps, 35.0, 0.0)
        floor = 1.0 / weight - 1.0
        return m.SphereFace(m=factor, annealing=jax.numpy.maximum(fade(count), floor))

    return margin


def _softmax_and_contrastive(embeddings, prototypes, labels, choice, count, steps):
    first = _SOFTMAX(embeddings, prototypes, labels, choice, count, steps)
    second = sx.losses.contrastive(embeddings, labels, margin=choice.margin)
    return first + choice.scale * second


def _triplet(embeddings, prototypes, labels, choice, count, steps):
    return sx.losses.triplet(
        embeddings, labels, margin=choice.margin, mining="semi_hard"
    )


_SOFTMAX = _softmax(lambda *_: m.NoMargin(), "none")
_WEIGHT = Range(1.0, 0.1, 1.0)
_SCALE = Range(30.0, 8.0, 64.0, is_log=True)
RATE = Range(3e-3, 5e-4, 1e-2, is_log=True)

LOSSES: dict[str, Loss] = {
    "softmax": Loss("Softmax", _SOFTMAX),
    "softmax-contrastive": Loss(
        "Softmax + contrastive",
        _softmax_and_contrastive,
        Range(1.0, 0.4, 1.4),
        Range(1.0, 0.1, 30.0, is_log=True),
    ),
    "triplet": Loss(
        "Triplet, semi-hard", _triplet, Range(0.2, 0.05, 1.0), has_prototypes=False
    ),
    "l-softmax-2": Loss("L-Softmax, m = 2", _softmax(_multiplied(2), "none"), _WEIGHT),
    "l-softmax-4": Loss("L-Softmax, m = 4", _softmax(_multiplied(4), "none"), _WEIGHT),
    "sphereface": Loss(
        "SphereFace (A-Softmax), m = 4",
        _softmax(_multiplied(4), "prototypes"),
        _WEIGHT._replace(default=1 / 6),
    ),
    "cosface": Loss(
        "CosFace",
        _softmax(lambda margin, *_: m.CosFace(margin=margin)),
        Range(0.35, 0.02, 0.5),
        _SCALE,
    ),
    "arcface": Loss(
        "ArcFace",
        _softmax(lambda margin, *_: m.ArcFace(margin=margin)),
        Range(0.5, 0.02, 0.7),
        _SCALE,
    ),
    "normface": Loss("NormFace", _softmax(lambda *_: m.NoMargin()), scale=_SCALE),
}
