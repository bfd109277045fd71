"""The graph convolution network of Kipf and Welling."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from experiments._graphs import Inputs, SparseMatrix

_INIT = nnx.initializers.glorot_uniform()


class GraphConvolutionNetwork(nnx.Module):
    r"""Two graph convolutions, from the features of all nodes to their logits.

    .. math:: Z = \hat A\, \operatorname{ReLU}(\hat A X W_0)\, W_1

    with the normalised adjacency :math:`\hat A`, dropout before each kernel, of the
    features only among the stored ones, and no biases, as in the authors' code. In the
    paper, the learning rate of Adam is 0.01, and :math:`W_0` alone decays, with 5e-4.

    Args:
        features: Number of features of a node.
        classes: Number of logits.
        hidden: Number of hidden units.
        dropout: Share of what is set to zero.
        rngs: Key stream; uses ``params`` and ``dropout``.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: int = 16,
        dropout: float = 0.5,
        rngs: nnx.Rngs,
    ):
        self.hidden = GraphConvolution(features, hidden, rngs=rngs)
        self.classifier = GraphConvolution(hidden, classes, rngs=rngs)
        # Of a stream by that name, which `nnx.reseed` finds, whatever those of rngs.
        self.dropout = nnx.Dropout(dropout, rngs=nnx.Rngs(dropout=rngs.dropout()))

    def __call__(self, inputs: Inputs) -> jax.Array:
        """Logits of all nodes of a graph, ``[nodes, classes]``."""
        features, adjacency = inputs
        kept = self.dropout(features.values)
        features = dataclasses.replace(features, values=kept)
        hidden = nnx.relu(self.hidden(features, adjacency))
        return self.classifier(self.dropout(hidden), adjacency)


class GraphConvolution(nnx.Module):
    """A linear map of every node, and the weighted sum over its neighbours.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        rngs: Key stream; uses ``params``.
    """

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        kernel = _INIT(rngs.params(), (in_features, out_features), jnp.float32)
        self.kernel = nnx.Param(kernel)

    def __call__(
        self, inputs: SparseMatrix | jax.Array, adjacency: SparseMatrix
    ) -> jax.Array:
        """Maps ``[nodes, in_features]`` to ``[nodes, out_features]``."""
        return adjacency @ (inputs @ self.kernel[...])
