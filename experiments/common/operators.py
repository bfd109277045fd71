"""Operators by the names of the command line, in place of a convolution.

A name is ``MAGNITUDE-ANGULAR``, such as ``tanh-square-cosine``, and may end in
``-weighted`` or ``-nonlinear``, for filters whose length counts: 84 in all, beside
``plain`` and the two forms with more to learn.
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
        title: Its name in tables.
        conv: Constructor of its convolution, for any network of ``sx.networks``.
        has_length: Whether the length of a filter counts, and not its direction alone.
            If so its weights decay; if not, they may be kept orthogonal instead.
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

# As for the batch normalisation of the networks. The authors' 0.999 forgets the start
# only after thousands of steps, which the runs of a CPU do not have.
_MOMENTUM = 0.9


def _decoupled(magnitude: str, angular: str, weighted: str) -> Operator:
    title, function = _MAGNITUDES[magnitude]
    words = f"{title}, {angular}{weighted}".replace("-", " ")
    h = function(weighted=_WEIGHTED[weighted])
    conv = partial(
        sx.layers.DecoupledConv,
        magnitude=h,
        angular=_ANGULAR[angular],
        # As published, where there is a radius: learned, in units of the mean norm.
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
    """The operator of a name.

    Raises:
        ValueError: If it is not a name; says which names the flag takes.
    """
    if name not in OPERATORS:
        raise ValueError(
            f"{flag} must be plain, sphere-learned-sigmoid, sphere-norm, or"
            f" MAGNITUDE-ANGULAR, with a magnitude of {', '.join(_MAGNITUDES)}, an"
            f" angular function of {', '.join(_ANGULAR)}, and after them -weighted,"
            f" -nonlinear or nothing; got {name!r}."
        )
    return OPERATORS[name]
