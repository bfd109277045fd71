"""Graphs whose nodes have classes: sparse matrices, a generator, and a network."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# The density of Pareto's popularities with this shape falls with the third power, as
# that of the number of citations of a paper does.
_POPULARITY = 2.0
_INIT = nnx.initializers.glorot_uniform()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseMatrix:
    """A matrix by its stored entries, row after row; a pytree.

    Attributes:
        values: Entries, ``[stored]``.
        rows: Their rows, ascending.
        columns: Their columns.
        shape: Of the matrix; static.
    """

    values: np.ndarray | jax.Array
    rows: np.ndarray | jax.Array
    columns: np.ndarray | jax.Array
    shape: tuple[int, int] = dataclasses.field(metadata={"static": True})

    def __matmul__(self, dense: jax.Array) -> jax.Array:
        """Product with ``[columns, features]``, one addition for each stored entry."""
        terms = self.values[:, None] * dense[self.columns]
        return jax.ops.segment_sum(
            terms, self.rows, self.shape[0], indices_are_sorted=True
        )


def sparse(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> SparseMatrix:
    """The matrix that has these entries, in any order, and zeros."""
    order = np.lexsort((columns, rows))
    return SparseMatrix(
        values[order].astype(np.float32),
        rows[order].astype(np.int32),
        columns[order].astype(np.int32),
        shape,
    )


class Inputs(NamedTuple):
    """Input of a graph convolution network; a pytree.

    Attributes:
        features: Of the nodes, in rows that sum to one, ``[nodes, features]``.
        adjacency: Normalized, ``[nodes, nodes]``.
    """

    features: SparseMatrix
    adjacency: SparseMatrix


@dataclasses.dataclass(frozen=True)
class Graph:
    """An undirected graph, and which of its nodes serve for what.

    Attributes:
        features: Of the nodes, ``[nodes, features]``, as counted.
        labels: Classes of the nodes, ``[nodes]``.
        edges: Pairs of different nodes, ``[edges, 2]``, each once.
        train: Nodes whose labels are known.
        validation: Nodes to choose settings by.
        test: Nodes to be classified.
        classes: Number of classes.
    """

    features: SparseMatrix
    labels: np.ndarray
    edges: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    classes: int

    @functools.cached_property
    def inputs(self) -> Inputs:
        """Input of a network, with all nodes, on the device.

        Rows of features are divided by their sums, where these are not zero.
        """
        counts, nodes = self.features, len(self.labels)
        sums = np.bincount(counts.rows, counts.values, nodes)
        values = counts.values / np.where(sums == 0.0, 1.0, sums)[counts.rows]
        features = dataclasses.replace(counts, values=values.astype(np.float32))
        adjacency = normalized_adjacency(self.edges, nodes)
        return jax.tree.map(jnp.asarray, Inputs(features, adjacency))


def normalized_adjacency(edges: np.ndarray, nodes: int) -> SparseMatrix:
    r"""The adjacency matrix with loops, symmetrically normalized.

    .. math:: D^{-1/2} (A + I) D^{-1/2}, \qquad D_{ii} = 1 + \sum_j A_{ij}

    Args:
        edges: Pairs of different nodes, ``[edges, 2]``, each once.
        nodes: Number of nodes.

    References:
        Kipf & Welling, `Semi-Supervised Classification with Graph Convolutional
        Networks <https://arxiv.org/abs/1609.02907>`_, ICLR 2017, Eq. 2.
    """
    loops = np.arange(nodes)
    rows = np.concatenate([edges[:, 0], edges[:, 1], loops])
    columns = np.concatenate([edges[:, 1], edges[:, 0], loops])
    degrees = np.bincount(rows, minlength=nodes)
    values = 1.0 / np.sqrt(degrees[rows] * degrees[columns])
    return sparse(values, rows, columns, (nodes, nodes))


def undirected(pairs: np.ndarray) -> np.ndarray:
    """Edges ``[edges, 2]`` between the nodes of ``[pairs, 2]``, each once, no loops."""
    pairs = np.sort(pairs, axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def generate(
    *,
    nodes: int = 1400,
    classes: int = 7,
    words: int = 256,
    citations: int = 2,
    homophily: float = 0.7,
    length: int = 18,
    topicality: float = 0.2,
    per_class: int = 20,
    validation: int = 300,
    seed: int = 0,
) -> Graph:
    """Generates papers that cite each other, similar to Cora but smaller.

    Edges are those of a degree-corrected stochastic block model in which every node
    cites the same number of others: mostly nodes of its class, popular ones more often.
    A feature says whether a word occurs in a paper; some words are of its topic.

    Args:
        nodes: Number of papers, the same for each class.
        classes: Number of classes.
        words: Size of the vocabulary.
        citations: Number of papers that a paper cites.
        homophily: Probability that a cited paper is of the same class.
        length: Words in a paper, repetitions included.
        topicality: Probability that a word is drawn from the topic, and not from the
            words of all classes.
        per_class: Nodes of each class whose labels are known.
        validation: Nodes to choose settings by; the rest is the test.
        seed: Of all draws.

    Raises:
        ValueError: If there are too few nodes for the parts.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(nodes, dtype=np.int32) % classes)
    cited = _cited(rng, np.repeat(labels, citations), labels, homophily)
    pairs = np.stack([np.repeat(np.arange(nodes), citations), cited], axis=1)
    features = _bags_of_words(rng, labels, classes, words, length, topicality)
    order = rng.permutation(nodes)
    known = [order[labels[order] == label][:per_class] for label in range(classes)]
    train = np.sort(np.concatenate(known))
    rest = order[~np.isin(order, train)]
    if min(map(len, known)) < per_class or len(rest) <= validation:
        raise ValueError(
            f"nodes must be enough for {per_class} of each of {classes} classes,"
            f" validation = {validation} others and a test, got {nodes}."
        )
    parts = train, np.sort(rest[:validation]), np.sort(rest[validation:])
    return Graph(features, labels, undirected(pairs), *parts, classes)


