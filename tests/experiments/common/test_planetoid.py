"""The reader of Planetoid: files of Python 2 and 3, and what it refuses to call."""

import collections
import io
import os
import pickle

import numpy as np
import pytest
from scipy import sparse

from experiments.common import planetoid
from experiments.common.images import DatasetNotFoundError


def dense(matrix):
    return sparse.coo_array(
        (matrix.values, (matrix.rows, matrix.columns)), matrix.shape
    ).toarray()


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# The one that is written in Python, whose parts can be replaced.
PICKLER = vars(pickle)["_Pickler"]


class PicklerOfPython2(PICKLER):
    """Writes all bytes and strings as the strings of Python 2."""

    dispatch = {**PICKLER.dispatch}

    def save_string(self, string):
        raw = string if isinstance(string, bytes) else string.encode("latin1")
        self.write(b"T" + len(raw).to_bytes(4, "little") + raw)
        self.memoize(string)

    dispatch[bytes] = dispatch[str] = save_string

    def reducer_override(self, thing):
        if not isinstance(thing, sparse.csr_matrix):
            return NotImplemented
        state = {
            "_shape": thing.shape,
            "maxprint": 50,
            "data": thing.data,
            "indices": thing.indices,
            "indptr": thing.indptr,
        }
        made_of = (sparse.csr_matrix, object, None)
        return object().__reduce_ex__(1)[0], made_of, state


def pickled(thing):
    file = io.BytesIO()
    PicklerOfPython2(file, protocol=2).dump(thing)
    raw = file.getvalue().replace(b"scipy.sparse._csr", b"scipy.sparse.csr")
    return raw.replace(b"numpy._core", b"numpy.core")


def one_hot(labels):
    return np.eye(3, dtype=np.int32)[labels]


# Seven nodes: two labelled, two more described, and tests at 6 and 4, but none at 5.
FEATURES = np.round(np.abs(draw(7, 4)) * (draw(7, 4, seed=1) > 0.0), 3)
FEATURES[5] = 0.0
LABELS = np.array([0, 2, 1, 1, 2, 0, 1])
NEIGHBORS = {0: [1, 1, 6], 1: [0, 1], 2: [], 3: [4], 4: [3], 5: [5], 6: [0]}


def planetoid_files():
    known, tests = slice(4), [6, 4]
    return {
        "x": sparse.csr_matrix(FEATURES[:2]),
        "tx": sparse.csr_matrix(FEATURES[tests]),
        "allx": sparse.csr_matrix(FEATURES[known]),
        "y": one_hot(LABELS[:2]),
        "ty": one_hot(LABELS[tests]),
        "ally": one_hot(LABELS[known]),
        "graph": collections.defaultdict(list, NEIGHBORS),
    }


def write_planetoid(folder, dump=pickled, index="6\n4\n", **others):
    for part, thing in {**planetoid_files(), **others}.items():
        (folder / f"ind.tiny.{part}").write_bytes(dump(thing))
    (folder / "ind.tiny.test.index").write_text(index)


@pytest.mark.parametrize("dump", [pickled, pickle.dumps], ids=["2", "3"])
def test_planetoid_files_are_read_as_they_were_written(tmp_path, dump):
    write_planetoid(tmp_path, dump)
    graph = planetoid.read("tiny", tmp_path)
    np.testing.assert_allclose(dense(graph.features), FEATURES, rtol=1e-6)
    np.testing.assert_array_equal(graph.labels, LABELS)
    np.testing.assert_array_equal(graph.edges, [[0, 1], [0, 6], [3, 4]])
    assert graph.classes == 3
    for part, nodes in {"train": [0, 1], "validation": [2, 3], "test": [4, 6]}.items():
        np.testing.assert_array_equal(getattr(graph, part), nodes)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_planetoid_files_call_nothing_else(tmp_path):
    write_planetoid(tmp_path)
    target = tmp_path / "made"
    (tmp_path / "ind.tiny.graph").write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(pickle.UnpicklingError, match="ind.tiny.graph.*mkdir"):
        planetoid.read("tiny", tmp_path)
    assert not target.exists()


def test_planetoid_files_that_are_no_graph_are_refused(tmp_path):
    write_planetoid(tmp_path, graph={0: [7]})
    with pytest.raises(ValueError, match="must be of one graph.*edges.* up to 7"):
        planetoid.read("tiny", tmp_path)
    write_planetoid(tmp_path, index="6\n4\n3\n")
    with pytest.raises(ValueError, match="must be of one graph.*3 places from 3 to 6"):
        planetoid.read("tiny", tmp_path)
    write_planetoid(tmp_path)
    (tmp_path / "ind.tiny.y").write_bytes(b"")
    with pytest.raises(pickle.UnpicklingError, match="ind.tiny.y"):
        planetoid.read("tiny", tmp_path)
    (tmp_path / "ind.tiny.ty").unlink()
    with pytest.raises(DatasetNotFoundError, match="ind.tiny.ty is not there"):
        planetoid.read("tiny", tmp_path)
