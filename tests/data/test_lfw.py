"""Pairs of LFW of both views, and files with something wrong in a line."""

import numpy as np
import pytest

from sphax.data import read_lfw_pairs

SAME, OTHER = "Ada\t1\t12\nBo_B\t3\t4\n", "Ada\t2\tBo_B\t1\nCy\t1\tAda\t7\n"


def read(folder, content):
    (folder / "pairs.txt").write_text(content, encoding="utf-8")
    return read_lfw_pairs(folder / "pairs.txt")


@pytest.mark.parametrize(("header", "folds"), [("2\t2\n", 2), ("2\n", 1)])
def test_pairs_of_both_views(tmp_path, header, folds):
    found = read(tmp_path, header + (SAME + OTHER) * folds + "\n")
    assert found.left[:3] == [
        "Ada/Ada_0001.jpg",
        "Bo_B/Bo_B_0003.jpg",
        "Ada/Ada_0002.jpg",
    ]
    assert found.right[:3] == [
        "Ada/Ada_0012.jpg",
        "Bo_B/Bo_B_0004.jpg",
        "Bo_B/Bo_B_0001.jpg",
    ]
    assert len(found.left) == len(found.right) == 4 * folds
    np.testing.assert_array_equal(found.same, [True, True, False, False] * folds)
    np.testing.assert_array_equal(found.fold, np.repeat(np.arange(folds), 4))
    png = read_lfw_pairs(tmp_path / "pairs.txt", suffix=".png")
    assert png.left[0] == "Ada/Ada_0001.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 must be the numbers of folds and of pairs"),
        (SAME, "line 1 must be .* got 'Ada"),
        ("0\t2\n", "line 1 must be"),
        ("2\n" + SAME, "line 1 says .* so 5 lines, got 3: line 4 is missing"),
        (
            "2\n" + SAME + OTHER + SAME,
            "line 1 says .* so 5 lines, got 7: line 6 is too much",
        ),
        ("2\n" + OTHER + SAME, "line 2 must be name, i, j .* 2 pairs of one person"),
        ("2\n" + SAME + SAME, "line 4 must be name, i, name, j .* two people"),
        ("2\n" + SAME.replace("\t4", "\tx") + OTHER, "line 3 must .* got 'Bo_B.t3.+x'"),
        ("2\n" + SAME.replace("\t4", "\t0") + OTHER, "line 3 must be name, i, j"),
        ("2\n" + SAME.replace("\t", " ") + OTHER, "line 2 must .* with tabs between"),
        ("2\n" + SAME + "\n" + OTHER, "line 4 must be name, i, name, j"),
    ],
    ids=map(str, range(11)),
)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"pairs.txt: {message}"):
        read(tmp_path, content)
