"""The reader of ModelNet: meshes in the object file format, and what it refuses."""

import numpy as np
import pytest

from experiments.common import modelnet
from experiments.common.images import DatasetNotFoundError

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


@pytest.mark.parametrize(
    "text",
    [
        f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
        f"OFF4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
        f"OFF 4 1 4 # glued\n{SQUARE}4 0 1 2 3\n",
        f"# a square\nOFF\n\n4 1 0\n{SQUARE}# its face\n4 0 1 2 3 0.5 0.5 1\n",
        f"OFF\n4 3 0\n{SQUARE}2 0 1\n3 0 1 2 255\n3 0 2 3\n",
    ],
    ids=["plain", "glued", "polygon", "comments", "ragged"],
)
def test_off_files_are_read(tmp_path, text):
    path = tmp_path / "square.off"
    path.write_text(text)
    mesh = modelnet.read_off(path)
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(mesh.vertices, expected)
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.off must start with OFF"),
        ("ply\n4 2 0\n", "bad.off must start with OFF"),
        ("OFF\nfour 2 0\n", "bad.off, line 2: expected 2 integers, got 'four 2 0'"),
        (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n", "4 vertices and 2 faces, got 5"),
        ("OFF\n2 0 0\n\n0 0 0\n1 0\n", "line 5: expected 3 numbers, got '1 0'"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1\n", "line 7: expected 4 integers, got '3 0 1'"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 4\n", "line 7: expected vertices from 0 to 3"),
    ],
)
def test_off_files_that_are_no_mesh_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.off"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        modelnet.read_off(path)


def write_modelnet(folder):
    for label, name in enumerate(("table", "chair")):
        for part, number in (("train", 2), ("test", 1)):
            (folder / name / part).mkdir(parents=True)
            for i in range(number):
                text = f"OFF\n4 1 0\n{SQUARE}3 0 1 {2 + label}\n"
                (folder / name / part / f"{name}_{i}.off").write_text(text)


def test_modelnet_is_read_once_from_a_folder(tmp_path):
    write_modelnet(tmp_path)
    found = modelnet.read(tmp_path, points=32)
    assert found.names == ("chair", "table")
    np.testing.assert_array_equal(found.train.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.test.labels, [0, 1])
    assert found.train.points.shape == (4, 32, 3)
    lengths = np.linalg.norm(found.train.points, axis=-1).max(1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    assert not np.array_equal(found.train.points[0], found.train.points[1])
    assert modelnet.read(tmp_path, points=32) is found


def test_modelnet_names_what_is_missing(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no files <class>/train"):
        modelnet.read(tmp_path / "nowhere")
    write_modelnet(tmp_path)
    path = tmp_path / "table" / "test" / "table_0.off"
    path.write_text(f"OFF\n4 1 0\n{SQUARE}3 0 1 1\n")
    with pytest.raises(ValueError, match="table_0.off: mesh must have an area"):
        modelnet.read(tmp_path)
    path.unlink()
    (tmp_path / "chair" / "test" / "chair_0.off").unlink()
    with pytest.raises(DatasetNotFoundError, match="no files <class>/test"):
        modelnet.read(tmp_path)
