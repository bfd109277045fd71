"""Recipes for networks with prototypes of very many classes, on many devices."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import optax
from flax import nnx

import sphax as sx
from experiments.common import networks, runs, schedules
from experiments.common.margins import margin_of


@dataclasses.dataclass(frozen=True)
class Recipe(runs.Config):
    """Settings of the training of a network by a margin, in :mod:`.class_parallel`.

    The defaults are insightface's for ArcFace.
    """

    network: str = "iresnet50"
    """One of sphax.networks.BACKBONES, such as iresnet18, 34, 50, 100 or 200; vit_t,
    vit_s or vit_b; or iresnet, of at most four units, for small images."""
    width: float = 1.0
    """Share of the published filters of a convolutional network."""
    image_size: int = 112
    """Side of the square images."""
    margins: tuple[str, ...] = ("arcface",)
    """Margins to train with, a run for each: none, or a name of sphax.margins in small
    letters, such as cosface, adaface or mv-softmax."""
    margin_options: tuple[str, ...] = ()
    """Hyperparameters of the margins, such as margin=0.4 h=0.333 beyond=clamp; others
    have the published values."""
    gradient: Literal["exact", "detached"] = "detached"
    """Gradient of the target's logit: exact, or that of the plain cosine, as in
    insightface's code."""
    scale: float = 64.0
    """Scale s of the cosines."""
    subcenters: int = 1
    """Prototypes of each class, of which the nearest counts."""
    sample_rates: tuple[float, ...] = (1.0,)
    """Shares of the classes whose prototypes take part in a step (Partial FC), a run
    for each; classes of the images in the batch always take part."""
    untouched: Literal["dense", "frozen"] = "dense"
    """What happens to prototypes that are not in the sample: dense, momentum and decay
    go on as with a gradient of zero; frozen, they stay as they are."""
    block_size: int | None = None
    """Classes whose logits a device forms at a time, to save memory; None: all."""
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
    schedule: schedules.Schedule = "polynomial"
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
    checkpoint_every: int = 2000
    """Steps between checkpoints, from which a killed run continues."""
    log_every: int = 20
    """Steps between the metrics in TensorBoard's files."""
    patience: float = 1800.0
    """Seconds without a step after which a process that hangs is ended."""

    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "log_every", "patience")
    may_be_zero: ClassVar[tuple[str, ...]] = ("warmup",)

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
                "--sample-rates must be shares of the classes, above 0 and at most 1,"
                f" got {runs.shown(self.sample_rates) or 'nothing'}."
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
        is_step = self.schedule == "step"
        if max(self.drops, default=0.0) and not is_step:
            raise ValueError(
                f"--drops are for --schedule step, got --schedule {self.schedule}."
            )
        if is_step and min(self.drops, default=math.inf) <= self.warmup:
            raise ValueError(
                f"--drops must come after --warmup, got {runs.shown(self.drops)} and"
                f" {self.warmup}."
            )

    @property
    def sample_rate(self) -> float:
        """Share of the classes that take part in a step, of a single run."""
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
        dtype, side = jnp.dtype(self.precision), self.image_size
        return networks.for_faces(
            self.network, side, self.width, dtype=dtype, rngs=rngs
        )

    def rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step, of so many."""
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
