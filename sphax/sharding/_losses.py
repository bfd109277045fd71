"""Class-wise losses of arrays that lie on the devices of a mesh."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sphax import losses
from sphax._checks import as_array, check_count
from sphax._class_axis import as_class_axis
from sphax._numerics import divide
from sphax.losses import MarginAux
from sphax.margins import Margin
from sphax.sharding._meshes import (
    Axes,
    Mesh,
    as_axes,
    as_mesh,
    devices_along,
    divisible,
    explicit_part,
    moved,
)


class _Options(TypedDict, total=False):
    """Keyword arguments of :func:`sphax.losses.margin_softmax`, without the axis."""

    scale: jax.typing.ArrayLike | None
    normalize: Literal["both", "prototypes", "none"]
    where: jax.typing.ArrayLike | None
    key: jax.Array | None
    block_size: int | None
    gradient: Literal["exact", "detached"]
    label_smoothing: jax.typing.ArrayLike
    precision: jax.lax.PrecisionLike


@overload
def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    has_aux: Literal[False] = False,
    **options: Unpack[_Options],
) -> jax.Array: ...


@overload
def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    has_aux: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, MarginAux]: ...


def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    has_aux: bool = False,
    **options: Unpack[_Options],
) -> jax.Array | tuple[jax.Array, MarginAux]:
    r"""Margin softmax over classes that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.margin_softmax` on one device, with the
    mean over the whole batch. Arrays may lie anywhere: they are moved to where they are
    needed, and their gradients come back to where they were. It may be called within
    ``jit`` or by itself, not within :func:`jax.shard_map`, where
    :func:`sphax.losses.margin_softmax` takes ``class_axis``. A gradient that is taken
    outside of ``jit`` needs :func:`jax.set_mesh` if axes of the mesh are explicit, as
    that of any function does.

    There are two ways to use a mesh of several axes, for :math:`B` examples of
    :math:`D` features, :math:`C` classes and :math:`n` devices in all. In both of them
    a device forms :math:`BC/n` logits.

    - **All axes for classes** (recommended): ``class_axis=("data", "model")`` with
      ``batch_axis="data"``, or one axis for both. The embeddings are gathered once and
      their gradient is scattered, at most :math:`4BD` bytes each; a device holds
      :math:`C/n` prototypes.
    - **One axis each**: ``class_axis="model"`` with ``batch_axis="data"``. No embedding
      is gathered, but the prototypes lie on every device along ``"data"``, and their
      gradients, :math:`4CD` bytes over the axis of classes, are added up in each step.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]`` or ``[classes, k, features]``. If
            the devices do not divide the classes, zeros are appended in each call; keep
            padded prototypes and give ``num_classes`` to avoid the copy.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        margin: A margin of :mod:`sphax.margins`. Hyperparameters of the shape of
            ``labels`` are split with the examples. A running state is that of the whole
            batch, whatever ``axis_name`` the margin has. What a margin draws is equal
            to one device's if ``batch_axis`` is part of ``class_axis``; otherwise each
            part of the batch draws by itself, ranks of ``ElasticFace`` included.
        mesh: The mesh; by default that of the context (:func:`jax.set_mesh`), or else
            that of the prototypes. Its other axes are left alone.
        class_axis: Axis of the mesh along which the classes are split, or a tuple.
        batch_axis: Axis along which the examples are split, or a tuple; None if each
            device has all of them. Axes may be in ``class_axis`` as well.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        has_aux: Whether to return ``(loss, aux)``; entries of ``aux`` that count the
            examples are split along ``batch_axis``.
        **options: Other options of :func:`sphax.losses.margin_softmax`.

    Returns:
        The loss, a scalar in float32 at least, or ``(loss, aux)``.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.margin_softmax`.
        ValueError: In the same cases, if there is no mesh, an axis is not one of it,
            or the devices along ``batch_axis`` do not divide the examples.

    Example:
        >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
        >>> x, w = jnp.eye(2, 3), jnp.eye(4, 3)
        >>> labels, margin = jnp.array([0, 2]), sx.margins.ArcFace(margin=0.5)
        >>> sx.sharding.margin_softmax(
        ...     x, w, labels, margin, scale=2.0,
        ...     mesh=mesh, class_axis=("data", "model"), batch_axis="data",
        ... )
        Array(1.82811, dtype=float32)

    References:
        An et al., `Partial FC <https://arxiv.org/abs/2010.05222>`_, 2020, for classes
        on several devices.
    """
    places = mesh, class_axis, batch_axis, num_classes
    given = {"margin": margin, "has_aux": has_aux, **options}
    result = _on_mesh(
        losses.margin_softmax, embeddings, prototypes, labels, given, *places
    )
    if not has_aux:
        return result
    loss, aux = result
    return loss, aux if margin.keeps_state else aux._replace(margin=margin)


def sphereface2(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    bias: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """SphereFace2 over classes that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.sphereface2` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        bias: The bias of all classes, a scalar.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        **options: Other options of :func:`sphax.losses.sphereface2`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.sphereface2`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, w, labels = jnp.eye(2, 3), jnp.eye(4, 3), jnp.array([0, 2])
        >>> bias = sx.losses.sphereface2_bias(classes=4)
        >>> sx.sharding.sphereface2(x, w, labels, bias, mesh=mesh, class_axis="classes")
        Array(0.564438, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    given = {"bias": bias, **options}
    return _on_mesh(losses.sphereface2, embeddings, prototypes, labels, given, *places)


def uce(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    bias: jax.typing.ArrayLike,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """Unified cross-entropy over classes that are split over devices (UniFace).

    The value is that of :func:`sphax.losses.uce` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        bias: The bias of all classes, a scalar.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        **options: Other options of :func:`sphax.losses.uce`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.uce`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, w, labels = jnp.eye(2, 3), jnp.eye(4, 3), jnp.array([0, 1])
        >>> bias = sx.losses.uce_bias(classes=4)
        >>> sx.sharding.uce(
        ...     x, w, labels, bias=bias, scale=8.0, mesh=mesh, class_axis="classes"
        ... )
        Array(0.358647, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    given = {"bias": bias, **options}
    return _on_mesh(losses.uce, embeddings, prototypes, labels, given, *places)


def soft_triple(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """SoftTriple over classes that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.soft_triple` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Centers, floating, ``[classes, k, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        **options: Other options of :func:`sphax.losses.soft_triple`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.soft_triple`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, labels = jnp.eye(2), jnp.array([0, 1])
        >>> centers = jnp.array([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.0, 2.0]]])
        >>> sx.sharding.soft_triple(
        ...     x, centers, labels, scale=2.0, mesh=mesh, class_axis="classes"
        ... )
        Array(0.3707, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    return _on_mesh(
        losses.soft_triple, embeddings, prototypes, labels, options, *places
    )


def hinge(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """One-versus-all hinge over classes that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.hinge` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        **options: Other options of :func:`sphax.losses.hinge`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.hinge`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, w = jnp.eye(2), jnp.array([[0.5, 0.0], [0.0, 2.0]])
        >>> labels = jnp.array([0, 1])
        >>> sx.sharding.hinge(x, w, labels, mesh=mesh, class_axis="classes")
        Array(1.25, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    return _on_mesh(losses.hinge, embeddings, prototypes, labels, options, *places)


def p2sgrad(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """P2SGrad over classes that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.p2sgrad` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        **options: Other options of :func:`sphax.losses.p2sgrad`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.p2sgrad`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, w = jnp.eye(2, 3), jnp.array([[2.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
        >>> labels = jnp.array([0, 1])
        >>> sx.sharding.p2sgrad(x, w, labels, mesh=mesh, class_axis="classes")
        Array(0.34, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    return _on_mesh(losses.p2sgrad, embeddings, prototypes, labels, options, *places)


def proxy_nca(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """Proxy-NCA with proxies that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.proxy_nca` on one device.

    Args:
        embeddings: Floating, ``[..., features]``.
        proxies: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if proxies at the end stand for no class.
        **options: Other options of :func:`sphax.losses.proxy_nca`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.proxy_nca`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, proxies, labels = jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 1])
        >>> sx.sharding.proxy_nca(x, proxies, labels, mesh=mesh, class_axis="classes")
        Array(-1.30685, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    return _on_mesh(losses.proxy_nca, embeddings, proxies, labels, options, *places)


def proxy_anchor(
    embeddings: jax.typing.ArrayLike,
    proxies: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> jax.Array:
    """Proxy-Anchor with proxies that are split over the devices of a mesh.

    The value is that of :func:`sphax.losses.proxy_anchor` on one device. A proxy's loss
    is one of all its examples, so the embeddings are gathered along each axis of
    ``batch_axis``; devices along one that is not in ``class_axis`` do the same work.

    Args:
        embeddings: Floating, ``[..., features]``.
        proxies: Floating, ``[classes, features]``.
        labels: Integer, ``[...]``, in ``[0, classes)``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if proxies at the end stand for no class.
        **options: Other options of :func:`sphax.losses.proxy_anchor`.

    Returns:
        The loss, a scalar in float32 at least.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.proxy_anchor`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, proxies, labels = jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 1])
        >>> sx.sharding.proxy_anchor(
        ...     x, proxies, labels, scale=1.0, margin=0.0,
        ...     mesh=mesh, class_axis="classes",
        ... )
        Array(1.14156, dtype=float32)
    """
    places = mesh, class_axis, batch_axis, num_classes
    return _on_mesh(
        losses.proxy_anchor,
        embeddings,
        proxies,
        labels,
        options,
        *places,
        needs_batch=True,
    )


def class_logits(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    *,
    mesh: Mesh | None = None,
    class_axis: Axes,
    batch_axis: Axes | None = None,
    num_classes: int | None = None,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Literal["both", "prototypes", "none"] = "both",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Logits that predict, of classes that are split over the devices of a mesh.

    The values are those of :func:`sphax.losses.class_logits` on one device. No
    prototype is sent to another device, nor is a logit where the classes divide evenly.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]`` or ``[classes, k, features]``.
        mesh: Like the next three, as in :func:`margin_softmax`.
        class_axis: Axis or axes along which the classes are split.
        batch_axis: Axis or axes along which the examples are split.
        num_classes: Number of classes, if prototypes at the end stand for no class.
        scale: Scale of ``normalize="both"``, a scalar; 64 if not given.
        normalize: Which vectors count by their direction only.
        precision: Precision of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        Logits, ``[..., classes]``, float32 at least, split along ``class_axis`` if the
        devices divide the classes, and along the axes of ``batch_axis`` that are not in
        ``class_axis``.

    Raises:
        TypeError: In the same cases as :func:`sphax.losses.class_logits`.
        ValueError: In the same cases, and those of :func:`margin_softmax`.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> x, w = jnp.array([[3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0]])
        >>> sx.sharding.class_logits(x, w, scale=10.0, mesh=mesh, class_axis="classes")
        Array([[6., 8.]], dtype=float32)
    """
    embeddings = as_array("embeddings", embeddings)
    prototypes = as_array("prototypes", prototypes)
    number = _number(num_classes, prototypes)
    jax.eval_shape(
        lambda *arrays: losses.class_logits(*arrays, scale=scale, normalize=normalize),
        embeddings,
        prototypes,
    )
    if scale is not None and jnp.shape(scale) != ():
        raise ValueError(f"scale must be a scalar, got shape {jnp.shape(scale)}.")
    mesh = as_mesh(mesh, prototypes, "prototypes", INSIDE)
    classes = as_axes("class_axis", class_axis, mesh)
    batch = _as_batch_axes(batch_axis, mesh, embeddings.shape[:-1])
    return _logits_on_mesh(
        embeddings,
        prototypes,
        scale,
        normalize=normalize,
        precision=precision,
        mesh=mesh,
        class_axes=classes,
        batch_axes=batch,
        number=number,
    )


@partial(
    jax.jit,
    static_argnames=(
        "normalize",
        "precision",
        "mesh",
        "class_axes",
        "batch_axes",
        "number",
    ),
)
def _logits_on_mesh(
    embeddings: jax.Array,
    prototypes: jax.Array,
    scale: jax.Array | None,
    *,
    normalize: Literal["both", "prototypes", "none"],
    precision: jax.lax.PrecisionLike,
    mesh: Mesh,
    class_axes: tuple[str, ...],
    batch_axes: tuple[str, ...],
    number: int,
) -> jax.Array:
    gathered = tuple(axis for axis in batch_axes if axis in class_axes)
    apart = tuple(axis for axis in batch_axes if axis not in class_axes)
    prototypes = divisible(prototypes, 0, mesh, class_axes)

    def on_device(x, w, scale):
        x = _gather(x, gathered) if gathered else x
        return losses.class_logits(
            x, w, scale=scale, normalize=normalize, precision=precision
        )

    examples = (apart or None, *(None,) * (embeddings.ndim - 2))[: embeddings.ndim - 1]
    x_spec, w_spec = P(batch_axes or None), P(class_axes)
    logits = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(x_spec, w_spec, P()),
        out_specs=P(*examples, class_axes),
    )(moved(embeddings, x_spec, mesh), moved(prototypes, w_spec, mesh), scale)
    if number == logits.shape[-1]:
        return logits

    def cut(logits):
        return logits[..., :number]

    if AxisType.Explicit in mesh.axis_types:
        is_even = number % devices_along(mesh, class_axes) == 0
        spec = explicit_part(P(*examples, class_axes if is_even else None), mesh)
        cut = jax.sharding.auto_axes(cut, out_sharding=NamedSharding(mesh, spec))  # pyright: ignore
    return cut(logits)


def padded_rows(num_classes: int, mesh: Mesh, class_axis: Axes) -> int:
    """Number of prototypes to keep for classes on several devices.

    The smallest multiple of 128 and of the number of devices that is large enough: the
    same on 1, 2, 4, ... 128 devices, so that a checkpoint of one mesh fits the others.

    Args:
        num_classes: Number of classes.
        mesh: The mesh.
        class_axis: Axis or axes along which the classes are split.

    Returns:
        The number of rows, the last of which stand for no class.

    Raises:
        TypeError: If ``num_classes`` is not an integer.
        ValueError: If it is below 1, or an axis is not one of the mesh.

    Example:
        >>> mesh = jax.make_mesh((1,), ("classes",))
        >>> sx.sharding.padded_rows(93431, mesh, "classes")
        93440
    """
    check_count("num_classes", num_classes)
    step = math.lcm(128, devices_along(mesh, as_axes("class_axis", class_axis, mesh)))
    return -(-num_classes // step) * step


# What to use inside of `shard_map`.
INSIDE = "class_axis of the functions of sphax.losses"

# Options that are arrays or numbers; all others are fixed when a loss is compiled.
_ARRAYS = {
    *("margin", "scale", "where", "key", "bias", "exponent", "balance"),
    *("inner_scale", "regularization", "negative_weight"),
}


def _on_mesh(
    loss: Callable[..., Any],
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    options: Mapping[str, Any],
    mesh: Mesh | None,
    class_axis: Axes,
    batch_axis: Axes | None,
    num_classes: int | None,
    *,
    needs_batch: bool = False,
) -> Any:
    """What the loss returns, checked and compiled once for all calls alike.

    The loss is a mean over the examples, unless it needs the batch: a function of all
    examples for every class.
    """
    embeddings = as_array("embeddings", embeddings)
    prototypes = as_array("prototypes", prototypes)
    labels = as_array("labels", labels)
    # The errors that the loss has for its arguments, with shapes of the whole arrays.
    jax.eval_shape(
        lambda *arrays: loss(*arrays, num_classes=num_classes, **options),
        embeddings,
        prototypes,
        labels,
    )
    mesh = as_mesh(mesh, prototypes, "prototypes", INSIDE)
    classes = as_axes("class_axis", class_axis, mesh)
    batch = _as_batch_axes(batch_axis, mesh, labels.shape)
    if not labels.size:  # nothing to send
        return loss(embeddings, prototypes, labels, num_classes=num_classes, **options)
    arrays, fixed = {}, {}
    for name, value in options.items():
        is_array = name in _ARRAYS or isinstance(value, jax.Array)
        (arrays if is_array and value is not None else fixed)[name] = value
    return _compiled_on_mesh(
        embeddings,
        prototypes,
        labels,
        arrays,
        loss=loss,
        fixed=tuple(sorted(fixed.items())),
        mesh=mesh,
        class_axes=classes,
        batch_axes=batch,
        number=_number(num_classes, prototypes),
        needs_batch=needs_batch,
    )


@partial(
    jax.jit,
    static_argnames=(
        "loss",
        "fixed",
        "mesh",
        "class_axes",
        "batch_axes",
        "number",
        "needs_batch",
    ),
)
def _compiled_on_mesh(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    options: dict[str, Any],
    *,
    loss: Callable[..., Any],
    fixed: tuple[tuple[str, Any], ...],
    mesh: Mesh,
    class_axes: tuple[str, ...],
    batch_axes: tuple[str, ...],
    number: int,
    needs_batch: bool,
) -> Any:
    prototypes = divisible(prototypes, 0, mesh, class_axes)
    # Whatever has an entry for each example is split as the examples are.
    examples = P(batch_axes) if batch_axes else P()
    option_specs = jax.tree.map(
        lambda leaf: examples if jnp.shape(leaf) == labels.shape != () else P(), options
    )
    specs = examples, P(class_axes), examples, option_specs
    given = jax.tree.map(
        partial(moved, mesh=mesh),
        (embeddings, prototypes, labels, options),
        specs,
    )
    # A mean over the examples needs all of them only on devices that have other
    # classes; the loss of a proxy needs all of them everywhere.
    needed = batch_axes if needs_batch else class_axes
    gathered = tuple(axis for axis in batch_axes if axis in needed)
    apart = tuple(axis for axis in batch_axes if axis not in needed)
    has_aux = dict(fixed).get("has_aux", False)

    def on_device(x, w, labels, given):
        def gather(leaf, spec):
            return _gather(leaf, gathered) if gathered and spec == examples else leaf

        x, labels = gather(x, examples), gather(labels, examples)
        options = jax.tree.map(gather, given, option_specs)
        if apart and "key" in options:
            part = jax.lax.axis_index(apart)
            options["key"] = jax.random.fold_in(options["key"], part)
        if isinstance(options.get("margin"), Margin):
            options["margin"] = _over_batch(options["margin"], apart)
        options |= dict(fixed, class_axis=class_axes, num_classes=number)
        result = loss(x, w, labels, **options)
        value, aux = result if has_aux else (result, None)
        where = options.get("where")
        weights = jnp.ones(labels.shape) if where is None else where
        weight = jnp.sum(weights, dtype=value.dtype)
        if batch_axes:
            # Equal on all devices along the gathered axes, so that the mean over these
            # divides the gradient of each by their number.
            sums = jax.lax.psum((weight * value, weight), batch_axes)
            value = divide(*sums)
        if aux is None:
            return value

        def mine(entries):
            is_split = entries.shape == labels.shape != ()
            return (_part if is_split else _equal)(entries, gathered)

        total = jax.lax.psum(aux.weight, apart) if apart else aux.weight
        aux = jax.tree.map(mine, aux._replace(weight=total))
        leaves = jax.tree.leaves(aux.margin)
        structure = jax.tree.structure(given["margin"])
        return value, aux._replace(margin=jax.tree.unflatten(structure, leaves))

    out_specs: Any = P()
    if has_aux:
        counted: Any = (examples,) * 3
        aux_specs = MarginAux(*counted, P(), option_specs["margin"])  # pyright: ignore
        out_specs = P(), aux_specs
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=out_specs)(
        *given
    )


def _as_batch_axes(axes: Any, mesh: Mesh, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Axes along which examples ``[*shape]`` are split; raises unless they divide."""
    if axes is None:
        return ()
    names = as_axes("batch_axis", axes, mesh)
    devices = devices_along(mesh, names)
    if not shape or shape[0] % devices:
        raise ValueError(
            f"the {devices} devices along batch_axis={axes!r} must divide the examples,"
            f" got {shape}. Append examples, and mask them by where."
        )
    return names


def _number(num_classes: int | None, prototypes: jax.Array) -> int:
    """The number of classes; raises if they are more than the prototypes."""
    rows = prototypes.shape[0] if prototypes.ndim else 0
    return as_class_axis(None, num_classes, rows).number


def _gather(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The examples of all devices along the axes, one after the other.

    In float32 at least, since the gradients of all devices are added up.
    """
    wide = x
    if jnp.issubdtype(x.dtype, jnp.floating):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jax.lax.all_gather(wide, axes, axis=0, tiled=True).astype(x.dtype)


def _part(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """This device's examples among those gathered along the axes."""
    if not axes:
        return x
    size = x.shape[0] // jax.lax.axis_size(axes)
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axes) * size, size)


def _equal(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """``x``, equal on all devices along the axes, as an array known to be equal."""
    varying = jax.typeof(x).manual_axis_type.varying
    axes = tuple(axis for axis in axes if axis in varying)
    return jax.lax.pmax(jax.lax.stop_gradient(x), axes) if axes else x


def _over_batch(margin: Margin, axes: tuple[str, ...]) -> Margin:
    """The margin, whose running state is that of all devices along the axes."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(margin):  # pyright: ignore[reportArgumentType]
        value = getattr(margin, field.name)
        if field.name == "axis_name":
            changes[field.name] = axes or None
        elif isinstance(value, Margin):
            changes[field.name] = _over_batch(value, axes)
    return dataclasses.replace(margin, **changes) if changes else margin  # pyright: ignore[reportArgumentType]
