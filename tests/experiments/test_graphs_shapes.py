"""Graphs and point clouds: generated, read from folders, and the networks for them."""

import collections
import io
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import sparse

import sphax as sx
from experiments import (
    _citations,
    _clouds,
    _data,
    _graph_network,
    _graphs,
    _modelnet,
    _planetoid,
    _pointnet,
    _shapes,
)
from experiments._graph_network import GraphConvolutionNetwork
from experiments._pointnet import PointNet

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

    monkeypatch.setattr(_graph_network, "_INIT", init)
    monkeypatch.setattr(_pointnet, "_INIT", init)


def test_normalized_adjacency_is_the_dense_one():
    found = _graphs.normalized_adjacency(EDGES, 6)
    np.testing.assert_allclose(dense(found), dense_adjacency(EDGES, 6), rtol=1e-6)
    assert len(found.values) == 2 * len(EDGES) + 6


def test_sparse_product_and_its_gradient_are_the_dense_ones():
    matrix = draw(5, 7) * (draw(5, 7, seed=1) > 0.5)
    matrix[3] = 0.0
    rows, columns = np.nonzero(matrix)[0][::-1], np.nonzero(matrix)[1][::-1]
    stored = _graphs.sparse(matrix[rows, columns], rows, columns, matrix.shape)
    x, weights = draw(7, 2, seed=2), draw(5, 2, seed=3)
    value, pullback = jax.vjp(jax.jit(lambda x: stored @ x), jnp.asarray(x))
    np.testing.assert_allclose(value, matrix @ x, atol=1e-6)
    np.testing.assert_allclose(pullback(weights)[0], matrix.T @ weights, atol=1e-6)


def test_edges_are_each_there_once_and_join_two():
    pairs = np.array([[2, 1], [1, 2], [3, 3], [0, 2], [1, 2]])
    np.testing.assert_array_equal(_graphs.undirected(pairs), [[0, 2], [1, 2]])


def test_rows_of_features_sum_to_one_or_have_none():
    features = _graphs.sparse(
        np.array([1.0, 3.0, 2.0]), np.array([0, 0, 2]), np.array([1, 0, 1]), (3, 2)
    )
    expected = [[0.75, 0.25], [0.0, 0.0], [0.0, 1.0]]
    np.testing.assert_array_equal(dense(_graphs.rows_to_one(features)), expected)


def test_generated_papers_cite_their_own_class_as_often_as_asked():
    graph = _citations.generate(nodes=2100, homophily=0.6, per_class=10)
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
        graph = _citations.generate(topicality=topicality, length=12)
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
        _citations.generate(nodes=300, per_class=5, validation=50, seed=seed)
        for seed in (0, 0, 1)
    )
    for name in ("labels", "edges", "train"):
        one, two = getattr(first, name), getattr(again, name)
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(dense(first.features), dense(again.features))
    assert not np.array_equal(first.labels, other.labels)
    with pytest.raises(ValueError, match="nodes must be enough for 20 of each of 7"):
        _citations.generate(nodes=130)


