"""A folder of IJB-B or IJB-C, with its protocol of pairs of templates."""

import pathlib
from typing import NamedTuple

import numpy as np

import sphax as sx
from experiments.faces.records.alignment import aligned
from experiments.faces.records.pixels import decode


class IJBFolder(NamedTuple):
    """Images and pairs of a folder.

    Attributes:
        folder: Has folders ``meta``, with the protocol, and ``loose_crop``.
        images: Names, templates, media, points and scores.
        pairs: Two templates, and whether they are of one person, ``[pairs, 3]``.
    """

    folder: pathlib.Path
    images: sx.data.IJBImages
    pairs: np.ndarray

    def face(self, number: int, size: int) -> np.ndarray:
        """An image's face at the usual place, uint8, ``[size, size, 3]``."""
        path = self.folder / "loose_crop" / self.images.names[number]
        image = decode(path.read_bytes())
        return aligned(image, self.images.points[number], size)


def read_ijb_folder(folder: pathlib.Path) -> IJBFolder:
    """Reads the protocol of a folder.

    Raises:
        FileNotFoundError: If it has no such files.
        ValueError: If a line has other content.
    """
    files = []
    for name in ("face_tid_mid", "name_5pts_score", "template_pair_label"):
        found = sorted(folder.glob(f"meta/*_{name}.txt"))
        if len(found) != 1 or not (folder / "loose_crop").is_dir():
            raise FileNotFoundError(
                f"{folder} must have a folder loose_crop and one file"
                f" meta/*_{name}.txt, got {len(found)} of the latter."
            )
        files.append(found[0])
    images = sx.data.read_ijb_images(files[0], files[1])
    return IJBFolder(folder, images, sx.data.read_ijb_pairs(files[2]))
