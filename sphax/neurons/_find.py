"""Which leaves of a params pytree hold neurons, and along which axes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sphax._paths import by_path, check_known, closest, listed, path_of
from sphax.neurons._by_name import ambiguity_message, axes_by_name, is_shift_or_scale
from sphax.neurons._declarations import Declarations
from sphax.neurons._dimensions import Axes, NeuronDimensions, axes_of, fitting_axes

# The type of every argument `neurons=`; see `find`.
Neurons = NeuronDimensions | Declarations | Mapping[str, Any] | Any


def find(
    params: Any,
    neurons: Neurons = None,
    *,
    at_least: int = 1,
    where: Callable[[str, jax.Array], bool] | None = None,
    partial: bool = False,
    allow_empty: bool = False,
    masked: tuple[type, ...] = (),
) -> dict[str, Axes]:
    """Finds the leaves of ``params`` that hold neurons, and the axes of the neurons.

    All functions that take params and ``neurons`` use it. The argument ``neurons`` is
    one of the following:

    - one :class:`NeuronDimensions` for all leaves that have such axes, except biases
      (``bias`` in their name) and leaves named ``scale``;
    - a mapping from paths to declarations, such as ``{"head/prototypes": ...}``. The
      path of a subtree declares all leaves in it in this way; the longest path that
      leads to a leaf applies. A string in place of a declaration leaves the leaf out,
      and gives the reason;
    - a pytree of declarations, with nothing or ``None`` elsewhere. It is never called,
      even if it is callable, as an Equinox module is;
    - the result of :func:`of` for the model.

    Leaves without a declaration are read by name and rank. A ``kernel`` of rank two is
    dense, ``[in, out]``; a ``kernel`` of rank four or five is a convolution,
    ``[*window, in, out]``; ``prototypes`` are ``[classes, features]`` or
    ``[classes, centers, features]``. A ``kernel`` of rank three could be an attention
    kernel, a convolution over one axis, or a stack of dense layers, and raises an
    error, as does a ``kernel`` of rank six or more. The same holds for every leaf of
    rank three or more, except biases and scales, whose path names attention: a part of
    the path contains ``attention`` or ``attn``, or is ``query``, ``key``, ``value``,
    ``q``, ``k``, ``v``, ``qkv`` or ``kv``, with or without ``_proj``. All other leaves
    hold no neurons.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        neurons: Declarations in one of the forms above, or None.
        at_least: Smallest number of neurons in a set, and of dimensions of a neuron;
            leaves with fewer are left out.
        where: Function of the path and the leaf that returns whether to include it.
            Leaves that it excludes raise no error.
        partial: Whether ``neurons`` may declare leaves that are not in ``params``; the
            result of :func:`of` always may.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has only biases.
        masked: Types that stand for leaves that a mask has left out.

    Returns:
        The :class:`Axes` of each leaf with neurons, by path, in the order that jit
        gives a dict.

    Raises:
        TypeError: If ``neurons`` holds anything but declarations.
        ValueError: If a leaf is ambiguous; if ``neurons`` declares a leaf that is not
            in params, or axes that a leaf does not have; or if no leaf is found.

    Example:
        >>> params = {"kernel": jnp.ones((3, 4)), "table": jnp.ones((5, 3))}
        >>> list(sx.neurons.find(params))
        ['kernel']
        >>> rows = sx.neurons.NeuronDimensions(index_axis=0)
        >>> sx.neurons.find(params, {"table": rows})["table"].sizes((5, 3))
        (1, 5, 3)
    """
    leaves = by_path(params, *masked)
    declared = _declared(neurons)
    if not partial and not isinstance(neurons, Declarations):
        check_known(declared, leaves, masked, "neurons")
    leaves = {
        name: leaf for name, leaf in leaves.items() if not isinstance(leaf, masked)
    }
    readings = {name: _read(name, jnp.shape(leaves[name]), declared) for name in leaves}
    if not allow_empty:
        _check_fit(declared, readings)
    # In the order that jit gives a dict: leaves have the same numbers in all steps.
    possible = {name: axes for name, axes in sorted(readings.items()) if axes}
    chosen = {
        name: axes
        for name, axes in possible.items()
        if where is None or where(name, leaves[name])
    }
    if possible and not chosen:
        raise ValueError(f"where must choose one leaf or more of {listed(possible)}.")
    ambiguous = {
        name: jnp.shape(leaves[name])
        for name, axes in chosen.items()
        if axes == "ambiguous"
    }
    if ambiguous:
        raise ValueError(ambiguity_message(ambiguous))
    found = {
        name: axes
        for name, axes in chosen.items()
        if isinstance(axes, Axes)
        and min(axes.sizes(jnp.shape(leaves[name]))[1:]) >= at_least
    }
    if not found and not allow_empty:
        least = f", {at_least} neurons of {at_least} dimensions or more"
        raise ValueError(
            "params must have neurons: leaves named kernel, of rank two or above, or"
            " declared, such as neurons={'head/table': NeuronDimensions(index_axis=0)}"
            f"{least if at_least > 1 else ''}; got {listed(readings)}."
        )
    return found


def select(tree: Any, found: Iterable[str]) -> dict[str, jax.Array]:
    """The leaves of a pytree at the given paths, as arrays.

    Args:
        tree: A pytree that has these leaves, such as params or their updates.
        found: Paths, such as :func:`find` returns.

    Returns:
        The leaves by path, as arrays.

    Raises:
        ValueError: If ``tree`` is None, or lacks a leaf.

    Example:
        >>> params = {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}
        >>> leaves = sx.neurons.select(params, sx.neurons.find(params))
        >>> list(leaves)
        ['kernel']
    """
    if tree is None:
        raise ValueError("params must be given: update(updates, state, params).")
    leaves = by_path(tree)
    if missing := [name for name in found if name not in leaves]:
        raise ValueError(
            "updates and params must have the same leaves with neurons, those that init"
            f" finds; got none for {listed(missing)}."
        )
    return {name: jnp.asarray(leaves[name]) for name in found}


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """A copy of a pytree in which the leaves at some paths are replaced.

    Args:
        tree: Any pytree.
        leaves: New leaves, by path.

    Returns:
        The pytree with the new leaves; all others are unchanged.

    Example:
        >>> params = {"a": {"kernel": jnp.ones(2), "bias": 1.0}}
        >>> sx.neurons.replace(params, {"a/kernel": 0.0})
        {'a': {'bias': 1.0, 'kernel': 0.0}}
    """
    return jax.tree.map_with_path(
        lambda path, leaf: leaves.get(path_of(path), leaf), tree
    )


def _declared(neurons: Neurons) -> dict[str, NeuronDimensions | str]:
    """The argument ``neurons`` of :func:`find`, by path."""
    if isinstance(neurons, Declarations):
        return dict(neurons)
    declared = by_path(neurons, NeuronDimensions)
    for name, declaration in declared.items():
        if not isinstance(declaration, NeuronDimensions | str):
            hint = "; call it with params yourself" if callable(declaration) else ""
            raise TypeError(
                "neurons must hold NeuronDimensions, or a reason to leave a leaf out,"
                f" and nothing or None elsewhere, got {type(declaration).__name__} at"
                f" {listed([name])}{hint}."
            )
    return declared


def _read(
    name: str, shape: tuple[int, ...], declared: Mapping[str, NeuronDimensions | str]
) -> Axes | Literal["ambiguous"] | None:
    """The axes of a leaf, by its declaration or by its name; None without neurons."""
    path = closest(declared, name)
    if path is None:
        return axes_by_name(name, shape)
    declaration = declared[path]
    if isinstance(declaration, str):
        return None
    if path == name:
        return axes_of(declaration, shape, name)
    # A declaration of a whole subtree is about its kernels. A bias in a stack has two
    # axes as well, and would fit.
    if is_shift_or_scale(name):
        return None
    return fitting_axes(declaration, len(shape))


def _check_fit(declared: Mapping[str, Any], readings: Mapping[str, Any]) -> None:
    """Raises if a declaration does not fit any of the leaves that it declares."""
    covered: dict[str | None, list[str]] = {}
    for name in readings:
        covered.setdefault(closest(declared, name), []).append(name)
    for path, names in covered.items():
        declaration = None if path is None else declared[path]
        is_unfit = all(readings[name] is None for name in names)
        if isinstance(declaration, NeuronDimensions) and is_unfit:
            raise ValueError(
                f"{declaration} at {path or 'all leaves'} must fit one leaf or more,"
                f" got {listed(names)}, which have no such axes."
            )
