"""Networks by the names of their arrays in files: reading, writing, comparing."""

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from sphax.convert._layers import Place, places
from sphax.networks import Backbone, ConvUnit, Design

Arrays = Mapping[str, np.ndarray]
# Of a network that is given, which need not be square.
InputShape = tuple[int, int, int] | None

# Options of layers and units on which the outputs depend, beside the arrays.
_OPTIONS = (
    "strides",
    "padding",
    "kernel_dilation",
    "input_dilation",
    "epsilon",
    "rectify",
    "stride",
    "pool",
)
# Functions by the first arrays of the files that they read.
_READERS = {
    "conv1.weight": "from_insightface",
    "input_layer.0.weight": "from_adaface",
    "layer1.0.conv1.weight": "from_opensphere",
    "layer1.0.conv.weight": "from_opensphere",
}


class Format(NamedTuple):
    """How a library writes a network.

    Attributes:
        title: What its networks are called.
        unit: Type of the residual units.
        embedding: Types that the last layers may have.
        design: The design of the network in a file.
        layers: The layers of a network of ours by their names in the file.
        size: A network's name by its size, such as ``"IResNet-50"``.
        plain: Name of a batch normalization without scale and bias in the file.
    """

    title: str
    unit: type
    embedding: tuple[type, ...]
    design: Callable[[Arrays, InputShape], Design]
    layers: Callable[[Backbone], Iterator[tuple[str, Any]]]
    size: Callable[[Backbone], str]
    plain: str | None = None


def read_network(tensors: Arrays, form: Format, given: Backbone | None) -> Backbone:
    """A network with the arrays of a file; a copy of the one that is given."""
    reference = _abstract(form.design(tensors, given and given.input_shape))
    if given is None:
        network = reference
    else:
        _check_kind(given, form)
        if form.size(given) != form.size(reference):
            raise ValueError(
                f"tensors are those of {form.size(reference)}, module is"
                f" {form.size(given)}: give one of the size of the file, or none, for a"
                " network that fits."
            )
        _check_same(given, reference, form)
        network = nnx.clone(given)
    found = list(_places(network, form))
    _check_arrays(tensors, found, form.size(reference))
    for place in found:
        if place.variable is not None:
            array = place.constants() if place.name is None else tensors[place.name]
            place.set(array)
        elif place.name is not None and not np.all(
            tensors[place.name] == place.constant
        ):
            raise ValueError(
                f"module must have an array for {place.name}, which is not"
                f" {place.constant:g} everywhere:"
                " functools.partial(sx.networks.FaceEmbedding, use_scale=True)."
            )
    return network


def write_network(network: Backbone, form: Format) -> dict[str, np.ndarray]:
    """The arrays of a network for a file, with counts of batches of zero."""
    _check_kind(network, form)
    tensors: dict[str, np.ndarray] = {}
    for place in _places(network, form):
        if place.name is not None:
            tensors[place.name] = place.get()
            layer, _, end = place.name.rpartition(".")
            if end == "running_var":
                tensors[f"{layer}.num_batches_tracked"] = np.zeros((), np.int64)
        elif place.variable is not None and np.any(place.get() != place.constant):
            raise ValueError(
                f"module must have a last normalization without scale and bias, as"
                f" {form.title} has, got one with values other than"
                f" {place.constant:g}: train functools.partial("
                "sx.networks.FaceEmbedding, use_bias=False)."
            )
    # What a file with these arrays is read as.
    reference = _abstract(form.design(tensors, network.input_shape))
    _check_same(network, reference, form)
    return tensors


def need(tensors: Arrays, name: str) -> np.ndarray:
    """The array of a name; raises if the file has none."""
    if name not in tensors:
        readers = [reader for first, reader in _READERS.items() if first in tensors]
        hint = ""
        if name in _READERS and readers:
            hint = f" sx.convert.{readers[0]} reads such names."
        elif name in _READERS and tensors.keys() & {"weight", "w", "kernel"}:
            hint = " For the arrays of a head, give a MarginHead as module."
        raise ValueError(f"tensors must have {name}, got {few(tensors)}.{hint}")
    return tensors[name]


