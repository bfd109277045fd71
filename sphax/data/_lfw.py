"""Pairs of LFW: ``pairs.txt`` (view 2) and ``pairsDevTest.txt`` (view 1)."""

import os
from typing import NamedTuple

import numpy as np


class LFWPairs(NamedTuple):
    """Pairs of images; see :func:`read_lfw_pairs`.

    Attributes:
        left: File of the first image of each pair, such as
            ``"Aaron_Peirsol/Aaron_Peirsol_0001.jpg"``, ``[pairs]``.
        right: File of the second one, ``[pairs]``.
        same: Whether both are of one person, boolean, ``[pairs]``.
        fold: Number of the fold, from 0, integer, ``[pairs]``.

    Example:
        >>> one, other = "Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg"
        >>> pairs = sx.data.LFWPairs([one], [other], np.array([True]), np.array([0]))
        >>> list(zip(pairs.left, pairs.right))
        [('Ada/Ada_0001.jpg', 'Ada/Ada_0002.jpg')]
    """

    left: list[str]
    right: list[str]
    same: np.ndarray
    fold: np.ndarray


def read_lfw_pairs(path: str | os.PathLike[str], *, suffix: str = ".jpg") -> LFWPairs:
    r"""Reads the pairs of LFW, of either view.

    The first line has the numbers of folds and of pairs of either kind in a fold, such
    as ``10`` and ``300``, or the latter alone for the one fold of a file of view 1. In
    each fold, pairs of one person come first, ``name i j``, then pairs of two,
    ``name i name j``, with tabs between. Image i of a person is ``name/name_000i.jpg``.

    Args:
        path: The file.
        suffix: What the names of images end with.

    Returns:
        :class:`LFWPairs`, in the order of the file, as
        :func:`sphax.metrics.verification_accuracy` takes ``same`` and ``fold``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line has other content, or there are too few or too many; names
            file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     lines = ["1", "Ada\t1\t3", "Ada\t2\tAlan\t1"]
        ...     print(*lines, sep="\n", file=file, flush=True)
        ...     pairs = sx.data.read_lfw_pairs(file.name)
        >>> print(pairs.right, pairs.same, pairs.fold)
        ['Ada/Ada_0003.jpg', 'Alan/Alan_0001.jpg'] [ True False] [0 0]

    References:
        Huang et al., `Labeled Faces in the Wild
        <https://vis-www.cs.umass.edu/lfw/>`_, 2007.
    """
    title = os.fspath(path)
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    header = lines[0].split() if lines else []
    if len(header) not in (1, 2) or not all(map(_is_positive, header)):
        raise ValueError(
            f"{title}: line 1 must be the numbers of folds and of pairs in each, such"
            f" as '10\\t300', or the latter alone, got {''.join(lines[:1])[:60]!r}."
        )
    *folds, number = map(int, header)
    (folds,) = folds or (1,)
    expected = 1 + 2 * number * folds
    same = np.tile(np.repeat([True, False], number), folds)
    left, right = [], []
    for line, (text, is_same) in enumerate(zip(lines[1:], same, strict=False), 2):
        words = text.split("\t")
        people, images = ([0, 0], [1, 2]) if is_same else ([0, 2], [1, 3])
        is_whole = len(words) == (3 if is_same else 4) and all(words)
        if not is_whole or not all(_is_positive(words[i]) for i in images):
            form = "name, i, j" if is_same else "name, i, name, j"
            kind = "one person" if is_same else "two people"
            raise ValueError(
                f"{title}: line {line} must be {form} with tabs between, being among"
                f" the {number} pairs of {kind} of a fold, got {text[:80]!r}."
            )
        names = [
            f"{words[who]}/{words[who]}_{int(words[i]):04d}{suffix}"
            for who, i in zip(people, images, strict=True)
        ]
        left.append(names[0])
        right.append(names[1])
    if len(lines) != expected:
        raise ValueError(
            f"{title}: line 1 says that there are {expected - 1} pairs, so {expected}"
            f" lines, got {len(lines)}: line {min(len(lines), expected) + 1} is"
            f" {'missing' if len(lines) < expected else 'too much'}."
        )
    return LFWPairs(left, right, same, np.repeat(np.arange(folds), 2 * number))


def _is_positive(word: str) -> bool:
    return word.isdecimal() and int(word) > 0
