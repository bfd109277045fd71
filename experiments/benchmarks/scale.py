r"""Training steps of very many classes on several devices, against a model of costs.

    python -m experiments.benchmarks.scale

Times a step of ArcFace (loss, gradients, and an update by SGD with momentum) whose
classes are split over simulated devices: with all classes at once, in blocks, and with
a sample of the classes, whose rows alone are updated. All devices share this machine,
so that the time of a step should not depend on their number, while the memory of each
device should fall with it. Beside each number is its ratio to the model of
:func:`experiments.common.costs.head_costs`, which for each device and step has

- operations, :math:`6 B c D` (:math:`8 B c D` in blocks) for :math:`B` examples,
  :math:`D` features and :math:`c` classes of a device;
- bytes held, :math:`12 c D` for prototypes, gradient and momentum in float32, and
  :math:`4 B c` for logits (:math:`8 B b` in blocks of :math:`b` classes);
- bytes sent, :math:`(4 + e) B D` for embeddings of :math:`e` bytes and their gradient,
  and :math:`36 B` for numbers of the examples, each times :math:`(n - 1) / n` for
  :math:`n` devices.

Operations and bytes are read from the compiled program. The time of the model takes the
speed of bare products and of reading, measured here, for that of a processor and its
memory. The last table has the model's memory and time on accelerators, up to a hundred
million classes.

On a GPU or TPU, functions of sphax against their bounds, in one run:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m experiments.benchmarks.scale
    --bounds --output runs/benchmarks/scale_bounds.json
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import sphax as sx
from experiments.benchmarks import (
    _figures,
    _program,
    _timing,
    energy,
    margin_softmax,
    operators,
    orthogonal,
)
from experiments.common import costs, progress


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/scale.json")
    classes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of classes, one table each."""
    repetitions: tuple[int, ...] = (15, 7, 3)
    """Rounds, for each number of classes; medians are reported."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices, simulated on a CPU."""
    batch: int = 256
    """Number of embeddings, on all devices together."""
    features: int = 128
    """Width of embeddings and prototypes."""
    block_size: int = 512
    """Classes in a block of the blocked form."""
    rate: float = 0.1
    """Share of the classes that is sampled."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the products; params are float32."""
    bounds: bool = False
    """Run the other benchmarks at sizes of an accelerator instead, on one device."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.classes) != len(self.repetitions):
            raise ValueError(
                "--repetitions must be as many as --classes ="
                f" {' '.join(map(str, self.classes))}, got"
                f" {' '.join(map(str, self.repetitions))}."
            )
        if self.rate >= 1.0:
            raise ValueError(f"--rate must be below 1, got {self.rate}.")
        if any(self.batch % n for n in self.devices):
            raise ValueError(
                f"--batch must be a multiple of all --devices, got {self.batch}."
            )


PRODUCTS = "three bare products"
# Classes, devices and batch, at 512 features in bfloat16; the forms beside.
EXTRAPOLATED = (
    (93_431, 8, 1_024),
    (1_000_000, 8, 4_096),
    (10_000_000, 64, 4_096),
    (100_000_000, 256, 16_384),
)
ON_ACCELERATORS: dict[str, dict[str, Any]] = {
    "all at once": {},
    "blocks of 4,096": {"block_size": 4_096},
    "a tenth sampled": {"rate": 0.1},
    "a tenth sampled, in blocks": {"rate": 0.1, "block_size": 4_096},
}
BOUNDS: dict[str, tuple[Any, Any]] = {
    "margin_softmax": (
        margin_softmax,
        margin_softmax.Config(
            classes=(100_000, 1_000_000),
            batch=4_096,
            features=512,
            block_size=16_384,
            dtype="bfloat16",
        ),
    ),
    "energy": (
        energy,
        energy.Config(points=(65_536,), repetitions=(9,), batch=0, large=(0, 0)),
    ),
    "orthogonal": (orthogonal, orthogonal.Config(sizes=(1_024,))),
    "operators": (operators, operators.Config()),
}


def measure(config: Config) -> dict[str, Any]:
    """Measures every number of classes, or the bounds."""
    if config.bounds:
        return {
            "bounds": {
                name: {"config": asdict(settings), **module.measure(settings)}
                for name, (module, settings) in BOUNDS.items()
            }
        }
    if jax.config.jax_num_cpu_devices < max(config.devices):  # pyright: ignore
        jax.config.update("jax_num_cpu_devices", max(config.devices))
    sizes = list(zip(config.classes, config.repetitions, strict=True))
    return {
        "sizes": [_measure(config, *size) for size in progress.each(sizes, "sizes")]
    }


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each number of classes."""
    if "bounds" in figures:
        for name, (module, _) in BOUNDS.items():
            yield from module.tables(figures["bounds"][name])
        return
    for size in figures["sizes"]:
        yield (
            f"| {size['classes']:,} classes | devices | ms | / products | / model"
            " | MiB per device | / model | KiB sent | / model |"
        )
        yield "|---|---|---|---|---|---|---|---|---|"
        for row in size["rows"]:
            sent = f"{row['sent'] / 2**10:.0f} | "
            if row["devices"] > 1:
                sent += f"{row['sent'] / row['model']['sent']:.2f}"
            yield (
                f"| {row['form']} | {row['devices']} | {row['seconds'] * 1e3:.0f}"
                f" | {row['over_products']:.2f}"
                f" | {row['seconds'] / row['model']['seconds']:.2f}"
                f" | {row['bytes'] / 2**20:.1f}"
                f" | {row['bytes'] / row['model']['bytes']:.2f} | {sent} |"
            )
        off = max(abs(r["flops"] / r["model"]["flops"] - 1) for r in size["rows"])
        yield ""
        yield (
            "Operations of products differ from the model by at most"
            f" {100 * off:.1f} %. Bare products do {size['flops'] / 1e9:.0f} billion"
            f" operations a second; {size['bandwidth'] / 1e9:.0f} GB/s are read."
        )
        yield from _figures.end_of_table(size["quietness"])
    yield from _extrapolation()


