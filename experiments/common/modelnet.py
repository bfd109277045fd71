"""Point clouds of ModelNet: a folder of meshes, by class and split."""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.common.clouds import Clouds, CloudSet, Mesh, normalized, sample
from experiments.common.images import DatasetNotFoundError

# Number and text.
_Line = tuple[int, str]


@functools.cache
def read(folder: pathlib.Path, *, points: int = 1024, seed: int = 0) -> CloudSet:
    """Clouds drawn from the meshes ``<class>/{train,test}/*.off`` of a folder.

    Points are uniform on the surface, then moved to their mean and scaled to the unit
    ball. A process reads a folder once: the 12 311 meshes of ModelNet40 take minutes.

    Args:
        folder: Of the classes, which are numbered in the order of their names.
        points: Points of a cloud.
        seed: Of the points.

    Raises:
        DatasetNotFoundError: If there is no mesh to train on, or none to test on.
            Nothing is downloaded.
        ValueError: If a file has no mesh; says which, and in which line.
    """
    names = tuple(sorted(path.name for path in folder.glob("*") if path.is_dir()))
    splits = []
    for number, part in enumerate(("train", "test")):
        groups = [sorted((folder / name / part).glob("*.off")) for name in names]
        paths = [path for group in groups for path in group]
        if not paths:
            raise DatasetNotFoundError(
                f"{folder} (--data-dir) has no files <class>/{part}/*.off."
                " ModelNet40.zip, from the authors' page at modelnet.cs.princeton.edu,"
                " unpacks to such a folder."
            )
        clouds = []
        for place, path in enumerate(paths):
            mesh, rng = read_off(path), np.random.default_rng((seed, number, place))
            try:
                clouds.append(normalized(sample(mesh, points, rng)))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        labels = np.repeat(np.arange(len(names), dtype=np.int32), [*map(len, groups)])
        splits.append(Clouds(np.stack(clouds).astype(np.float32), labels))
    return CloudSet(splits[0], splits[1], names)


def read_off(path: pathlib.Path) -> Mesh:
    """The mesh of a file in the object file format, its polygons cut to triangles.

    The counts may follow ``OFF`` on its line, even without a space, as they do in some
    files of ModelNet40. After the corners of a face its color may follow, which is
    ignored.

    Raises:
        ValueError: If the file has no surface; says in which line it differs.
    """
    texts = path.read_text(errors="replace").splitlines()
    texts = (text.partition("#")[0].strip() for text in texts)
    lines = [line for line in enumerate(texts, 1) if line[1]]
    if len(lines) < 2 or not lines[0][1].startswith("OFF"):
        raise ValueError(
            f"{path} must start with OFF and its numbers of vertices and faces."
        )
    line, header = lines[0]
    counts = header.removeprefix("OFF")
    head, *body = [(line, counts)] * bool(counts) + lines[1:]
    number, faces = _table(path, [head], int, 2)[0]
    if len(body) < number + faces:
        raise ValueError(
            f"{path} must have a line for each of {number} vertices and {faces} faces,"
            f" got {len(body)}."
        )
    vertices = _table(path, body[:number], float, 3)
    return Mesh(vertices, _triangles(path, body[number : number + faces], number))


def _triangles(path: pathlib.Path, faces: list[_Line], vertices: int) -> np.ndarray:
    """Fans of triangles about the first corner of each face, ``[triangles, 3]``."""
    sizes = _table(path, faces, int, 1)[:, 0]
    fans = [np.zeros((0, 3), int)]
    for size in np.unique(sizes[sizes >= 3]):
        chosen = [faces[row] for row in np.flatnonzero(sizes == size)]
        corners = _table(path, chosen, int, size + 1)[:, 1:]
        is_outside = ((corners < 0) | (corners >= vertices)).any(1)
        for row in np.flatnonzero(is_outside)[:1]:
            raise _error(path, chosen[row], f"vertices from 0 to {vertices - 1}")
        fans += [corners[:, [0, i, i + 1]] for i in range(1, size - 1)]
    return np.concatenate(fans)


def _table(
    path: pathlib.Path, lines: Sequence[_Line], kind: type, columns: int
) -> np.ndarray:
    """The first numbers of every line, ``[lines, columns]``."""
    if not lines:
        return np.zeros((0, columns), kind)
    texts = [text for _, text in lines]
    try:
        return np.loadtxt(texts, kind, usecols=range(columns), ndmin=2)
    except ValueError:
        if len(lines) > 1:
            # One of them is the culprit.
            return np.concatenate([_table(path, [x], kind, columns) for x in lines])
        name = "integers" if kind is int else "numbers"
        raise _error(path, lines[0], f"{columns} {name}") from None


def _error(path: pathlib.Path, line: _Line, expected: str) -> ValueError:
    number, text = line
    return ValueError(f"{path}, line {number}: expected {expected}, got {text!r}.")
