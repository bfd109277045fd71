"""Trains networks on faces, on all devices of all processes, and verifies with them.

Every process executes this same code; the first one writes metrics and results.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.common import class_parallel, sharded, tables
from experiments.common.class_parallel import Setting, State
from experiments.common.images import DatasetNotFoundError
from experiments.common.runs import Run, Work
from experiments.faces import records
from experiments.faces.config import Config, opened
from experiments.faces.records import Source, VerificationSet, evaluation

# Numbers in the stored curve of the loss.
_STORED = 50


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains and verifies one run.

    Returns:
        Numbers of ``images``, ``identities`` and ``devices``; ``losses``, means over
        equal parts of the training; ``verification``, accuracies in percent, each with
        its error over the folds, by step, and the ``rule`` in words. With a
        ``drop_angle``, also the share of images that were ``kept``, and ``before``, the
        metrics of the training with all.

    Raises:
        DatasetNotFoundError: If a set is not prepared.
        FloatingPointError: If the loss is not a number.
        OSError: If a file is missing.
        ValueError: If data cannot be used, or the batch does not fit the devices.
    """
    (run,) = runs
    config: Config = run.config
    source, sets = open_training(config), open_verification(config)
    folder, further = folder_of(run), {}
    if config.drop_angle is not None:
        everything = folder / "all"
        setting, state, metrics = fit(config, source, sets, everything, run, work)
        cosines = to_centers(setting, state, source)
        kept = near_dominant(cosines, source.labels, config.drop_angle)
        if jax.process_index() == 0:
            np.save(folder / "kept.npy", kept)
        further = {"before": metrics, "kept": round(len(kept) / len(source), 4)}
        config, source = cleaned(config), records.Subset(source, kept)
    _, _, metrics = fit(config, source, sets, folder, run, work)
    return [metrics | further]


def folder_of(run: Run) -> pathlib.Path:
    """Folder of a run's checkpoints and metrics, beside its file."""
    path = run.path(run.config.runs / run.config.study)
    return path.with_suffix("").resolve()


def cleaned(config: Config) -> Config:
    """The settings of the training on images near the dominant centers."""
    return dataclasses.replace(config, subcenters=1, drop_angle=None)


def open_training(config: Config) -> Source:
    """The training images of some settings."""
    path = config.data
    if path is None and config.preset != "quick":
        raise DatasetNotFoundError(
            f"--preset {config.preset} needs --data, such as the train.rec of the"
            " identities that it is for."
        )
    source = _open(config, "--data", path or _digits(config) / "digits.rec")
    if len(source) < config.batch:
        raise ValueError(
            f"--batch must be at most {len(source)}, the number of training images, got"
            f" {config.batch}."
        )
    return source


def _open(config: Config, flag: str, path: pathlib.Path) -> Source:
    is_there = path.is_file() if path.suffix == ".rec" else path.is_dir()
    if not is_there and not str(path).startswith("tfds:"):
        raise DatasetNotFoundError(
            f"{flag} must be a .rec file, a folder, or tfds:NAME/SPLIT, got {path}"
            + ", which does not exist." * (not path.exists())
        )
    source = opened(path, config.image_size, config.relabel)
    if source.size != (config.image_size, config.image_size):
        raise ValueError(
            f"--image-size must be the size of the images in {path},"
            f" {source.size[0]} x {source.size[1]}, got {config.image_size}."
        )
    return source


def open_verification(config: Config) -> dict[str, VerificationSet]:
    """The verification sets of some settings, by the names of their files."""
    paths = config.verification
    if not paths and config.data is None:
        paths = (_digits(config) / "digits.bin",)
    size = config.image_size, config.image_size
    for path in paths:
        if not path.is_file():
            raise DatasetNotFoundError(f"--verification must be files, got {path}.")
    return {path.stem: records.read_verification_set(path, size) for path in paths}


def _digits(config: Config) -> pathlib.Path:
    folder = config.runs / config.study / "digits"
    if jax.process_index() == 0 and not (folder / "digits.bin").exists():
        records.write_digits(folder)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("digits")
    return folder


def fit(
    config: Config,
    source: Source,
    sets: dict[str, VerificationSet],
    folder: pathlib.Path,
    run: Run,
    work: Work,
) -> tuple[Setting, State, dict[str, Any]]:
    """Trains a network: what it was compiled for, its last state, and the metrics."""
    setting, initial = begin(config, source)
    if jax.process_index() == 0:
        print(f"{source.summary}.", file=sys.stderr)
    bad = records.BadRecords(config.max_bad_share)

    def batches(start):
        found: Any = records.batches(
            source,
            batch=config.batch,
            seed=run.seed,
            start=start,
            augmentation=config.augment,
            workers=config.workers,
            host=jax.process_index(),
            hosts=jax.process_count(),
            bad=bad,
        )
        with contextlib.closing(found):
            for batch in found:
                yield tuple(class_parallel.share(setting, x) for x in batch)

    state, losses, measures = sharded.fit(
        partial(class_parallel.step, setting),
        initial(run.seed),
        batches,
        folder,
        work,
        title=f"{run.method}, seed {run.seed}",
        advice="Lower --learning-rate, or lengthen --warmup.",
        steps=setting.steps,
        every=sharded.Intervals(
            config.log_every, config.verify_every, config.checkpoint_every
        ),
        measure=partial(verify, setting, sets),
        also=lambda: {"unreadable": bad.count},
        patience=config.patience,
    )
    parts = np.array_split(losses, min(_STORED, setting.steps))
    (*_, rule) = [each.pop("rule", "") for each in measures]
    metrics = {
        "images": len(source),
        "identities": source.num_classes,
        "devices": setting.mesh.size,
        "losses": [round(float(np.mean(part)), 4) for part in parts],
        "rule": rule,
        "verification": measures,
    }
    return setting, state, metrics


