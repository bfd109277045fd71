"""The report on the kernels of a pytree."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from sphax.neurons import NeuronDimensions
from tests import reference
from tests.energy.definition import energy


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_the_report_is_of_all_kernels_and_heads():
    kernel, query = draw(2, 2, 3, 8), draw(5, 2, 4)  # [features, heads, head features]
    params = {
        "conv": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(8)},
        "query": jnp.asarray(query, jnp.float32),
        "one": {"kernel": jnp.ones((4, 1))},
    }
    neurons = {"query": NeuronDimensions(index_axis=2, vector_axis=0)}
    options: dict[str, Any] = {"power": 2.0, "half_space": True}
    report = sx.energy.energy_report(params, **options, neurons=neurons)
    sets = {
        "conv/kernel": [kernel.reshape(12, 8).T],
        "query": [query[:, 0].T, query[:, 1].T],
    }
    assert list(report.kernels) == list(sets)
    for name, rows in sets.items():
        row, (n, d) = report.kernels[name], rows[0].shape
        assert (row.sets, row.n, row.d) == (len(rows), n, d)
        value = np.mean([energy(w, **options) for w in rows])
        np.testing.assert_allclose(row.energy, value, rtol=1e-5)
        assert row.expected_energy == sx.energy.expected_energy(d, power=2.0)
        assert row.energy_bound == sx.energy.energy_lower_bound(n, d, **options)
        angles = np.concatenate(
            [reference.angles(w, w)[np.triu_indices(n, 1)] for w in rows]
        )
        np.testing.assert_allclose(row.closest_angle, np.min(angles), rtol=1e-5)
        np.testing.assert_allclose(row.coherence, np.max(np.abs(np.cos(angles))), 1e-5)
        counts, _ = np.histogram(np.degrees(angles), np.arange(181))
        np.testing.assert_array_equal(row.histogram, counts)
        assert row.closest_angle_bound == sx.energy.closest_angle_bound(n, d)
    header, first, second = str(report).splitlines()[1:]
    assert "power 2, euclidean, half space" in str(report)
    assert len(header) == len(first) == len(second)
    assert first.split()[:3] == ["conv/kernel", "8", "12"]


def test_pairs_of_many_neurons_are_taken_in_blocks():
    """The pair that is closest, and accurate, may have its two in any blocks."""
    kernel = draw(4, 300).astype(np.float32)
    kernel[:, 290] = kernel[:, 7] * 2
    kernel[0, 290] *= 1.0 + 1e-5
    (row,) = sx.energy.energy_report({"kernel": kernel}).kernels.values()
    angles = reference.angles(*[np.float64(kernel.T)] * 2)
    np.testing.assert_allclose(row.closest_angle, angles[7, 290], rtol=1e-6)
    assert row.closest_angle < 1e-5
    counts, _ = np.histogram(angles[np.triu_indices(300, 1)], 180, (0, math.pi))
    np.testing.assert_array_equal(row.histogram, counts)
    assert row.coherence <= 1.0


def test_zero_neurons_are_at_a_right_angle():
    params = {"kernel": jnp.zeros((3, 4), jnp.bfloat16)}
    (row,) = sx.energy.energy_report(params).kernels.values()
    assert row.closest_angle == math.pi / 2
    assert row.histogram[90] == 6
    np.testing.assert_allclose(row.energy, 0.5**0.5, rtol=1e-6)


@pytest.mark.parametrize("kinds", [None, (AxisType.Auto, AxisType.Auto)])
def test_of_sharded_params(kinds):
    """The same as on one device, wherever the leaves are split."""
    params: Any = {
        "head": {"prototypes": draw(16, 6)},
        "conv": {"kernel": draw(3, 3, 8, 16)},
        "query": draw(8, 4, 16),
    }
    neurons = {
        "head/prototypes": NeuronDimensions(index_axis=0),
        "query": NeuronDimensions(batch_axis=1),
    }
    specs: Any = {
        "head": {"prototypes": P(("a", "b"))},
        "conv": {"kernel": P(None, None, "b", "a")},
        "query": P("a", None, "b"),
    }
    params = jax.tree.map(np.float32, params)
    mesh = jax.make_mesh((4, 2), ("a", "b"), kinds)
    placed = jax.tree.map(
        lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), params, specs
    )
    value = jax.jit(lambda params: sx.energy.energy_of_params(params, neurons=neurons))
    np.testing.assert_allclose(value(placed), value(params), rtol=1e-6)
    expected = sx.energy.energy_report(params, neurons=neurons).kernels
    found = sx.energy.energy_report(placed, neurons=neurons).kernels
    assert list(found) == list(expected)
    for name, row in expected.items():
        np.testing.assert_allclose(found[name].energy, row.energy, rtol=1e-6)
        np.testing.assert_array_equal(found[name].histogram, row.histogram)
        assert found[name].closest_angle == row.closest_angle