@pytest.mark.usefixtures("weights_of_numpy")
def test_graph_network_is_its_formula(monkeypatch):
    inputs = _graphs.Inputs(
        _graphs.sparse(
            *map(np.array, ([1.0, 2.0, 0.5], [0, 2, 5], [1, 0, 2])), shape=(6, 3)
        ),
        _graphs.normalized_adjacency(EDGES, 6),
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
    graph = _citations.generate(nodes=500, per_class=10, validation=50)
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


# The one that is written in Python, whose parts can be replaced.
PICKLER = vars(pickle)["_Pickler"]


class PicklerOfPython2(PICKLER):
    """Writes all bytes and strings as the strings of Python 2."""

    dispatch = {**PICKLER.dispatch}

    def save_string(self, string):
        raw = string if isinstance(string, bytes) else string.encode("latin1")
        self.write(b"T" + len(raw).to_bytes(4, "little") + raw)
        self.memoize(string)

    dispatch[bytes] = dispatch[str] = save_string

    def reducer_override(self, thing):
        if not isinstance(thing, sparse.csr_matrix):
            return NotImplemented
        state = {
            "_shape": thing.shape,
            "maxprint": 50,
            "data": thing.data,
            "indices": thing.indices,
            "indptr": thing.indptr,
        }
        made_of = (sparse.csr_matrix, object, None)
        return object().__reduce_ex__(1)[0], made_of, state


def pickled(thing):
    file = io.BytesIO()
    PicklerOfPython2(file, protocol=2).dump(thing)
    raw = file.getvalue().replace(b"scipy.sparse._csr", b"scipy.sparse.csr")
    return raw.replace(b"numpy._core", b"numpy.core")


def one_hot(labels):
    return np.eye(3, dtype=np.int32)[labels]


# Seven nodes: two labelled, two more described, and tests at 6 and 4, but none at 5.
FEATURES = np.round(np.abs(draw(7, 4)) * (draw(7, 4, seed=1) > 0.0), 3)
FEATURES[5] = 0.0
LABELS = np.array([0, 2, 1, 1, 2, 0, 1])
NEIGHBORS = {0: [1, 1, 6], 1: [0, 1], 2: [], 3: [4], 4: [3], 5: [5], 6: [0]}


def planetoid_files():
    known, tests = slice(4), [6, 4]
    return {
        "x": sparse.csr_matrix(FEATURES[:2]),
        "tx": sparse.csr_matrix(FEATURES[tests]),
        "allx": sparse.csr_matrix(FEATURES[known]),
        "y": one_hot(LABELS[:2]),
        "ty": one_hot(LABELS[tests]),
        "ally": one_hot(LABELS[known]),
        "graph": collections.defaultdict(list, NEIGHBORS),
    }


def write_planetoid(folder, dump=pickled, index="6\n4\n", **others):
    for part, thing in {**planetoid_files(), **others}.items():
        (folder / f"ind.tiny.{part}").write_bytes(dump(thing))
    (folder / "ind.tiny.test.index").write_text(index)


@pytest.mark.parametrize("dump", [pickled, pickle.dumps], ids=["2", "3"])
def test_planetoid_files_are_read_as_they_were_written(tmp_path, dump):
    write_planetoid(tmp_path, dump)
    graph = _planetoid.read("tiny", tmp_path)
    np.testing.assert_allclose(dense(graph.features), FEATURES, rtol=1e-6)
    np.testing.assert_array_equal(graph.labels, LABELS)
    np.testing.assert_array_equal(graph.edges, [[0, 1], [0, 6], [3, 4]])
    assert graph.classes == 3
    for part, nodes in {"train": [0, 1], "validation": [2, 3], "test": [4, 6]}.items():
        np.testing.assert_array_equal(getattr(graph, part), nodes)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_planetoid_files_call_nothing_else(tmp_path):
    write_planetoid(tmp_path)
    target = tmp_path / "made"
    (tmp_path / "ind.tiny.graph").write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(pickle.UnpicklingError, match="ind.tiny.graph.*mkdir"):
        _planetoid.read("tiny", tmp_path)
    assert not target.exists()


def test_planetoid_files_that_are_no_graph_are_refused(tmp_path):
    write_planetoid(tmp_path, graph={0: [7]})
    with pytest.raises(ValueError, match="must be of one graph.*edges.* up to 7"):
        _planetoid.read("tiny", tmp_path)
    write_planetoid(tmp_path, index="6\n4\n3\n")
    with pytest.raises(ValueError, match="must be of one graph.*3 places from 3 to 6"):
        _planetoid.read("tiny", tmp_path)
    write_planetoid(tmp_path)
    (tmp_path / "ind.tiny.y").write_bytes(b"")
    with pytest.raises(pickle.UnpicklingError, match="ind.tiny.y"):
        _planetoid.read("tiny", tmp_path)
    (tmp_path / "ind.tiny.ty").unlink()
    with pytest.raises(_data.DatasetNotFoundError, match="ind.tiny.ty is not there"):
        _planetoid.read("tiny", tmp_path)


def points_of(shape, number=20_000):
    """Points, and what five deviations of the mean of at most one are at most."""
    points = _clouds.sample(_shapes.SHAPES[shape], number, np.random.default_rng(0))
    return points, 5.0 * (0.25 / number) ** 0.5


def test_points_of_a_triangle_are_uniform():
    corners = draw(3, 3).astype(float)
    mesh = _clouds.Mesh(corners, np.array([[0, 1, 2]]))
    points = _clouds.sample(mesh, 20_000, np.random.default_rng(0))
    weights = np.linalg.solve(corners.T, points.T)
    np.testing.assert_allclose(weights.sum(0), 1.0, atol=1e-9)
    assert weights.min() >= 0.0
    # Of the uniform distribution of three shares.
    expected = (1.0 + np.eye(3)) / 12.0
    np.testing.assert_allclose(weights @ weights.T / 20_000, expected, atol=0.006)


def test_points_of_shapes_are_uniform_by_area():
    sphere, tolerance = points_of("sphere")
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 1.0, atol=0.004)
    # By Archimedes, heights on a sphere are uniform.
    shares, _ = np.histogram(sphere[:, 2], 8, (-1.0, 1.0))
    np.testing.assert_allclose(shares / len(sphere), 0.125, atol=tolerance)
    cylinder, _ = points_of("cylinder")
    is_cap = np.abs(cylinder[:, 2]) > 1.0 - 1e-9
    assert is_cap.mean() == pytest.approx(1.0 / 3.0, abs=tolerance)
    cone, _ = points_of("cone")
    is_base = cone[:, 2] < -1.0 + 1e-9
    assert is_base.mean() == pytest.approx(1.0 / (1.0 + 5.0**0.5), abs=tolerance)
    cube, _ = points_of("cube")
    is_side = np.abs(cube) > 1.0 - 1e-9
    np.testing.assert_array_equal(is_side.sum(1), 1)
    np.testing.assert_allclose(is_side.mean(0), 1.0 / 3.0, atol=tolerance)
    torus, _ = points_of("torus")
    distances = np.linalg.norm(torus[:, :2], axis=1)
    expected = 0.7 + 0.3**2 / (2.0 * 0.7)
    assert distances.mean() == pytest.approx(expected, abs=tolerance)


