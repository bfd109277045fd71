"""Energies of classes from a batch: unbiased, and as they are used."""

import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import sphax as sx
from tests import reference

CLASSES, BATCH, FEATURES = 4, 3, 3
FREQUENCIES = np.array([0.1, 0.2, 0.3, 0.4])
BATCHES = np.array(list(itertools.product(range(CLASSES), repeat=BATCH)))


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def pair_energies(w):
    u = reference.directions(w)
    rho = np.linalg.norm(u[:, None] - u, axis=-1)
    return np.where(rho > 0, 1 / np.where(rho > 0, rho, 1.0), 0.0)


def energy(w):
    return np.sum(pair_energies(w)) / (len(w) * (len(w) - 1))


def estimates(w, **kwargs):
    """The mean over all batches."""
    estimate = partial(sx.energy.class_energy, w, **kwargs)
    return np.asarray(jax.jit(jax.vmap(estimate))(BATCHES))


def is_mixed(labels):
    return np.any(labels != labels[:, :1], axis=1)


DRAWS = {
    "independent": np.ones(len(BATCHES)),
    "without replacement": np.array([len(set(b)) == BATCH for b in BATCHES]),
    # Two labels of one class, one of another, in any order.
    "two classes": np.array([len(set(b)) == 2 for b in BATCHES]),
}


@pytest.mark.parametrize("against", ["all", "present"])
@pytest.mark.usefixtures("x64")
def test_without_frequencies_it_is_unbiased_if_no_class_is_favoured(against):
    w = draw(0, CLASSES, FEATURES)
    values = estimates(w, against=against)
    for weights in DRAWS.values():
        if against == "present":
            weights = weights * is_mixed(BATCHES)
        mean = np.average(values, weights=weights)
        np.testing.assert_allclose(mean, energy(w), rtol=1e-12)
    # That is the claim, and no more: of unbalanced labels it is not.
    mean = np.average(values, weights=np.prod(FREQUENCIES[BATCHES], axis=1))
    assert abs(mean - energy(w)) > 1e-3


@pytest.mark.parametrize("against", ["all", "present"])
@pytest.mark.usefixtures("x64")
def test_with_frequencies_it_is_unbiased(against):
    w = draw(0, CLASSES, FEATURES)
    values = estimates(w, against=against, frequencies=FREQUENCIES)
    weights = np.prod(FREQUENCIES[BATCHES], axis=1)
    np.testing.assert_allclose(np.sum(weights), 1.0)
    np.testing.assert_allclose(weights @ values, energy(w), rtol=1e-12)
    if against == "present":
        assert not np.any(values[~is_mixed(BATCHES)])


@pytest.mark.parametrize("against", ["all", "present"])
@pytest.mark.usefixtures("x64")
def test_weighted_labels_as_the_formula_says(against):
    w, labels = draw(1, CLASSES, FEATURES), np.array([2, 0, 2, 3, -7])
    weights, counts = np.array([1.0, 2.0, 0.5, 3.0, 0.0]), 50 * FREQUENCIES
    pairs, n, total = pair_energies(w), CLASSES, 0.0
    of_labels = list(zip(labels[:4], weights[:4], strict=True))
    if against == "all":
        for y, m in of_labels:
            total += m * np.sum(pairs[y]) / (n - 1) / (n * FREQUENCIES[y])
        expected = total / np.sum(weights)
    else:
        norm = 0.0
        for a, b in itertools.permutations(range(4), 2):
            (y, m), (z, k) = of_labels[a], of_labels[b]
            total += m * k * pairs[y, z] / (FREQUENCIES[y] * FREQUENCIES[z])
            norm += m * k
        expected = total / norm / (n * (n - 1))
    estimate = jax.jit(partial(sx.energy.class_energy, against=against))
    value = estimate(w, labels, frequencies=counts, where=weights)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("against", ["all", "present"])
def test_labels_that_are_none_are_loud_and_masks_silent(against):
    w = jnp.asarray(draw(2, CLASSES, FEATURES), jnp.bfloat16)

    @jax.jit
    def step(w, labels, where):
        estimate = partial(sx.energy.class_energy, against=against, where=where)
        return jax.value_and_grad(estimate)(w, labels)

    everything = np.ones(4, bool)
    for stranger in (-1, CLASSES):
        labels = np.array([0, 1, stranger, 1])
        value, gradient = step(w, labels, everything)
        assert np.isnan(value)
        assert np.all(np.isnan(gradient[:2]))
        value, gradient = step(w, labels, np.arange(4) != 2)
        assert value.dtype == jnp.float32
        assert gradient.dtype == jnp.bfloat16
    same, _ = step(w, np.array([1, 0, 0, 1]), np.arange(4) < 2)
    np.testing.assert_allclose(value, same, rtol=1e-6)
    value, gradient = step(w, np.array([0, 1, 2, 3]), ~everything)
    assert float(value) == 0.0
    assert not np.any(gradient)
    for rows in (np.zeros((CLASSES, FEATURES)), np.ones((CLASSES, FEATURES))):
        value, gradient = step(jnp.asarray(rows, w.dtype), labels % 2, everything)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient.astype(jnp.float32)))


