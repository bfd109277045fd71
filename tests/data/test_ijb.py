"""Protocol files of IJB: images, pairs of templates, probes and galleries."""

from typing import Any

import numpy as np
import pytest

from sphax.data import _text, read_ijb_images, read_ijb_pairs, read_ijb_templates

MEDIA = "1.jpg 1 10\n2.jpg 1 10\n3.jpg 1 11\n4.jpg 2 10\n5.jpg 7 12\n6.jpg 9 13\n"
POINTS = "".join(
    f"{i}.jpg 38.5 51.5 73 51 56 71 41 92 70 92 0.{i}\n" for i in range(1, 7)
)


def write(folder, **files) -> Any:
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text(content)
    return paths if len(paths) > 1 else paths[0]


def test_images_have_templates_media_points_and_scores(tmp_path):
    found = read_ijb_images(*write(tmp_path, media=MEDIA, points=POINTS))
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
    with pytest.raises(ValueError, match=message):
        read_ijb_images(*write(tmp_path, media=media, points=points))


def test_pairs_are_read_in_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = np.column_stack([rng.integers(0, 99999, (50, 2)), rng.integers(0, 2, 50)])
    lines = [" ".join(map(str, pair)) for pair in pairs.tolist()]
    for block, end in ((2**24, "\n"), (64, ""), (7, "\n")):
        monkeypatch.setattr(_text, "_BLOCK", block)
        path = tmp_path / f"pairs-{block}"
        path.write_text("\n".join(lines) + end)
        found = read_ijb_pairs(path)
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
    with pytest.raises(ValueError, match=message):
        read_ijb_pairs(write(tmp_path, pairs=content))


def test_the_line_of_an_error_counts_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_text, "_BLOCK", 16)
    with pytest.raises(ValueError, match="line 10 must be"):
        read_ijb_pairs(write(tmp_path, pairs="1 2 1\n" * 9 + "x\n" + "1 2 1\n"))


def test_templates_of_probes_and_galleries_are_read_once_each(tmp_path):
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME"
    content = f'{header}\n5,40,"a, b"\n2,41,b\n5,40,c\n'
    found = read_ijb_templates(write(tmp_path, probes=content))
    np.testing.assert_array_equal(found.templates, [2, 5])
    np.testing.assert_array_equal(found.subjects, [41, 40])
    # By the names of the columns.
    content = "FILENAME,subject_id,template_id\na,40,5\n"
    found = read_ijb_templates(write(tmp_path, probes=content))
    assert (found.templates, found.subjects) == (5, 40)
    for lines, message in [
        (f"{header}\n1,2,a\n1,3,b\n", "template 1 has two people, 2 and 3"),
        (f"{header}\n1;2\n", "line 2 must have template and person .* got '1;2'"),
        (f"{header}\n1,2,a\n1,b,c\n", "probes.txt: line 3 must have"),
        (f"{header}\n1,-2,a\n", "line 2 must have"),
        (f"{header}\n", "has no template"),
        ("1,2,a\n1,2,b\n", "line 1 must be a header .* got '1,2,A'"),
        ("", "line 1 must be a header"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_ijb_templates(write(tmp_path, probes=lines))
