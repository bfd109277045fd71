"""Pairs that are mined or drawn: their masks and indices, and the losses that use them.

Values on four rows of the circle are closed forms, computed in float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from sphax import losses, sharding
from tests import reference
from tests.losses.objectives.pairwise import anchors_of, cosines, distance_matrix

ROWS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
CLASSES = np.array([0, 0, 1, 1])
REFERENCES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("multi_similarity", {}, 0.0),
        ("multi_similarity", dict(mining_margin=None), 0.268811),
        ("multi_similarity", dict(references=REFERENCES), 0.715029),
        ("margin_loss", {}, 0.505573),
        ("lifted", {}, 1.432825),
        ("lifted", dict(generalized=True), 0.973096),
        ("lifted", dict(references=REFERENCES), 1.870097),
        ("tuplet_margin", dict(scale=8.0), 0.061713),
        ("pair_variance", {}, 0.09),
    ],
)
@pytest.mark.usefixtures("x64")
def test_values_on_the_circle(name, options, value):
    if "references" in options:
        options = options | {"reference_labels": np.array([0, 1, 1])}
    found = getattr(losses, name)(ROWS, CLASSES, **options)
    np.testing.assert_allclose(found, value, atol=6e-7)


N, M, D = 9, 12, 5
LABELS = np.array([4, 1, 4, 2, 1, 4, 2, 9, 7])
OTHERS = np.array([1, 4, 9, 4, 2, 2, 1, 3, 4, 7, 9, 1])
RNG = np.random.default_rng(0)
X, R = RNG.normal(size=(N, D)), RNG.normal(size=(M, D))
KEPT, LISTED = np.arange(N) != 5, np.arange(M) % 4 != 1
INDEX = np.array([-1, 3, 2, 11, -1, 0, 5, 5, 9])
SETS, OTHER_SETS = RNG.random((N, 3)) < 0.4, RNG.random((M, 3)) < 0.4
GIVEN = {"reference_labels": OTHERS, "reference_where": LISTED, "self_index": INDEX}


def masks_by_loops(labels, others=None, self_index=None, where=None, listed=None):
    """Both masks, from what each pair of rows is."""
    if others is None:
        others, listed = labels, where
        self_index = np.arange(len(labels)) if self_index is None else self_index
    masks = np.zeros((2, len(labels), len(others)), bool)
    for i, label in enumerate(labels):
        for j, other in enumerate(others):
            is_pair = self_index is None or self_index[i] != j
            is_pair &= where is None or where[i]
            is_pair &= listed is None or listed[j]
            is_same = np.any(label & other) if np.ndim(label) else label == other
            masks[0 if is_same else 1, i, j] = is_pair
    return masks


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ((LABELS,), {}),
        ((LABELS, None, None, KEPT), dict(where=0.5 * KEPT)),
        ((LABELS, None, INDEX % N), dict(self_index=INDEX % N)),
        (
            (LABELS, None, INDEX % N, KEPT),
            dict(self_index=(INDEX % N).astype(np.uint8), where=KEPT),
        ),
        ((LABELS, OTHERS, INDEX, None, LISTED), GIVEN),
        ((SETS,), {}),
        (
            (SETS, OTHER_SETS, None, KEPT),
            dict(reference_labels=OTHER_SETS, where=KEPT),
        ),
    ],
)
def test_masks_of_labels_by_loops(given, options):
    found = losses.pair_masks(given[0], **options)
    np.testing.assert_array_equal(found, masks_by_loops(*given))


def test_masks_of_labels_make_the_same_loss():
    where = KEPT * np.linspace(0.5, 2.0, N).astype(np.float32)
    masks = losses.pair_masks(LABELS, where=where, **GIVEN)
    step = jax.jit(jax.value_and_grad(functools.partial(losses.nt_xent, scale=4.0)))
    x, r = np.float32(X), np.float32(R)
    expected = step(x, LABELS, references=r, where=where, **GIVEN)
    found = step(x, references=r, pairs=masks, where=where)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    wrong = GIVEN | {"self_index": np.where(np.arange(N) == 2, M, INDEX)}
    masks = losses.pair_masks(LABELS, **wrong)
    assert np.flatnonzero((masks[0] & masks[1]).any(axis=1)) == [2]
    assert np.isnan(losses.nt_xent(x, references=r, pairs=masks))


def mined_by_loops(similarities, masks, choose):
    kept = np.zeros_like(masks)
    for a, positives, negatives in anchors_of(tuple(masks), 0):
        if positives and negatives:
            chosen = choose(similarities[a], positives, negatives)
            for kind, columns in enumerate(chosen):
                kept[kind, a, columns] = True
    return kept


def contradicted(s, positives, negatives):
    most, least = max(s[negatives]), min(s[positives])
    kept = [p for p in positives if s[p] < most + 0.1]
    return kept, [n for n in negatives if s[n] > least - 0.1]


def nearest(s, positives, negatives):
    near, far = max(s[positives]), max(s[negatives])
    return (
        [p for p in positives if s[p] == near],
        [n for n in negatives if s[n] == far],
    )


@pytest.mark.parametrize(
    ("mine", "choose"),
    [
        (losses.mine_multi_similarity, contradicted),
        (losses.mine_easy_positive, nearest),
    ],
)
def test_mining_by_loops(mine, choose):
    masks = masks_by_loops(np.arange(40) % 9, np.arange(30) % 8)
    # Sixteenths, so that there are ties, and nothing at the margin of 0.1.
    s = np.random.default_rng(1).integers(-16, 17, masks[0].shape) / np.float32(16)
    expected = mined_by_loops(s, masks, choose)
    assert (masks[0].any(axis=1) != expected[0].any(axis=1)).sum() == 0
    assert not masks[0][8].any()
    assert not expected[:, 8].any()
    np.testing.assert_array_equal(jax.jit(mine)(s, *masks), expected)
    s[0, np.flatnonzero(masks[1][0])[0]] = np.nan  # is not mined away
    assert np.isnan(s[0][np.asarray(mine(s, *masks)[1][0])]).any()


@pytest.mark.usefixtures("x64")
def test_mined_pairs_make_the_loss_that_mines_them():
    """An anchor that mines nothing costs 0, and counts."""
    loss = functools.partial(losses.multi_similarity, negative_scale=20.0)

    def of_mined(x, r):
        masks = losses.pair_masks(LABELS, OTHERS)
        masks = losses.mine_multi_similarity(cosines_of(x, r), *masks)
        return loss(x, references=r, pairs=masks, mining_margin=None)

    def mining(x, r):
        return loss(x, LABELS, references=r, reference_labels=OTHERS)

    found, expected = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(X, R) for f in (of_mined, mining)
    )
    assert expected[0] > 0
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def cosines_of(x, r):
    x, r = (y / jnp.linalg.norm(y, axis=-1, keepdims=True) for y in (x, r))
    return x @ r.T


def log_weights(distances, **options):
    distances = np.atleast_2d(distances)
    return losses.distance_log_weights(
        distances, np.ones(distances.shape, bool), **options
    )


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (64, [44.9, 34.5, 26.1, 8.8, 2.3]),
        (128, [91.4, 70.3, 53.1, 18.0, 4.9]),
        (512, [369.9, 284.5, 215.2, 73.2, 20.6]),
    ],
)
def test_weights_of_distances(features, expected):
    distances = np.array([0.5, 0.6, 0.7, 1.0, 1.2], np.float32)
    found = log_weights(distances, features=features)[0]
    np.testing.assert_allclose(found, expected, atol=0.051)
    # The density of the distance, by which uniform points are weighed evenly: that of
    # the cosine, (1 - s^2)^((d - 3) / 2), times D.
    density = (features - 3) / 2 * np.log1p(-((1 - distances**2 / 2.0) ** 2))
    density += np.log(distances)
    np.testing.assert_allclose(found - found[0], density[0] - density, rtol=1e-4)
    # Nearer ones count as the cutoff; from the second cutoff on no one is drawn.
    ends = np.array([0.0, 0.25, 0.5, 1.4, 2.0], np.float16)
    found = np.asarray(log_weights(ends, features=features)[0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:2], found[2])
    np.testing.assert_array_equal(found[3:], -np.inf)
    with np.errstate(invalid="raise"):
        wide = log_weights(
            np.array([2.0, np.nan], np.float32), features=3, nonzero_cutoff=3.0
        )
    assert np.isfinite(wide[0, 0])
    assert np.isnan(wide[0, 1])


def test_weights_are_those_of_negatives_and_have_no_gradient():
    is_negative = np.array([[True, False, True]])
    distances = np.array([[0.7, 0.7, 0.9]], np.float32)

    def total(distances):
        weights = losses.distance_log_weights(distances, is_negative, features=8)
        return jnp.sum(jnp.where(is_negative, weights, 0.0)), weights

    (_, weights), slope = jax.value_and_grad(total, has_aux=True)(distances)
    np.testing.assert_array_equal(np.isneginf(weights), ~is_negative)
    assert np.all(slope == 0)


@pytest.mark.parametrize(("features", "nearest"), [(512, 0.625), (2048, 0.5283)])
def test_no_row_is_silenced_by_another(features, nearest):
    """Its weights, over the largest of all rows, are 0 in float32."""
    distances = np.full((2, 6), 1.2, np.float32)
    distances[0, 1], distances[1, 4] = 0.5, nearest
    weights = log_weights(distances, features=features)
    assert np.all(np.exp(weights[1] - np.max(weights)) == 0)
    drawn = losses.sample_negatives(jax.random.key(0), weights, samples=8)
    np.testing.assert_array_equal(drawn, [[1] * 8, [4] * 8])


def test_draws_have_the_probabilities_of_the_weights():
    """Whatever constant is added to a row; each draw is independent of the others."""
    weights = np.array([0.05, 0.0, 0.4, 0.1, 0.2, 0.25])
    shifts = np.repeat([-1000.0, 0.0, 1000.0], 4000)[:, None]
    with np.errstate(divide="ignore"):
        logs = np.float32(np.log(weights) + shifts)
    sample = functools.partial(losses.sample_negatives, samples=2)
    drawn = np.asarray(jax.jit(sample)(jax.random.key(1), logs))
    assert drawn.dtype == np.int32
    assert drawn.shape == (12000, 2)
    for part in np.split(drawn, 3):
        counts = np.zeros((6, 6))
        np.add.at(counts, (part[:, 0], part[:, 1]), 1.0)
        expected = len(part) * np.outer(weights, weights)
        assert np.all(counts[expected == 0] == 0)
        deviation = np.abs(counts - expected)
        assert np.all(deviation <= 4.5 * np.sqrt(expected) + 0.5)
    nothing = jnp.full((2, 3), -jnp.inf)
    drawn = losses.sample_negatives(jax.random.key(2), nothing, samples=2)
    np.testing.assert_array_equal(drawn, np.full((2, 2), -1))
    drawn = losses.sample_negatives(jax.random.key(2), nothing[:, :0])
    np.testing.assert_array_equal(drawn, np.full((2, 1), -1))


BOUNDARIES = np.linspace(0.8, 1.6, 10)
WEIGHTS = KEPT * np.linspace(0.5, 2.0, N)
# Negatives of each anchor among the references, twice the same one, and no one.
DRAWS = np.stack(
    [
        np.resize(np.flatnonzero(mask & LISTED), 3)
        for mask in LABELS[:, None] != OTHERS[None, :]
    ]
)
DRAWS[2, 1] = DRAWS[2, 0]
DRAWS[3, 2] = DRAWS[4, 0] = -1


def margin_by_loops(x, r, boundaries, weights=WEIGHTS):
    """Drawn negatives, each worth as many pairs as the anchor has positives."""
    d = distance_matrix(np.concatenate([x, r]), "euclidean")[:N, N:]
    total = count = 0.0
    paired = []
    for a in range(N):
        boundary = boundaries[LABELS[a]]
        positives = np.flatnonzero((LABELS[a] == OTHERS) & LISTED)
        if len(positives):
            paired.append((weights[a], boundary))
        costs = [(1.0, d[a, p] - boundary + 0.3) for p in positives]
        costs += [
            (len(positives) / 3, boundary - d[a, n] + 0.3) for n in DRAWS[a] if n >= 0
        ]
        total += weights[a] * sum(share * cost for share, cost in costs if cost > 0)
        count += weights[a] * sum(share for share, cost in costs if cost > 0)
    mean = sum(w * b for w, b in paired) / sum(w for w, _ in paired)
    return (total / count if count else 0.0) + 0.7 * mean


def margin_loss(x, r, boundaries, draws=DRAWS, **options):
    return losses.margin_loss(
        x,
        LABELS,
        margin=0.3,
        boundary=boundaries,
        regularization=0.7,
        negatives=draws,
        references=r,
        reference_labels=OTHERS,
        reference_where=LISTED,
        **{"where": WEIGHTS} | options,
    )


@pytest.mark.usefixtures("x64")
def test_drawn_negatives_and_boundaries_of_classes_by_loops():
    points = X, R, BOUNDARIES
    expected = margin_by_loops(*points)
    for block_size in (None, 5):
        loss = functools.partial(margin_loss, block_size=block_size)
        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*points)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        for i, gradient in enumerate(gradients):

            def along(x, i=i):
                changed = [x if j == i else y for j, y in enumerate(points)]
                return margin_by_loops(*changed)

            slope = reference.numerical_gradient(along, points[i])
            np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_drawn_negatives_of_all_devices():
    mesh = jax.make_mesh((3,), ("d",), (AxisType.Auto,), devices=jax.devices()[:3])

    def split(x, r, boundaries):
        return sharding.pairwise(
            losses.margin_loss,
            *(x, LABELS),
            mesh=mesh,
            batch_axis="d",
            references=r,
            reference_labels=OTHERS,
            boundary=boundaries,
            negatives=DRAWS,
        )

    def whole(x, r, boundaries):
        return losses.margin_loss(
            *(x, LABELS),
            references=r,
            reference_labels=OTHERS,
            boundary=boundaries,
            negatives=DRAWS,
        )

    found, expected = (
        jax.jit(jax.value_and_grad(f, (0, 1, 2)))(X, R, jnp.asarray(BOUNDARIES))
        for f in (split, whole)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_each_anchor_may_have_its_boundary():
    """As if each had the class that has it; a NaN where it is masked does nothing."""
    loss = jax.jit(functools.partial(margin_loss, boundary_of="anchor"))
    boundaries = np.where(KEPT, BOUNDARIES[LABELS], np.nan)
    expected = margin_by_loops(X, R, BOUNDARIES)
    np.testing.assert_allclose(loss(X, R, boundaries), expected, rtol=1e-12)
    step = jax.grad(lambda x: margin_loss(x, R, boundaries, boundary_of="anchor"))
    assert np.isfinite(jax.jit(step)(X)).all()
    values = margin_loss(X, R, BOUNDARIES, reduction="none")
    alone = [margin_by_loops(X, R, BOUNDARIES, np.eye(N)[a]) for a in (0, 3, 6)]
    np.testing.assert_allclose(values[jnp.array([0, 3, 6])], alone, rtol=1e-12)


def test_a_label_without_boundary_or_a_wrong_draw_is_nan():
    step = jax.jit(jax.value_and_grad(margin_loss, (0, 1, 2)))
    x, r, boundaries = np.float32(X), np.float32(R), BOUNDARIES.astype(np.float32)
    assert np.isfinite(step(x, r, boundaries)[0])
    positive = np.flatnonzero((LABELS[0] == OTHERS) & LISTED)[0]
    masked = np.flatnonzero((LABELS[0] != OTHERS) & ~LISTED)[0]
    for wrong in (positive, masked, M, -2):
        draws = DRAWS.copy()
        draws[0, 1] = wrong
        value, gradients = step(x, r, boundaries, draws)
        assert np.isnan(value)
        assert np.isnan(gradients[0]).any()
        draws[0, 1], draws[5, 1] = DRAWS[0, 1], wrong  # of an anchor that is masked
        assert np.isfinite(step(x, r, boundaries, draws)[0])
    value, gradients = step(x, r, boundaries[:9])  # a label is 9
    assert np.isnan(value)
    assert np.isnan(gradients[0]).any()


@pytest.mark.usefixtures("x64")
def test_draws_number_the_rows_of_a_memory_after_the_references():
    memory = losses.enqueue(losses.init_memory(M, D, dtype=jnp.float64), R, OTHERS)
    loss = functools.partial(losses.margin_loss, X, LABELS, memory_positives=True)
    found = loss(memory=memory, negatives=N + np.where(DRAWS < 0, -1 - N, DRAWS))
    everything = losses.margin_loss(
        X,
        LABELS,
        references=np.concatenate([X, R]),
        reference_labels=np.concatenate([LABELS, OTHERS]),
        self_index=np.arange(N),
        negatives=N + np.where(DRAWS < 0, -1 - N, DRAWS),
    )
    np.testing.assert_allclose(found, everything, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_variance_of_each_anchor_is_around_the_means_of_all():
    s, masks = cosines(X), masks_by_loops(LABELS)
    bounds = 0.9 * s[masks[0]].mean(), 1.1 * s[masks[1]].mean()
    near = np.where(masks[0], np.maximum(bounds[0] - s, 0) ** 2, 0).sum(axis=1)
    far = np.where(masks[1], np.maximum(s - bounds[1], 0) ** 2, 0).sum(axis=1)
    counts = np.maximum(masks.sum(axis=2), 1)
    loss = functools.partial(
        losses.pair_variance, positive_slack=0.1, negative_slack=0.1
    )
    found = loss(X, LABELS, reduction="none")
    np.testing.assert_allclose(found, near / counts[0] + far / counts[1], rtol=1e-12)


def test_gradient_of_near_positives_pushes_them_out_to_the_margin():
    """A slope of sin(margin) by the angle, down to angles that cosines resolve."""
    negative = np.array([0.0, 0.0, 1.0])

    def loss(angle):
        x = jnp.stack([jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])])
        turned = jnp.cos(angle) * x[0] + jnp.sin(angle) * x[1]
        rows = jnp.stack([x[0], turned, jnp.asarray(negative, x.dtype)])
        return losses.tuplet_margin(rows, jnp.array([0, 0, 1]), scale=1.0, margin=0.2)

    slopes = jax.jit(jax.vmap(jax.grad(loss)))(jnp.array([0.0, 1e-2, 0.1, 0.2, 0.4]))
    angles = np.array([1e-2, 0.1, 0.2, 0.4])
    share = 1 / (1 + np.exp(np.cos(angles - 0.2)))
    expected = share * np.sin(angles - 0.2)
    np.testing.assert_allclose(slopes[1:], expected, rtol=1e-2, atol=1e-6)
    assert slopes[0] == 0


S = np.zeros((4, 3), np.float32)
MASK = np.ones((4, 3), bool)
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (
            ValueError,
            "labels must have an entry for each row",
            lambda: losses.pair_masks(np.int32(3)),
        ),
        (
            ValueError,
            "where must have the shape of the first axis of labels",
            lambda: losses.pair_masks(LABELS, where=KEPT[:3]),
        ),
        (
            ValueError,
            "reference_where must be given with reference_labels",
            lambda: losses.pair_masks(LABELS, reference_where=KEPT),
        ),
        (
            ValueError,
            "reference_labels must be of the kind of labels",
            lambda: losses.pair_masks(LABELS, SETS),
        ),
        (
            ValueError,
            r"similarities must be \[n, m\]",
            lambda: losses.mine_easy_positive(S[0], MASK, MASK),
        ),
        (
            ValueError,
            r"is_positive must be boolean, \(4, 3\)",
            lambda: losses.mine_easy_positive(S, MASK[:2], MASK),
        ),
        (
            ValueError,
            r"is_negative must be boolean, \(4, 3\)",
            lambda: losses.mine_multi_similarity(S, MASK, S),
        ),
        (
            ValueError,
            "margin must lie in",
            lambda: losses.mine_multi_similarity(S, MASK, MASK, margin=-0.1),
        ),
        (
            ValueError,
            "features must be 2 or more",
            lambda: losses.distance_log_weights(S, MASK, features=1),
        ),
        (
            ValueError,
            r"cutoff must lie in \(0, 2\), got 2",
            lambda: losses.distance_log_weights(S, MASK, features=3, cutoff=2.0),
        ),
        (
            ValueError,
            r"nonzero_cutoff must lie in \(1.5, inf\), got 1.4",
            lambda: losses.distance_log_weights(S, MASK, features=3, cutoff=1.5),
        ),
        (TypeError, "key must be", lambda: losses.sample_negatives(S[0], S)),
        (
            ValueError,
            "samples must be 1 or more",
            lambda: losses.sample_negatives(KEY, S, samples=0),
        ),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()
