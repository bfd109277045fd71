"""The settings of a training on faces, the published recipes, and the runs of both."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

from experiments.common import class_recipes, runs
from experiments.faces import records

PresetName = Literal[
    "quick",
    "omniglot",
    "ms1mv3-r50",
    "ms1mv3-r100",
    "ms1mv2",
    "glint360k",
    "wf42m-pfc02",
    "wf42m-vit",
    "adaface",
    "magface",
    "subcenter",
]


@dataclasses.dataclass(frozen=True)
class Config(class_recipes.Recipe):
    """Trains a network on faces with a margin, on all devices, and verifies with it.

    Without arguments: scikit-learn's handwritten digits in the place of faces, verified
    on other images of the same digits, on eight simulated devices, a minute on two
    cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a run that a CPU can do (digits
    or Omniglot), or a published recipe."""
    data: pathlib.Path | None = None
    """Training images: a .rec file of insightface's form with its .idx beside it; a
    folder with a folder of images for each identity; or tfds:NAME/SPLIT, a set that was
    prepared for TensorFlow Datasets. None: the digits, for preset quick alone."""
    relabel: bool = False
    """Whether identities without an image are left out, and the others numbered anew;
    otherwise they are an error."""
    max_bad_share: float = 1e-3
    """Largest share of images that cannot be read and are replaced by others."""
    augment: Literal["none", "default", "extended", "adaface", "mxnet"] = "default"
    """How training images are changed at random: default only mirrors them; the others
    are insightface's extended one, AdaFace's, and that of the MXNet era."""
    workers: int = 0
    """Processes that decode and augment images; 0: the training process itself."""
    drop_angle: float | None = None
    """With several subcenters: when the training is done, drop images that are more
    than so many degrees away from the dominant center of their identity, and train
    again from the start with one center on the others; 75 in the paper."""
    verification: tuple[pathlib.Path, ...] = ()
    """Verification sets of insightface's form, such as lfw.bin; scored by insightface's
    rule."""
    verify_every: int = 2000
    """Steps between verifications."""
    devices: int | None = None
    """On a CPU, the number of devices to simulate; None: one, or eight for presets that
    a CPU can do."""
    export: pathlib.Path | None = None
    """When the first run is finished, write embeddings of images by its network: an
    .npz file with arrays embeddings, labels and names."""
    export_data: pathlib.Path | None = None
    """Images to embed for --export; None: the training images."""
    ijb: pathlib.Path | None = None
    """When the first run is finished, verify the templates of IJB-B or IJB-C with it; a
    folder with their folders meta and loose_crop."""
    dry_run: bool = False
    """Train nothing; print the memory and the time that the run takes on a TPU v5e-8
    and on eight H100, by a model of costs."""

    study: ClassVar[str] = "faces"
    free: ClassVar[tuple[str, ...]] = (
        *class_recipes.Recipe.free,
        "workers",
        "devices",
        "export",
        "export_data",
        "ijb",
        "dry_run",
    )
    may_be_zero: ClassVar[tuple[str, ...]] = ("warmup", "workers", "max_bad_share")

    def __post_init__(self):
        super().__post_init__()
        if self.max_bad_share > 1.0:
            raise ValueError(
                f"--max-bad-share must be at most 1, got {self.max_bad_share}."
            )
        if self.drop_angle is not None and self.subcenters == 1:
            raise ValueError(
                "--drop-angle needs --subcenters 2 or more: with one center of an"
                " identity, none is dominant."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.preset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        words = ["faces", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        words += [f"--data DIR/{self.data.name}"] if self.data else []
        if self.verification:
            words += ["--verification", *(f"DIR/{x.name}" for x in self.verification)]
        return " ".join(words)


class Size(NamedTuple):
    """Numbers of training images and of identities."""

    images: int
    identities: int


class Preset(NamedTuple):
    """What a preset trains on, and how it differs from the defaults.

    Attributes:
        size: Of the training data.
        settings: Those that are not the default.
    """

    size: Size
    settings: dict[str, Any]


_SMALL = {
    "network": "iresnet",
    "width": 0.25,
    "augment": "none",
    "precision": "float32",
    "scale": 16.0,
    "checkpoint_every": 50,
}
_ARCFACE = {"margins": ("arcface",), "margin_options": ("margin=0.5",)}
_COSFACE = {"margins": ("cosface",), "margin_options": ("margin=0.4",)}
_DEEP = {"network": "iresnet100"}
_STEPPED = _DEEP | {"batch": 512, "schedule": "step", "gradient": "exact"}
_MS1MV2, _MS1MV3 = Size(5_822_653, 85_742), Size(5_179_510, 93_431)
_WEBFACE = Size(42_474_557, 2_059_906)
PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(
        Size(1_000, 10),
        _SMALL
        | {
            "image_size": 16,
            "margins": ("none", "arcface"),
            "batch": 64,
            "epochs": 10,
            "learning_rate": 0.05,
            "verify_every": 70,
        },
    ),
    "omniglot": Preset(
        Size(19_460, 973),
        _SMALL
        | {
            "data": pathlib.Path("train.rec"),
            "verification": (pathlib.Path("verification.bin"),),
            "image_size": 28,
            "batch": 128,
            "epochs": 5,
            "verify_every": 152,
            "margins": ("none", "arcface"),
            "sample_rates": (1.0, 0.3),
        },
    ),
    "ms1mv3-r50": Preset(_MS1MV3, _ARCFACE),
    "ms1mv3-r100": Preset(_MS1MV3, _ARCFACE | _DEEP),
    "ms1mv2": Preset(_MS1MV2, _ARCFACE | {"weight_decay": 1e-4}),
    "glint360k": Preset(
        Size(17_091_657, 360_232), _COSFACE | _DEEP | {"weight_decay": 1e-4}
    ),
    "wf42m-pfc02": Preset(_WEBFACE, _COSFACE | _DEEP | {"sample_rates": (0.2,)}),
    "wf42m-vit": Preset(
        _WEBFACE,
        _COSFACE
        | {
            "network": "vit_b",
            "sample_rates": (0.3,),
            "batch": 64 * 384,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "epochs": 40,
            "warmup": 4.0,
        },
    ),
    "adaface": Preset(
        _MS1MV2,
        _STEPPED
        | {
            "margins": ("adaface",),
            "margin_options": ("margin=0.4", "h=0.333"),
            "augment": "adaface",
            "epochs": 26,
            "drops": (12.0, 20.0, 24.0),
            "decay": "kernels",
        },
    ),
    "magface": Preset(
        _MS1MV2,
        _STEPPED | {"margins": ("magface",), "epochs": 25, "drops": (10.0, 18.0, 22.0)},
    ),
    "subcenter": Preset(_MS1MV2, _ARCFACE | {"subcenters": 3, "drop_angle": 75.0}),
}
# Presets that simulate eight devices by default.
ON_CPU = ("quick", "omniglot")


def preset(name: PresetName) -> Config:
    """The settings of a preset."""
    return Config(preset=name, **PRESETS[name].settings)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    return map(preset, PRESETS)


@functools.lru_cache(maxsize=2)
def opened(path: pathlib.Path, size: int, relabel: bool) -> records.Source:
    """The images of a file, a folder or a prepared set."""
    return records.source(str(path), size=size, relabel=relabel)


def size_of(config: Config) -> Size:
    """Of the training data, or, if these are not there, of the preset's."""
    if config.data is not None:
        with contextlib.suppress(OSError, ValueError):
            found = opened(config.data, config.image_size, config.relabel)
            return Size(len(found), found.num_classes)
    return PRESETS[config.preset].size


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a margin and rate after each other."""
    found = []
    steps = config.epochs * max(1, size_of(config).images // config.batch)
    steps *= 1 if config.drop_angle is None else 2
    for margin in config.margins:
        for rate in config.sample_rates:
            one = dataclasses.replace(config, margins=(margin,), sample_rates=(rate,))
            method = margin + f"-rate-{rate:g}" * (rate < 1.0)
            if config.subcenters > 1:
                method += f"-{config.subcenters}-centers"
            found += [
                runs.Run(one, config.group, method, seed, steps)
                for seed in range(config.seeds)
            ]
    return found
