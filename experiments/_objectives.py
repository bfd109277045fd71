"""What the open-set experiment trains with: a table with a row for each loss.

Hyperparameters are the papers', which the library has by default; the losses on cosines
share one scale, where it is not part of their paper's method.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from flax import nnx

import sphax as sx
from experiments import _heads

Build = Callable[[int, int, float, nnx.Rngs], nnx.Module]


class Method(NamedTuple):
    """A loss, its name in tables, and whether it asks a softmax for a margin."""

    title: str
    build: Build
    has_margin: bool = False

    def head(
        self, features: int, classes: int, scale: float, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """What has ``loss(embeddings, labels, key=key)``, and its own parameters."""
        return self.build(features, classes, scale, rngs)


def _softmax(
    margin: sx.margins.Margin,
    normalize: Literal["none", "prototypes", "both"] = "both",
    **options: Any,
) -> Build:
    def build(features, classes, scale, rngs):
        given = {"scale": scale} if normalize == "both" else {}
        return sx.layers.MarginHead(
            features,
            classes,
            margin=margin,
            normalize=normalize,
            **given | options,
            rngs=rngs,
        )

    return build


def _adacos_fixed(features, classes, scale, rngs):
    scale = sx.losses.adacos_fixed_scale(classes)
    return _softmax(sx.margins.NoMargin())(features, classes, scale, rngs)


def _adacos_dynamic(features, classes, scale, rngs):
    return _heads.AdaCos(features, classes, rngs=rngs)


def _sphereface2(variant: Literal["A", "C", "M"]) -> Build:
    return lambda features, classes, scale, rngs: _heads.SphereFace2(
        variant, features, classes, rngs=rngs
    )


def _prototypes(function: Callable[..., jax.Array]) -> Build:
    return lambda features, classes, scale, rngs: _heads.Prototypes(
        function, features, classes, rngs=rngs
    )


def _pairs(function: Callable[..., jax.Array], **options: Any) -> Build:
    # Bound once: a partial equals itself alone, and the steps of all seeds are one.
    bound = partial(function, **options)
    return lambda features, classes, scale, rngs: _heads.Pairs(bound)


def _with_softmax(other: Callable[[int, int], nnx.Module]) -> Build:
    softmax = _softmax(sx.margins.NoMargin(), "none")
    return lambda features, classes, scale, rngs: _heads.Sum(
        softmax(features, classes, scale, rngs), other(features, classes)
    )


_m, _l = sx.margins, sx.losses

METHODS: dict[str, Method] = {
    "softmax": Method("Softmax", _softmax(_m.NoMargin(), "none")),
    "softmax-smoothed": Method(
        "Softmax, label smoothing 0.1",
        _softmax(_m.NoMargin(), "none", label_smoothing=0.1),
    ),
    "weight-normalised": Method(
        "Weight-normalised softmax", _softmax(_m.NoMargin(), "prototypes")
    ),
    "normface": Method("NormFace", _softmax(_m.NoMargin())),
    "adacos-fixed": Method("AdaCos, fixed scale", _adacos_fixed),
    "adacos": Method("AdaCos, dynamic scale", _adacos_dynamic),
    "hinge": Method("Hinge", _prototypes(_l.hinge)),
    "p2sgrad": Method("P2SGrad", _prototypes(_l.p2sgrad)),
    "l-softmax-2": Method(
        "L-Softmax, m = 2", _softmax(_m.SphereFace(m=2), "none"), True
    ),
    "l-softmax-3": Method(
        "L-Softmax, m = 3", _softmax(_m.SphereFace(m=3), "none"), True
    ),
    "l-softmax-4": Method(
        "L-Softmax, m = 4", _softmax(_m.SphereFace(m=4), "none"), True
    ),
    "sphereface": Method(
        "SphereFace (A-Softmax), m = 4",
        _softmax(_m.SphereFace(m=4), "prototypes"),
        True,
    ),
    "sphereface-r1": Method(
        "SphereFace-R v1, m = 1.5", _softmax(_m.SphereFaceR(m=1.5, version=1)), True
    ),
    "sphereface-r2": Method(
        "SphereFace-R v2, m = 1.5", _softmax(_m.SphereFaceR(m=1.5, version=2)), True
    ),
    "cosface": Method("CosFace, m = 0.35", _softmax(_m.CosFace()), True),
    "arcface": Method("ArcFace, m = 0.5", _softmax(_m.ArcFace()), True),
    "combined": Method(
        "Combined, m = 1, 0.3, 0.2", _softmax(_m.Combined(m1=1.0, m2=0.3, m3=0.2)), True
    ),
    "li-arcface": Method("Li-ArcFace, m = 0.45", _softmax(_m.LiArcFace()), True),
    "subcenter-arcface": Method(
        "Sub-center ArcFace, K = 3", _softmax(_m.ArcFace(), subcenters=3), True
    ),
    "filtered-arcface": Method(
        "ArcFace, inter-class filter", _softmax(_m.InterClassFilter(_m.ArcFace())), True
    ),
    "curricularface": Method("CurricularFace", _softmax(_m.CurricularFace()), True),
    "mv-cosface": Method("MV-Softmax on CosFace", _softmax(_m.MVSoftmax()), True),
    "mv-arcface": Method(
        "MV-Softmax on ArcFace", _softmax(_m.MVSoftmax(_m.ArcFace())), True
    ),
    "magface": Method("MagFace", _softmax(_m.MagFace()), True),
    "adaface": Method("AdaFace", _softmax(_m.AdaFace()), True),
    "elasticface": Method("ElasticFace", _softmax(_m.ElasticFace()), True),
    # The paper's scale: the loss has its optimum at fixed cosines, whatever it is.
    "circle-classes": Method(
        "Circle, class level", _softmax(_m.Circle(), scale=256.0), True
    ),
    "sphereface2-c": Method("SphereFace2, C", _sphereface2("C"), True),
    "sphereface2-a": Method("SphereFace2, A", _sphereface2("A"), True),
    "sphereface2-m": Method("SphereFace2, M", _sphereface2("M"), True),
    "softmax-center": Method("Softmax + center", _with_softmax(_heads.Centers)),
    "softmax-ring": Method(
        "Softmax + ring", _with_softmax(lambda features, _: _heads.Ring(features))
    ),
    "softmax-uniformface": Method(
        "Softmax + UniformFace", _with_softmax(_heads.UniformFace)
    ),
    "softmax-contrastive": Method(
        "Softmax + contrastive",
        _with_softmax(lambda *_: _heads.Pairs(_l.contrastive)),
    ),
    "contrastive": Method("Contrastive", _pairs(_l.contrastive)),
    "triplet": Method("Triplet, semi-hard", _pairs(_l.triplet, mining="semi_hard")),
    "triplet-all": Method("Triplet, all", _pairs(_l.triplet, mining="all")),
    "triplet-batch-hard": Method(
        "Triplet, batch-hard", _pairs(_l.triplet, mining="batch_hard")
    ),
    "n-pair": Method("N-pair", _pairs(_l.n_pair)),
    "nt-xent": Method("NT-Xent", _pairs(_l.nt_xent)),
    "supcon": Method("SupCon", _pairs(_l.supervised_contrastive)),
    "circle": Method("Circle, pair level", _pairs(_l.circle)),
    "proxy-nca": Method("Proxy-NCA", _prototypes(_l.proxy_nca)),
    "proxy-anchor": Method("Proxy-Anchor", _prototypes(_l.proxy_anchor)),
    "alignment-uniformity": Method(
        "Alignment + uniformity", _pairs(_heads.alignment_and_uniformity)
    ),
}

# Accuracy on LFW of the dissertation's Table 2.5, in percent.
PUBLISHED: dict[str, float] = {
    "softmax": 96.53,
    "softmax-contrastive": 97.31,
    "l-softmax-2": 97.81,
    "l-softmax-3": 98.27,
    "l-softmax-4": 98.71,
}
