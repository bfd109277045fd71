"""Layers with a frozen kernel whose inputs an adapter rotates (OFTv2, QOFT)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_key
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.neurons import Neurons, find, select
from sphax.reparam._adapters import Adapter, as_kernel, check_adapter, scale_of
from sphax.reparam._core import Where


def rotate(inputs: ArrayLike, adapter: Adapter) -> jax.Array:
    """Vectors times the matrix of an adapter, without forming the matrix.

    Before a convolution, it rotates the channels of every pixel: this equals the
    convolution with the kernel that :func:`merge_adapter` returns.

    Args:
        inputs: Floating, ``[..., d]``.
        adapter: Adapter of inputs of this dimension. Its factors of the outputs, if it
            has any, are not part of the rotation.

    Returns:
        ``inputs @ rotation_matrix(adapter)``, shape and dtype of ``inputs``. Rotations
        are made in float32 at least, cast to the dtype of the inputs for the product
        alone, and products are summed in float32 at least.

    Raises:
        TypeError: If ``inputs`` is not floating, or ``adapter`` is not an adapter.
        ValueError: If the dimensions differ.

    Example:
        >>> adapter = sx.reparam.BlockRotation(jnp.array([[0.5]]), dimension=4)
        >>> sx.reparam.rotate(jnp.array([[5.0, 0.0, 0.0, 5.0]]), adapter)
        Array([[ 3., 4., -4., 3.]], dtype=float32)
    """
    inputs = as_floating("inputs", inputs)
    check_adapter("adapter", adapter)
    _check_inputs(inputs, adapter)
    return _rotate(inputs, adapter)


@compiled()
def _rotate(inputs, adapter):
    return adapter.rotated(inputs)


def rotation_matrix(adapter: Adapter) -> jax.Array:
    """The whole matrix of an adapter, in the convention of rows: ``x @ R``.

    Args:
        adapter: Any adapter.

    Returns:
        ``R``, ``[d, d]``, in float32 at least.

    Raises:
        TypeError: If ``adapter`` is not an adapter.

    Example:
        >>> adapter = sx.reparam.BlockRotation(jnp.array([[1.0]]), dimension=2)
        >>> sx.reparam.rotation_matrix(adapter)
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)
    """
    check_adapter("adapter", adapter)
    return _rotation_matrix(adapter)


@compiled()
def _rotation_matrix(adapter):
    dtype = jnp.promote_types(jax.tree.leaves(adapter)[0].dtype, jnp.float32)
    return adapter.rotated(jnp.eye(adapter.dimension, dtype=dtype))


def adapt(
    inputs: ArrayLike,
    kernel: ArrayLike,
    adapter: Adapter,
    *,
    kernel_scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    output_adapter: Adapter | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Outputs of a dense layer whose frozen kernel is finetuned by an adapter.

    .. math::
        y = \bigl((x R)\, K\bigr) \odot s + b = x\, (R\, K \operatorname{diag}(s)) + b

    in the order on the left, which rotates the inputs and leaves the kernel alone: no
    other array of its size is made, and it gets no gradient. The kernel may be of
    another dtype than the inputs, sharded along either axis, or of integers. This is
    cheaper than rotating the kernel where a step has fewer inputs than the kernel has
    outputs, and needs less memory always.

    With an adapter of the outputs as well, whose matrix is :math:`P`, the layer has the
    kernel :math:`R K \operatorname{diag}(s) P` (HOFT, with reflections on both sides).

    Args:
        inputs: :math:`x`, floating, ``[..., in]``.
        kernel: :math:`K`, floating or integer, ``[in, out]``.
        adapter: Adapter of dimension ``in``; :math:`s` are its factors of the outputs,
            if it has any.
        kernel_scale: Factor of each output, floating, ``[out]``, that an integer kernel
            is to be multiplied by; it gets no gradient.
        bias: :math:`b`, floating, ``[out]``.
        output_adapter: Adapter of dimension ``out``, or ``None``.
        precision: Precision of the product with the kernel, as in
            :func:`jax.lax.dot_general`. Products with rotations have the highest.

    Returns:
        Outputs, ``[..., out]``, in the dtype of ``inputs``, with sums, factors and bias
        in float32 at least. On a mesh of explicit axes, they are sharded as the inputs
        along leading axes and as the kernel along the last.

    Raises:
        TypeError: If ``inputs`` is not floating, or ``adapter`` is not an adapter.
        ValueError: If shapes do not fit, or an integer kernel has no scale.

    Example:
        >>> kernel = jnp.array([[2, 1], [0, 1]], jnp.int8)
        >>> adapter = sx.reparam.BlockRotation(jnp.array([[1.0]]), dimension=2)
        >>> scale = jnp.array([0.5, 1.0])
        >>> sx.reparam.adapt(jnp.array([0.0, 3.0]), kernel, adapter, kernel_scale=scale)
        Array([-3., -3.], dtype=float32)

    References:
        Qiu et al., `Orthogonal Finetuning Made Scalable
        <https://arxiv.org/abs/2506.19847>`_, EMNLP 2025.
    """
    inputs = as_floating("inputs", inputs)
    kernel = as_kernel(kernel)
    if kernel.ndim != 2:
        raise ValueError(
            f"kernel must be [in, out], got shape {kernel.shape}; before a convolution,"
            " rotate its inputs by sphax.reparam.rotate."
        )
    _check_adapters(kernel, adapter, output_adapter)
    _check_inputs(inputs, adapter)
    is_floating = jnp.issubdtype(kernel.dtype, jnp.floating)
    if kernel_scale is None and not is_floating:
        raise ValueError(
            "kernel_scale must be given for a kernel of integers, one factor for each"
            f" output, [{kernel.shape[1]}], got None for dtype {kernel.dtype}."
        )
    rows = {}
    for name, row in (("kernel_scale", kernel_scale), ("bias", bias)):
        rows[name] = None if row is None else as_floating(name, row)
        if row is not None:
            _check_row(name, rows[name], kernel)
    return _adapt(inputs, kernel, adapter, output_adapter, **rows, precision=precision)


