"""The protocol BLUFR: trials of verification and open-set identification on LFW."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

_LISTS = ("devTrainIndex", "devTestIndex")
_TRIALS = ("trainIndex", "testIndex", "galIndex", "probIndex")


class BLUFRTrial(NamedTuple):
    """One of the ten trials; see :func:`read_blufr`.

    Attributes:
        train: Images to train on, from 0, integer, ``[images]``.
        test: Images whose pairs are verified, those of the next two together.
        gallery: Images of known people, one each.
        probes: Images to identify, of known people and of others.

    Example:
        >>> trial = sx.data.BLUFRTrial(*map(np.array, ([0], [1, 2, 3], [1], [2, 3])))
        >>> np.union1d(trial.gallery, trial.probes)
        array([1, 2, 3])
    """

    train: np.ndarray
    test: np.ndarray
    gallery: np.ndarray
    probes: np.ndarray


class BLUFR(NamedTuple):
    """The protocol; see :func:`read_blufr`.

    Attributes:
        names: File of each image, ``[images]``.
        labels: Person of each image, integer, ``[images]``.
        dev_train: Images to train on while methods are chosen, from 0, integer.
        dev_test: Images to test on then.
        trials: :class:`BLUFRTrial`, ten of them for LFW.

    Example:
        >>> trial = sx.data.BLUFRTrial(*map(np.array, ([0], [1, 2, 3], [1], [2, 3])))
        >>> names, labels = ["a", "b", "c", "d"], np.array([1, 2, 2, 3])
        >>> found = sx.data.BLUFR(names, labels, trial.train, trial.test, (trial,))
        >>> found.labels[found.trials[0].probes]
        array([2, 3])
    """

    names: list[str]
    labels: np.ndarray
    dev_train: np.ndarray
    dev_test: np.ndarray
    trials: tuple[BLUFRTrial, ...]


def read_blufr(path: str | os.PathLike[str]) -> BLUFR:
    r"""Reads the protocol BLUFR, of LFW or of another set in its form.

    Its variables are ``imageList``, ``labels``, ``devTrainIndex``, ``devTestIndex``,
    ``trainIndex``, ``testIndex``, ``galIndex`` and ``probIndex``. Indices count from 1
    in the files, and from 0 in what this returns.

    Args:
        path: The file ``blufr_lfw_config.mat``, for which scipy must be installed; or a
            folder with a text file for each variable, ``imageList.txt`` and so on: an
            image or a label a line; all indices on one line, separated by spaces; and
            for the last four variables a line for each trial.

    Returns:
        :class:`BLUFR`, whose labels and trials :func:`sphax.metrics.blufr` takes.

    Raises:
        ImportError: If scipy is missing for a ``.mat`` file.
        OSError: If a file cannot be read.
        ValueError: If a file has other content; names file and line.

    Example:
        >>> import pathlib, tempfile
        >>> lines = {"imageList": "a.jpg\nb.jpg\nc.jpg", "labels": "1\n2\n1"}
        >>> lines |= dict.fromkeys(["devTrainIndex", "devTestIndex", "trainIndex"], "1")
        >>> lines |= {"testIndex": "1 2 3", "galIndex": "1", "probIndex": "2 3"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, text in lines.items():
        ...         _ = pathlib.Path(folder, f"{name}.txt").write_text(text)
        ...     found = sx.data.read_blufr(folder)
        >>> found.trials[0].probes
        array([1, 2])

    References:
        Liao et al., `A Benchmark Study of Large-scale Unconstrained Face Recognition
        <https://doi.org/10.1109/BTAS.2014.6996301>`_, IJCB 2014.
    """
    path = pathlib.Path(path)
    is_folder = path.is_dir()
    names, labels, indices = _of_folder(path) if is_folder else _of_mat(path)

    def place(name: str, number: int | None = None) -> str:
        if is_folder:
            line = "" if number is None else f": line {number}"
            return f"{path / name}.txt{line}"
        return f"{path}: {name}" + ("" if number is None else f"{{{number}}}")

    if len(labels) != len(names) or not names:
        raise ValueError(
            f"{place('labels')} must have a label for each of the {len(names)} images"
            f" of imageList, got {len(labels)}."
        )
    for name, rows in indices.items():
        for number, row in enumerate(rows, 1):
            for wrong in row[(row < 1) | (row > len(names))][:1]:
                raise ValueError(
                    f"{place(name, number)} must have indices from 1 to"
                    f" {len(names)}, the number of images, got {wrong}."
                )
    counts = {name: len(indices[name]) for name in indices}
    if any(counts[name] != 1 for name in _LISTS):
        raise ValueError(
            f"{path}: devTrainIndex and devTestIndex must be one list each, got"
            f" {counts['devTrainIndex']} and {counts['devTestIndex']}."
        )
    if len({counts[name] for name in _TRIALS}) > 1:
        raise ValueError(
            f"{path}: there must be as many trials in each of {', '.join(_TRIALS)}, got"
            f" {', '.join(str(counts[name]) for name in _TRIALS)}."
        )
    for name in ("galIndex", "probIndex"):
        pairs = zip(indices[name], indices["testIndex"], strict=True)
        for number, (row, test) in enumerate(pairs, 1):
            for wrong in row[~np.isin(row, test)][:1]:
                raise ValueError(
                    f"{place(name, number)} must be images of the test set of"
                    f" its trial, got {wrong}."
                )
    trials = zip(*(indices[name] for name in _TRIALS), strict=True)
    dev_train, dev_test = (indices[name][0] - 1 for name in _LISTS)
    return BLUFR(
        names,
        labels,
        dev_train,
        dev_test,
        tuple(BLUFRTrial(*(row - 1 for row in trial)) for trial in trials),
    )


Variables = tuple[list[str], np.ndarray, dict[str, list[np.ndarray]]]


def _of_folder(folder: pathlib.Path) -> Variables:
    names = (folder / "imageList.txt").read_text(encoding="utf-8").splitlines()
    labels = _integers(folder / "labels.txt")
    for number, row in enumerate(labels, 1):
        if len(row) != 1:
            raise ValueError(
                f"{folder / 'labels.txt'}: line {number} must be one label, got"
                f" {len(row)} numbers."
            )
    indices = {name: _integers(folder / f"{name}.txt") for name in _LISTS + _TRIALS}
    return names, np.array(labels, np.int64).reshape(-1), indices


def _integers(path: pathlib.Path) -> list[np.ndarray]:
    """The numbers of each line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or not all(word.isdecimal() for word in words):
            raise ValueError(
                f"{path}: line {number} must be non-negative integers with spaces"
                f" between, got {line[:60]!r}."
            )
        rows.append(np.array(words, np.int64))
    return rows


def _of_mat(path: pathlib.Path) -> Variables:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"{path} is a MATLAB file, which scipy reads: pip install scipy, or write"
            " its variables to a folder of text files, see sphax.data.read_blufr."
        ) from error
    names = ("imageList", "labels", *_LISTS, *_TRIALS)
    found: dict[str, Any] = loadmat(path, variable_names=names)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} must have the variables {', '.join(missing)}.")

    def integers(x: Any) -> np.ndarray:
        return np.asarray(x).ravel().astype(np.int64)

    # A cell array has an object for each of its entries.
    images = [str(cell.item()) for cell in found["imageList"].ravel()]
    indices = {name: [integers(found[name])] for name in _LISTS}
    indices |= {name: [integers(x) for x in found[name].ravel()] for name in _TRIALS}
    return images, integers(found["labels"]), indices
