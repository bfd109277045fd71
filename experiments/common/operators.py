"""Operators that replace convolutions, by the names of the command line.

A name is ``MAGNITUDE-ANGULAR``, such as ``tanh-square-cosine``, and may end in
``-weighted`` or ``-nonlinear``, for filters whose length counts. That makes 84; the
others are ``plain`` and two operators with more parameters.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import nnx

import sphax as sx


class Operator(NamedTuple):
    """An operator.

    Attributes:
        title: Name in tables.
        conv: Constructor of the convolution, for any network of ``sx.networks``.
        has_length: Whether the length of a filter counts, not only its direction. If
            so, its weights decay; if not, they may be kept orthogonal instead.
    """

    title: str
    conv: Callable[..., Any]
    has_length: bool = False


_MAGNITUDES: dict[str, tuple[str, type[sx.operators.Magnitude]]] = {
    "sphere": ("SphereConv", sx.operators.Sphere),
    "ball": ("BallConv", sx.operators.Ball),
    "tanh": ("TanhConv", sx.operators.Tanh),
    "linear": ("LinearConv", sx.operators.Linear),
    "segmented": ("SegConv", sx.operators.Segmented),
    "log": ("LogConv", sx.operators.Log),
    "mix": ("MixConv", sx.operators.Mix),
}
_ANGULAR: dict[str, sx.operators.Angular] = {
    "linear": sx.operators.LinearAngle(),
    "cosine": sx.operators.Cosine(),
    "sigmoid": sx.operators.Sigmoid(),
    "square-cosine": sx.operators.SquareCosine(),
}
_WEIGHTED: dict[str, Any] = {
    "": "none",
    "-weighted": "linear",
    "-nonlinear": "nonlinear",
}

# As in the batch normalization of the networks. The authors' 0.999 takes thousands of
# steps to forget the start, more than the quick presets have.
_MOMENTUM = 0.9


def _decoupled(magnitude: str, angular: str, weighted: str) -> Operator:
    title, function = _MAGNITUDES[magnitude]
    words = f"{title}, {angular}{weighted}".replace("-", " ")
    h = function(weighted=_WEIGHTED[weighted])
    conv = partial(
        sx.layers.DecoupledConv,
        magnitude=h,
        angular=_ANGULAR[angular],
        # As published, a radius is learned, in units of the mean norm.
        radius="learned" if hasattr(h, "rho") else "fixed",
        momentum=_MOMENTUM,
    )
    return Operator(words, conv, weighted != "")


OPERATORS: dict[str, Operator] = {
    "plain": Operator("Plain", nnx.Conv, has_length=True),
    "sphere-learned-sigmoid": Operator(
        "SphereConv, learned sigmoid",
        partial(sx.layers.SphereConv, operator="learned_sigmoid"),
    ),
    "sphere-norm": Operator(
        "SphereNorm, cosine", partial(sx.layers.SphereNorm, momentum=_MOMENTUM)
    ),
    **{
        f"{magnitude}-{angular}{weighted}": _decoupled(magnitude, angular, weighted)
        for magnitude, angular, weighted in itertools.product(
            _MAGNITUDES, _ANGULAR, _WEIGHTED
        )
    },
}


def operator(name: str, flag: str = "--operator") -> Operator:
    """The named operator.

    Raises:
        ValueError: If there is no such operator; lists the names.
    """
    if name not in OPERATORS:
        raise ValueError(
            f"{flag} must be plain, sphere-learned-sigmoid, sphere-norm, or"
            f" MAGNITUDE-ANGULAR, with a magnitude of {', '.join(_MAGNITUDES)}, an"
            f" angular function of {', '.join(_ANGULAR)}, and after them -weighted,"
            f" -nonlinear or nothing; got {name!r}."
        )
    return OPERATORS[name]
