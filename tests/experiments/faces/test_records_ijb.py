"""Protocol files of IJB, faces cut out by five points, and scores of templates."""

import numpy as np
import pytest

from experiments.faces.records import RecordError, evaluation, ijb, text

MEDIA = "1.jpg 1 10\n2.jpg 1 10\n3.jpg 1 11\n4.jpg 2 10\n5.jpg 7 12\n6.jpg 9 13\n"
POINTS = "".join(
    f"{i}.jpg 38.5 51.5 73 51 56 71 41 92 70 92 0.{i}\n" for i in range(1, 7)
)


def write(folder, **files):
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text(content)
    return paths if len(paths) > 1 else paths[0]


def test_images_have_templates_media_points_and_scores(tmp_path):
    found = ijb.read_images(*write(tmp_path, media=MEDIA, points=POINTS))
    assert found.names == [f"{i}.jpg" for i in range(1, 7)]
    np.testing.assert_array_equal(found.templates, [1, 1, 1, 2, 7, 9])
    np.testing.assert_array_equal(found.media, [10, 10, 11, 10, 12, 13])
    assert found.templates.dtype == found.media.dtype == np.int32
    np.testing.assert_array_equal(
        found.points[4], [[38.5, 51.5], [73, 51], [56, 71], [41, 92], [70, 92]]
    )
    np.testing.assert_allclose(found.scores, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("media", "points", "message"),
    [
        ("1.jpg 1\n", POINTS, "media.txt: line 1 must be an image and 2 numbers"),
        (MEDIA + "7.jpg 1 x\n", POINTS, "media.txt: line 7 must be .*got '7.jpg 1 x'"),
        (MEDIA + "\n", POINTS, "media.txt: line 7 must be an image"),
        ("", POINTS, "media.txt is empty"),
        (MEDIA, POINTS.replace(" 0.2", ""), "points.txt: line 2 must be .* 11 numbers"),
        (MEDIA, POINTS.replace(" 0.2", " nan"), "points.txt: line 2 must be"),
        (MEDIA, POINTS.replace("3.jpg", "8.jpg"), "line 3 of .* is 3.jpg, .* 8.jpg"),
        (MEDIA + "7.jpg 1 1\n", POINTS, "has 7 images and .* 6; they must be the same"),
    ],
    ids=map(str, range(8)),
)
def test_other_lists_of_images_are_refused(tmp_path, media, points, message):
    with pytest.raises(RecordError, match=message):
        ijb.read_images(*write(tmp_path, media=media, points=points))


def test_pairs_are_read_in_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = np.column_stack([rng.integers(0, 99999, (50, 2)), rng.integers(0, 2, 50)])
    lines = [" ".join(map(str, pair)) for pair in pairs.tolist()]
    for block, end in ((2**24, "\n"), (64, ""), (7, "\n")):
        monkeypatch.setattr(text, "_BLOCK", block)
        path = tmp_path / f"pairs-{block}"
        path.write_text("\n".join(lines) + end)
        found = ijb.read_pairs(path)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, pairs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 1\n1 2\n", r"line 2 must be 3 integers \(two templates and 1 or 0\)"),
        ("1 2 1\n1 2 1 4\n", "line 2 must be 3 integers"),
        ("1 2 1\n1 2 1.0\n", "line 2 must be 3 integers .* got b'1 2 1.0'"),
        ("1 2 1\n1 2 2\n", r"line 2 must end with 1 \(one person\) or 0, got 2"),
        ("", "is empty"),
    ],
)
def test_other_lists_of_pairs_are_refused(tmp_path, content, message):
    with pytest.raises(RecordError, match=message):
        ijb.read_pairs(write(tmp_path, pairs=content))


def test_the_line_of_an_error_counts_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 16)
    with pytest.raises(RecordError, match="line 10 must be"):
        ijb.read_pairs(write(tmp_path, pairs="1 2 1\n" * 9 + "x\n" + "1 2 1\n"))


def test_templates_of_probes_and_galleries_are_read_once_each(tmp_path):
    content = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n5,40,a\n2,41,b\n5,40,c\n"
    found = ijb.read_templates(write(tmp_path, probes=content))
    np.testing.assert_array_equal(found.templates, [2, 5])
    np.testing.assert_array_equal(found.subjects, [41, 40])
    for lines, message in [
        ("h,h\n1,2\n1,3\n", "template 1 has two people, 2 and 3"),
        ("h,h\n1;2\n", "line 2 must begin with template,person as numbers, got '1;2'"),
        ("h,h\n1,b\n", "line 2 must begin with"),
        ("h,h\n", "has no template"),
        ("", "has no template"),
    ]:
        with pytest.raises(RecordError, match=message):
            ijb.read_templates(write(tmp_path, probes=lines))


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    turn = 0.3 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    points = rng.normal(size=(5, 2))
    found = ijb.similarity(points, points @ turn.T + [3.0, -2.0])
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
    np.testing.assert_allclose(ijb.similarity(points, target), expected, atol=1e-12)
    with pytest.raises(ValueError, match="must not all be the same"):
        ijb.similarity(np.ones((5, 2)))


def test_faces_are_sampled_bilinearly_with_zeros_outside():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 80, 3), np.uint8)
    c, s = 1.4 * np.cos(0.3), 1.4 * np.sin(0.3)
    forward = np.array([[c, -s, 20.0], [s, c, -12.0]])
    inverse = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    points = ijb.POINTS @ inverse[:, :2].T + inverse[:, 2]
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
    found = ijb.aligned(image, points)
    assert (expected == 0).all(-1).any()
    np.testing.assert_allclose(found, expected, atol=1.0)
    # The points go to their places at any size.
    assert ijb.aligned(image, points, 56).shape == (56, 56, 3)


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
    tmp_path, weighted, monkeypatch
):
    images = ijb.read_images(*write(tmp_path, media=MEDIA, points=POINTS))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 4)).astype(np.float32)
    pooled = evaluation.pool(images, x, y, use_scores=weighted)
    expected = templates_of(images, x, y, weighted)
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
    images = ijb.Images(
        [], np.arange(8, dtype=np.int32), np.arange(8), np.zeros((8, 5, 2)), np.ones(8)
    )
    pooled = evaluation.pool(images, vectors / 2, vectors / 2, use_scores=False)
    probes = ijb.Templates(np.array([0, 1, 2, 3, 50]), np.array([0, 1, 2, 3, 0]))
    galleries = [
        ijb.Templates(np.array([4, 5]), np.array([0, 1])),
        ijb.Templates(np.array([6, 7]), np.array([2, 3])),
    ]
    found = evaluation.identify_templates(pooled, probes, galleries, fpir=[0.5])
    np.testing.assert_allclose(found.tpir.per_gallery[0].dir, [0.5])
    np.testing.assert_allclose(found.tpir.tpir, [0.25])
    assert found.templates_without_image == 1
    assert "1 templates without image left out" in found.rule
    # With the galleries together, scores are tied in pairs.
    np.testing.assert_allclose(found.cmc.rates, [0.0, 0.5, 0.5, 1.0])
    lone = ijb.Templates(np.array([70]), np.array([0]))
    with pytest.raises(ValueError, match="got 1 templates without"):
        evaluation.identify_templates(pooled, lone, galleries)
