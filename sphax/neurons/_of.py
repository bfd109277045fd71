"""The neurons of a Flax model, by what its layers say."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sphax._paths import by_path
from sphax.neurons._declarations import Declarations
from sphax.neurons._dimensions import Axes, NeuronDimensions, fitting_axes
from sphax.neurons._layers import OWN_METHOD, Reading, plain, shape_of_kernel, told_by
from sphax.neurons._undeclared import Refusal, is_shift_or_scale, undeclared

Shape = tuple[int, ...]


def of(model: Any, *inputs: Any, **options: Any) -> Declarations:
    """Which leaves of a Flax model hold neurons, and along which axes.

    Each layer says it: ``Linear``, ``LinearGeneral``, ``Einsum``, ``Conv`` (grouped and
    depthwise too), ``ConvTranspose``, ``Embed``, ``MultiHeadAttention``, whose heads
    are sets of neurons of their own, recurrent cells, and those of
    :mod:`sphax.layers`; in NNX and, under their names there, in Linen. A gate of a
    recurrent cell is a set of its own where its kernel is; cells of NNX that keep all
    gates in one kernel have one set. Several output axes of a ``LinearGeneral`` or an
    ``Einsum`` count neurons together, as does the one of a grouped convolution. Of an
    ``Embed`` these are the rows; a mask leaves them out where they are too many pairs.
    Layers in a stack, as :func:`flax.nnx.vmap`, :func:`flax.nnx.scan`,
    ``linen.scan`` and ``linen.vmap`` make them, are sets of their own.

    A layer of one's own says it by a method ``neuron_dimensions()``, a mapping from the
    paths of its leaves to declarations, or reasons to have none, with axes counted from
    the end. Leaves of other layers are read as :func:`find` reads what nothing
    declares, and are left out, with the reason, where it would refuse them, or where
    one of more than two axes could be that of a stack.

    Args:
        model: An ``nnx.Module``, abstract ones too, or a ``linen.Module``.
        *inputs: Of a Linen module, what it is called with: arrays, or their shapes as
            :class:`jax.ShapeDtypeStruct`. Nothing is computed.
        **options: Further ones, by name, such as ``train=False``.

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
    told: dict[str, Reading] = {}
    owners = {layer.path: layer for layer in layers}
    # A layer that has others, such as attention, knows more of their leaves than they.
    for layer in sorted(layers, reverse=True, key=lambda layer: layer.path):
        told |= {_joined(layer.path, name): own for name, own in layer.told.items()}
    leaves = {}
    for name, shape in sorted(shapes.items()):
        owner, _, own_name = name.rpartition("/")
        layer = owners.get(owner)
        own_shape = layer.shapes.get(own_name) if layer else None
        kind = layer.kind if layer else "no layer that was called"
        reading = told.get(name) or _by_name(name, own_shape, shape, kind)
        leaves[name] = _placed(reading, own_shape, shape)
    return Declarations(leaves, shapes)


class _Layer(NamedTuple):
    """What a layer says, and the shapes of its leaves without a stack, if known."""

    path: str
    kind: str
    told: Mapping[str, Reading]
    shapes: Mapping[str, Shape]


def _nnx(model: Any) -> tuple[dict[str, Shape], list[_Layer]]:
    from flax import nnx

    params = nnx.to_flat_state(nnx.state(model, nnx.Param))
    shapes = {_joined(*path): jnp.shape(leaf.get_value()) for path, leaf in params}
    layers = []
    for path, module in nnx.iter_modules(model):
        shape = shape_of_kernel(module)
        own = {} if shape is None else {"kernel": shape, "embedding": shape}
        kind = type(module).__name__
        layers.append(_Layer(_joined(*path), kind, told_by(module), own))
    return shapes, layers


def _linen(
    model: Any, inputs: tuple, options: dict[str, Any]
) -> tuple[dict[str, Shape], list[_Layer]]:
    from flax import linen, nnx

    layers: dict[str, _Layer] = {}

    def see(call, args, kwargs, context):
        outputs, module = call(*args, **kwargs), context.module
        kind, method = type(module), context.method_name
        # What transforms call their wrappers by is not a method, and has no path.
        if module.scope is None or not hasattr(kind, method) or method == OWN_METHOD:
            return outputs
        path = _joined(*module.path)
        is_bridge = isinstance(module, nnx.bridge.ToLinen)
        told = _bridged(module) if is_bridge else told_by(module)
        # Inside a transform: without the axis along which it stacks.
        own = _shapes(module.variables.get("params", {}))
        layers[path] = _Layer(path, kind.__name__, told, own)
        return outputs

    leaves, structure = jax.tree.flatten((inputs, options))
    arrays = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "shape")}

    def params_of(arrays):
        given = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
        args, kwargs = structure.unflatten(given)
        return model.init(jax.random.key(0), *args, **kwargs).get("params", {})

    with linen.intercept_methods(see):
        params = jax.eval_shape(params_of, arrays)
    return _shapes(params), list(layers.values())


def _bridged(layer: Any) -> Declarations:
    """What an NNX model in a Linen module says."""
    from flax import nnx

    def make():
        rngs = {} if layer.skip_rng else {"rngs": nnx.Rngs(0)}
        return layer.nnx_class(*layer.args, **layer.kwargs, **rngs)

    return of(nnx.eval_shape(make))


def _by_name(name: str, own_shape: Shape | None, shape: Shape, kind: str) -> Reading:
    reading = undeclared(name, own_shape or shape)
    # One axis may be that of a stack, unless the shape without it is known.
    is_unclear = reading is not None and own_shape is None and len(shape) > 2
    if isinstance(reading, Refusal) or is_unclear:
        return f"could be several things, and {kind} does not say which: declare it"
    if reading is not None:
        ndim = len(own_shape or shape)
        return _from_the_end(reading, range(ndim), ndim)
    if is_shift_or_scale(name):
        return "a scale" if name.endswith("scale") else "a bias"
    if len(shape) < 2:
        return "a vector, or a number"
    return f"not named kernel, and {kind} does not say what it is: declare it"


def _placed(reading: Reading, own_shape: Shape | None, shape: Shape) -> Reading:
    """A declaration for a layer's own shape, for the leaf in a stack of such layers."""
    if isinstance(reading, str) or own_shape is None:
        return reading
    axes = fitting_axes(reading, len(own_shape))
    # The first of the axes are those of the stack, if the sizes allow for it.
    for stack in combinations(range(len(shape)), len(shape) - len(own_shape)):
        kept = [axis for axis in range(len(shape)) if axis not in stack]
        if axes is not None and tuple(shape[axis] for axis in kept) == own_shape:
            return _from_the_end(axes, kept, len(shape))
    return f"of another shape than its layer's, {own_shape}: declare it"


def _from_the_end(axes: Axes, kept: Sequence[int], ndim: int) -> NeuronDimensions:
    index, vector = (
        plain(tuple(kept[axis] - ndim for axis in own))
        for own in (axes.index, axes.vector)
    )
    return NeuronDimensions(index_axis=index, vector_axis=vector)


def _shapes(params: Any) -> dict[str, Shape]:
    return {name: jnp.shape(leaf) for name, leaf in by_path(params).items()}


def _joined(*parts: Any) -> str:
    return "/".join(str(part) for part in parts if part != "")
