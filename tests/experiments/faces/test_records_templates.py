"""Faces cut out by five points, and scores of the templates of IJB."""

import numpy as np
import pytest

import sphax as sx
from experiments.faces.records import alignment, evaluation

IMAGES = sx.data.IJBImages(
    [f"{i}.jpg" for i in range(1, 7)],
    np.array([1, 1, 1, 2, 7, 9], np.int32),
    np.array([10, 10, 11, 10, 12, 13], np.int32),
    np.zeros((6, 5, 2)),
    np.linspace(0.1, 0.6, 6, dtype=np.float32),
)


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    turn = 0.3 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    points = rng.normal(size=(5, 2))
    found = alignment.similarity(points, points @ turn.T + [3.0, -2.0])
    np.testing.assert_allclose(found, np.column_stack([turn, [3.0, -2.0]]), atol=1e-12)
    # Against the linear least squares of its four numbers.
    target = rng.normal(size=(5, 2))
    x, y = points.T
    one, zero = np.ones(5), np.zeros(5)
    design = np.stack(
        [np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)], 1
    )
    a, b, *shift = np.linalg.lstsq(design.reshape(10, 4), target.ravel())[0]
    expected = np.array([[a, -b, shift[0]], [b, a, shift[1]]])
    np.testing.assert_allclose(
        alignment.similarity(points, target), expected, atol=1e-12
    )
    with pytest.raises(ValueError, match="must not all be the same"):
        alignment.similarity(np.ones((5, 2)))


def test_faces_are_sampled_bilinearly_with_zeros_outside():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 80, 3), np.uint8)
    c, s = 1.4 * np.cos(0.3), 1.4 * np.sin(0.3)
    forward = np.array([[c, -s, 20.0], [s, c, -12.0]])
    inverse = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    points = alignment.POINTS @ inverse[:, :2].T + inverse[:, 2]
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)))
    expected = np.zeros((112, 112, 3))
    for row in range(112):
        for column in range(112):
            x, y = inverse @ [column, row, 1] + 1
            left, top = int(np.floor(x)), int(np.floor(y))
            if 0 <= left < 81 and 0 <= top < 91:
                x, y = x - left, y - top
                corners = padded[top : top + 2, left : left + 2]
                rows = (1 - y) * corners[0] + y * corners[1]
                expected[row, column] = (1 - x) * rows[0] + x * rows[1]
    found = alignment.aligned(image, points)
    assert (expected == 0).all(-1).any()
    np.testing.assert_allclose(found, expected, atol=1.0)
    # The points go to their places at any size.
    assert alignment.aligned(image, points, 56).shape == (56, 56, 3)


def templates_of(images, embeddings, mirrored, weighted):
    """Directions of the templates by loops, from the protocol's words."""
    pooled = {}
    for template in np.unique(images.templates):
        media = images.media[images.templates == template]
        total = 0.0
        for medium in np.unique(media):
            rows = (images.templates == template) & (images.media == medium)
            x = (embeddings + mirrored)[rows]
            total = total + np.mean(x * images.scores[rows, None] ** weighted, axis=0)
        pooled[int(template)] = total / np.linalg.norm(total)
    return pooled


@pytest.mark.parametrize("weighted", [False, True])
def test_pairs_of_templates_are_scored_and_what_is_missing_is_counted(
    weighted, monkeypatch
):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 4)).astype(np.float32)
    pooled = evaluation.pool(IMAGES, x, y, use_scores=weighted)
    expected = templates_of(IMAGES, x, y, weighted)
    assert pooled.templates.tolist() == list(expected)
    np.testing.assert_allclose(
        pooled.embeddings, np.stack(list(expected.values())), atol=1e-6
    )
    # Template 9 has no pair, and template 3 no image.
    pairs = np.array([[1, 2, 1], [1, 7, 0], [3, 7, 0], [2, 7, 0], [7, 3, 1], [2, 1, 1]])
    monkeypatch.setattr(evaluation, "_BLOCK", 2)
    found = evaluation.verify_templates(pooled, pairs, far=[0.5, 1.0])
    genuine = expected[1] @ expected[2]
    impostors = sorted([expected[1] @ expected[7], expected[2] @ expected[7]])
    assert found.tar.tar[0] == float(genuine > impostors[0])
    assert found.tar.tar[1] == 1.0
    counts = found.pairs, found.pairs_without_template, found.templates_without_pair
    assert counts == (4, 2, 1)
    assert "2 pairs without template left out, 1 templates without pair" in found.rule
    with pytest.raises(ValueError, match="got 1 pairs of others"):
        evaluation.verify_templates(pooled, np.array([[3, 4, 1]]))


def test_probes_are_identified_in_two_galleries():
    # The worked example of open-set identification: probes 1 and 2 have their people in
    # the first gallery, 3 and 4 in the second, by the same scores in reverse.
    scores = np.array([[0.9, 0.3], [0.6, 0.5], [0.55, 0.2], [0.4, 0.1]])
    rest = np.sqrt(1 - (scores**2).sum(1))
    vectors = np.zeros((8, 6))
    vectors[:4, :2], vectors[range(4), [2, 3, 4, 5]] = scores, rest
    vectors[4:6, :2] = np.eye(2)  # gallery 1
    vectors[6:8, :2] = np.eye(2)[::-1]
    images = sx.data.IJBImages(
        [], np.arange(8, dtype=np.int32), np.arange(8), np.zeros((8, 5, 2)), np.ones(8)
    )
    pooled = evaluation.pool(images, vectors / 2, vectors / 2, use_scores=False)
    probes = sx.data.IJBTemplates(np.array([0, 1, 2, 3, 50]), np.array([0, 1, 2, 3, 0]))
    galleries = [
        sx.data.IJBTemplates(np.array([4, 5]), np.array([0, 1])),
        sx.data.IJBTemplates(np.array([6, 7]), np.array([2, 3])),
    ]
    found = evaluation.identify_templates(pooled, probes, galleries, fpir=[0.5])
    np.testing.assert_allclose(found.tpir.per_gallery[0].dir, [0.5])
    np.testing.assert_allclose(found.tpir.tpir, [0.25])
    assert found.templates_without_image == 1
    assert "1 templates without image left out" in found.rule
    # With the galleries together, scores are tied in pairs.
    np.testing.assert_allclose(found.cmc.rates, [0.0, 0.5, 0.5, 1.0])
    lone = sx.data.IJBTemplates(np.array([70]), np.array([0]))
    with pytest.raises(ValueError, match="got 1 templates without"):
        evaluation.identify_templates(pooled, lone, galleries)