def test_shapes_fill_the_unit_ball_and_follow_from_the_seed():
    found, again, other = (
        _shapes.generate(train=3, test=2, points=64, seed=seed) for seed in (0, 0, 1)
    )
    clouds, labels = found.train
    assert clouds.shape == (36, 64, 3)
    assert clouds.dtype == np.float32
    assert found.names[labels[-1]] == "octahedron"
    assert found.test.points.shape == (24, 64, 3)
    np.testing.assert_array_equal(np.bincount(labels), np.full(found.classes, 3))
    np.testing.assert_allclose(clouds.mean(1), 0.0, atol=1e-6)
    lengths = np.linalg.norm(clouds, axis=-1).max(1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(clouds, again.train.points)
    assert not np.array_equal(clouds, other.train.points)
    assert not np.array_equal(clouds[:2], found.test.points[:2])


def test_a_cloud_of_one_place_is_at_the_origin():
    np.testing.assert_array_equal(_clouds.normalized(np.ones((4, 3))), 0.0)


def by_hand(network, clouds):
    """PointNet in NumPy with the running statistics."""

    def perceptron(x, layers):
        for linear, norm in zip(layers[::3], layers[1::3], strict=True):
            variables = linear.kernel, norm.mean, norm.var, norm.scale, norm.bias
            kernel, mean, var, scale, bias = (
                np.array(v[...], float) for v in variables
            )
            normed = (x @ kernel - mean) / np.sqrt(var + norm.epsilon)
            x = np.maximum(scale * normed + bias, 0.0)
        return x

    features = perceptron(clouds.astype(float), network.points.layers).max(1)
    last = network.classifier
    logits = perceptron(features, network.clouds.layers) @ np.asarray(last.kernel[...])
    return logits + np.asarray(last.bias[...])


@pytest.mark.usefixtures("weights_of_numpy")
def test_pointnet_is_its_formula_whatever_the_order_of_the_points():
    network = PointNet(5, width=1 / 32, rngs=nnx.Rngs(0))
    network.eval()
    rng = np.random.default_rng(0)
    for norm in [*network.points.layers[1::3], *network.clouds.layers[1::3]]:
        for variable in (norm.mean, norm.var, norm.scale, norm.bias):
            drawn = rng.uniform(0.5, 1.5, variable.shape)
            variable.set_value(jnp.asarray(drawn, jnp.float32))
    clouds = 3.0 * draw(4, 16, 3)
    expected = by_hand(network, clouds)
    assert expected.std(0).min() > 0.1
    run = jax.jit(lambda clouds: network(clouds))
    np.testing.assert_allclose(run(clouds), expected, rtol=1e-4, atol=1e-4)
    clouds = clouds[:, rng.permutation(16)]
    np.testing.assert_allclose(run(clouds), expected, rtol=1e-4, atol=1e-4)


def test_pointnet_has_the_published_sizes():
    network = nnx.eval_shape(lambda: PointNet(40, rngs=nnx.Rngs(0)))
    layers = [*network.points.layers[::3], *network.clouds.layers[::3]]
    shapes = [linear.kernel.shape for linear in layers]
    sizes = [3, 64, 64, 64, 128, 1024, 512, 256]
    assert shapes == list(zip(sizes, sizes[1:], strict=False))
    assert network.classifier.kernel.shape == (256, 40)


@pytest.mark.usefixtures("weights_of_numpy")
def test_what_is_dropped_follows_from_the_key_of_a_step(key):
    graph = GraphConvolutionNetwork(9, 2, rngs=nnx.Rngs(0))
    points = PointNet(3, width=1 / 64, rngs=nnx.Rngs(0))
    for network in (graph, points):
        found = []
        for number in range(2):
            nnx.reseed(network, dropout=jax.random.fold_in(key, number))
            (stream,) = jax.tree.leaves(nnx.state(network, nnx.RngKey))
            found.append(jax.random.key_data(stream))
        assert not np.array_equal(*found)


def test_orthogonal_training_rotates_the_hidden_kernels(key):
    def frozen(network):
        training = sx.reparam.orthogonal(where=lambda path, _: "classifier" not in path)
        params = nnx.state(network, nnx.Param)
        return jax.eval_shape(training.init, key, params)[1]

    graph = nnx.eval_shape(lambda: GraphConvolutionNetwork(9, 2, rngs=nnx.Rngs(0)))
    assert set(frozen(graph)) == {"hidden/kernel"}
    points = nnx.eval_shape(lambda: PointNet(40, rngs=nnx.Rngs(0)))
    assert len(frozen(points)) == 7


SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


@pytest.mark.parametrize(
    "text",
    [
        f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
        f"OFF4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
        f"OFF 4 1 4 # glued\n{SQUARE}4 0 1 2 3\n",
        f"# a square\nOFF\n\n4 1 0\n{SQUARE}# its face\n4 0 1 2 3 0.5 0.5 1\n",
        f"OFF\n4 3 0\n{SQUARE}2 0 1\n3 0 1 2 255\n3 0 2 3\n",
    ],
    ids=["plain", "glued", "polygon", "comments", "ragged"],
)
def test_off_files_are_read(tmp_path, text):
    path = tmp_path / "square.off"
    path.write_text(text)
    mesh = _modelnet.read_off(path)
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(mesh.vertices, expected)
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.off must start with OFF"),
        ("ply\n4 2 0\n", "bad.off must start with OFF"),
        ("OFF\nfour 2 0\n", "bad.off, line 2: expected 2 integers, got 'four 2 0'"),
        (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n", "4 vertices and 2 faces, got 5"),
        ("OFF\n2 0 0\n\n0 0 0\n1 0\n", "line 5: expected 3 numbers, got '1 0'"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1\n", "line 7: expected 4 integers, got '3 0 1'"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 4\n", "line 7: expected vertices from 0 to 3"),
    ],
)
def test_off_files_that_are_no_mesh_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.off"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        _modelnet.read_off(path)


