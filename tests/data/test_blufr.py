"""The protocol BLUFR, from text and from MATLAB files."""

import builtins

import numpy as np
import pytest
from scipy import io

from sphax.data import read_blufr

RNG = np.random.default_rng(0)
NAMES = [f"image {i}.jpg" for i in range(1, 21)]
LABELS = np.repeat(np.arange(1, 6), 4)


def lists():
    """Indices from 1, two trials; a gallery of three people and probes of five."""
    found = {"devTrainIndex": [[1, 2, 3]], "devTestIndex": [[4, 5]]}
    test = [RNG.permutation(20) + 1 for _ in range(2)]
    gallery = [np.array([1, 5, 9]), np.array([4, 8, 16])]
    probes = [np.setdiff1d(x, y) for x, y in zip(test, gallery, strict=True)]
    found |= {"trainIndex": [[7], [8, 9]], "testIndex": test}
    return found | {"galIndex": gallery, "probIndex": probes}


LISTS = lists()


def write(folder, **others):
    content = {"imageList": "\n".join(NAMES), "labels": "\n".join(map(str, LABELS))}
    for name, rows in LISTS.items():
        content[name] = "\n".join(" ".join(map(str, row)) for row in rows)
    for name, text in (content | others).items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def write_mat(path):
    cells = {}
    for name in ("trainIndex", "testIndex", "galIndex", "probIndex"):
        cells[name] = np.empty((2, 1), object)
        for trial, row in enumerate(LISTS[name]):
            cells[name][trial, 0] = np.array(row, float)[:, None]
    images = np.array(NAMES, object)[:, None]
    one = {name: np.array(LISTS[name]).T for name in ("devTrainIndex", "devTestIndex")}
    io.savemat(path, cells | one | {"imageList": images, "labels": LABELS[:, None]})
    return path


@pytest.mark.parametrize("kind", ["folder", "mat"])
def test_both_forms_are_read(tmp_path, kind):
    path = write(tmp_path) if kind == "folder" else write_mat(tmp_path / "blufr.mat")
    found = read_blufr(path)
    assert found.names == NAMES
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.dev_train, [0, 1, 2])
    np.testing.assert_array_equal(found.dev_test, [3, 4])
    assert len(found.trials) == 2
    for number, trial in enumerate(found.trials):
        names = ("trainIndex", "testIndex", "galIndex", "probIndex")
        for name, indices in zip(names, trial, strict=True):
            assert indices.dtype == np.int64
            np.testing.assert_array_equal(indices + 1, LISTS[name][number])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"labels": "1\n2"},
            "labels.txt must have a label for each of the 20 .* got 2",
        ),
        ({"labels": "1\n2 3"}, "labels.txt: line 2 must be one label, got 2"),
        ({"galIndex": "1\n0 4"}, "galIndex.txt: line 2 must have indices from 1 to 20"),
        ({"testIndex": "21\n1"}, "testIndex.txt: line 1 must have .* got 21"),
        ({"probIndex": "1 2\n3 x"}, "probIndex.txt: line 2 must be non-negative"),
        ({"trainIndex": "1\n\n2"}, "trainIndex.txt: line 2 must be non-negative"),
        ({"trainIndex": "1\n2\n3"}, "as many trials in each .*, got 3, 2, 2, 2"),
        ({"devTestIndex": "1\n2"}, "must be one list each, got 1 and 2"),
        ({"testIndex": "2 3\n4 8 16"}, "galIndex.txt: line 1 must be images of the t"),
    ],
    ids=map(str, range(9)),
)
def test_other_files_are_refused(tmp_path, others, message):
    with pytest.raises(ValueError, match=message):
        read_blufr(write(tmp_path, **others))


def test_matlab_files_need_scipy_and_all_variables(tmp_path, monkeypatch):
    io.savemat(tmp_path / "a.mat", {"labels": LABELS})
    with pytest.raises(ValueError, match="must have the variables imageList, devTrain"):
        read_blufr(tmp_path / "a.mat")
    plain = builtins.__import__

    def without(name, *arguments):
        if name.startswith("scipy"):
            raise ImportError(name)
        return plain(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install scipy, or write its variables"):
        read_blufr(tmp_path / "a.mat")
