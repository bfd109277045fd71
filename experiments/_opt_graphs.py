"""A graph as a problem: which class its nodes are of, a few of them being known."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import _batches, _graphs
from experiments._graph_network import GraphConvolutionNetwork
from experiments._opt_problems import Problem, cross_entropy, wrong


class Nodes(NamedTuple):
    """Some nodes of a graph, which a network is always given as a whole."""

    inputs: _graphs.Inputs
    places: jax.Array
    labels: jax.Array


def graph_convolutional(graph: _graphs.Graph, hidden: int) -> Problem:
    """Two graph convolutions; every step takes all nodes whose labels are known."""
    train, test = (
        Nodes(graph.inputs, jnp.asarray(places), jnp.asarray(graph.labels[places]))
        for places in (graph.train, graph.test)
    )

    def network(seed: int) -> GraphConvolutionNetwork:
        sizes = graph.features.shape[1], graph.classes
        return GraphConvolutionNetwork(*sizes, hidden=hidden, rngs=nnx.Rngs(seed))

    def loss(network: Any, nodes: Nodes) -> jax.Array:
        return cross_entropy(network(nodes.inputs)[nodes.places], nodes.labels)

    def error(network: Any, nodes: Nodes) -> jax.Array:
        return wrong(network(nodes.inputs)[nodes.places], nodes.labels)

    def batches(budget: _batches.Budget, seed: int, start: int) -> Iterator[Nodes]:
        del budget, seed, start
        return itertools.repeat(train)

    return Problem("GCN", network, loss, error, batches, test, test)
