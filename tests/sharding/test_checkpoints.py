"""Checkpoints of sharded prototypes, restored on other numbers of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

ROWS, CLASSES, FEATURES = 128, 61, 4
OPTIMIZER = optax.adamw(1e-2)


def sharding(devices, leaf):
    mesh = jax.make_mesh((devices,), ("class",), devices=jax.devices()[:devices])
    return NamedSharding(mesh, PartitionSpec("class") if leaf.ndim else PartitionSpec())


def target(devices, rows):
    """Shapes, dtypes and shardings of prototypes and the state of the optimizer."""
    prototypes = jax.ShapeDtypeStruct((rows, FEATURES), jnp.float32)
    tree = prototypes, jax.eval_shape(OPTIMIZER.init, prototypes)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding(devices, leaf)
        ),
        tree,
    )


def trained(devices, rows):
    shapes = target(devices, rows)
    prototypes = jax.random.normal(jax.random.key(0), shapes[0].shape)
    prototypes = jnp.where(jnp.arange(rows)[:, None] < CLASSES, prototypes, 0.0)
    state = OPTIMIZER.init(prototypes)
    updates, state = OPTIMIZER.update(jnp.sin(prototypes), state, prototypes)
    tree = optax.apply_updates(prototypes, updates), state
    return jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), tree, shapes)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What was trained on eight devices, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "step"
    tree = trained(8, ROWS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder, tree


@pytest.mark.parametrize("devices", [8, 2, 1])
def test_restored_on_any_number_of_devices(saved, devices):
    folder, tree = saved
    wanted = target(devices, ROWS)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder, wanted)
    for before, after, leaf in zip(
        *map(jax.tree.leaves, (tree, found, wanted)), strict=True
    ):
        assert after.sharding == leaf.sharding
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("devices", "rows"), [(1, CLASSES), (5, 130)])
def test_restored_with_another_padding(saved, devices, rows):
    folder, tree = saved
    wanted = target(devices, rows)
    options = jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, strict=False
        ),
        wanted,
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(
            folder, ocp.args.PyTreeRestore(item=wanted, restore_args=options)
        )
    for before, after, leaf in zip(
        *map(jax.tree.leaves, (tree, found, wanted)), strict=True
    ):
        assert (after.shape, after.sharding) == (leaf.shape, leaf.sharding)
        if leaf.ndim:
            np.testing.assert_array_equal(after[:CLASSES], before[:CLASSES])
            assert not after[CLASSES:].any()
        else:
            assert after == before
