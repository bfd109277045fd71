"""Writes record files for training and pairs for verification from a folder of images.

    python -m experiments.faces.records FOLDER TARGET

FOLDER has a folder of images for each identity. TARGET gets ``train.rec``,
``train.idx``, ``property`` and ``verification.bin``, in insightface's formats.
"""

import dataclasses
import math
import pathlib

import numpy as np
import tyro

from experiments.common import cli, store
from experiments.faces.records.folders import as_jpeg, identities_of, write_image_folder
from experiments.faces.records.pixels import UnreadableImageError, decode
from experiments.faces.records.verification import (
    PAIRS_RULE,
    draw_pairs,
    write_verification_set,
)

_NAME = "experiments.faces.records"


@dataclasses.dataclass(frozen=True)
class Config:
    """Writes record files and verification pairs from a folder of images."""

    folder: tyro.conf.Positional[pathlib.Path]
    """Has a folder for each identity, with its images."""

    target: tyro.conf.Positional[pathlib.Path]
    """Folder to write to."""

    size: int = 112
    """Side of the images in pixels; others are resized, and their center is cut out."""

    min_images: int = 1
    """Identities with fewer images are left out of training."""

    held_out: float = 0.1
    """Share of the identities that make the verification pairs, and are not trained on;
    with 0 the pairs are of identities that are trained on."""

    pairs: int = 6000
    """Number of verification pairs at most."""

    seed: int = 0
    """Of the identities held out and of the pairs."""

    def __post_init__(self):
        if not 0.0 <= self.held_out < 1.0:
            raise ValueError(
                f"--held-out must be a share from 0 to below 1, got {self.held_out}."
            )
        for name in ("size", "min_images", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be 1 or more, got"
                    f" {getattr(self, name)}."
                )


def write(config: Config) -> list[str]:
    """Writes the files, and says what they have, a line for each."""
    found = dict(identities_of(config.folder))
    rng = np.random.default_rng(config.seed)
    # Of those with two images, since pairs of one person need them.
    several = [name for name, files in found.items() if len(files) > 1]
    number = math.ceil(config.held_out * len(several))
    held_out = set(rng.choice(several, number, replace=False)) if number else set()
    trained = {
        name
        for name, files in found.items()
        if name not in held_out and len(files) >= config.min_images
    }
    paired = sorted(held_out or trained)
    paths = [f"{name}/{file}" for name in paired for file in found[name]]
    labels = np.repeat(np.arange(len(paired)), [len(found[name]) for name in paired])
    readable = np.array([_is_readable(config.folder / path) for path in paths])
    places = np.flatnonzero(readable)
    pairs, is_same = draw_pairs(labels[places], config.seed, config.pairs)
    jpegs = {
        place: as_jpeg((config.folder / paths[place]).read_bytes(), config.size)
        for place in np.unique(places[pairs]).tolist()
    }
    images = [jpegs[place] for place in places[pairs].ravel().tolist()]
    store.writable("TARGET", config.target)
    path = config.target / "train.rec"
    count = write_image_folder(config.folder, path, size=config.size, names=trained)
    write_verification_set(config.target / "verification.bin", images, is_same)
    return [
        f"{path}: {count} images of {len(trained)} identities",
        f"{config.target / 'verification.bin'}: {len(pairs)} pairs of"
        f" {len(paired)} identities, {'not trained on' if held_out else 'trained on'};"
        f" {PAIRS_RULE}",
    ]


def _is_readable(path: pathlib.Path) -> bool:
    try:
        decode(path.read_bytes())
    except UnreadableImageError:
        return False
    return True


def main() -> None:
    """Runs from the command line."""
    with cli.ending(_NAME, "run the same command again; nothing partial is left."):
        print("\n".join(write(cli.parse(_NAME, Config))))


if __name__ == "__main__":
    main()