def _extrapolation() -> Iterator[str]:
    yield f"| classes | by the model | {' | '.join(costs.MACHINES)} |"
    yield f"|---|---|{'---|' * len(costs.MACHINES)}"
    for classes, devices, batch in EXTRAPOLATED:
        for form, options in ON_ACCELERATORS.items():
            found = costs.head_costs(classes, devices, batch, 512, **options)
            cells = [
                f"{found.peak / 1e9:.3g} GB, "
                + (
                    f"{found.seconds(machine) * 1e3:.3g} ms"
                    if found.peak < machine.memory
                    else "too much"
                )
                for machine in costs.MACHINES.values()
            ]
            name = f"{classes:,} on {devices} devices, batch {batch:,}"
            yield f"| {name} | {form} | {' | '.join(cells)} |"
    yield ""


def _step(config: Config, classes: int, mesh, form: dict[str, Any]) -> Callable:
    """A training step on a mesh; all that it needs are its arguments."""
    optimizer = optax.sgd(1e-3, momentum=0.9)
    split, whole = PartitionSpec("class"), PartitionSpec()

    def loss(embeddings, prototypes, labels, **options):
        return sx.sharding.margin_softmax(
            embeddings.astype(config.dtype),
            prototypes.astype(config.dtype),
            labels,
            sx.margins.ArcFace(),
            mesh=mesh,
            class_axis="class",
            batch_axis="class",
            **options,
        )

    def of_all(prototypes, state, embeddings, labels, key):
        del key
        options = {"num_classes": classes, "block_size": form.get("block_size")}
        value, (to_embeddings, gradient) = jax.value_and_grad(loss, argnums=(0, 1))(
            embeddings, prototypes, labels, **options
        )
        updates, state = optimizer.update(gradient, state, prototypes)
        return value, to_embeddings, optax.apply_updates(prototypes, updates), state

    sparse = sx.sharding.sparse_rows(optimizer)

    def of_sample(prototypes, state, embeddings, labels, key):
        size = int(form["rate"] * len(prototypes) / mesh.size)

        def sample(prototypes, labels, key):
            sampled = sx.sharding.sample_classes(
                key, prototypes, labels, size, class_axis="class", num_classes=classes
            )
            return sampled.rows, sampled.labels, prototypes[sampled.rows]

        def update(gradient, state, prototypes, rows):
            updates, state = sparse.update(gradient, state, prototypes, rows=rows)
            return sx.sharding.apply_rows(prototypes, updates, rows), state

        rows, labels, used = jax.shard_map(
            sample,
            mesh=mesh,
            in_specs=(split, whole, whole),
            out_specs=(split, whole, split),
        )(prototypes, jax.sharding.reshard(labels, NamedSharding(mesh, whole)), key)
        value, (to_embeddings, gradient) = jax.value_and_grad(loss, argnums=(0, 1))(
            embeddings, used, labels
        )
        prototypes, state = jax.shard_map(
            update, mesh=mesh, in_specs=split, out_specs=split
        )(gradient, state, prototypes, rows)
        return value, to_embeddings, prototypes, state

    return of_sample if "rate" in form else of_all


