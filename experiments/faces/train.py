"""Trains networks on faces, on all devices of all processes, and verifies with them.

Every process executes this same code; the first one writes metrics and results.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

import sphax as sx
from experiments.common import class_parallel, sharded
from experiments.common.class_parallel import Setting, State, share
from experiments.common.distributed import watchdog
from experiments.common.events import Events
from experiments.common.runs import Run, Work
from experiments.faces import data
from experiments.faces.config import Config
from experiments.faces.records import BadRecords, Source, VerificationSet, batches

FOLDS = 10
# Numbers in the stored curve of the loss.
_STORED = 50


def train(runs: Sequence[Run], work: Work) -> list[dict[str, Any]]:
    """Trains and verifies one run.

    Returns:
        Numbers of ``images``, ``identities`` and ``devices``; ``losses``, means over
        equal parts of the training; ``verification``, accuracies in percent, each with
        its error over the folds, by step; with a ``drop_angle``, the share of images
        that were ``kept``, and ``before``, these metrics of the training with all.

    Raises:
        DatasetNotFoundError: If a set is not prepared.
        FloatingPointError: If the loss is not a number.
        ValueError: If data cannot be used, or the batch does not fit the devices.
    """
    (run,) = runs
    config: Config = run.config
    source, sets = data.training(config), data.verification(config)
    if jax.process_index() == 0:
        print(source.summary, file=sys.stderr)
    folder, before = folder_of(run), {}
    if config.drop_angle is not None:
        setting, state, metrics = fit(config, source, sets, folder / "all", run, work)
        path = folder / "kept.npy"
        kept = near_dominant(
            cosines_to_centers(setting, state, source), source.labels, config.drop_angle
        )
        if jax.process_index() == 0:
            np.save(path, kept)
        before = {"before": metrics, "kept": round(len(kept) / len(source), 4)}
        source = data.Subset(source, kept)
        config = dataclasses.replace(config, subcenters=1, drop_angle=None)
    _, _, metrics = fit(config, source, sets, folder, run, work)
    return [metrics | before]


def folder_of(run: Run) -> pathlib.Path:
    """Folder of a run's checkpoints and metrics, beside its file."""
    path = run.path(run.config.runs / run.config.study)
    return path.with_suffix("").resolve()


