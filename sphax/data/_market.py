"""What the names of the images of Market-1501 say."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg")


class MarketNames(NamedTuple):
    """Numbers in the names of images; see :func:`parse_market_names`.

    Attributes:
        labels: Person, integer, ``[images]``; 0 for distractors, -1 for junk.
        cameras: Camera, from 1 to 6, integer, ``[images]``.
        sequences: Sequence of the camera, integer, ``[images]``.
        frames: Frame of the sequence, integer, ``[images]``.
        boxes: Number of the detected box in the frame, integer, ``[images]``.

    Example:
        >>> sx.data.parse_market_names(["0000_c2s1_000301_01.jpg"]).labels
        array([0])
    """

    labels: np.ndarray
    cameras: np.ndarray
    sequences: np.ndarray
    frames: np.ndarray
    boxes: np.ndarray


def parse_market_names(
    names: Sequence[str | os.PathLike[str]],
) -> MarketNames:
    """Reads person, camera, sequence, frame and box from names of Market-1501.

    Such as ``0002_c1s1_000451_03.jpg``, with or without folders before. By the
    protocol, a reference of the query's person and camera does not exist for the query,
    and neither does junk, whose person is -1 (a bad box). Distractors, of person 0,
    stay: they are wrong for every query. A metric that takes ``exclude=`` gets this
    rule as ::

        lambda q, r: (
            (query.labels[q] == gallery.labels[r])
            & (query.cameras[q] == gallery.cameras[r])
            | (gallery.labels[r] == -1)
        )

    Args:
        names: Names of images, ``[images]``.

    Returns:
        :class:`MarketNames`.

    Raises:
        ValueError: If a name has another form; says which.

    Example:
        >>> found = sx.data.parse_market_names(
        ...     ["0002_c1s1_000451_03.jpg", "query/-1_c3s2_000012_00.jpg"]
        ... )
        >>> print(found.labels, found.cameras)
        [ 2 -1] [1 3]

    References:
        Zheng et al., `Scalable Person Re-identification: A Benchmark
        <https://doi.org/10.1109/ICCV.2015.133>`_, ICCV 2015.
    """
    rows = []
    for number, name in enumerate(names):
        found = _NAME.fullmatch(os.path.basename(os.fspath(name)))
        if not found:
            raise ValueError(
                "names must be of the form 0002_c1s1_000451_03.jpg, got"
                f" {os.fspath(name)!r} at number {number}."
            )
        rows.append([int(part) for part in found.groups()])
    return MarketNames(*np.array(rows, np.int64).reshape(-1, 5).T)