def _inputs(config: Config, classes: int, devices: int) -> tuple[Any, list, tuple]:
    """A mesh; prototypes and momentum, which steps replace; and what they keep."""
    mesh = jax.make_mesh((devices,), ("class",), devices=jax.devices()[:devices])
    keys = jax.random.split(jax.random.key(0), 3)
    rows = sx.sharding.padded_rows(classes, mesh, "class")
    split, whole = (
        NamedSharding(mesh, spec) for spec in (PartitionSpec("class"), PartitionSpec())
    )

    @partial(jax.jit, out_shardings=split)
    def draw(key):
        return jax.random.normal(key, (rows, config.features))

    prototypes = draw(keys[0])
    state = optax.sgd(1e-3, momentum=0.9).init(prototypes)
    embeddings = jax.random.normal(keys[1], (config.batch, config.features))
    labels = jax.random.randint(keys[2], (config.batch,), 0, classes)
    kept = jax.device_put((embeddings, labels, keys[0]), (split, split, whole))
    return mesh, [prototypes, state], kept


def _measure(config: Config, classes: int, repetitions: int) -> dict[str, Any]:
    forms = {
        "all at once": {},
        f"blocks of {config.block_size:,}": {"block_size": config.block_size},
        f"{config.rate:g} sampled": {"rate": config.rate},
    }
    candidates: dict[str, _timing.Candidate] = {
        PRODUCTS: margin_softmax.products(
            margin_softmax.Config(
                batch=config.batch, features=config.features, dtype=config.dtype
            ),
            classes,
        )
    }
    rows = []
    for devices in config.devices:
        if devices > jax.device_count():
            continue
        mesh, state, kept = _inputs(config, classes, devices)
        for name, form in forms.items():
            step = jax.jit(_step(config, classes, mesh, form), donate_argnums=(0, 1))
            compiled = step.lower(*state, *kept).compile()
            program, memory = _program.work(compiled), compiled.memory_analysis()
            assert memory
            call = partial(_call, compiled, state, kept)
            call()
            label = f"{name}, {devices}"
            candidates[label] = _timing.Candidate(call, (), memory.temp_size_in_bytes)
            rows.append(
                {
                    "label": label,
                    "form": name,
                    "devices": devices,
                    "flops": program.flops,
                    "sent": program.sent,
                    "bytes": memory.argument_size_in_bytes
                    + memory.output_size_in_bytes
                    - memory.alias_size_in_bytes
                    + memory.temp_size_in_bytes,
                    "costs": costs.head_costs(
                        classes,
                        devices,
                        config.batch,
                        config.features,
                        itemsize=jnp.dtype(config.dtype).itemsize,
                        **form,
                    ),
                }
            )
    read = jnp.zeros((2**26,), jnp.float32)
    candidates["reading"] = _timing.compile_candidate(jnp.max, read)
    times, quietness = _timing.between_probes(candidates, repetitions)
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    flops = 6.0 * config.batch * classes * config.features / medians[PRODUCTS]
    bandwidth = 2.0**28 / medians["reading"]
    return {
        "classes": classes,
        "flops": flops,
        "bandwidth": bandwidth,
        "quietness": quietness,
        "rows": [
            _row(row, medians[row["label"]], medians[PRODUCTS], flops, bandwidth)
            for row in rows
        ],
    }


def _call(compiled: Any, state: list, kept: tuple) -> None:
    """A step that replaces the state, which the program overwrites."""
    value, to_embeddings, *state[:] = compiled(*state, *kept)
    jax.block_until_ready((value, to_embeddings, state))


def _row(row: dict, seconds: float, products: float, flops: float, bandwidth: float):
    # Each of the devices has its share of this machine, where blocks cost 30 us.
    share, model = 1.0 / row["devices"], row.pop("costs")
    here = costs.Machine(
        flops=share * flops,
        bandwidth=share * bandwidth,
        memory=0.0,
        interconnect=share * bandwidth,
        cache=1e6,
        launch=30e-6 / share,
    )
    del row["label"]
    return row | {
        "seconds": seconds,
        "over_products": seconds / products,
        "model": {
            "flops": model.flops,
            "bytes": model.peak,
            "sent": model.sent,
            "seconds": model.seconds(here),
        },
    }


def main() -> None:
    """Runs from the command line."""
    _figures.main("scale", Config, measure, tables)


if __name__ == "__main__":
    main()
