"""Checkpoints of split states: any leaves and nodes, and other numbers of devices."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import sphax as sx
from experiments.common import sharded
from experiments.common.runs import Work


def tree_on(devices, mean):
    """Rows on so many devices, a margin, a key, and what is on no device."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("rows",))
    rows = jnp.arange(16.0).reshape(8, 2)
    margin = sx.margins.AdaFace(mean=mean)
    return {
        "rows": jax.device_put(rows, NamedSharding(mesh, PartitionSpec("rows"))),
        "margin": jax.tree.map(jnp.asarray, margin),
        "key": jax.random.key(int(mean)),
        "half": jnp.full((3,), 1.5, jnp.bfloat16),
        "losses": np.arange(4.0, dtype=np.float32),
    }


def test_a_state_is_restored_on_other_devices(tmp_path):
    whole = tree_on(8, 3.0)
    with contextlib.closing(sharded.manager(tmp_path)) as manager:
        for step in (1, 2, 3):
            sharded.save(manager, step, whole, [{"step": step, "lfw": 99.5}])
    for devices in (8, 2, 1):
        like = tree_on(devices, 0.0) | {"losses": np.zeros(4, np.float32)}
        with contextlib.closing(sharded.manager(tmp_path)) as manager:
            assert manager.all_steps() == [2, 3]
            step, found, history = sharded.restore(manager, like)
        assert (step, history) == (3, [{"step": 3, "lfw": 99.5}])
        assert found["rows"].sharding.shard_shape((8, 2)) == (8 // devices, 2)
        assert found["half"].dtype == jnp.bfloat16
        assert jnp.issubdtype(found["key"].dtype, jax.dtypes.prng_key)
        assert isinstance(found["margin"], sx.margins.AdaFace)
        for new, old in zip(*map(numbers, (found, whole)), strict=True):
            np.testing.assert_array_equal(new, old)


def numbers(tree):
    """The leaves, with keys as numbers."""
    return [
        jax.random.key_data(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(tree)
    ]


def test_a_state_of_another_form_is_refused(tmp_path):
    with contextlib.closing(sharded.manager(tmp_path)) as manager:
        sharded.save(manager, 1, {"a": jnp.zeros(3)}, [])
        manager.wait_until_finished()
        with pytest.raises(ValueError, match="checkpoint of another program: remove"):
            sharded.restore(manager, {"b": jnp.zeros(3)})
        with pytest.raises(ValueError, match="checkpoint of another program: remove"):
            sharded.restore(manager, {"a": jnp.zeros(4)})


def test_a_full_disk_says_what_a_checkpoint_needs(tmp_path, monkeypatch):
    def full(*_):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing")

    monkeypatch.setattr(sharded, "save", full)
    with pytest.raises(OSError, match=r"^the disk is full: each .* needs about 28 byt"):
        sharded.fit(
            lambda state, batch: (state, {"loss": jnp.float32(batch)}),
            jnp.zeros(5),
            endless,
            tmp_path,
            Work(tmp_path, lambda steps, metrics: None),
            title="a run",
            advice="",
            steps=2,
            every=sharded.Intervals(1, 2, 2),
            measure=lambda state: {},
            also=dict,
            patience=60.0,
        )


def endless(start):
    while True:
        yield (start,)
