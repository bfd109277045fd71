"""The settings of the study of language models: methods, optimizers and presets."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import optax
from flax import nnx

import sphax as sx
from experiments.common import runs, transformer

PresetName = Literal["small", "optimizers", "large"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)
MethodName = Literal[
    "ngpt",
    "ngpt-geodesic",
    "prenorm",
    "prenorm-gpt2",
    "adamw",
    "muon",
    "adam-matrix",
    "adam-neuron",
    "muon-matrix",
    "muon-neuron",
    "pion",
    "spectral-sphere",
    "stiefel-muon",
]
# Of Adam everywhere, as nGPT has them.
_BETAS: dict[str, Any] = {"b1": 0.9, "b2": 0.95}
# The topics of the help of Python 3.11.
_TOPICS = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"


class Method(NamedTuple):
    """A network, and what its matrices are trained by.

    Attributes:
        title: Its name in tables.
        network: ``network(vocabulary, width, depth, heads, dtype=..., rngs=...)``.
        optimizer: ``optimizer(schedule, neurons)`` of all matrices but the first and
            the last; None for the optimizer of the whole network.
        rate: Learning rate in the middle of the search, which is its best.
    """

    title: str
    network: Any
    optimizer: Callable[..., optax.GradientTransformation] | None
    rate: float


def _muon(schedule: optax.ScalarOrSchedule, neurons: Any) -> Any:
    def dimensions(params: Any) -> Any:
        found = {
            path: optax.contrib.MuonDimensionNumbers(axes.vector, axes.index)
            for path, axes in sx.neurons.find(
                params, neurons, masked=(optax.MaskedNode,)
            ).items()
        }
        return sx.neurons.replace(params, found)

    return optax.contrib.muon(schedule, muon_weight_dimension_numbers=dimensions)


def _at_norm(base: Callable[..., Any], per: Any) -> Any:
    def make(schedule, neurons):
        return optax.chain(
            base(1.0, neurons),
            sx.optim.project_to_norm(schedule, per=per, neurons=neurons),
        )

    return make


def _adam(schedule: optax.ScalarOrSchedule, neurons: Any) -> Any:
    del neurons
    return optax.adam(schedule, **_BETAS)


def _whole(make: Callable[..., Any], **options: Any) -> Any:
    return lambda schedule, neurons: make(schedule, neurons=neurons, **options)


_NGPT, _PRENORM = sx.networks.NGPT, transformer.PreNorm
METHODS: dict[MethodName, Method] = {
    "ngpt": Method("nGPT", _NGPT, None, 0.02),
    "ngpt-geodesic": Method(
        "nGPT, geodesic steps", partial(_NGPT, step="geodesic"), None, 0.02
    ),
    "prenorm": Method("pre-norm transformer", _PRENORM, None, 0.01),
    "prenorm-gpt2": Method(
        "pre-norm, embeddings as in GPT-2",
        partial(_PRENORM, deviation=0.02),
        None,
        0.005,
    ),
    "adamw": Method("AdamW", _PRENORM, None, 0.02),
    "muon": Method("Muon", _PRENORM, _muon, 0.16),
    "adam-matrix": Method(
        "Adam, matrices of constant norm", _PRENORM, _at_norm(_adam, "matrix"), 0.02
    ),
    "adam-neuron": Method(
        "Adam, neurons of constant norm", _PRENORM, _at_norm(_adam, "neuron"), 0.04
    ),
    "muon-matrix": Method(
        "Muon, matrices of constant norm", _PRENORM, _at_norm(_muon, "matrix"), 0.08
    ),
    "muon-neuron": Method(
        "Muon, neurons of constant norm", _PRENORM, _at_norm(_muon, "neuron"), 0.16
    ),
    "pion": Method("Pion", _PRENORM, _whole(sx.optim.pion), 0.01),
    "spectral-sphere": Method(
        "spectral sphere", _PRENORM, _whole(sx.optim.spectral_sphere), 0.04
    ),
    "stiefel-muon": Method(
        "Stiefel-Muon", _PRENORM, _whole(sx.optim.stiefel_muon), 0.08
    ),
}


@dataclasses.dataclass(frozen=True)
class Config(runs.Config):
    """Language models on the bytes of a text: losses against steps.

    Without arguments: nGPT beside a pre-norm transformer of the same size, with the
    text that comes with Python, five learning rates of each and three seeds of the
    best; about five minutes on one core.
    """

    preset: PresetName = "small"
    """Where the defaults of everything else come from: two architectures, on a CPU;
    optimizers of the pre-norm transformer, on a CPU; or two architectures with a
    context of 1024, on an accelerator and with a text of one's own."""
    text: pathlib.Path | None = None
    """File whose bytes are learned; by default the help topics of Python (pydoc)."""
    sha256: str = _TOPICS
    """Digest of the text: the topics differ from one version of Python to the next. By
    default that of the text there is."""
    methods: tuple[MethodName, ...] = (
        "ngpt",
        "ngpt-geodesic",
        "prenorm",
        "prenorm-gpt2",
    )
    """Architectures, or optimizers."""
    rates: tuple[float, ...] = ()
    """Learning rates; by default the method's own times 1/4, 1/2, 1, 2 and 4."""
    seeds: int = 3
    """Runs of each method at these rates, or by default at its own, the best of the
    search, with seeds 0, 1, ..."""
    searched: int = 1
    """Seeds with which all learning rates are searched."""
    steps: int = 300
    """Optimization steps of a run."""
    batch: int = 16
    """Sequences in a step."""
    context: int = 64
    """Bytes that a sequence has, and one more to be predicted."""
    width: int = 64
    """Dimension of a token."""
    depth: int = 2
    """Number of blocks."""
    heads: int = 4
    """Heads of the attention."""
    learning_rate: float = 0.01
    """Learning rate of Adam for embeddings, gains and the last layer, where matrices
    have another optimizer."""
    weight_decay: float = 0.1
    """Decay of matrices by AdamW; nGPT and all optimizers on spheres have none."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate of the pre-norm transformer rises;
    nGPT has none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of products with matrices."""
    checkpoint_every: int = 100
    """Steps between checkpoints, from which a killed run goes on."""

    study: ClassVar[str] = "ngpt"
    free: ClassVar[tuple[str, ...]] = (*runs.Config.free, "searched")
    may_be_zero: ClassVar[tuple[str, ...]] = ("warmup",)

    def __post_init__(self):
        super().__post_init__()
        if not self.methods:
            raise ValueError("--methods must have at least one name, such as ngpt.")
        if self.preset == "large" and self.text is None:
            raise ValueError(
                "--preset large needs --text, a file of 100 MB or more: the topics of"
                " Python are learned by heart in a few steps of it."
            )

    @property
    def group(self) -> str:
        """Name of the table."""
        return f"{self.preset}-{self.text.stem if self.text else 'topics'}"

    @property
    def command(self) -> str:
        """The arguments that the table is made with."""
        text = f" --text {self.text.name}" if self.text else ""
        return f"ngpt --preset {self.preset}{text}"

    @property
    def method(self) -> Method:
        """The method of a run."""
        return METHODS[self.methods[0]]

    def network(self, *, rngs: nnx.Rngs) -> Any:
        """The network of a run, over bytes."""
        dtype = None if self.precision == "float32" else self.precision
        sizes = 256, self.width, self.depth, self.heads
        return self.method.network(*sizes, dtype=dtype, rngs=rngs)

    def optimizer(self, rate: jax.Array, network: Any) -> Any:
        """The optimizer of a run; all learning rates fall to zero along a cosine."""
        neurons = sx.neurons.of(network)
        if isinstance(network, sx.networks.NGPT):
            falling = optax.cosine_decay_schedule(1.0, self.steps)
            return optax.chain(
                optax.adam(lambda count: rate * falling(count), **_BETAS),
                sx.optim.keep_params_on_sphere(neurons=neurons),
            )
        rising = round(self.warmup * self.steps)
        shape = optax.warmup_cosine_decay_schedule(
            0.0 if rising else 1.0, 1.0, rising, self.steps
        )

        def schedule(of_all: Any) -> Any:
            return lambda count: of_all * shape(count)

        if self.method.optimizer is None:
            adamw = optax.adamw(
                schedule(rate), **_BETAS, weight_decay=self.weight_decay, mask=_matrices
            )
            return optax.chain(optax.clip_by_global_norm(1.0), adamw)
        hidden = self.method.optimizer(schedule(rate), neurons)
        others = optax.adam(schedule(self.learning_rate), **_BETAS)
        return optax.partition({True: hidden, False: others}, _hidden)


