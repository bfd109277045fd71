"""Verification sets: pickles of every protocol, and what is refused."""

import collections
import os
import pickle

import numpy as np
import pytest

from sphax.data import read_bin

FILES = [bytes([value]) * 300 for value in (10, 20, 30, 40)]


def python_2_pickle():
    """What cPickle of Python 2 writes: byte strings, and arrays of numpy.core.

    Written opcode by opcode, since Python 3 writes neither.
    """
    files = [b"T" + len(f).to_bytes(4, "little") + f for f in FILES[:3]]  # BINSTRING
    last = FILES[3]
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        b"(I1\n(I%d\ntcnumpy\ndtype\n(U\x02u1I0\nI1\ntR"
        b"(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\nT%b%btb"
    ) % (len(last), len(last).to_bytes(4, "little"), last)
    return b"\x80\x02((" + b"".join(files) + array + b"l(I01\nI00\nlt."


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [bytes, bytearray, "array"])
def test_sets_of_every_protocol_are_read(tmp_path, protocol, kind):
    as_kind = (lambda x: np.frombuffer(x, np.uint8)) if kind == "array" else kind
    same = [np.bool_(True), False] if kind == "array" else [True, False]
    content = pickle.dumps(([as_kind(x) for x in FILES], same), protocol)
    (tmp_path / "lfw.bin").write_bytes(content)
    found = read_bin(tmp_path / "lfw.bin")
    assert found.images == FILES
    np.testing.assert_array_equal(found.same, [True, False])
    assert found.same.dtype == bool


def test_sets_of_python_2_are_read(tmp_path):
    (tmp_path / "lfw.bin").write_bytes(python_2_pickle())
    found = read_bin(tmp_path / "lfw.bin")
    assert found.images == FILES
    np.testing.assert_array_equal(found.same, [True, False])


def test_folds_follow_each_other(tmp_path):
    same = np.arange(23) % 2 == 0
    (tmp_path / "a.bin").write_bytes(pickle.dumps((2 * [b"x"] * 23, list(same))))
    found = read_bin(tmp_path / "a.bin")
    np.testing.assert_array_equal(np.bincount(found.fold), [3, 3, 3, *[2] * 7])
    assert (np.diff(found.fold) >= 0).all()


class Harm:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harm()), r"asks for (posix|nt)\.system, .* can run code"),
        (pickle.dumps(([Harm()], [])), r"asks for (posix|nt)\.system"),
        (pickle.dumps((FILES[:2], [collections.OrderedDict()])), "OrderedDict"),
        (b"cbuiltins\neval\n.", r"asks for builtins\.eval"),
        (b"cnumpy.testing\nruntests\n.", r"asks for numpy\.testing\.runtests"),
        (pickle.dumps((FILES, [True, False]))[:-5], "not a pickle, or truncated"),
        (b"", "not a pickle, or truncated: EOFError"),
        (FILES[0], "not a pickle, or truncated"),
        (pickle.dumps(FILES), "must have two lists"),
        (pickle.dumps({"a": 1}), "must have two lists, .* got dict"),
        (pickle.dumps((3, 4)), "must have two lists"),
        (pickle.dumps((FILES[:3], [True, False])), "got 3 images and 2 pairs"),
        (pickle.dumps((FILES, [[True], [True]])), "got 4 images and 2 pairs"),
        (pickle.dumps(([], [])), "got 0 images and 0 pairs"),
        (pickle.dumps((FILES, [1, 2])), "by True or False, got int64 from 1 to 2"),
        (pickle.dumps((FILES, [0.0, 1.0])), "got float64"),
        (
            pickle.dumps(([*FILES[:3], None], [True, False])),
            "image 3 of 4 must .* NoneType",
        ),
    ],
    ids=map(str, range(17)),
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "lfw.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_bin(tmp_path / "lfw.bin")
    assert str(tmp_path / "lfw.bin") in str(error.value)