# The stand-ins of the Caffe release


@pytest.mark.parametrize("kind", ["mean", "pairwise"])
@pytest.mark.usefixtures("x64")
def test_stand_ins_are_those_of_the_release(kind):
    w, labels = draw(3, CLASSES, FEATURES), np.array([2, 0, 2])
    mean_at_start = np.mean(reference.directions(w), axis=0)

    def definition(w):
        u = reference.directions(w)
        if kind == "mean":
            pole = mean_at_start / np.linalg.norm(mean_at_start)
            return np.mean([u[y] @ pole for y in labels])
        return 1 / np.mean([np.sum((u[y] - v) ** 2) for y in labels for v in u])

    step = jax.jit(jax.value_and_grad(partial(sx.energy.inter_class_energy, kind=kind)))
    value, gradient = step(w, labels)
    np.testing.assert_allclose(value, definition(w), rtol=1e-12)
    slope = reference.numerical_gradient(definition, w)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-9)
    for rows in (np.zeros_like(w), np.ones_like(w)):
        value, gradient = step(rows, labels)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
    assert np.isnan(step(w, np.array([2, 0, CLASSES]))[0])


# Recipes


def closest_pair(w):
    cosines = reference.directions(w) @ reference.directions(w).T
    return np.arccos(np.max(cosines - 2 * np.eye(len(w))))


def test_sphereface_plus_separates_the_classes_of_sphereface():
    """Two classes look alike; their prototypes need not be close for that."""
    classes, features = 6, 4
    centers = draw(4, classes, features)
    centers[1] = centers[0] + 0.2 * centers[1]
    labels = np.tile(np.arange(classes), 4)
    images = jnp.asarray(
        centers[labels] + 0.05 * draw(5, len(labels), features), jnp.float32
    )

    def loss(params, weight):
        network, prototypes = params
        fit = sx.losses.margin_softmax(
            images @ network,
            prototypes,
            labels,
            sx.margins.SphereFace(m=2),
            normalize="prototypes",
        )
        spread = sx.energy.class_energy(
            prototypes, labels, against="present", power=2, distance="geodesic"
        )
        return fit + weight * spread, fit

    @jax.jit
    def train(params, weight):
        def step(params, _):
            grads, fit = jax.grad(loss, has_aux=True)(params, weight)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), fit

        params, fits = jax.lax.scan(step, params, length=100)
        return params, fits[-1]

    start = (jnp.eye(features), jnp.asarray(centers, jnp.float32))
    (_, plain), fit = train(start, 0.0)
    (_, plus), fit_plus = train(start, 1.0)
    assert closest_pair(plus) > closest_pair(plain) + 0.2
    assert fit_plus < 2.0 * fit


def test_a_discriminator_with_the_energy_of_all_its_layers():
    """A step of a GAN; the energy is a part of the discriminator's loss alone."""
    keys = jax.random.split(jax.random.key(0))
    start = jnp.abs(jax.random.normal(keys[0], (2, 8, 8)))

    def discriminate(kernels, images):
        first, second = kernels
        return jnp.sum(jax.nn.leaky_relu(images @ first) @ second, axis=-1)

    def energies(kernels):
        rows = jnp.stack([sx.neurons.to_rows(kernel) for kernel in kernels])
        return sx.energy.hyperspherical_energy(rows, power=0)

    def loss(kernels, real, fake, weight):
        of_real = jnp.mean(jax.nn.softplus(-discriminate(kernels, real)))
        of_fake = jnp.mean(jax.nn.softplus(discriminate(kernels, fake)))
        parts = energies(kernels)
        return of_real + of_fake + weight * jnp.sum(parts), parts

    @jax.jit
    def train(kernels, weight):
        real, fake = jax.random.normal(keys[1], (2, 5, 8))

        def step(kernels, _):
            grads, parts = jax.grad(loss, has_aux=True)(kernels, real, fake, weight)
            return kernels - 0.1 * grads, parts

        return jax.lax.scan(step, kernels, length=20)[1][-1]

    assert jnp.all(train(start, 1.0) < train(start, 0.0) - 0.01)


ERRORS = [
    ("class_energy", TypeError, "labels must be integer", {"labels": np.ones(2)}),
    (
        "class_energy",
        TypeError,
        "prototypes must be floating",
        {"prototypes": np.ones((3, 2), int)},
    ),
    (
        "class_energy",
        ValueError,
        r"prototypes must be \[classes, features\], got shape \(3,\)",
        {"prototypes": np.ones(3)},
    ),
    ("class_energy", ValueError, "where must have the shape", {"where": np.ones(3)}),
    ("class_energy", ValueError, "against must be one of", {"against": "batch"}),
    (
        "class_energy",
        ValueError,
        r"frequencies must be \[classes\], \(3,\), got \(2,\)",
        {"frequencies": np.ones(2)},
    ),
    ("class_energy", ValueError, "power must be 0 or more", {"power": -1}),
    ("inter_class_energy", ValueError, "kind must be one of", {"kind": "median"}),
]


