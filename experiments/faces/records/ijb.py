"""Protocol files of IJB-B and IJB-C, and faces cut out by five points.

``ijbc_face_tid_mid.txt``
    An image, its template and its medium: ``1.jpg 1 69544``.
``ijbc_template_pair_label.txt``
    Two templates, and 1 if they are of one person, else 0: ``1 11065 1``.
``ijbc_name_5pts_score.txt``
    An image, x and y of eyes, nose and corners of the mouth, and the detector's score.
    Lines are those of the first file.
``ijbc_1N_probe_mixed.csv``, ``ijbc_1N_gallery_G1.csv``, ``ijbc_1N_gallery_G2.csv``
    A header, then template and person: ``1,1``.
"""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from experiments.faces.records.recordio import RecordError
from experiments.faces.records.text import read_integers

Path = str | os.PathLike[str]

# Where eyes, nose and corners of the mouth are in an image of 112 x 112 pixels.
POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


class Images(NamedTuple):
    """Images of a protocol, in the order of its files.

    Attributes:
        names: File of each image in the folder of images, ``[images]``.
        templates: Template of each, int32, ``[images]``.
        media: Medium of each, int32, ``[images]``.
        points: Eyes, nose and corners of the mouth, x and y, float64,
            ``[images, 5, 2]``.
        scores: Of the face detector, float32, ``[images]``.
    """

    names: list[str]
    templates: np.ndarray
    media: np.ndarray
    points: np.ndarray
    scores: np.ndarray


class Templates(NamedTuple):
    """Templates of probes or of a gallery.

    Attributes:
        templates: int32, ``[templates]``.
        subjects: Person of each, int32, ``[templates]``.
    """

    templates: np.ndarray
    subjects: np.ndarray


def read_images(media: Path, points: Path) -> Images:
    """Reads which images there are, with their templates, media and points.

    Args:
        media: A file such as ``ijbc_face_tid_mid.txt``.
        points: A file such as ``ijbc_name_5pts_score.txt``.

    Raises:
        RecordError: If a line has other content, or the two have other images.
    """
    names, numbers = _named(media, "template and medium", 2, int)
    others, values = _named(points, "five points and a score", 11, float)
    for line, (name, other) in enumerate(zip(names, others, strict=False), 1):
        if name != other:
            raise RecordError(
                f"line {line} of {os.fspath(media)} is {name}, and of"
                f" {os.fspath(points)} {other}: lines of both must be the same images."
            )
    if len(names) != len(others):
        raise RecordError(
            f"{os.fspath(media)} has {len(names)} images and {os.fspath(points)}"
            f" {len(others)}; they must be the same."
        )
    templates, medium = np.array(numbers, np.int32).T
    found = np.array(values, np.float64)
    return Images(
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
                raise RecordError(
                    f"{os.fspath(path)}: line {number} must be an image and {columns}"
                    f" numbers ({what}), got {line[:80].rstrip()!r}."
                )
            names.append(name)
    if not names:
        raise RecordError(f"{os.fspath(path)} is empty: it must have a line an image.")
    return names, rows


def read_pairs(path: Path) -> np.ndarray:
    """Reads the pairs of templates, int32, ``[pairs, 3]``: two templates, and 1 or 0.

    In blocks: the 15.7 million pairs of IJB-C take 190 MB.

    Raises:
        RecordError: If a line is not two templates and 1 or 0.
    """
    pairs = read_integers(path, "two templates and 1 or 0", 3, RecordError, np.int32)
    if not len(pairs):
        raise RecordError(f"{os.fspath(path)} is empty: it must have a line a pair.")
    for wrong in np.flatnonzero(pairs[:, 2] > 1)[:1]:
        raise RecordError(
            f"{os.fspath(path)}: line {wrong + 1} must end with 1 (one person) or 0,"
            f" got {pairs[wrong, 2]}."
        )
    return pairs


def read_templates(path: Path) -> Templates:
    """Reads the templates of probes or of a gallery, each once, in increasing order.

    Raises:
        RecordError: If a line does not begin with template and person, or a template
            has two people.
    """
    rows = []
    with open(path, encoding="utf-8") as file:
        next(file, None)  # the names of the columns
        for number, line in enumerate(file, 2):
            words = line.split(",")
            if len(words) < 2 or not all(x.strip().isdecimal() for x in words[:2]):
                raise RecordError(
                    f"{os.fspath(path)}: line {number} must begin with template,person"
                    f" as numbers, got {line[:80].rstrip()!r}."
                )
            rows.append([int(x) for x in words[:2]])
    if not rows:
        raise RecordError(
            f"{os.fspath(path)} has no template: it must have a line for each after"
            " the header."
        )
    # Files with a line for each image have the lines of a template several times.
    templates, subjects = np.unique(np.array(rows, np.int32), axis=0).T
    for twice in np.flatnonzero(templates[1:] == templates[:-1])[:1]:
        raise RecordError(
            f"{os.fspath(path)}: template {templates[twice]} has two people,"
            f" {subjects[twice]} and {subjects[twice + 1]}."
        )
    return Templates(templates, subjects)


def similarity(points: np.ndarray, target: np.ndarray = POINTS) -> np.ndarray:
    r"""The rotation, scale and shift that takes points nearest to others, ``[2, 3]``.

    Least squares over :math:`z \mapsto a z + b` of complex numbers, which has no
    reflections:

    .. math:: a = \frac{\sum \overline{(z - \bar z)} (w - \bar w)}{\sum |z - \bar z|^2},
        \qquad b = \bar w - a \bar z.

    Args:
        points: Not all the same, ``[points, 2]``.
        target: Where they should be, ``[points, 2]``.

    Raises:
        ValueError: If all points are the same.
    """
    z, w = (np.asarray(x, np.float64) @ (1.0, 1.0j) for x in (points, target))
    centered = z - z.mean()
    spread = np.vdot(centered, centered).real
    if not spread > 0.0:
        raise ValueError(f"points must not all be the same, got {z[0]} for each.")
    a = np.vdot(centered, w - w.mean()) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned(image: np.ndarray, points: np.ndarray, size: int = 112) -> np.ndarray:
    """A face turned, scaled and shifted to the usual place, uint8, ``[size, size, 3]``.

    Bilinear, with 0 outside the image. Whole numbers are the centers of pixels.

    Args:
        image: uint8, ``[height, width, 3]``.
        points: Eyes, nose and corners of the mouth in it, ``[5, 2]``.
        size: Side of the result.
    """
    forward = similarity(points, POINTS * (size / 112))
    turn = np.linalg.inv(forward[:, :2])
    shift = -turn @ forward[:, 2]
    # Pillow counts from the corners of pixels; and one pixel of zeros around the image
    # makes its border fade out, where Pillow would repeat the last pixel.
    shift += 1.5 - turn @ (0.5, 0.5)
    inverse = np.column_stack([turn, shift]).ravel().tolist()
    bordered = ImageOps.expand(Image.fromarray(image), 1, 0)
    result = bordered.transform(
        (size, size),
        Image.Transform.AFFINE,
        inverse,
        Image.Resampling.BILINEAR,
    )
    return np.asarray(result)