def few(names: Iterable[str]) -> str:
    """The first of some names, and how many there are."""
    ordered = sorted(names)
    more = f", ... ({len(ordered)} names)" if len(ordered) > 4 else ""
    return (", ".join(ordered[:4]) or "no names") + more


def image_shape(
    tensors: Arrays, linear: str, channels: int, in_features: int, shape: InputShape
) -> tuple[int, int, int]:
    """The shape of images, four times halved to the map of the linear layer."""
    if shape is not None:
        return shape
    positions = need(tensors, f"{linear}.weight").shape[-1] / channels
    side = round(positions**0.5)
    if side * side != positions:
        raise ValueError(
            f"module must be given where maps are not square, got {linear}.weight for"
            f" {positions:g} positions; faces of 112 x 96 have 7 x 6."
        )
    return 16 * side, 16 * side, in_features


def _abstract(design: Design) -> Backbone:
    """The network without arrays."""
    # In the place of `nnx.Rngs`, whose count under tracing takes a time that grows with
    # its square: for IResNet-200 half a minute.
    keys: Any = types.SimpleNamespace(params=lambda: jax.random.key(0))
    return nnx.eval_shape(lambda: Backbone(*design, rngs=keys))


def _places(network: Backbone, form: Format) -> Iterator[Place]:
    height, width, _ = network.input_shape
    map_shape = (-(-height // 16), -(-width // 16))
    for name, layer in form.layers(network):
        yield from places(name, layer, map_shape, is_affine=name != form.plain)


def _check_kind(network: Backbone, form: Format) -> None:
    units = {type(unit) for stage in network.stages for unit in stage.units}
    found = {*units, type(network.embedding)}
    is_known = units <= {ConvUnit, form.unit} and found & {*form.embedding}
    if not is_known or type(network.stages[0].units[0]) is not ConvUnit:
        raise ValueError(
            f"module must be {form.title}, of {form.unit.__name__} and"
            f" {' or '.join(x.__name__ for x in form.embedding)}, got a network of"
            f" {', '.join(sorted(x.__name__ for x in found))}."
        )


def _check_same(network: Backbone, reference: Backbone, form: Format) -> None:
    """Raises unless both compute the same, given the same arrays."""
    ours, theirs = _options(network), _options(reference)
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            raise ValueError(
                f"module must have {theirs.get(path, 'nothing')} at {path}, as"
                f" {form.title} with these arrays has, got {ours.get(path, 'nothing')}."
            )


def _options(network: Backbone) -> dict[str, str]:
    """What each module computes, by its path; dropout, which has no arrays, apart."""
    found = {}
    for path, module in nnx.iter_modules(network):
        if "dropout" in path or isinstance(module, nnx.List):
            continue
        options = {x: getattr(module, x) for x in _OPTIONS if hasattr(module, x)}
        if isinstance(module, nnx.Conv | nnx.Linear):
            options["use_bias"] = module.bias is not None
        activation = getattr(module, "activation", None)
        if callable(activation) and not isinstance(activation, nnx.Module):
            options["activation"] = activation.__name__.strip("_")
        listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
        found["/".join(map(str, path))] = f"{type(module).__name__}({listed})"
    return found


def _check_arrays(tensors: Arrays, found: list[Place], size: str) -> None:
    shapes = {place.name: place.shape for place in found if place.name is not None}
    if missing := shapes.keys() - tensors.keys():
        raise ValueError(
            f"tensors must have all arrays of {size}, lack {few(missing)}."
        )
    if others := tensors.keys() - shapes.keys():
        raise ValueError(
            f"tensors must have the arrays of {size} and no others, got {few(others)}."
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"tensors must have {name} of shape {shape}, as module has, got"
                f" {tensors[name].shape}."
            )
