"""Citation graphs from the files of Planetoid: Cora, CiteSeer and PubMed.

All files but one are pickles, and loading a pickle calls what it names. This reader
knows the functions that arrays, sparse matrices, dicts and lists are made by, and
refuses all others.
"""

import collections
import pathlib
import pickle
from typing import Any

import numpy as np

from experiments.common import graphs
from experiments.common.images import DatasetNotFoundError

_PARTS = ("tx", "allx", "y", "ty", "ally", "graph", "test.index")
_VALIDATION = 500


def read(name: str, folder: pathlib.Path) -> graphs.Graph:
    """The graph of the files ``ind.<name>.*``, with the split of their authors.

    The first nodes are trained on, 20 of each class, the 500 after them are for
    validation, and those in ``test.index`` for the test. Some nodes between the latter,
    15 in CiteSeer, are in none of the files: they have no features, label 0, and are in
    no part. Loops are left out, since the normalized adjacency gives one to every node.

    Args:
        name: ``"cora"``, ``"citeseer"`` or ``"pubmed"``.
        folder: Of the files.

    Raises:
        DatasetNotFoundError: If a file is not there. Nothing is downloaded.
        pickle.UnpicklingError: If a file is not a pickle, or one of something else.
        ValueError: If the files do not belong together.
    """
    paths = {part: folder / f"ind.{name}.{part}" for part in _PARTS}
    for path in paths.values():
        if not path.is_file():
            raise DatasetNotFoundError(
                f"{path} is not there (--data-dir). The files ind.{name}.* are in the"
                " folder data of the authors' repository, kimiyoung/planetoid."
            )
    places = np.loadtxt(paths.pop("test.index"), dtype=np.int64, ndmin=1)
    parts = {part: _load(path) for part, path in paths.items()}
    known, tested = parts["allx"], parts["tx"]
    first, width = known.shape
    trained, classes = parts["y"].shape
    nodes = int(places.max()) + 1
    neighbors = parts["graph"].items()
    pairs = [(node, other) for node, others in neighbors for other in others]
    edges = graphs.undirected(np.array(pairs, np.int64).reshape(-1, 2))
    belongs = (
        len(parts["ally"]) == first >= trained
        and len(parts["ty"]) == len(places) == tested.shape[0]
        and tested.shape[1] == width
        and len(np.unique(places)) == len(places)
        and places.min() >= first
        and edges.max(initial=0) < nodes
    )
    if not belongs:
        raise ValueError(
            f"The files of {folder} must be of one graph: allx and ally, and likewise"
            " tx, ty and test.index, describe the same nodes, test.index those after"
            f" allx; got allx {known.shape}, ally {parts['ally'].shape}, tx"
            f" {tested.shape}, ty {parts['ty'].shape}, {len(places)} places from"
            f" {places.min()} to {places.max()}, and edges of nodes up to"
            f" {edges.max(initial=0)}."
        )
    labels = np.zeros(nodes, np.int32)
    labels[:first] = parts["ally"].argmax(1)
    labels[places] = parts["ty"].argmax(1)
    features = graphs.sparse(
        np.concatenate([known.data, tested.data]),
        np.concatenate([known.rows, places[tested.rows]]),
        np.concatenate([known.indices, tested.indices]),
        (nodes, width),
    )
    validation = np.arange(trained, min(trained + _VALIDATION, first))
    train, test = np.arange(trained), np.sort(places)
    return graphs.Graph(features, labels, edges, train, validation, test, classes)


class _Rows:
    """Stands for SciPy's matrix of compressed rows; unpickling sets its attributes."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    _shape: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    @property
    def rows(self) -> np.ndarray:
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))


# The functions that make an empty object, or array, of a class.
_object, _array = object().__reduce_ex__(1)[0], np.empty(0).__reduce__()[0]
# By their names in the published files, and in files that are written today.
_KNOWN: dict[tuple[str, str], Any] = {
    ("__builtin__", "list"): list,
    ("__builtin__", "object"): object,
    ("builtins", "list"): list,
    ("collections", "defaultdict"): collections.defaultdict,
    ("copy_reg", "_reconstructor"): _object,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("scipy.sparse.csr", "csr_matrix"): _Rows,
    ("scipy.sparse._csr", "csr_matrix"): _Rows,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        known = _KNOWN.get((module_name, global_name))
        if known is None:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, which no graph of Planetoid"
                " does, and was not called."
            )
        return known


def _load(path: pathlib.Path) -> Any:
    with path.open("rb") as file:
        try:
            # Strings of Python 2, such as the bytes of an array, are read as Latin-1.
            return _Unpickler(file, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError) as error:
            raise pickle.UnpicklingError(f"{path}: {error}") from error
