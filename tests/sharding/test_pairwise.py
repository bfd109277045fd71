"""Pairwise losses of a batch that lies on the devices of a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses, sharding

RNG = np.random.default_rng(0)
X, R = RNG.normal(size=(8, 5)), RNG.normal(size=(12, 5))
LABELS, OTHERS = RNG.integers(0, 3, 8), RNG.integers(0, 3, 12)
WHERE, LISTED = RNG.uniform(size=8) * (np.arange(8) != 2), np.arange(12) != 5
KIND = RNG.choice(3, (8, 12))
CASES = {
    "labels": dict(reference_labels=OTHERS),
    "pairs": dict(pairs=(KIND == 0, KIND == 1), labels=None),
    "place": dict(reference_labels=OTHERS, self_index=np.arange(8)),
}


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_values_and_gradients_are_those_of_one_device(case, kind):
    mesh = jax.make_mesh((4, 2), ("b", "c"), axis_types=(kind,) * 2)
    options = dict(CASES[case])
    labels = options.pop("labels", LABELS)
    given = dict(where=WHERE, reference_where=LISTED, scale=jnp.array(2.0), **options)

    def of_one(x, r):
        return losses.supervised_contrastive(x, labels, references=r, **given)

    def of_all(x, r):
        return sharding.pairwise(
            losses.supervised_contrastive,
            x,
            labels,
            mesh=mesh,
            batch_axis="b",
            references=r,
            **given,
        )

    x = jax.device_put(X, NamedSharding(mesh, P(("b", "c"))))
    with jax.set_mesh(mesh):
        value, gradients = jax.jit(jax.value_and_grad(of_all, (0, 1)))(x, R)
    expected, slopes = jax.jit(jax.value_and_grad(of_one, (0, 1)))(X, R)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-12)


def test_a_value_for_each_anchor_lies_where_it_does():
    mesh = jax.make_mesh((4,), ("b",), devices=jax.devices()[:4])
    x = X.astype(np.float32)
    values = sharding.pairwise(
        losses.circle, x, LABELS, mesh=mesh, batch_axis="b", reduction="none"
    )
    expected = losses.circle(x, LABELS, reduction="none")
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert values.sharding == NamedSharding(mesh, P("b"))


def test_a_boundary_of_each_anchor_is_split_with_them():
    mesh = jax.make_mesh((4,), ("b",), devices=jax.devices()[:4])
    boundary = np.linspace(0.8, 1.4, 8, dtype=np.float32)
    given = {"boundary": boundary, "boundary_of": "anchor", "regularization": 0.1}
    x = X.astype(np.float32)
    value = sharding.pairwise(
        losses.margin_loss, x, LABELS, mesh=mesh, batch_axis="b", **given
    )
    np.testing.assert_allclose(value, losses.margin_loss(x, LABELS, **given), rtol=1e-5)


@pytest.mark.parametrize(
    ("match", "options"),
    [
        (
            "8 devices along batch_axis must divide the rows of references, got 12",
            {},
        ),
        ("batch_axis must name axes of the mesh", dict(batch_axis="a")),
        ("memory must be split by hand", dict(memory=losses.init_memory(4, 5))),
        ("scale must lie in", dict(scale=-1.0)),
    ],
)
def test_errors_teach(match, options):
    mesh = jax.make_mesh((8,), ("b",))
    given = {
        "mesh": mesh,
        "batch_axis": "b",
        "references": R,
        "reference_labels": OTHERS,
    }
    with pytest.raises(ValueError, match=match):
        sharding.pairwise(losses.nt_xent, X, LABELS, **given | options)
