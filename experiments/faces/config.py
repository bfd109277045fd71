"""The settings of a training on faces, the published recipes, and the runs of both."""

import dataclasses
import pathlib
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import optax
from flax import nnx

import sphax as sx
from experiments.common import networks, runs, schedules
from experiments.common.margins import margin_of

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


class Size(NamedTuple):
    """Numbers of images and of identities."""

    images: int
    identities: int


# Of what each preset trains on.
SIZES: dict[PresetName, Size] = {
    "quick": Size(901, 5),
    "omniglot": Size(19_280, 964),
    "ms1mv3-r50": Size(5_179_510, 93_431),
    "ms1mv3-r100": Size(5_179_510, 93_431),
    "ms1mv2": Size(5_822_653, 85_742),
    "glint360k": Size(17_091_657, 360_232),
    "wf42m-pfc02": Size(42_474_557, 2_059_906),
    "wf42m-vit": Size(42_474_557, 2_059_906),
    "adaface": Size(5_822_653, 85_742),
    "magface": Size(5_822_653, 85_742),
    "subcenter": Size(5_822_653, 85_742),
}
# Presets that simulate eight devices by default.
ON_CPU = ("quick", "omniglot")


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Trains a network on faces with a margin, on all devices, and verifies with it.

    Without arguments: scikit-learn's handwritten digits in the place of faces, trained
    on 0 to 4 and verified on 5 to 9, on eight simulated devices, about two minutes on
    two cores.
    """

    preset: PresetName = "quick"
    """Where the defaults of everything else come from: a run that a CPU can do, or a
    published recipe."""
    data: pathlib.Path | None = None
    """Training images: a .rec file of insightface's form with its .idx beside it; a
    folder with a folder of images for each identity; or tfds:NAME/SPLIT, a set that was
    prepared for TensorFlow Datasets. None: the digits, for preset quick alone."""
    verification: tuple[pathlib.Path, ...] = ()
    """Verification sets of insightface's form, such as lfw.bin."""
    rule: Literal["exact", "matlab", "insightface"] = "exact"
    """How the threshold of a fold is found on the other folds, as in
    sphax.metrics.verification_accuracy."""
    image_size: int = 112
    """Side of the square images; others are resized."""
    augment: Literal["none", "default", "extended", "adaface", "mxnet"] = "default"
    """How training images are changed at random: default only mirrors them; the others
    are insightface's extended one, AdaFace's, and that of the MXNet era."""
    network: str = "iresnet50"
    """One of sphax.networks.BACKBONES, such as iresnet18, 34, 50, 100 or 200; vit_t,
    vit_s or vit_b; or iresnet, of four units, for small images."""
    width: float = 1.0
    """Share of the published filters of a convolutional network."""
    margins: tuple[str, ...] = ("arcface",)
    """Margins to train with, a run for each."""
    margin_options: tuple[str, ...] = ()
    """Hyperparameters of the margins, such as margin=0.4 h=0.333 beyond=clamp; others
    have the published values."""
    gradient: Literal["exact", "detached"] = "detached"
    """Gradient of the target's logit: exact, or that of the plain cosine, as in
    insightface's code."""
    scale: float = 64.0
    """Scale s of the cosines."""
    subcenters: int = 1
    """Prototypes of each identity, of which the nearest counts."""
    drop_angle: float | None = None
    """With several subcenters: when the training is done, drop images that are more
    than so many degrees away from the dominant center of their identity, and train
    again from the start with one center on the others; 75 in the paper."""
    sample_rates: tuple[float, ...] = (1.0,)
    """Shares of the identities whose prototypes take part in a step (Partial FC), a run
    for each; those of the images in the batch always do."""
    untouched: Literal["dense", "frozen"] = "dense"
    """What happens to prototypes that are not in the sample: dense, momentum and decay
    go on as with a gradient of zero; frozen, they stay as they are."""
    block_size: int | None = None
    """Identities whose logits a device forms at a time, to save memory; None: all."""
    batch: int = 1024
    """Images in a step, on all devices together."""
    accumulate: int = 1
    """Parts of a batch that are computed one after the other, to save memory."""
    epochs: int = 20
    """Passes over the training images."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Gradient descent with momentum, or AdamW."""
    learning_rate: float = 0.1
    """Largest learning rate."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""
    weight_decay: float = 5e-4
    """Weight decay."""
    decay: Literal["all", "kernels"] = "all"
    """What decays: all parameters, or neither biases nor scales nor slopes."""
    clip: float = 5.0
    """Largest norm of the gradient of the network, without the prototypes."""
    schedule: Literal["polynomial", "step", "cosine"] = "polynomial"
    """How the learning rate falls after the warm-up: by a polynomial of power two, by
    factors of ten, or by a cosine."""
    warmup: float = 0.0
    """Epochs in which the learning rate rises from zero."""
    drops: tuple[float, ...] = ()
    """Epochs at which schedule step divides the learning rate by ten."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the products; parameters, statistics, the last layers of the network
    and the losses are float32."""
    seeds: int = 1
    """Runs of each margin and rate, with seeds 0, 1, ..."""
    max_bad_share: float = 1e-3
    """Largest share of images that cannot be read and are replaced by others."""
    relabel: bool = False
    """Whether identities without an image are left out, and the others numbered anew;
    otherwise they are an error."""
    workers: int = 0
    """Processes that decode and augment images; 0: the training process itself."""
    devices: int | None = None
    """On a CPU, the number of devices to simulate; None: one, or eight for presets that
    a CPU can do."""
    verify_every: int = 2000
    """Steps between verifications."""
    checkpoint_every: int = 2000
    """Steps between checkpoints, from which a killed run continues."""
    log_every: int = 20
    """Steps between lines of the metrics in TensorBoard's files."""
    patience: float = 1800.0
    """Seconds without a step after which a process that hangs is ended."""
    export: pathlib.Path | None = None
    """Write embeddings of the first run, as an .npz file with arrays embeddings, labels
    and keys, when it is finished."""
    export_data: pathlib.Path | None = None
    """Images to embed for --export; None: the training images."""
    dry_run: bool = False
    """Compute nothing; print the memory and the time that the run takes on a TPU v5e-8
    and on eight H100, by a model of costs."""

    study: ClassVar[str] = "faces"
    free: ClassVar[tuple[str, ...]] = (
        *runs.Config.free,
        "workers",
        "devices",
        "log_every",
        "patience",
        "export",
        "export_data",
        "dry_run",
    )
    may_be_zero: ClassVar[tuple[str, ...]] = ("warmup", "workers", "max_bad_share")

    def __post_init__(self):
        super().__post_init__()
        if not self.margins:
            raise ValueError("--margins must name at least one, such as arcface.")
        for name in self.margins:
            margin_of(name, self.margin_options)
        if self.network not in networks.FACES:
            raise ValueError(
                f"--network must be one of {', '.join(networks.FACES)}, got"
                f" {self.network}."
            )
        if not self.sample_rates or max(self.sample_rates) > 1.0:
            raise ValueError(
                "--sample-rates must be shares of the identities, above 0 and at most"
                f" 1, got {runs.shown(self.sample_rates) or 'nothing'}."
            )
        if self.max_bad_share > 1.0:
            raise ValueError(
                f"--max-bad-share must be at most 1, got {self.max_bad_share}."
            )
        if self.drop_angle is not None and self.subcenters == 1:
            raise ValueError(
                "--drop-angle needs --subcenters 2 or more: with one center of an"
                " identity, none is dominant."
            )
        if self.batch % self.accumulate:
            raise ValueError(
                "--batch must be a multiple of --accumulate, got"
                f" {self.batch} and {self.accumulate}."
            )
        if self.warmup >= self.epochs:
            raise ValueError(
                f"--warmup must be shorter than --epochs, got {self.warmup} and"
                f" {self.epochs}."
            )
        if self.drops and self.schedule != "step":
            raise ValueError("--drops are for --schedule step.")

    @property
    def group(self) -> str:
        """Name of the table."""
        return self.preset

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        default = preset(self.preset)
        words = ["faces", *[f"--preset {self.preset}"] * (self.preset != "quick")]
        for name in ("data", "verification"):
            if getattr(default, name):
                words.append(f"{runs.flag(name)} {runs.shown(getattr(self, name))}")
        return " ".join(words)

    def rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step."""
        return schedules.learning_rate(
            self.schedule,
            self.learning_rate,
            steps,
            self.epochs,
            warmup=self.warmup,
            drops=self.drops,
        )

    def optimizers(self, steps: int) -> tuple[Any, Any]:
        """The optimizer of the network, which clips, and that of the prototypes."""
        head = schedules.optimizer(
            self.optimizer,
            self.rate(steps),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            decays_all=self.decay == "all",
        )
        network = optax.chain(optax.clip_by_global_norm(self.clip), head)
        if self.sample_rate < 1.0:
            head = sx.sharding.sparse_rows(head, untouched=self.untouched)
        return network, head

    @property
    def sample_rate(self) -> float:
        """Share of the identities that take part in a step, of a single run."""
        return self.sample_rates[0]

    @property
    def head(self) -> dict[str, Any]:
        """Options of the head of a single run."""
        return {
            "margin": margin_of(self.margins[0], self.margin_options),
            "scale": self.scale,
            "subcenters": self.subcenters,
            "gradient": self.gradient,
            "block_size": self.block_size,
            "dtype": jnp.dtype(self.precision),
        }

    def make_network(self, rngs: nnx.Rngs) -> Any:
        """A new network."""
        dtype = jnp.dtype(self.precision)
        side, width = self.image_size, self.width
        return networks.for_faces(self.network, side, width, dtype=dtype, rngs=rngs)


def preset(name: PresetName) -> Config:
    """The settings of a preset."""
    change = partial(dataclasses.replace, Config(preset=name))
    quick: dict[str, Any] = dict(
        network="iresnet",
        width=0.25,
        augment="none",
        precision="float32",
        scale=16.0,
        learning_rate=0.05,
        log_every=10,
        checkpoint_every=50,
    )
    arcface = dict(margins=("arcface",), margin_options=("margin=0.5",))
    cosface = dict(
        margins=("cosface",), margin_options=("margin=0.4",), weight_decay=1e-4
    )
    if name == "quick":
        return change(
            **quick,
            image_size=16,
            margins=("none", "arcface"),
            batch=64,
            epochs=10,
            verify_every=70,
        )
    if name == "omniglot":
        return change(
            **quick,
            data=pathlib.Path("omniglot.rec"),
            verification=(pathlib.Path("omniglot.bin"),),
            image_size=28,
            batch=128,
            epochs=8,
            verify_every=300,
            sample_rates=(1.0, 0.3),
        )
    if name == "ms1mv3-r50":
        return change(**arcface)
    if name == "ms1mv3-r100":
        return change(**arcface, network="iresnet100")
    if name == "ms1mv2":
        return change(**arcface, weight_decay=1e-4)
    if name == "glint360k":
        return change(**cosface, network="iresnet100")
    webface = cosface | dict(weight_decay=5e-4)
    if name == "wf42m-pfc02":
        return change(**webface, network="iresnet100", sample_rates=(0.2,))
    if name == "wf42m-vit":
        return change(
            **webface | dict(weight_decay=0.1),
            network="vit_b",
            sample_rates=(0.3,),
            batch=64 * 384,
            optimizer="adamw",
            learning_rate=1e-3,
            epochs=40,
            warmup=4.0,
        )
    stepped = dict(network="iresnet100", batch=512, schedule="step", gradient="exact")
    if name == "adaface":
        return change(
            **stepped,
            margins=("adaface",),
            margin_options=("margin=0.4", "h=0.333"),
            augment="adaface",
            epochs=26,
            drops=(12.0, 20.0, 24.0),
            decay="kernels",
        )
    if name == "magface":
        return change(
            **stepped, margins=("magface",), epochs=25, drops=(10.0, 18.0, 22.0)
        )
    return change(**arcface, subcenters=3, drop_angle=75.0)


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    return map(preset, SIZES)


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings, all seeds of a margin and rate after each other."""
    found = []
    steps = config.epochs * max(1, SIZES[config.preset].images // config.batch)
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