@pytest.mark.parametrize(("name", "error", "match", "arguments"), ERRORS)
def test_errors_teach(name, error, match, arguments):
    arguments = {
        "prototypes": np.eye(3, 2),
        "labels": np.array([0, 1]),
        **arguments,
    }
    with pytest.raises(error, match=match):
        getattr(sx.energy, name)(**arguments)


# Devices along the axes, whether there are frequencies, and options.
SPLIT: dict[str, tuple[dict[str, int], bool, dict[str, Any]]] = {
    "1": ({"a": 1}, True, {"power": 2.0}),
    "2": ({"a": 2}, False, {"against": "present", "power": 2.0}),
    "4": ({"a": 4}, True, {"power": 1.5, "half_space": True, "block_size": 2}),
    "8": ({"a": 8}, False, {"power": 1.0}),
    "2 x 4": ({"a": 2, "b": 4}, True, {"against": "present", "distance": "geodesic"}),
}

# Where the gradient is taken outside of `shard_map` too, and where one device has the
# padding: each kind of comparison, with frequencies and without, is there once.
OUTSIDE = {"2", "4", "2 x 4"}
PADDED = {"2", "4"}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SPLIT)
def test_classes_of_several_devices(name):
    """As on one device without the padding, by both ways to differentiate."""
    sizes, has_frequencies, options = SPLIT[name]
    mesh, axes = jax.make_mesh(tuple(sizes.values()), tuple(sizes)), tuple(sizes)
    rows, number = (16 if mesh.size == 8 else 12), 11
    w, labels = draw(3, rows, 5), np.array([10, 0, 4, 4, 7, 0])
    weights = np.array([1.0, 2.0, 0.5, 1.0, 0.0, 1.0])
    frequencies = np.arange(1.0, 1.0 + rows) if has_frequencies else None

    def estimate(w, weights, labels, frequencies, **split):
        return sx.energy.class_energy(
            w, labels, where=weights, frequencies=frequencies, **options, **split
        )

    step = jax.value_and_grad(estimate, (0, 1))
    some = frequencies if frequencies is None else frequencies[:number]
    value, (d_w, d_weights) = jax.jit(step)(w[:number], weights, labels, some)
    d_w = np.pad(d_w, ((0, rows - number), (0, 0)))
    expected = value, (d_w, d_weights)
    split: Any = {"class_axis": axes, "num_classes": number}
    on_mesh = partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(axes), P(), P(), P(axes)),
    )
    within = on_mesh(partial(step, **split), out_specs=(P(), (P(axes), P())))
    whole = on_mesh(
        partial(estimate, **split), out_specs=P(), check_vma=len(sizes) == 1
    )
    placed = jax.device_put((w, frequencies), NamedSharding(mesh, P(axes)))
    arguments = placed[0], weights, labels, placed[1]
    runs: list[Any] = [within]
    if name in OUTSIDE:
        runs.append(jax.value_and_grad(whole, (0, 1)))
    for run in runs:
        found = jax.jit(run)(*arguments)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-14), found, expected
        )
    if name in PADDED:
        unsplit = jax.jit(partial(step, num_classes=number))
        found = unsplit(w, weights, labels, frequencies)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), found, expected)


def test_a_label_of_the_padding_is_nan():
    w = jnp.asarray(draw(0, 6, 3))
    assert np.isnan(sx.energy.class_energy(w, jnp.array([0, 5]), num_classes=5))
    with pytest.raises(ValueError, match="num_classes must be at most .*6.*got 7"):
        sx.energy.class_energy(w, jnp.array([0, 5]), num_classes=7)
    with pytest.raises(ValueError, match="class_axis='a' must be an axis of"):
        sx.energy.class_energy(w, jnp.array([0, 5]), class_axis="a")


def test_no_logits_and_no_prototypes_of_others_travel():
    """By the compiled program: the rows of the batch and their gradient, once each."""
    mesh = jax.make_mesh((8,), ("a",))
    batch, features, rows = 4, 16, 512

    def estimate(w, labels):
        return sx.energy.class_energy(w, labels, class_axis="a", block_size=32)

    run = jax.shard_map(estimate, mesh=mesh, in_specs=(P("a"), P()), out_specs=P())
    w = jax.device_put(jnp.ones((rows, features)), NamedSharding(mesh, P("a")))
    step = jax.jit(jax.value_and_grad(run))
    program = step.lower(w, jnp.arange(batch)).compile().as_text() or ""
    assert not re.search("all-gather|all-to-all|permute|reduce-scatter", program)
    results = re.findall(r"= (.*) all-reduce\(", program)
    shapes = [
        shape for result in results for shape in re.findall(r"\[([\d,]*)\]", result)
    ]
    assert shapes.count(f"{batch},{features}") == 2
    assert set(shapes) == {f"{batch},{features}", ""}
