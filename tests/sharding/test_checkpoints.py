"""Checkpoints of a head whose classes are split, restored on other devices by orbax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import sphax as sx

CLASSES, FEATURES, BATCH = 61, 4, 8


def made(devices):
    """A head and its optimizer; without a mesh if ``devices`` is None."""
    mesh = None
    if devices is not None:
        mesh = jax.make_mesh((devices,), ("class",), devices=jax.devices()[:devices])
    head = sx.layers.MarginHead(
        FEATURES,
        CLASSES,
        margin=sx.margins.CurricularFace(),
        mesh=mesh,
        class_axis=None if mesh is None else "class",
        rngs=nnx.Rngs(0),
    )
    return head, nnx.Optimizer(head, optax.adamw(1e-2), wrt=nnx.Param)


@nnx.jit
def step(head, optimizer):
    labels = jnp.arange(BATCH) * 7
    embeddings = jnp.sin(jnp.arange(BATCH * FEATURES, dtype=jnp.float32))
    loss, gradients = nnx.value_and_grad(
        lambda head: head.loss(embeddings.reshape(BATCH, FEATURES), labels)
    )(head)
    optimizer.update(head, gradients)
    return loss


def as_target(tree, devices):
    """Where the arrays of a state lie: those with a row for each class are split."""
    mesh = jax.make_mesh(
        (devices or 1,), ("class",), devices=jax.devices()[: devices or 1]
    )

    def place(leaf):
        spec = PartitionSpec("class" if leaf.shape[:1] > (BATCH,) else None)
        spec = spec if leaf.ndim else PartitionSpec()
        sharding = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, tree)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of eight devices, its content, and the losses of two more steps."""
    folder = tmp_path_factory.mktemp("checkpoints") / "step"
    pair = made(8)
    step(*pair)
    tree = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(pair)))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder, tree, [float(step(*pair)) for _ in range(2)]


def go_on(pair, found):
    """The next two losses of what was restored."""
    state = nnx.state(pair)
    nnx.replace_by_pure_dict(state, found)
    nnx.update(pair, state)
    return [float(step(*pair)) for _ in range(2)]


@pytest.mark.parametrize("devices", [8, 2, 1])
def test_restored_on_any_number_of_devices(saved, devices):
    folder, tree, losses = saved
    pair = made(devices)
    wanted = as_target(nnx.to_pure_dict(nnx.state(pair)), devices)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder, wanted)
    for before, after, leaf in zip(
        *map(jax.tree.leaves, (tree, found, wanted)), strict=True
    ):
        assert (after.sharding, after.dtype) == (leaf.sharding, before.dtype)
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(go_on(pair, found), losses, rtol=1e-6)


def test_what_is_trained_lies_where_the_classes_do():
    pair = made(4)
    step(*pair)
    split = [x for x in jax.tree.leaves(nnx.state(pair)) if x.shape[:1] == (128,)]
    # Prototypes and both moments.
    assert len(split) == 3
    for leaf in split:
        assert leaf.sharding.shard_shape(leaf.shape) == (32, FEATURES)


@pytest.mark.parametrize("devices", [None, 5])
def test_restored_with_another_number_of_rows(saved, devices):
    folder, tree, losses = saved
    pair = made(devices)
    wanted = as_target(nnx.to_pure_dict(nnx.state(pair)), devices)
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
        before, after = np.asarray(before), np.asarray(after)
        if after.shape != before.shape:
            assert len(after) == (CLASSES if devices is None else 640)
            before, padding = before[:CLASSES], after[CLASSES:]
            after = after[:CLASSES]
            assert not padding.any()
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(go_on(pair, found), losses, rtol=1e-6)
