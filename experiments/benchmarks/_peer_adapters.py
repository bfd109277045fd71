"""Adapters of sphax and PEFT: each reads the files of the other."""

import contextlib
import json
import pathlib
import tempfile
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import sphax as sx
from experiments.benchmarks._peer_case import import_peer

# Inputs and outputs of the layers by name, and examples.
_LAYERS, _EXAMPLES = {"up": (48, 64), "down": (64, 48)}, 32


class Exchange(NamedTuple):
    """A configuration of PEFT, and how large the arrays are that it is given.

    Attributes:
        name: Of the row.
        config: Class of the configuration in PEFT.
        options: Its arguments.
        size: Standard deviation of the arrays; factors are 1 on average.
    """

    name: str
    config: str
    options: dict[str, Any]
    size: float


_OFT = {"r": 0, "oft_block_size": 8}
EXCHANGES = (
    Exchange("OFT, series of 5 terms", "OFTConfig", _OFT, 0.1),
    Exchange(
        "OFT, series of 4 terms",
        "OFTConfig",
        _OFT | {"num_cayley_neumann_terms": 4},
        0.1,
    ),
    Exchange("OFT, exact", "OFTConfig", _OFT | {"use_cayley_neumann": False}, 0.5),
    Exchange("OFT, shared blocks", "OFTConfig", _OFT | {"block_share": True}, 0.1),
    Exchange("OFT, bounded", "OFTConfig", _OFT | {"coft": True, "eps": 0.5}, 0.1),
    *(
        Exchange(
            f"BOFT, {factors} factor{'s' * (factors > 1)}, blocks of {size}",
            "BOFTConfig",
            {"boft_block_size": size, "boft_n_butterfly_factor": factors},
            0.5,
        )
        for factors, size in ((1, 8), (2, 8), (3, 4))
    ),
    Exchange("HRA", "HRAConfig", {"r": 6}, 1.0),
    Exchange("HRA, orthogonal", "HRAConfig", {"r": 6, "apply_GS": True}, 1.0),
    Exchange("PSOFT", "PsoftConfig", {"r": 8}, 0.3),
    Exchange(
        "PSOFT, series of 5 terms",
        "PsoftConfig",
        {"r": 8, "use_cayley_neumann": True, "cayley_neumann_eps": 0.5},
        0.1,
    ),
)


def measure(exchange: Exchange) -> dict[str, Any]:
    """Differences of outputs in parts of the largest one, in float32.

    Reading: PEFT's layers, and sphax with their arrays. Writing: sphax, and what PEFT
    loads from a folder with our files.
    """
    torch, peft = import_peer("torch"), import_peer("peft")
    random = np.random.default_rng(0)
    base = _model(torch, random)
    kernels = {name: getattr(base, name).weight.numpy().T for name in _LAYERS}
    inputs = {
        name: random.normal(size=(_EXAMPLES, sizes[0])).astype(np.float32)
        for name, sizes in _LAYERS.items()
    }
    with _butterflies(torch):
        config = getattr(peft, exchange.config)(
            target_modules=list(_LAYERS), **exchange.options
        )
        model = peft.get_peft_model(base, config)
        _draw(torch, model, random, exchange.size)
        expected = _outputs(torch, model, inputs)
        tensors = {
            name: tensor.detach().numpy()
            for name, tensor in peft.get_peft_model_state_dict(model).items()
        }
        bases = _bases(model)
        adapters = sx.reparam.from_peft(
            tensors, model.peft_config["default"].to_dict(), kernels, bases=bases
        )
        ours = {
            name: np.asarray(sx.reparam.adapt(x, kernels[name], adapters[name]))
            for name, x in inputs.items()
        }
        again = _loaded(peft, _model(torch, np.random.default_rng(0)), adapters, bases)
        theirs = _outputs(torch, again, inputs)
    return {
        "name": exchange.name,
        "reading": _difference(ours, expected),
        "writing": _difference(theirs, ours),
        "moved": _difference(
            ours, {name: x @ kernels[name] for name, x in inputs.items()}
        ),
    }


def _model(torch: Any, random: np.random.Generator) -> Any:
    model = torch.nn.Module()
    for name, (columns, rows) in _LAYERS.items():
        layer = torch.nn.Linear(columns, rows, bias=False)
        weight = random.normal(size=(rows, columns)).astype(np.float32)
        layer.weight.data = torch.from_numpy(weight / columns**0.5)
        model.add_module(name, layer)
    return model.requires_grad_(False)


def _draw(torch: Any, model: Any, random: np.random.Generator, size: float) -> None:
    """Arrays as after some training, in the place of the identity."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        drawn = size * random.normal(size=parameter.shape)
        if any(part in name for part in ("boft_s", "vector_a", "vector_b")):
            drawn = 1.0 + 0.3 * drawn
        parameter.data = torch.from_numpy(drawn.astype(np.float32))


def _outputs(
    torch: Any, model: Any, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    layers = model.base_model.model.eval()
    with torch.no_grad():
        return {
            name: getattr(layers, name)(torch.from_numpy(x)).numpy()
            for name, x in inputs.items()
        }


def _bases(model: Any) -> dict[str, np.ndarray]:
    """What PEFT computes of the weights for PSOFT, and does not save."""
    layers = {name: getattr(model.base_model.model, name) for name in _LAYERS}
    return {
        name: layer._psoft_A_cache["default"].numpy().T
        for name, layer in layers.items()
        if hasattr(layer, "_psoft_A_cache")
    }


def _loaded(
    peft: Any, base: Any, adapters: dict[str, Any], bases: dict[str, np.ndarray]
) -> Any:
    """The model with adapters that PEFT has read from the files of sphax."""
    tensors, config = sx.reparam.to_peft(adapters, bases=bases)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        numpy = import_peer("safetensors", "numpy").numpy
        numpy.save_file(tensors, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(config))
        return peft.PeftModel.from_pretrained(base, folder)


def _difference(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> float:
    """The largest of all layers, in parts of the largest output."""
    return max(float(np.abs(x[n] - y[n]).max() / np.abs(y[n]).max()) for n in y)


@contextlib.contextmanager
def _butterflies(torch: Any) -> Iterator[None]:
    """What PEFT's CUDA extension does, in PyTorch: without it, BOFT has one factor."""
    layer = import_peer("peft", "tuners.boft.layer").tuners.boft.layer

    def block_diagonals(factors):
        return [torch.stack([torch.block_diag(*blocks) for blocks in factors])]

    before = layer._FBD_CUDA
    layer._FBD_CUDA = types.SimpleNamespace(forward=block_diagonals)
    try:
        yield
    finally:
        layer._FBD_CUDA = before
