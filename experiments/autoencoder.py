"""What of an image is in the angles of its code (Figure 1.1).

    python -m experiments.autoencoder
    python -m experiments.autoencoder --dataset cifar10 --data-dir DIR

A convolutional autoencoder is trained as usual, on inner products ``|w||x| cos``. Then
it is left as it is, and the last convolution of its encoder gives the decoder one
factor alone: the magnitudes ``|w||x|``, or the cosines. The dissertation's caption can
also be read to mean all convolutions of the encoder; this is measured too.

An image is compared with what is decoded once that has got its mean and its contrast.
For what "nothing" is, there are the mean training image, and another test image.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments import _command_line, _data, _figures, _progress, _results
from experiments._autoencoder import Autoencoder
from experiments._autoencoder_sources import BASELINES, SOURCES, decoded, measure
from experiments._autoencoder_training import Recipe, fit, pixels
from experiments._jobs import Jobs

_DRAWN = 12
_TITLES = {name: source.title for name, source in SOURCES.items()} | BASELINES
_MEASURES = {"correlation": "correlation", "ssim": "SSIM"}

_RECIPES: dict[_data.Name, Recipe] = {
    "digits": Recipe(channels=(32, 16), steps=600),
    "mnist": Recipe(channels=(32, 8), steps=1_000),
    "fashion_mnist": Recipe(channels=(32, 8), steps=1_000),
    "cifar10": Recipe(channels=(32, 64, 64), steps=600),
    "cifar100": Recipe(channels=(32, 64, 64), steps=600),
}


@dataclasses.dataclass(frozen=True)
class Config(_results.Config):
    """An autoencoder decoded from inner products, from magnitudes, and from angles.

    Without arguments: scikit-learn's handwritten digits, five seeds, a minute on two
    cores.
    """

    dataset: _data.Name = "digits"
    """Images. "digits" is embedded; the others must have been prepared for TensorFlow
    Datasets."""
    data_dir: pathlib.Path | None = None
    """Folder of the prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None."""
    seeds: int = 5
    """Autoencoders, with seeds 0, 1, ..."""
    channels: tuple[int, ...] | None = None
    """After each convolution of the encoder, the last being the code; those for the
    dataset if None."""
    steps: int | None = None
    """Optimisation steps of each; those for the dataset if None."""
    batch: int = 64
    """Images in a step."""
    learning_rate: float = 3e-3
    """Of Adam at the start; it falls to zero along a cosine."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    def __post_init__(self):
        super().__post_init__()
        if self.channels == ():
            raise ValueError("--channels must be one or more numbers, got none.")

    @property
    def recipe(self) -> Recipe:
        """Of the training."""
        usual = _RECIPES[self.dataset]
        return Recipe(
            self.channels or usual.channels,
            self.steps or usual.steps,
            self.batch,
            self.learning_rate,
        )

    @property
    def name(self) -> str:
        """Name of the result files."""
        return f"autoencoder_{self.dataset}"


def train(config: Config) -> dict[str, Any]:
    """Trains, decodes, compares; writes and returns the results, and draws some.

    Raises:
        DatasetNotFoundError: If the images are not prepared.
        FloatingPointError: If a loss is not a number.
        ValueError: If the images do not fit the convolutions or the batch.
    """
    recipe, every, models = config.recipe, config.checkpoint_every, []
    digest = hashlib.sha256(repr((config.dataset, recipe)).encode()).hexdigest()[:8]
    with Jobs(config, f"autoencoder-{digest}") as jobs:
        jobs.progress.expect(config.seeds * recipe.steps)
        data = _data.load(config.dataset, config.data_dir)
        for seed in range(config.seeds):
            with jobs.job(f"seed {seed}") as folder:
                models.append(fit(recipe, data, seed, folder, every, jobs.steps()))
        measured = [measure(model, data) for model in models]
    results = _save(config, summary(measured), jobs.seconds)
    _draw(config, models[0], data.test.images[:_DRAWN])
    jobs.clear()
    return results


def summary(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each measure by source: its mean for every seed, and its spread over images."""
    return {
        name: {
            key: {
                "means": [float(np.mean(seed[name][key])) for seed in measured],
                "deviation": float(
                    np.mean([np.std(seed[name][key]) for seed in measured])
                ),
            }
            for key in _MEASURES
        }
        for name in _TITLES
    }


def _draw(config: Config, model: Autoencoder, images: np.ndarray) -> None:
    originals = pixels(images)
    found = decoded(model, originals)
    rows = {"image": originals}
    rows |= {source.title: found[name] for name, source in SOURCES.items()}
    _figures.image_rows(config.result(".png"), rows)


def _save(config: Config, sources: dict[str, Any], seconds: float) -> dict[str, Any]:
    found = {"recipe": config.recipe._asdict(), "sources": sources}
    return _results.save(config, found, seconds)


def table(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the results: one row for each source and baseline."""
    seeds = results["config"]["seeds"]
    rows = [[f"decoded from ({seeds} seeds)"]]
    for title in _MEASURES.values():
        rows[0] += [title, "over images ±"]
    for name, row in results["sources"].items():
        cells = [_TITLES[name]]
        for key in _MEASURES:
            means = row[key]["means"] if name in SOURCES else row[key]["means"][:1]
            cells += [_progress.spread(means, 3), f"{row[key]['deviation']:.2f}"]
        rows.append(cells)
    return _progress.markdown(rows)


def main() -> None:
    """Runs from the command line."""
    name = "experiments.autoencoder"
    _command_line.main(name, lambda: _command_line.parse(name, Config), train, table)


if __name__ == "__main__":
    main()