def write_modelnet(folder):
    for label, name in enumerate(("table", "chair")):
        for part, number in (("train", 2), ("test", 1)):
            (folder / name / part).mkdir(parents=True)
            for i in range(number):
                text = f"OFF\n4 1 0\n{SQUARE}3 0 1 {2 + label}\n"
                (folder / name / part / f"{name}_{i}.off").write_text(text)


def test_modelnet_is_read_once_from_a_folder(tmp_path):
    write_modelnet(tmp_path)
    found = _modelnet.read(tmp_path, points=32)
    assert found.names == ("chair", "table")
    np.testing.assert_array_equal(found.train.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.test.labels, [0, 1])
    assert found.train.points.shape == (4, 32, 3)
    lengths = np.linalg.norm(found.train.points, axis=-1).max(1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    assert not np.array_equal(found.train.points[0], found.train.points[1])
    assert _modelnet.read(tmp_path, points=32) is found


def test_modelnet_names_what_is_missing(tmp_path):
    with pytest.raises(_data.DatasetNotFoundError, match="no files <class>/train"):
        _modelnet.read(tmp_path / "nowhere")
    write_modelnet(tmp_path)
    path = tmp_path / "table" / "test" / "table_0.off"
    path.write_text(f"OFF\n4 1 0\n{SQUARE}3 0 1 1\n")
    with pytest.raises(ValueError, match="table_0.off: mesh must have an area"):
        _modelnet.read(tmp_path)
    path.unlink()
    (tmp_path / "chair" / "test" / "chair_0.off").unlink()
    with pytest.raises(_data.DatasetNotFoundError, match="no files <class>/test"):
        _modelnet.read(tmp_path)