def _matrices(params: Any) -> Any:
    """Mask of all that are not gains."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _hidden(params: Any) -> Any:
    """Mask of the matrices of blocks."""

    def is_hidden(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return name.startswith("blocks/") and leaf.ndim > 1

    return jax.tree.map_with_path(is_hidden, params)


def preset(name: PresetName, text: pathlib.Path | None = None) -> Config:
    """The settings of a preset."""
    changes: dict[PresetName, dict[str, Any]] = {
        "optimizers": dict(methods=tuple(METHODS)[4:], steps=120, context=32, width=32),
        "large": dict(
            methods=("ngpt", "prenorm"),
            seeds=1,
            steps=20_000,
            batch=64,
            context=1024,
            width=768,
            depth=12,
            heads=12,
            precision="bfloat16",
            checkpoint_every=1_000,
        ),
    }
    return Config(preset=name, text=text, **changes.get(name, {}))


def presets() -> Iterator[Config]:
    """The settings of the study's tables."""
    yield preset("small")
    yield preset("optimizers")


def planned(config: Config) -> list[runs.Run]:
    """The runs of some settings: all seeds of a method and a rate after each other."""
    found = []
    for method in config.methods:
        own = METHODS[method].rate
        for rate in config.rates or [own * 2.0**i for i in range(-2, 3)]:
            one = dataclasses.replace(config, methods=(method,), rates=(rate,))
            is_final = bool(config.rates) or rate == own
            found += [
                runs.Run(one, config.group, f"{method}-{rate:g}", seed, config.steps)
                for seed in range(config.seeds if is_final else config.searched)
            ]
    return found
