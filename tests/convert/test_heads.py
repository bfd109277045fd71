"""Prototypes of files: the logits of their libraries, and the way back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx

CLASSES, FEATURES = 5, 3
ROWS = np.random.default_rng(0).normal(size=(CLASSES, FEATURES)).astype(np.float32)
EMBEDDINGS = np.random.default_rng(1).normal(size=(4, FEATURES)).astype(np.float32)
STATE = {"t": np.zeros(1, np.float32), "batch_mean": np.array([17.5], np.float32)}
STATE |= {"batch_std": np.array([4.25], np.float32)}
# Names of arrays in a file of more parts, and what one has.
FILES: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "insightface": ("state_dict_softmax_fc.", {"weight": ROWS}),
    "opensphere": ("head.module.", {"w": ROWS.T}),
    "adaface": ("head.", {"kernel": ROWS.T} | STATE),
}


def make(margin: Any = None, classes=CLASSES, **options):
    margin = sx.margins.ArcFace() if margin is None else margin
    return sx.layers.MarginHead(
        FEATURES, classes, margin=margin, rngs=nnx.Rngs(0), **options
    )


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", FILES)
def test_cosines_and_the_way_back(name):
    prefix, arrays = FILES[name]
    read = getattr(sx.convert, f"from_{name}")
    write = getattr(sx.convert, f"to_{name}")
    head = make(sx.margins.AdaFace(margin=0.3))
    before = np.asarray(head.prototypes[...])
    both = {f"{prefix}{key}": x for key, x in arrays.items()}
    both["backbone.conv1.weight"] = both["model.x"] = np.ones(1)
    for tensors in (arrays, {f"module.{key}": x for key, x in arrays.items()}, both):
        found = read(tensors, head)
        cosines = unit(EMBEDDINGS.astype(np.float64)) @ unit(ROWS.astype(np.float64)).T
        np.testing.assert_allclose(found(EMBEDDINGS), 64 * cosines, rtol=1e-5)
    np.testing.assert_array_equal(head.prototypes[...], before)
    assert found.margin.margin == np.float32(0.3)
    written = write(found)
    assert written.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(written[key], array)


def test_the_state_of_adaface_moves_the_margin():
    """What AdaFace's head computes, clamped as there."""
    margin = sx.margins.AdaFace(rate=0.0, beyond="clamp")
    head = sx.convert.from_adaface(FILES["adaface"][1], make(margin))
    embeddings, labels = 10 * EMBEDDINGS, np.array([0, 4, 2, 2])
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    quality = np.clip(0.333 * (lengths - 17.5) / (4.25 + 1e-3), -1, 1)
    cosines = unit(embeddings.astype(np.float64)) @ unit(ROWS.astype(np.float64)).T
    target = np.arccos(cosines[np.arange(4), labels])
    shifted = np.cos(np.clip(target - 0.4 * quality, 0, np.pi))
    cosines[np.arange(4), labels] = shifted - 0.4 * (1 + quality)
    logits = 64 * cosines
    each = np.log(np.exp(logits - logits.max()).sum(1)) + logits.max()
    expected = np.mean(each - logits[np.arange(4), labels])
    np.testing.assert_allclose(
        head.loss(jnp.asarray(embeddings), jnp.asarray(labels)), expected, rtol=1e-5
    )
    # Another margin has no state to read, and writes that of the start.
    written = sx.convert.to_adaface(
        sx.convert.from_adaface(FILES["adaface"][1], make())
    )
    assert written["batch_mean"], written["batch_std"] == ([20.0], [100.0])


def test_rows_of_opensphere_s_later_releases():
    head = sx.convert.from_opensphere({"w": ROWS}, make())
    np.testing.assert_array_equal(head.prototypes[...], ROWS)


def test_on_a_mesh_with_rows_to_spare():
    mesh = jax.make_mesh((8,), ("d",))
    head = make(mesh=mesh, class_axis="d")
    found = sx.convert.from_insightface({"weight": ROWS}, head)
    prototypes = found.prototypes[...]
    assert prototypes.sharding == head.prototypes[...].sharding
    expected = np.zeros((128, FEATURES), np.float32)
    expected[:CLASSES] = ROWS
    np.testing.assert_array_equal(prototypes, expected)
    written = sx.convert.to_insightface(found)["weight"]
    np.testing.assert_array_equal(written, ROWS)


def test_in_the_dtype_of_the_head():
    head = make(param_dtype=jnp.bfloat16)
    found = sx.convert.from_insightface({"weight": ROWS}, head)
    assert found.prototypes[...].dtype == jnp.bfloat16


SQUARE = {"w": np.eye(3)}
WRONG: list[tuple[str, Any, Any, str]] = [
    ("insightface", {"weight": ROWS[:2]}, make(), "5 classes of 3 .*concatenate the a"),
    ("insightface", {"weight": ROWS[:, :2]}, make(), r"got 5 of 2\.$"),
    ("insightface", {"w": ROWS}, make(), "must have weight, got w"),
    ("insightface", {"weight": ROWS, "b": ROWS}, make(), "no other arrays, got b"),
    ("insightface", {"weight": ROWS[0]}, make(), r"weight as a matrix, got \(3,\)"),
    ("insightface", {"weight": ROWS}, make(subcenters=2), "got subcenters=2"),
    ("adaface", {"kernel": ROWS}, make(), "5 classes of 3 features"),
    (
        "adaface",
        {"kernel": ROWS.T},
        make(sx.margins.AdaFace()),
        "must have batch_mean, got kernel",
    ),
    ("opensphere", SQUARE, make(classes=3), "as many classes as features, whose orie"),
    ("opensphere", {"w": ROWS.T, "b": np.ones(1)}, make(), "sx.losses.sphereface2"),
]


@pytest.mark.parametrize(("name", "tensors", "head", "message"), WRONG)
def test_arrays_that_are_not_read(name, tensors, head, message):
    with pytest.raises(ValueError, match=message):
        getattr(sx.convert, f"from_{name}")(tensors, head)


@pytest.mark.parametrize("name", FILES)
def test_heads_that_are_not_written(name):
    write = getattr(sx.convert, f"to_{name}")
    with pytest.raises(ValueError, match="must have one prototype for each class"):
        write(make(subcenters=2))
    with pytest.raises(TypeError, match="Backbone or a sphax.layers.MarginHead, got N"):
        write(None)
