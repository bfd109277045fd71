"""Declarations of the leaves of Flax layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from sphax.neurons._dimensions import NeuronDimensions

Reading = NeuronDimensions | str
# The method by which other layers declare their leaves.
METHOD = "neuron_dimensions"


def declared_by(layer: Any) -> Mapping[str, Reading]:
    """Declarations of the leaves of a layer, or reasons why they hold no neurons.

    By path inside the layer. Axes count from the end, since a stack of such layers has
    more axes in front.
    """
    from flax import linen, nnx

    if hasattr(type(layer), METHOD):
        return getattr(layer, METHOD)()
    match layer:
        case nnx.MultiHeadAttention() | linen.MultiHeadDotProductAttention():
            head = NeuronDimensions(index_axis=-1, vector_axis=-3, batch_axis=-2)
            names = ("query/kernel", "key/kernel", "value/kernel")
            return {**dict.fromkeys(names, head), "out/kernel": _input_output(2, 1)}
        case nnx.Linear() | linen.Dense():
            return {"kernel": _input_output(1, 1)}
        case nnx.LinearGeneral():
            inputs, outputs = len(layer.in_features), len(layer.out_features)
            return {"kernel": _input_output(inputs, outputs)}
        case linen.DenseGeneral():
            return {"kernel": _input_output(_count(layer.axis), _count(layer.features))}
        case nnx.Einsum() | linen.Einsum():
            return {"kernel": _einsum(layer.einsum_str)}
        case linen.ConvLocal():  # [*positions, window and inputs, outputs]
            return {"kernel": _input_output(1, 1)}
        case nnx.ConvTranspose() | linen.ConvTranspose() if layer.transpose_kernel:
            window = tuple(range(-2 - _count(layer.kernel_size), -2))
            return {"kernel": _dimensions((-2,), (*window, -1))}
        case nnx.Conv() | linen.Conv() | nnx.ConvTranspose() | linen.ConvTranspose():
            return {"kernel": _input_output(_count(layer.kernel_size) + 1, 1)}
        case nnx.Embed() | linen.Embed():
            return {"embedding": _dimensions((-2,), (-1,))}
        case nnx.LoRA():
            reason = "a factor of a low-rank update, which is not made of neurons"
            return {"lora_a": reason, "lora_b": reason}
        case _:
            return {}


def kernel_shape(layer: Any) -> tuple[int, ...] | None:
    """Shape of a layer's kernel without the axes of a stack; None if unknown."""
    from flax import nnx

    match layer:
        case nnx.Linear():
            return layer.in_features, layer.out_features
        case nnx.LinearGeneral():
            batch = layer.batch_axis.values()
            return *batch, *layer.in_features, *layer.out_features
        case nnx.Embed():
            return layer.num_embeddings, layer.features
        case _:
            return getattr(layer, "kernel_shape", None)


def _input_output(inputs: int, outputs: int) -> NeuronDimensions:
    """Neurons of a kernel ``[..., *inputs, *outputs]``, by the numbers of its axes."""
    axes = tuple(range(-inputs - outputs, 0))
    return _dimensions(axes[inputs:], axes[:inputs])


def _einsum(equation: str | None) -> Reading:
    if equation is None:
        return "an einsum kernel whose equation is given in each call: declare it"
    inputs, kernel, outputs = equation.replace(" ", "").replace("->", ",").split(",")
    axes = {letter: axis - len(kernel) for axis, letter in enumerate(kernel)}
    index = [axis for x, axis in axes.items() if x in outputs and x not in inputs]
    vector = [axis for x, axis in axes.items() if x not in outputs]
    if not index or not vector:
        return f"an einsum kernel of {equation}, which is no product with neurons"
    return _dimensions(tuple(index), tuple(vector))


def _dimensions(index, vector):
    return NeuronDimensions(index_axis=as_axis(index), vector_axis=as_axis(vector))


def as_axis(axes: tuple[int, ...]) -> int | tuple[int, ...]:
    """A tuple of axes, or the number of the axis if there is only one."""
    return axes[0] if len(axes) == 1 else axes


def _count(axes: int | Sequence[int]) -> int:
    return 1 if isinstance(axes, int) else len(axes)