@functools.partial(jax.jit, static_argnames="precision", keep_unused=True)
def _adapt(inputs, kernel, adapter, output_adapter, *, kernel_scale, bias, precision):
    rotated = _rotate(inputs, adapter)
    sharding = _sharding_of_outputs(inputs, kernel)
    outputs = _times_fixed(rotated, kernel, precision, sharding)
    if kernel_scale is not None:
        outputs = _times(outputs, jax.lax.stop_gradient(kernel_scale))
    outputs = _times(outputs, scale_of(adapter))
    if output_adapter is not None:
        outputs = _rotate(outputs, output_adapter)
        outputs = _times(outputs, scale_of(output_adapter))
    if bias is not None:
        outputs = outputs + _as_row(bias, outputs)
    return outputs.astype(inputs.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _times_fixed(x, kernel, precision, sharding):
    """``x @ kernel``, which has no derivative by the kernel, in float32 at least.

    With ``stop_gradient``, a loop over layers would keep a second copy of the kernels
    for the backward pass.
    """
    return jax.lax.dot_general(
        x,
        kernel,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
        out_sharding=sharding,
    )


@_times_fixed.defjvp
def _times_fixed_jvp(precision, sharding, primals, tangents):
    x, kernel = primals
    outputs = _times_fixed(x, kernel, precision, sharding)
    return outputs, _times_fixed(tangents[0], kernel, precision, sharding)


def _sharding_of_outputs(inputs, kernel):
    """Sharding of the product over explicit axes of a mesh, if there are any."""
    shardings = [jax.typeof(x).sharding for x in (inputs, kernel)]
    mesh = next((s.mesh for s in shardings if s.mesh.explicit_axes), None)
    if mesh is None:
        return None
    leading, last = (sharding.spec for sharding in shardings)
    return NamedSharding(mesh, PartitionSpec(*leading[:-1], last[-1]))


def _times(outputs, scale):
    return outputs if scale is None else outputs * _as_row(scale, outputs)


def _as_row(x, outputs):
    x = widen(x).astype(outputs.dtype)
    return jnp.expand_dims(x, range(outputs.ndim - 1))


def merge_adapter(
    kernel: ArrayLike, adapter: Adapter, *, output_adapter: Adapter | None = None
) -> jax.Array:
    r"""The kernel of the plain layer that does the same as the adapted one.

    .. math:: R\, K \operatorname{diag}(s)

    or :math:`R K \operatorname{diag}(s) P` with an adapter of the outputs. The rotation
    of a convolution acts on its channels, the same at each place of the window.

    Args:
        kernel: :math:`K`, floating, ``[in, out]``, or ``[*window, in, out]``. One of
            integers must be converted first, since its merged kernel has other factors.
        adapter: Adapter of dimension ``in``.
        output_adapter: Adapter of dimension ``out``, or ``None``.

    Returns:
        The merged kernel, shape and dtype of ``kernel``, computed in float32 at least.

    Raises:
        TypeError: If ``kernel`` is not floating, or ``adapter`` is not an adapter.
        ValueError: If shapes do not fit.

    Example:
        >>> adapter = sx.reparam.BlockRotation(jnp.array([[1.0]]), dimension=2)
        >>> sx.reparam.merge_adapter(jnp.array([[5.0], [7.0]]), adapter)
        Array([[ 7.],
               [-5.]], dtype=float32)
    """
    kernel = as_kernel(as_floating("kernel", kernel))
    _check_adapters(kernel, adapter, output_adapter)
    return _merge(kernel, adapter, output_adapter)


@compiled()
def _merge(kernel, adapter, output_adapter):
    merged = adapter.rotated(widen(kernel).mT, inverse=True).mT
    merged = _times(merged, scale_of(adapter))
    if output_adapter is not None:
        merged = output_adapter.rotated(merged)
        merged = _times(merged, scale_of(output_adapter))
    return merged.astype(kernel.dtype)


def adapters(
    params: Any,
    make: Callable[..., Adapter],
    *,
    key: jax.Array | None = None,
    where: Where | None = None,
    neurons: Neurons = None,
) -> dict[str, Adapter]:
    """Makes an adapter for each kernel of a params pytree.

    Only the result is trained and saved; the params stay as they are. A layer of the
    model is then :func:`adapt`, or the adapters are merged by
    ``replace(params, {path: merge_adapter(kernel, adapter)})`` of
    :mod:`sphax.neurons`. Layers of a Flax model become
    :class:`sphax.layers.AdaptedLinear`.

    Args:
        params: A pytree with kernels ``[in, out]`` or ``[*window, in, out]``.
        make: Function of a kernel, such as ``BlockRotation.init`` or
            ``partial(SubspaceRotation.init, rank=8)``; with ``key``, a function of a
            key and a kernel, such as ``Reflections.init``.
        key: Random key, from which each kernel gets its own, or ``None``.
        where: Function of the path and the leaf: whether to adapt it.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`.

    Returns:
        The adapters, by the path of their kernel.

    Raises:
        TypeError: If ``make`` does not return an adapter.
        ValueError: If no kernel is found, or one has other axes than these; see also
            :func:`sphax.neurons.find`.

    Example:
        >>> params = {"up": {"kernel": jnp.ones((8, 16)), "bias": jnp.ones(16)}}
        >>> found = sx.reparam.adapters(params, sx.reparam.BlockRotation.init)
        >>> jax.tree.map(jnp.shape, found)["up/kernel"].raw
        (1, 28)
    """
    if not callable(make):
        raise TypeError(
            "make must be a function of a kernel, such as BlockRotation.init, got"
            f" {make!r}."
        )
    if key is not None:
        check_key(key)
    found = find(params, neurons, where=where)
    kernels = select(params, found)
    others = {
        name: kernel.shape
        for name, kernel in kernels.items()
        if found[name].index != (kernel.ndim - 1,) or found[name].batch
    }
    if others:
        listed = ", ".join(f"{name or 'params'} {x}" for name, x in others.items())
        raise ValueError(
            "adapters must be for kernels [in, out] or [*window, in, out], got"
            f" {listed}; leave these out by where, or reshape them."
        )
    made = {}
    for number, (name, kernel) in enumerate(kernels.items()):
        if key is None:
            made[name] = make(kernel)
        else:
            made[name] = make(jax.random.fold_in(key, number), kernel)
        check_adapter("what make returns", made[name])
    return made


def _check_inputs(inputs: jax.Array, adapter: Adapter) -> None:
    if inputs.ndim < 1 or inputs.shape[-1] != adapter.dimension:
        raise ValueError(
            f"inputs must be [..., {adapter.dimension}], as the adapter was made, got"
            f" shape {inputs.shape}."
        )


def _check_adapters(kernel: jax.Array, adapter: Any, output_adapter: Any) -> None:
    """Raises unless the adapters, of which the second may be None, fit the kernel."""
    sides = {"adapter": (adapter, -2), "output_adapter": (output_adapter, -1)}
    if output_adapter is None:
        del sides["output_adapter"]
    for name, (each, axis) in sides.items():
        check_adapter(name, each)
        if each.dimension != kernel.shape[axis]:
            raise ValueError(
                f"{name} must have the dimension of axis {axis} of kernel, got"
                f" {each.dimension} for a kernel of shape {kernel.shape}."
            )
        if (scale := scale_of(each)) is not None:
            _check_row(f"{name}: scale", scale, kernel)


def _check_row(name: str, row: jax.Array, kernel: jax.Array) -> None:
    if row.shape != kernel.shape[-1:]:
        raise ValueError(
            f"{name} must have one entry for each output of kernel, shape"
            f" {kernel.shape[-1:]}, got {row.shape}."
        )
