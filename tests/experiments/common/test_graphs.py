"""Graphs: sparse products, generated papers, and the graph convolution network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import sparse

import sphax as sx
from experiments.common import graphs
from experiments.common.graphs import GraphConvolutionNetwork

# The last of six nodes has no edge.
EDGES = np.array([[0, 1], [0, 2], [0, 4], [1, 2], [3, 4]])


def dense_adjacency(edges, nodes):
    adjacency = np.eye(nodes)
    for i, j in edges:
        adjacency[i, j] = adjacency[j, i] = 1.0
    scale = np.diag(adjacency.sum(1) ** -0.5)
    return scale @ adjacency @ scale


def dense(matrix):
    return sparse.coo_array(
        (matrix.values, (matrix.rows, matrix.columns)), matrix.shape
    ).toarray()


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def weights_of_numpy(monkeypatch):
    """JAX takes seconds to compile the draw of one kernel."""

    def init(key, shape, dtype):
        seed = np.asarray(jax.random.key_data(key))
        weights = np.random.default_rng(seed).normal(size=shape)
        return jnp.asarray(weights * (2.0 / shape[0]) ** 0.5, dtype)

    monkeypatch.setattr(graphs, "_INIT", init)


def test_normalized_adjacency_is_the_dense_one():
    found = graphs.normalized_adjacency(EDGES, 6)
    np.testing.assert_allclose(dense(found), dense_adjacency(EDGES, 6), rtol=1e-6)
    assert len(found.values) == 2 * len(EDGES) + 6


def test_sparse_product_and_its_gradient_are_the_dense_ones():
    matrix = draw(5, 7) * (draw(5, 7, seed=1) > 0.5)
    matrix[3] = 0.0
    rows, columns = np.nonzero(matrix)[0][::-1], np.nonzero(matrix)[1][::-1]
    stored = graphs.sparse(matrix[rows, columns], rows, columns, matrix.shape)
    x, weights = draw(7, 2, seed=2), draw(5, 2, seed=3)
    value, pullback = jax.vjp(jax.jit(lambda x: stored @ x), jnp.asarray(x))
    np.testing.assert_allclose(value, matrix @ x, atol=1e-6)
    np.testing.assert_allclose(pullback(weights)[0], matrix.T @ weights, atol=1e-6)


def test_edges_are_each_there_once_and_join_two():
    pairs = np.array([[2, 1], [1, 2], [3, 3], [0, 2], [1, 2]])
    np.testing.assert_array_equal(graphs.undirected(pairs), [[0, 2], [1, 2]])


def test_rows_of_features_sum_to_one_or_have_none():
    rows, columns = np.array([0, 0, 2]), np.array([1, 0, 1])
    features = graphs.sparse(np.array([1.0, 3.0, 2.0]), rows, columns, (3, 2))
    labels, nodes = np.zeros(3, np.int32), np.arange(3)
    graph = graphs.Graph(features, labels, EDGES[:2], nodes, nodes, nodes, 1)
    expected = [[0.75, 0.25], [0.0, 0.0], [0.0, 1.0]]
    np.testing.assert_array_equal(dense(graph.inputs.features), expected)
    adjacency = dense(graph.inputs.adjacency)
    np.testing.assert_allclose(adjacency, dense_adjacency(EDGES[:2], 3), rtol=1e-6)


def test_generated_papers_cite_their_own_class_as_often_as_asked():
    graph = graphs.generate(nodes=2100, homophily=0.6, per_class=10)
    labels, ends = graph.labels, graph.labels[graph.edges]
    share = np.mean(ends[:, 0] == ends[:, 1])
    assert share == pytest.approx(0.6, abs=4 * (0.24 / len(ends)) ** 0.5)
    np.testing.assert_array_equal(np.bincount(labels), 300)
    # Others are as frequent as each other.
    others = np.bincount(7 * ends[:, 0] + ends[:, 1], minlength=49).reshape(7, 7)
    others = (others + others.T)[~np.eye(7, dtype=bool)]
    assert others.std() < 0.35 * others.mean()
    degrees = np.bincount(graph.edges.ravel(), minlength=2100)
    assert degrees.min() >= 1
    assert degrees.mean() == pytest.approx(4.0, rel=0.03)
    assert degrees.max() > 30
    parts = np.concatenate([graph.train, graph.validation, graph.test])
    np.testing.assert_array_equal(np.sort(parts), np.arange(2100))
    np.testing.assert_array_equal(np.bincount(labels[graph.train]), 10)
    assert len(graph.validation) == 300


def test_generated_papers_have_words_of_their_topic():
    def frequencies(topicality):
        graph = graphs.generate(topicality=topicality, length=12)
        words = dense(graph.features)
        assert set(np.unique(words)) == {0.0, 1.0}
        return np.stack([words[graph.labels == label].mean(0) for label in range(7)])

    alike, apart = frequencies(0.0), frequencies(1.0)
    # 200 papers of each class: five deviations of a difference, and Zipf's law.
    assert np.abs(alike[0] - alike[1]).max() < 5.0 * (2.0 * 0.25 / 200.0) ** 0.5
    assert np.abs(apart[0] - apart[1]).max() > 0.5
    ranks = np.arange(1, 257)
    drawn = 1.0 - (1.0 - 1.0 / ranks / (1.0 / ranks).sum()) ** 12
    found = np.sort(apart, axis=1)[:, ::-1].mean(0)
    np.testing.assert_allclose(found[:8], drawn[:8], atol=0.03)


def test_generated_papers_follow_from_the_seed():
    first, again, other = (
        graphs.generate(nodes=300, per_class=5, validation=50, seed=seed)
        for seed in (0, 0, 1)
    )
    for name in ("labels", "edges", "train"):
        one, two = getattr(first, name), getattr(again, name)
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(dense(first.features), dense(again.features))
    assert not np.array_equal(first.labels, other.labels)
    with pytest.raises(ValueError, match="nodes must be enough for 20 of each of 7"):
        graphs.generate(nodes=130)


@pytest.mark.usefixtures("weights_of_numpy")
def test_graph_network_is_its_formula(monkeypatch):
    inputs = graphs.Inputs(
        graphs.sparse(
            *map(np.array, ([1.0, 2.0, 0.5], [0, 2, 5], [1, 0, 2])), shape=(6, 3)
        ),
        graphs.normalized_adjacency(EDGES, 6),
    )
    network = GraphConvolutionNetwork(3, 2, hidden=4, rngs=nnx.Rngs(0))
    first, second = (
        layer.kernel[...] for layer in (network.hidden, network.classifier)
    )
    adjacency, features = dense_adjacency(EDGES, 6), dense(inputs.features)
    hidden = np.maximum(adjacency @ features @ first, 0.0)
    tested = nnx.view(network, deterministic=True)
    # In the place of dropout, which is there once before each kernel.
    monkeypatch.setattr(network, "dropout", lambda x: 2.0 * x)
    found, twice = jax.jit(lambda inputs: (tested(inputs), network(inputs)))(inputs)
    np.testing.assert_allclose(found, adjacency @ hidden @ second, atol=1e-6)
    np.testing.assert_allclose(twice, 4.0 * found, rtol=1e-6)


@pytest.mark.usefixtures("weights_of_numpy")
def test_graph_network_learns_from_few_labels():
    graph = graphs.generate(nodes=500, per_class=10, validation=50)
    labels, inputs = jnp.asarray(graph.labels), graph.inputs
    network = GraphConvolutionNetwork(256, 7, dropout=0.0, rngs=nnx.Rngs(0))
    structure, params, rest = nnx.split(network, nnx.Param, ...)
    optimizer = optax.adam(0.05)

    def loss(params):
        logits = nnx.merge(structure, params, rest)(inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses[graph.train].mean(), logits

    @jax.jit
    def step(params, state):
        (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, logits

    state, logits = optimizer.init(params), jnp.zeros(())
    for _ in range(40):
        params, state, logits = step(params, state)
    is_right = np.asarray(logits).argmax(1) == graph.labels
    assert is_right[graph.test].mean() > 0.6


@pytest.mark.usefixtures("weights_of_numpy")
def test_dropped_features_follow_from_the_key_of_a_step(key):
    network = GraphConvolutionNetwork(9, 2, rngs=nnx.Rngs(0))
    found = []
    for number in range(2):
        nnx.reseed(network, dropout=jax.random.fold_in(key, number))
        (stream,) = jax.tree.leaves(nnx.state(network, nnx.RngKey))
        found.append(jax.random.key_data(stream))
    assert not np.array_equal(*found)


def test_orthogonal_training_rotates_the_hidden_kernel(key):
    training = sx.reparam.orthogonal(where=lambda path, _: "classifier" not in path)
    network = nnx.eval_shape(lambda: GraphConvolutionNetwork(9, 2, rngs=nnx.Rngs(0)))
    params = nnx.state(network, nnx.Param)
    assert set(jax.eval_shape(training.init, key, params)[1]) == {"hidden/kernel"}