def begin(config: Config, source: Source) -> tuple[Setting, Any]:
    """What the training is compiled for, and its initial state by a seed."""
    steps = config.epochs * (len(source) // config.batch)
    return class_parallel.begin(config, source.num_classes, steps)


def verify(
    setting: Setting, sets: dict[str, VerificationSet], state: State
) -> dict[str, Any]:
    """Accuracies on verification sets, in percent, each with its error over the folds.

    There is also the rule, in words.
    """
    found: dict[str, Any] = {}
    for name, (images, is_same) in sets.items():
        x = _embeddings(setting, state, len(images), images.__getitem__)
        result = evaluation.verification(x[:, 0], x[:, 1], is_same)
        found[name] = round(100.0 * float(result.accuracy), 3)
        found[f"{name}, error"] = round(100.0 * float(result.standard_error), 3)
        found["rule"] = result.rule
    return found


def to_centers(setting: Setting, state: State, source: Source) -> np.ndarray:
    """Cosines of all images to the centers of their identity, ``[images, centers]``."""
    found = np.zeros((len(source), setting.recipe.subcenters), np.float32)
    number = len(source)
    for numbers, x in class_parallel.embed(
        setting, state, number, lambda i: source[i][0]
    ):
        labels = source.labels[numbers]
        found[numbers] = class_parallel.cosines_to_centers(
            setting, state, x[:, 0], labels
        )
    return found


def near_dominant(
    cosines: np.ndarray, labels: np.ndarray, degrees: float
) -> np.ndarray:
    """Numbers of the images near the dominant center of their identity.

    It is the center that is the nearest one for most images of the identity. What is
    far from it is probably labeled wrongly, or too bad to tell.

    Args:
        cosines: To the centers of the image's identity, ``[images, centers]``.
        labels: ``[images]``.
        degrees: Largest angle.
    """
    counts = np.zeros((labels.max() + 1, cosines.shape[1]), np.int64)
    np.add.at(counts, (labels, np.argmax(cosines, axis=1)), 1)
    dominant = np.argmax(counts, axis=1)[labels]
    near = np.take_along_axis(cosines, dominant[:, None], axis=1)[:, 0]
    return np.flatnonzero(near >= np.cos(np.radians(degrees)))


def finished(run: Run) -> tuple[Setting, State]:
    """What a finished run has trained, from its last checkpoint."""
    config: Config = run.config
    source = open_training(config)
    if config.drop_angle is not None:
        kept = np.load(folder_of(run) / "kept.npy")
        config, source = cleaned(config), records.Subset(source, kept)
    setting, initial = begin(config, source)
    like = initial(run.seed), np.zeros(setting.steps, np.float32)
    with contextlib.closing(sharded.manager(folder_of(run) / "checkpoints")) as manager:
        _, (state, _), _ = sharded.restore(manager, like)
    return setting, state


def export(run: Run, target: pathlib.Path) -> None:
    """Writes embeddings, labels and names of images, by a finished run.

    The embedding of an image is the sum of its own and of that of its mirror image.
    """
    config: Config = run.config
    path = config.export_data
    shown = _open(config, "--export-data", path) if path else open_training(config)
    x = _embeddings(*finished(run), len(shown), lambda i: shown[i][0]).sum(1)
    if jax.process_index() == 0:
        names = [shown.name(i) for i in range(len(shown))]
        np.savez(target, embeddings=x, labels=shown.labels, names=names)


def _embeddings(setting: Setting, state: State, number: int, get: Any) -> np.ndarray:
    x = np.zeros((number, 2, setting.features), np.float32)
    for numbers, batch in class_parallel.embed(setting, state, number, get):
        x[numbers] = batch
    return x


def verify_templates(run: Run, folder: records.IJBFolder) -> list[str]:
    """Lines of Markdown: true accept rates of IJB's 1:1 protocol, by a finished run."""
    images, size = folder.images, run.config.image_size
    x = _embeddings(*finished(run), len(images.names), lambda i: folder.face(i, size))
    pooled = evaluation.pool(images, x[:, 0], x[:, 1])
    found = evaluation.verify_templates(pooled, folder.pairs)
    rows = [["FAR", "TAR, %"]]
    for far, tar in zip(evaluation.FAR, found.tar.tar, strict=True):
        shown = "too few pairs" if np.isnan(tar) else f"{100.0 * tar:.2f}"
        rows.append([f"{far:g}", shown])
    return [*tables.markdown(rows), "", f"{found.pairs} pairs; {found.rule}."]
