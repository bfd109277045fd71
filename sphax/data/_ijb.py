"""Protocol files of IJB-B and IJB-C: images, pairs of templates, probes, galleries."""

import csv
import os
from typing import NamedTuple

import numpy as np

from sphax.data._text import read_integers

Path = str | os.PathLike[str]


class IJBImages(NamedTuple):
    """Images of a protocol, in the order of its files; see :func:`read_ijb_images`.

    Attributes:
        names: File of each image in the folder of images, ``[images]``.
        templates: Template of each, int32, ``[images]``.
        media: Medium of each, int32, ``[images]``.
        points: Eyes, nose and corners of the mouth, x and y, float64,
            ``[images, 5, 2]``.
        scores: Of the face detector, float32, ``[images]``.

    Example:
        >>> points, score = np.zeros((1, 5, 2)), np.ones(1, np.float32)
        >>> one = np.array([1], np.int32)
        >>> images = sx.data.IJBImages(["1.jpg"], one, one, points, score)
        >>> x = jnp.array([[3.0, 4.0]])
        >>> sx.metrics.pool_templates(x, images.templates, images.media).embeddings
        Array([[0.6, 0.8]], dtype=float32)
    """

    names: list[str]
    templates: np.ndarray
    media: np.ndarray
    points: np.ndarray
    scores: np.ndarray


class IJBTemplates(NamedTuple):
    """Templates of probes or of a gallery; see :func:`read_ijb_templates`.

    Attributes:
        templates: Numbers of the templates, increasing, int32, ``[templates]``.
        subjects: Person of each, int32, ``[templates]``.

    Example:
        >>> probes = sx.data.IJBTemplates(np.array([3, 9]), np.array([5, 4]))
        >>> dict(zip(probes.templates.tolist(), probes.subjects.tolist()))
        {3: 5, 9: 4}
    """

    templates: np.ndarray
    subjects: np.ndarray


def read_ijb_images(media: Path, points: Path) -> IJBImages:
    """Reads which images IJB-B or IJB-C has, with their templates, media and points.

    A line of the first file is an image, its template and its medium, ``1.jpg 1
    69544``; of the second, an image, x and y of eyes, nose and corners of the mouth,
    and the score of the face detector. Lines of both are the same images.

    Pool the embeddings of a template by :func:`sphax.metrics.pool_templates` with
    ``templates``, ``media`` and, as insightface does, ``weights=scores`` and
    ``use_directions=False``.

    Args:
        media: A file such as ``ijbc_face_tid_mid.txt``.
        points: A file such as ``ijbc_name_5pts_score.txt``.

    Returns:
        :class:`IJBImages`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a line has other content, or the two have other images; names
            file and line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     media, points = (pathlib.Path(folder, x) for x in ("media", "points"))
        ...     _ = media.write_text("1.jpg 7 30")
        ...     _ = points.write_text("1.jpg" + 11 * " 1")
        ...     found = sx.data.read_ijb_images(media, points)
        >>> print(found.names, found.templates, found.media, found.points.shape)
        ['1.jpg'] [7] [30] (1, 5, 2)

    References:
        Maze et al., `IARPA Janus Benchmark - C
        <https://doi.org/10.1109/ICB2018.2018.00033>`_, ICB 2018; files as of
        `insightface's code <https://github.com/deepinsight/insightface>`_.
    """
    names, numbers = _named(media, "template and medium", 2, int)
    others, values = _named(points, "five points and a score", 11, float)
    for line, (name, other) in enumerate(zip(names, others, strict=False), 1):
        if name != other:
            raise ValueError(
                f"line {line} of {os.fspath(media)} is {name}, and of"
                f" {os.fspath(points)} {other}: lines of both must be the same images."
            )
    if len(names) != len(others):
        raise ValueError(
            f"{os.fspath(media)} has {len(names)} images and {os.fspath(points)}"
            f" {len(others)}; they must be the same."
        )
    templates, medium = np.array(numbers, np.int32).T
    found = np.array(values, np.float64)
    return IJBImages(
        names,
        templates,
        medium,
        found[:, :10].reshape(-1, 5, 2),
        found[:, 10].astype(np.float32),
    )


