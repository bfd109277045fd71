"""Point clouds: points of surfaces, generated shapes, and PointNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from experiments.common import clouds
from experiments.common.clouds import PointNet


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def weights_of_numpy(monkeypatch):
    """JAX takes seconds to compile the draw of one kernel."""

    def init(key, shape, dtype):
        seed = np.asarray(jax.random.key_data(key))
        weights = np.random.default_rng(seed).normal(size=shape)
        return jnp.asarray(weights * (2.0 / shape[0]) ** 0.5, dtype)

    monkeypatch.setattr(clouds, "_INIT", init)


def points_of(shape, number=20_000):
    """Points, and what five deviations of the mean of at most one are at most."""
    points = clouds.sample(clouds.SHAPES[shape], number, np.random.default_rng(0))
    return points, 5.0 * (0.25 / number) ** 0.5


def test_points_of_a_triangle_are_uniform():
    corners = draw(3, 3).astype(float)
    mesh = clouds.Mesh(corners, np.array([[0, 1, 2]]))
    points = clouds.sample(mesh, 20_000, np.random.default_rng(0))
    weights = np.linalg.solve(corners.T, points.T)
    np.testing.assert_allclose(weights.sum(0), 1.0, atol=1e-9)
    assert weights.min() >= 0.0
    # Moments of the uniform distribution of three shares.
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
        clouds.generate(train=3, test=2, points=64, seed=seed) for seed in (0, 0, 1)
    )
    points, labels = found.train
    assert points.shape == (36, 64, 3)
    assert points.dtype == np.float32
    assert found.names[labels[-1]] == "octahedron"
    assert found.test.points.shape == (24, 64, 3)
    np.testing.assert_array_equal(np.bincount(labels), 3)
    np.testing.assert_allclose(points.mean(1), 0.0, atol=1e-6)
    lengths = np.linalg.norm(points, axis=-1).max(1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(points, again.train.points)
    assert not np.array_equal(points, other.train.points)
    assert not np.array_equal(points[:2], found.test.points[:2])


def test_a_cloud_of_one_place_is_at_the_origin():
    np.testing.assert_array_equal(clouds.normalized(np.ones((4, 3))), 0.0)


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
def test_dropped_features_follow_from_the_key_of_a_step(key):
    network = PointNet(3, width=1 / 64, rngs=nnx.Rngs(0))
    found = []
    for number in range(2):
        nnx.reseed(network, dropout=jax.random.fold_in(key, number))
        (stream,) = jax.tree.leaves(nnx.state(network, nnx.RngKey))
        found.append(jax.random.key_data(stream))
    assert not np.array_equal(*found)


def test_orthogonal_training_rotates_the_hidden_kernels(key):
    training = sx.reparam.orthogonal(where=lambda path, _: "classifier" not in path)
    network = nnx.eval_shape(lambda: PointNet(40, rngs=nnx.Rngs(0)))
    params = nnx.state(network, nnx.Param)
    assert len(jax.eval_shape(training.init, key, params)[1]) == 7
