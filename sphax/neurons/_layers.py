"""What the layers of Flax say of their leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

from sphax.neurons._dimensions import NeuronDimensions

Reading = NeuronDimensions | str
# By which a layer says itself what no other knows.
OWN_METHOD = "neuron_dimensions"


def told_by(layer: Any) -> Mapping[str, Reading]:
    """Declarations, or reasons to have none, by path from the layer on.

    Axes count from the end, so that those of a stack of such layers are in front.
    """
    from flax import linen, nnx

    if hasattr(type(layer), OWN_METHOD):
        return getattr(layer, OWN_METHOD)()
    match layer:
        case nnx.MultiHeadAttention() | linen.MultiHeadDotProductAttention():
            head = NeuronDimensions(index_axis=-1, vector_axis=-3, batch_axis=-2)
            names = ("query/kernel", "key/kernel", "value/kernel")
            return {**dict.fromkeys(names, head), "out/kernel": _product(2, 1)}
        case nnx.Linear() | linen.Dense():
            return {"kernel": _product(1, 1)}
        case nnx.LinearGeneral():
            inputs, outputs = len(layer.in_features), len(layer.out_features)
            return {"kernel": _product(inputs, outputs)}
        case linen.DenseGeneral():
            return {"kernel": _product(_count(layer.axis), _count(layer.features))}
        case nnx.Einsum() | linen.Einsum():
            return {"kernel": _einsum(layer.einsum_str)}
        case linen.ConvLocal():  # [*positions, window and inputs, outputs]
            return {"kernel": _product(1, 1)}
        case nnx.ConvTranspose() | linen.ConvTranspose() if layer.transpose_kernel:
            window = tuple(range(-2 - _count(layer.kernel_size), -2))
            return {"kernel": _dimensions((-2,), (*window, -1))}
        case nnx.Conv() | linen.Conv() | nnx.ConvTranspose() | linen.ConvTranspose():
            return {"kernel": _product(_count(layer.kernel_size) + 1, 1)}
        case nnx.Embed() | linen.Embed():
            return {"embedding": _dimensions((-2,), (-1,))}
        case nnx.LoRA():
            reason = "a factor of a low-rank update, which is not made of neurons"
            return {"lora_a": reason, "lora_b": reason}
        case _:
            return {}


def shape_of_kernel(layer: Any) -> tuple[int, ...] | None:
    """Shape by the layer's own sizes, without the axes of a stack; None if unknown."""
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


def _product(inputs: int, outputs: int) -> NeuronDimensions:
    """Of ``[..., *inputs, *outputs]``, the numbers of axes given."""
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
    return NeuronDimensions(index_axis=plain(index), vector_axis=plain(vector))


def plain(axes: tuple[int, ...]) -> int | tuple[int, ...]:
    """One axis as a number."""
    return axes[0] if len(axes) == 1 else axes


def _count(axes: int | Sequence[int]) -> int:
    return 1 if isinstance(axes, int) else len(axes)