def _named(
    path: Path, what: str, columns: int, kind: type
) -> tuple[list[str], list[list[float]]]:
    names, rows = [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            name, *words = line.split() or [""]
            try:
                rows.append([kind(word) for word in words])
            except ValueError:
                rows.append([])
            if len(rows[-1]) != columns or not np.isfinite(rows[-1]).all():
                raise ValueError(
                    f"{os.fspath(path)}: line {number} must be an image and {columns}"
                    f" numbers ({what}), got {line[:80].rstrip()!r}."
                )
            names.append(name)
    if not names:
        raise ValueError(f"{os.fspath(path)} is empty: it must have a line an image.")
    return names, rows


def read_ijb_pairs(path: Path) -> np.ndarray:
    r"""Reads the pairs of templates of IJB's 1:1 protocol.

    A line is two templates, and 1 if they are of one person, else 0: ``1 11065 1``. The
    15.7 million pairs of IJB-C are read in blocks, and take 190 MB.

    Args:
        path: A file such as ``ijbc_template_pair_label.txt``.

    Returns:
        Two templates, and 1 or 0, int32, ``[pairs, 3]``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not two templates and 1 or 0; names file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     print("1 11065 1", "1 11066 0", sep="\n", file=file, flush=True)
        ...     sx.data.read_ijb_pairs(file.name)[:, 2]
        array([1, 0], dtype=int32)
    """
    pairs = read_integers(path, 3, what="two templates and 1 or 0", dtype=np.int32)
    if not len(pairs):
        raise ValueError(f"{os.fspath(path)} is empty: it must have a line a pair.")
    for wrong in np.flatnonzero(pairs[:, 2] > 1)[:1]:
        raise ValueError(
            f"{os.fspath(path)}: line {wrong + 1} must end with 1 (one person) or 0,"
            f" got {pairs[wrong, 2]}."
        )
    return pairs


def read_ijb_templates(path: Path) -> IJBTemplates:
    r"""Reads the templates of probes or of a gallery of IJB's 1:N protocol, each once.

    The file is comma-separated, with a header that has the columns ``TEMPLATE_ID`` and
    ``SUBJECT_ID``, and a line for each image, so that a template has several lines.

    Args:
        path: A file such as ``ijbc_1N_probe_mixed.csv``, ``ijbc_1N_gallery_G1.csv`` or
            ``ijbc_1N_gallery_G2.csv``; ``S1`` and ``S2`` in IJB-B.

    Returns:
        :class:`IJBTemplates`, in increasing order, as
        :func:`sphax.metrics.tpir_at_fpir` takes ``subjects``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the header lacks a column, a line has no numbers there, or a
            template has two people; names file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     lines = ["TEMPLATE_ID,SUBJECT_ID,FILENAME", "9,4,a", "9,4,b", "3,5,c"]
        ...     print(*lines, sep="\n", file=file, flush=True)
        ...     found = sx.data.read_ijb_templates(file.name)
        >>> print(found.templates, found.subjects)
        [3 9] [5 4]
    """
    title, rows = os.fspath(path), []
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = [name.strip().upper() for name in next(lines, [])]
        if not {"TEMPLATE_ID", "SUBJECT_ID"} <= set(header):
            raise ValueError(
                f"{title}: line 1 must be a header with the columns TEMPLATE_ID and"
                f" SUBJECT_ID, got {','.join(header)[:80]!r}."
            )
        columns = header.index("TEMPLATE_ID"), header.index("SUBJECT_ID")
        for words in lines:
            found = [words[i].strip() for i in columns if i < len(words)]
            if len(found) < 2 or not all(word.isdecimal() for word in found):
                raise ValueError(
                    f"{title}: line {lines.line_num} must have template and person as"
                    f" numbers, got {','.join(words)[:80]!r}."
                )
            rows.append([int(word) for word in found])
    if not rows:
        raise ValueError(
            f"{title} has no template: it must have a line for each image after the"
            " header."
        )
    templates, subjects = np.unique(np.array(rows, np.int32), axis=0).T
    for twice in np.flatnonzero(templates[1:] == templates[:-1])[:1]:
        raise ValueError(
            f"{title}: template {templates[twice]} has two people, {subjects[twice]}"
            f" and {subjects[twice + 1]}."
        )
    return IJBTemplates(templates, subjects)
