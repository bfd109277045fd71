"""Graphs whose nodes are to be classified, as sparse matrices."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


class Inputs(NamedTuple):
    """What a network of graph convolutions is given; a pytree.

    Attributes:
        features: Of the nodes, in rows that sum to one, ``[nodes, features]``.
        adjacency: Normalised, ``[nodes, nodes]``.
    """

    features: SparseMatrix
    adjacency: SparseMatrix


@dataclasses.dataclass(frozen=True)
class Graph:
    """An undirected graph, and which of its nodes are for what.

    Attributes:
        features: Of the nodes, ``[nodes, features]``, as counted.
        labels: Classes of the nodes, ``[nodes]``.
        edges: Pairs of nodes ``[edges, 2]``: each once, and none with itself.
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
        """What a network is given, on the device: all nodes, for whatever they are."""
        adjacency = normalized_adjacency(self.edges, len(self.labels))
        inputs = Inputs(rows_to_one(self.features), adjacency)
        return jax.tree.map(jnp.asarray, inputs)


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


def rows_to_one(matrix: SparseMatrix) -> SparseMatrix:
    """Rows divided by their sums, where these are not zero."""
    sums = np.bincount(matrix.rows, matrix.values, matrix.shape[0])
    values = matrix.values / np.where(sums == 0.0, 1.0, sums)[matrix.rows]
    return dataclasses.replace(matrix, values=values.astype(np.float32))


def normalized_adjacency(edges: np.ndarray, nodes: int) -> SparseMatrix:
    r"""The adjacency matrix with loops, symmetrically normalised.

    .. math:: D^{-1/2} (A + I) D^{-1/2}, \qquad D_{ii} = 1 + \sum_j A_{ij}

    Args:
        edges: Pairs ``[edges, 2]``, each once and none with itself.
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
