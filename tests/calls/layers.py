"""Calls of ``sphax.layers``: modules at work on their parameters and inputs."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import sphax as sx
from tests.calls._call import Call, normal

X, IMAGES = normal(0, 8, 4), normal(1, 8, 6, 4)
RESPONSE = jnp.asarray(normal(2, 4, 4, 8) + 1j * normal(3, 4, 4, 8))
LABELS = np.arange(8, dtype=np.int32)
ROWS, SPACE = ("batch", "features"), ("batch", None, "features")
TANH, COSINE = sx.operators.Tanh(), sx.operators.Cosine()


def module(name, make, arguments, axes, use=None, sharded=()):
    """A call of a module by its parameters and arguments: results and new state.

    Args:
        name: Of the row.
        make: Function of ``rngs``.
        arguments: What it is called with.
        axes: Of the arguments.
        use: Function of the module and the arguments; a call if not given.
        sharded: Axes of the parameters of some rank; others are replicated.
    """
    graph, params, rest = nnx.split(make(rngs=nnx.Rngs(0)), nnx.Param, ...)
    params = jax.tree.map(np.asarray, params)
    by_rank = {len(of_one): of_one for of_one in sharded}

    def function(params, *arguments):
        layer = nnx.merge(graph, params, jax.tree.map(jnp.asarray, rest))
        out = use(layer, *arguments) if use else layer(*arguments)
        return out, nnx.state(layer, nnx.BatchStat, sx.layers.MarginState)

    of_params = jax.tree.map(lambda x: by_rank.get(x.ndim, (None,) * x.ndim), params)
    return Call(name, function, (params, *arguments), (of_params, *axes), (0, 1))


def dense(kind, **options):
    """A row of a layer from 4 to 8 features."""
    layer = getattr(sx.layers, kind)
    return module(
        f"layers.{kind}",
        lambda rngs: layer(4, 8, **options, rngs=rngs),
        (X,),
        (ROWS,),
        sharded=[("features", "filters")],
    )


def conv(kind, **options):
    """A row of a layer that slides a window of 3 over one axis."""
    layer = getattr(sx.layers, kind)
    return module(
        f"layers.{kind}",
        lambda rngs: layer(4, 8, 3, **options, rngs=rngs),
        (IMAGES,),
        (SPACE,),
        sharded=[(None, "features", "filters")],
    )


CALLS = [
    module("layers.PReLU", lambda rngs: sx.layers.PReLU(4, rngs=rngs), (X,), (ROWS,)),
    module(
        "layers.CosineAttention",
        lambda rngs: sx.layers.CosineAttention(2, 4, decode=False, rngs=rngs),
        (IMAGES,),
        (SPACE,),
    ),
    module(
        "layers.AdaptedLinear",
        lambda rngs: sx.layers.AdaptedLinear(
            nnx.Linear(4, 8, rngs=rngs),
            sx.reparam.BlockRotation(jnp.asarray(normal(2, 2, 1)), dimension=4),
        ),
        (X,),
        (ROWS,),
    ),
    module(
        "layers.NormalizedAttention",
        lambda rngs: sx.layers.NormalizedAttention(4, 2, rngs=rngs),
        (IMAGES,),
        (SPACE,),
        use=lambda layer, x: layer(x, layer.init_cache((8,), 6)),
    ),
    module(
        "layers.NormalizedMLP",
        lambda rngs: sx.layers.NormalizedMLP(8, 16, rngs=rngs),
        (normal(2, 8, 8),),
        (ROWS,),
        sharded=[("features", "hidden")],
    ),
    module(
        "layers.NormalizedBlock",
        lambda rngs: sx.layers.NormalizedBlock(4, 2, 8, step="geodesic", rngs=rngs),
        (IMAGES,),
        (SPACE,),
    ),
    dense("CosineLinear"),
    module(
        "layers.DistributionHead",
        lambda rngs: sx.layers.DistributionHead(4, 3, rngs=rngs),
        (X,),
        (ROWS,),
    ),
    dense("DecoupledLinear", magnitude=TANH, angular=COSINE, radius="learned"),
    dense("OrthogonalLinear"),
    dense("OPTLinear"),
    conv("DecoupledConv", magnitude=TANH, angular=COSINE, radius="mean"),
    conv("SphereConv"),
    conv("SphereNorm"),
    conv("OrthogonalConv"),
    conv("OPTConv"),
    conv("SkewConv", terms=2),
    conv("CayleyConv"),
    conv("AlmostOrthogonalConv"),
    dense("AlmostOrthogonalLinear"),
    Call("layers.GroupSort", lambda x: sx.layers.GroupSort()(x), (X,), (ROWS,)),
    Call("layers.FourierConv", sx.layers.FourierConv(RESPONSE), (IMAGES,), (SPACE,)),
    module(
        "layers.MarginHead",
        lambda rngs: sx.layers.MarginHead(
            4, 8, margin=sx.margins.AdaFace(), scale=8.0, rngs=rngs
        ),
        (X, LABELS),
        (ROWS, ("batch",)),
        use=lambda head, x, labels: (head(x), head.loss(x, labels)),
        sharded=[("classes", "features")],
    ),
]
EXEMPT = {
    "layers.LearnedScale": "a part of layers.NormalizedBlock, which calls it",
    "layers.Frozen": "a kind of variable; layers.OPTLinear holds one",
    "layers.Hyperparameter": "a kind of variable; layers.DecoupledLinear holds some",
    "layers.MarginState": "a kind of variable; layers.MarginHead holds some",
}
