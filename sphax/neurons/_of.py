"""The neurons of a Flax model, as its layers declare them."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._paths import by_path
from sphax.neurons._by_name import axes_by_name, is_shift_or_scale
from sphax.neurons._declarations import Declarations
from sphax.neurons._dimensions import Axes, NeuronDimensions, fitting_axes
from sphax.neurons._layers import METHOD, Reading, as_axis, declared_by, kernel_shape

Shape = tuple[int, ...]


def of(model: Any, *inputs: Any, **options: Any) -> Declarations:
    """Declares which leaves of a Flax model hold neurons, and along which axes.

    Every layer of NNX or Linen declares its leaves: ``Linear``, ``LinearGeneral``,
    ``Einsum``, ``Conv`` (also grouped and depthwise), ``ConvTranspose``, ``Embed``,
    ``MultiHeadAttention``, recurrent cells, and the layers of :mod:`sphax.layers`. The
    heads of attention are separate sets of neurons. A gate of a recurrent cell is a
    separate set if it has a kernel; NNX cells that keep all gates in one kernel have
    one set. All output axes of a ``LinearGeneral`` or an ``Einsum`` together count the
    neurons, as does the output axis of a grouped convolution. The neurons of an
    ``Embed`` are its rows; leave them out with a mask if they make too many pairs. The
    layers of a stack, as :func:`flax.nnx.vmap`, :func:`flax.nnx.scan`, ``linen.scan``
    and ``linen.vmap`` make them, are separate sets.

    Any other layer declares its leaves by a method ``neuron_dimensions()`` that returns
    a mapping from the paths of its leaves to declarations, or to reasons why they have
    no neurons; axes count from the end. Leaves of layers without this method are read
    by name and rank, as in :func:`find`. They are left out, with a reason, where
    :func:`find` would raise an error, or where one of three or more axes could be the
    axis of a stack.

    Args:
        model: An ``nnx.Module``, which may be abstract, or a ``linen.Module``.
        *inputs: Arguments of a Linen module's call: arrays, or their shapes as
            :class:`jax.ShapeDtypeStruct`. Nothing is computed.
        **options: Keyword arguments of a Linen module's call, such as ``train=False``.

    Returns:
        A mapping from the path of every parameter to its :class:`NeuronDimensions`, or
        to the reason why it has none.

    Raises:
        TypeError: If ``model`` is not a Flax module, or inputs are given for NNX.

    Example:
        >>> attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
        >>> found = sx.neurons.of(attention)
        >>> print(found)
        leaf          shape      neurons
        key/bias      (2, 4)     a bias
        key/kernel    (8, 2, 4)  2 x 4 of 8 dimensions
        out/bias      (8,)       a bias
        out/kernel    (2, 4, 8)  8 of 8 dimensions
        query/bias    (2, 4)     a bias
        query/kernel  (8, 2, 4)  2 x 4 of 8 dimensions
        value/bias    (2, 4)     a bias
        value/kernel  (8, 2, 4)  2 x 4 of 8 dimensions
        >>> params = nnx.state(attention, nnx.Param)
        >>> energy = sx.energy.energy_of_params(params, neurons=found)
    """
    from flax import linen, nnx

    if isinstance(model, nnx.Pytree):
        if inputs or options:
            raise TypeError(
                "inputs are for Linen modules only: an NNX model has its params, got"
                f" {len(inputs) + len(options)} inputs for {type(model).__name__}."
            )
        shapes, layers = _nnx(model)
    elif isinstance(model, linen.Module):
        shapes, layers = _linen(model, inputs, options)
    else:
        raise TypeError(
            "model must be an nnx.Module or a linen.Module, got"
            f" {type(model).__name__}; for other params, declare leaves by path or by a"
            " pytree, as sx.neurons.find takes them."
        )
    declared: dict[str, Reading] = {}
    layer_of = {layer.path: layer for layer in layers}
    # Outer layers last: attention declares more about its leaves than the layers in it.
    for layer in sorted(layers, reverse=True, key=lambda layer: layer.path):
        for name, reading in layer.declared.items():
            declared[_joined(layer.path, name)] = reading
    leaves = {}
    for name, shape in sorted(shapes.items()):
        path, _, leaf_name = name.rpartition("/")
        layer = layer_of.get(path)
        layer_shape = layer.shapes.get(leaf_name) if layer else None
        kind = layer.kind if layer else "no layer that was called"
        reading = declared.get(name) or _by_name(name, layer_shape, shape, kind)
        leaves[name] = _in_stack(reading, layer_shape, shape)
    return Declarations(leaves, shapes)


class _Layer(NamedTuple):
    """A layer of a model."""

    path: str
    kind: str
    declared: Mapping[str, Reading]  # by path inside the layer
    shapes: Mapping[str, Shape]  # of its leaves without the axes of a stack, if known


def _nnx(model: Any) -> tuple[dict[str, Shape], list[_Layer]]:
    from flax import nnx

    params = nnx.to_flat_state(nnx.state(model, nnx.Param))
    shapes = {_joined(*path): jnp.shape(leaf.get_value()) for path, leaf in params}
    layers = []
    for path, module in nnx.iter_modules(model):
        shape = kernel_shape(module)
        known = {} if shape is None else {"kernel": shape, "embedding": shape}
        kind = type(module).__name__
        layers.append(_Layer(_joined(*path), kind, declared_by(module), known))
    return shapes, layers


def _linen(
    model: Any, inputs: tuple, options: dict[str, Any]
) -> tuple[dict[str, Shape], list[_Layer]]:
    from flax import linen, nnx

    layers: dict[str, _Layer] = {}

    def record(call, args, kwargs, context):
        outputs, module = call(*args, **kwargs), context.module
        kind, method = type(module), context.method_name
        # Wrappers made by transforms are called by names that are not methods, and have
        # no path.
        if module.scope is None or not hasattr(kind, method) or method == METHOD:
            return outputs
        path = _joined(*module.path)
        is_bridge = isinstance(module, nnx.bridge.ToLinen)
        declared = _bridged(module) if is_bridge else declared_by(module)
        # Inside a transform, shapes lack the axis along which it stacks.
        known = _shapes(module.variables.get("params", {}))
        layers[path] = _Layer(path, kind.__name__, declared, known)
        return outputs

    leaves, structure = jax.tree.flatten((inputs, options))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "shape")}

    def params_of(arrays):
        given = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
        args, kwargs = structure.unflatten(given)
        return model.init(jax.random.key(0), *args, **kwargs).get("params", {})

    with linen.intercept_methods(record):
        params = jax.eval_shape(params_of, arrays)
    return _shapes(params), list(layers.values())


def _bridged(layer: Any) -> Declarations:
    """Declarations of an NNX model inside a Linen module."""
    from flax import nnx

    def make():
        rngs = {} if layer.skip_rng else {"rngs": nnx.Rngs(0)}
        return layer.nnx_class(*layer.args, **layer.kwargs, **rngs)

    return of(nnx.eval_shape(make))


def _by_name(name: str, layer_shape: Shape | None, shape: Shape, kind: str) -> Reading:
    axes = axes_by_name(name, layer_shape or shape)
    # One axis may be that of a stack, unless the shape without it is known.
    is_unclear = axes is not None and layer_shape is None and len(shape) > 2
    if axes == "ambiguous" or is_unclear:
        return f"could be several things, and {kind} does not say which: declare it"
    if axes is not None:
        ndim = len(layer_shape or shape)
        return _from_the_end(axes, range(ndim), ndim)
    if is_shift_or_scale(name):
        return "a scale" if name.endswith("scale") else "a bias"
    if len(shape) < 2:
        return "a vector, or a number"
    return f"not named kernel, and {kind} does not say what it is: declare it"


def _in_stack(reading: Reading, layer_shape: Shape | None, shape: Shape) -> Reading:
    """A declaration for the shape in one layer, for the leaf in a stack of layers."""
    if isinstance(reading, str) or layer_shape is None:
        return reading
    axes = fitting_axes(reading, len(layer_shape))
    # The first axes are those of the stack, if the sizes allow for it.
    for stack in combinations(range(len(shape)), len(shape) - len(layer_shape)):
        rest = [axis for axis in range(len(shape)) if axis not in stack]
        if axes is not None and tuple(shape[axis] for axis in rest) == layer_shape:
            return _from_the_end(axes, rest, len(shape))
    return f"of another shape than its layer's, {layer_shape}: declare it"


def _from_the_end(axes: Axes, rest: Sequence[int], ndim: int) -> NeuronDimensions:
    """A declaration of axes that are at ``rest`` in a leaf of rank ``ndim``."""
    index = as_axis(tuple(rest[axis] - ndim for axis in axes.index))
    vector = as_axis(tuple(rest[axis] - ndim for axis in axes.vector))
    return NeuronDimensions(index_axis=index, vector_axis=vector, count=axes.count)


def _shapes(params: Any) -> dict[str, Shape]:
    return {name: jnp.shape(leaf) for name, leaf in by_path(params).items()}


def _joined(*parts: Any) -> str:
    return "/".join(str(part) for part in parts if part != "")