def _cited(rng, citing, labels, homophily):
    """A node for each label of ``citing``, of that class with a given probability."""
    order = np.argsort(labels, kind="stable")
    popularity = rng.pareto(_POPULARITY, len(labels)) + 1.0
    ends = np.cumsum(popularity)
    bounds = np.concatenate([[0.0], ends[np.cumsum(np.bincount(labels)) - 1]])
    start, end = bounds[citing], bounds[citing + 1]
    width = end - start
    # A place on a line where each node takes as much as it is popular: within the
    # stretch of the class, or anywhere outside of it.
    inside = start + rng.uniform(size=len(citing)) * width
    outside = rng.uniform(size=len(citing)) * (ends[-1] - width)
    outside += np.where(outside >= start, width, 0.0)
    place = np.where(rng.uniform(size=len(citing)) < homophily, inside, outside)
    return order[np.searchsorted(ends[:-1], place, side="right")]


def _bags_of_words(rng, labels, classes, words, length, topicality):
    """Ones where a paper has a word; frequencies follow Zipf's law in every topic."""
    frequencies = 1.0 / np.arange(1, words + 1)
    frequencies /= frequencies.sum()
    common = rng.permutation(frequencies)
    topics = np.stack([rng.permutation(frequencies) for _ in range(classes)])
    ends = np.cumsum((1.0 - topicality) * common + topicality * topics, axis=1)
    drawn = [
        np.searchsorted(ends[label, :-1], rng.uniform(size=length), side="right")
        for label in labels
    ]
    pairs = np.stack([np.repeat(np.arange(len(labels)), length), np.ravel(drawn)], 1)
    rows, columns = np.unique(pairs, axis=0).T
    return sparse(np.ones(len(rows)), rows, columns, (len(labels), words))


class GraphConvolutionNetwork(nnx.Module):
    r"""Two graph convolutions, from the features of all nodes to their logits (GCN).

    .. math:: Z = \hat A\, \operatorname{ReLU}(\hat A X W_0)\, W_1

    with the normalized adjacency :math:`\hat A`, dropout before each kernel, of the
    features only among the stored ones, and no biases, as in the authors' code. In the
    paper, the learning rate of Adam is 0.01, and :math:`W_0` alone decays, with 5e-4.

    Args:
        features: Number of features of a node.
        classes: Number of logits.
        hidden: Number of hidden units.
        dropout: Share of entries that is set to zero.
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
        # A stream of this name, which `nnx.reseed` finds, whatever those of rngs.
        self.dropout = nnx.Dropout(dropout, rngs=nnx.Rngs(dropout=rngs.dropout()))

    def __call__(self, inputs: Inputs) -> jax.Array:
        """Logits of all nodes of a graph, ``[nodes, classes]``."""
        features, adjacency = inputs
        features = dataclasses.replace(features, values=self.dropout(features.values))
        hidden = nnx.relu(self.hidden(features, adjacency))
        return self.classifier(self.dropout(hidden), adjacency)


class GraphConvolution(nnx.Module):
    """A linear map of every node, and the weighted sum over its neighbors.

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