def fit(
    config: Config,
    source: Source,
    sets: dict[str, VerificationSet],
    folder: pathlib.Path,
    run: Run,
    work: Work,
) -> tuple[Setting, State, dict[str, Any]]:
    """Trains, from the last checkpoint if there is one."""
    steps = config.epochs * (len(source) // config.batch)
    setting, initial = class_parallel.begin(config, source.num_classes, steps)
    manager = sharded.manager(folder / "checkpoints")
    state, losses = initial(run.seed), np.zeros(steps, np.float32)
    begun, history = 0, list[Any]()
    if manager.latest_step() is not None:
        begun, (state, losses), history = sharded.restore(manager, (state, losses))
    bad = BadRecords(config.max_bad_share)
    stream: Any = batches(
        source,
        batch=config.batch,
        seed=run.seed,
        start=begun,
        augmentation=config.augment,
        workers=config.workers,
        host=jax.process_index(),
        hosts=jax.process_count(),
        bad=bad,
    )
    work.report(begun, {})
    pending: list[Any] = []
    with (
        contextlib.closing(manager),
        contextlib.closing(stream),
        Events(folder, begun) as events,
        watchdog(config.patience) as feed,
    ):
        for done in range(begun + 1, steps + 1):
            images, labels = (share(setting, x) for x in next(stream))
            state, metrics = class_parallel.step(setting, state, images, labels)
            pending.append(metrics)
            feed()
            is_verified = done % config.verify_every == 0 or done == steps
            is_saved = done % config.checkpoint_every == 0 or done == steps
            if not (is_verified or is_saved or done % config.log_every == 0):
                continue
            found = jax.tree.map(lambda *x: np.stack(x), *jax.device_get(pending))
            start, pending = done - len(pending), []
            losses[start:done] = found["loss"]
            _check(run, losses, start, done)
            events.write(done, found | {"unreadable": bad.count})
            if is_verified:
                accuracies = verify(setting, state, sets)
                history.append({"step": done} | accuracies)
                events.write(done, accuracies)
            if is_saved:
                sharded.save(manager, done, (state, losses), history)
            try:
                work.report(done - start, {"loss": found["loss"]})
            except BaseException:
                # Interrupted: do not lose the steps since the last checkpoint. It takes
                # all processes, which need not be interrupted at the same step.
                if not is_saved and jax.process_count() == 1:
                    sharded.save(manager, done, (state, losses), history)
                raise
    parts = np.array_split(losses, min(_STORED, steps))
    return (
        setting,
        state,
        {
            "images": len(source),
            "identities": source.num_classes,
            "devices": setting.mesh.size,
            "losses": [round(float(np.mean(part)), 4) for part in parts],
            "verification": history,
        },
    )


def _check(run: Run, losses: np.ndarray, start: int, done: int) -> None:
    """Raises if a loss is not a number."""
    for step in range(start, done):
        if not np.isfinite(losses[step]):
            raise FloatingPointError(
                f"{run.method}, seed {run.seed}: the loss is {losses[step]} in step"
                f" {step}. Lower --learning-rate, or lengthen --warmup."
            )


def embedded(
    setting: Setting, state: State, number: int, get: Callable[[int], np.ndarray]
) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """Embeds images in batches.

    Args:
        setting: Of the training.
        state: Has the network.
        number: How many images there are.
        get: The image of a number, uint8, ``[height, width, 3]``.

    Yields:
        Numbers of the images of a batch, the last of them repeated to fill it, and
        their embeddings, ``[batch, features]``.
    """
    batch = setting.recipe.batch
    size = batch // jax.process_count()
    for start in range(0, number, batch):
        numbers = np.minimum(np.arange(start, start + batch), number - 1)
        own = numbers[jax.process_index() * size :][:size]
        images = share(setting, np.stack([get(int(i)) for i in own]))
        yield numbers, class_parallel.embed(setting, state, images)


def verify(
    setting: Setting, state: State, sets: dict[str, VerificationSet]
) -> dict[str, float]:
    """Accuracies on verification sets, in percent, each with its error over the folds.

    The score of a pair is the cosine of its embeddings; the ten folds follow each other
    in the file.
    """
    found: dict[str, float] = {}
    for name, (images, is_same) in sets.items():
        embeddings = np.zeros((len(images), setting.features), np.float32)
        for numbers, x in embedded(setting, state, len(images), images.__getitem__):
            embeddings[numbers] = x
        embeddings = np.asarray(sx.sphere.normalize(embeddings))
        scores = np.sum(embeddings[::2] * embeddings[1::2], axis=1)
        folds = np.arange(len(is_same)) * FOLDS // len(is_same)
        result = sx.metrics.verification_accuracy(
            scores, is_same, folds, rule=setting.recipe.rule
        )
        found[name] = round(100.0 * float(result.accuracy), 3)
        found[f"{name}, error"] = round(100.0 * float(result.standard_error), 3)
    return found


def cosines_to_centers(setting: Setting, state: State, source: Source) -> np.ndarray:
    """Cosines of all images to the centers of their identity, ``[images, centers]``."""
    found = np.zeros((len(source), setting.recipe.subcenters), np.float32)
    images = embedded(setting, state, len(source), lambda i: source[i][0])
    for numbers, x in images:
        labels = source.labels[numbers]
        found[numbers] = class_parallel.cosines(setting, state, x, labels)
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


def export(run: Run) -> None:
    """Writes the embeddings that ``config.export`` asks for, of a finished run."""
    config: Config = run.config
    source = data.training(config)
    if config.drop_angle is not None:
        source = data.Subset(source, np.load(folder_of(run) / "kept.npy"))
        config = dataclasses.replace(config, subcenters=1, drop_angle=None)
    steps = config.epochs * (len(source) // config.batch)
    setting, initial = class_parallel.begin(config, source.num_classes, steps)
    like = initial(run.seed), np.zeros(steps, np.float32)
    with contextlib.closing(sharded.manager(folder_of(run) / "checkpoints")) as manager:
        _, (state, _), _ = sharded.restore(manager, like)
    shown = (
        source
        if config.export_data is None
        else data.opened(config, config.export_data)
    )
    embeddings = np.zeros((len(shown), setting.features), np.float32)
    for numbers, x in embedded(setting, state, len(shown), lambda i: shown[i][0]):
        embeddings[numbers] = x
    if jax.process_index() == 0 and config.export is not None:
        names = [shown.name(i) for i in range(len(shown))]
        np.savez(config.export, embeddings=embeddings, labels=shown.labels, names=names)
