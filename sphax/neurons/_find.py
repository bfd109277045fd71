"""Which leaves of a params pytree hold neurons, and along which axes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sphax._paths import by_path, check_known, closest, listed, path_of
from sphax.neurons._declarations import Declarations
from sphax.neurons._dimensions import Axes, NeuronDimensions, axes_of, fitting_axes
from sphax.neurons._undeclared import Refusal, is_shift_or_scale, refusal_of, undeclared

# What everything that looks into params takes as `neurons=`; see `find`.
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
    """Which leaves of ``params`` hold neurons, and along which axes.

    Everything that looks into a params pytree finds them so, and takes ``neurons``:

    - one :class:`NeuronDimensions` for all leaves that have such axes, but for biases
      (``bias`` in their name) and those named ``scale``;
    - a mapping from paths to declarations, such as ``{"head/prototypes": ...}``, where
      the path of a subtree declares the leaves in it in the same way. The longest path
      to a leaf holds. A string in the place of a declaration leaves out, and is the
      reason why;
    - a pytree of declarations, with nothing or ``None`` elsewhere. It is never called,
      even if it can be, as an Equinox module;
    - what :func:`of` returned for the model.

    Leaves that are not declared are read by name and rank: ``kernel`` of rank two is
    dense, ``[in, out]``; of rank four and five a convolution, ``[*window, in, out]``;
    ``prototypes`` are ``[classes, features]`` or ``[classes, centers, features]``. A
    ``kernel`` of rank three is an attention kernel, a convolution over one axis, or a
    stack of dense layers: it is refused, as are a ``kernel`` of rank six and more, and
    every leaf of rank three and more, but for biases and scales, whose path says
    attention: in any part of the path the words ``attention`` or ``attn``, or as a
    whole part ``query``, ``key``, ``value``, ``q``, ``k``, ``v``, ``qkv``, ``kv``, with
    or without ``_proj``. All other leaves are taken to hold no neurons.

    Args:
        params: A pytree, such as ``nnx.state(model, nnx.Param)``.
        neurons: As above.
        at_least: Leaves whose sets of neurons have fewer of them, or whose neurons have
            fewer dimensions, are left out.
        where: Says of a path, and the leaf, whether to take it, if it could hold
            neurons. What it leaves out is not refused.
        partial: Whether ``neurons`` may declare leaves that are not in ``params``, as
            what :func:`of` returned always may.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only.
        masked: Types that stand for leaves that a mask has left out.

    Returns:
        The axes of each leaf found, by path, in the order that jit gives a dict.

    Raises:
        TypeError: If ``neurons`` holds anything but declarations.
        ValueError: If a leaf is refused; if ``neurons`` declares what params lacks, or
            axes that a leaf lacks; or if no leaf is found.

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
    possible = {name: own for name, own in sorted(readings.items()) if own is not None}
    chosen = {
        name: reading
        for name, reading in possible.items()
        if where is None or where(name, leaves[name])
    }
    if possible and not chosen:
        raise ValueError(f"where must choose one leaf or more of {listed(possible)}.")
    refused = {name: own for name, own in chosen.items() if isinstance(own, Refusal)}
    if refused:
        raise ValueError(refusal_of(refused))
    found = {
        name: axes
        for name, axes in chosen.items()
        if isinstance(axes, Axes)
        and min(axes.sizes(jnp.shape(leaves[name]))[1:]) >= at_least
    }
    if not found and not allow_empty:
        raise ValueError(_nothing_found(readings, at_least))
    return found


def select(tree: Any, found: Iterable[str]) -> dict[str, jax.Array]:
    """The leaves of the paths that :func:`find` found.

    Args:
        tree: A pytree that has them, such as params or their updates.
        found: Paths.

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
    """A pytree with some of its leaves replaced, by path.

    Args:
        tree: Any pytree.
        leaves: What to put in the place of the leaves of these paths.

    Returns:
        The pytree, all other leaves as they are.

    Example:
        >>> params = {"a": {"kernel": jnp.ones(2), "bias": 1.0}}
        >>> sx.neurons.replace(params, {"a/kernel": 0.0})
        {'a': {'bias': 1.0, 'kernel': 0.0}}
    """
    return jax.tree.map_with_path(
        lambda path, leaf: leaves.get(path_of(path), leaf), tree
    )


def _declared(neurons: Neurons) -> dict[str, NeuronDimensions | str]:
    if isinstance(neurons, Declarations):
        return dict(neurons)
    declared = by_path(neurons, NeuronDimensions)
    for name, own in declared.items():
        if not isinstance(own, NeuronDimensions | str):
            hint = "; call it with params yourself" if callable(own) else ""
            raise TypeError(
                "neurons must hold NeuronDimensions, or a reason to leave a leaf out,"
                f" and nothing or None elsewhere, got {type(own).__name__} at"
                f" {listed([name])}{hint}."
            )
    return declared


def _read(
    name: str, shape: tuple[int, ...], declared: Mapping[str, NeuronDimensions | str]
) -> Axes | Refusal | None:
    path = closest(declared, name)
    if path is None:
        return undeclared(name, shape)
    own = declared[path]
    if isinstance(own, str):
        return None
    if path == name:
        return axes_of(own, shape, name)
    # In a stack a bias has two axes, as a kernel: a declaration of many means kernels.
    return None if is_shift_or_scale(name) else fitting_axes(own, len(shape))


def _check_fit(declared: Mapping[str, Any], readings: Mapping[str, Any]) -> None:
    """Raises if a declaration of many leaves fits not a single one of them."""
    covered: dict[str | None, list[str]] = {}
    for name in readings:
        covered.setdefault(closest(declared, name), []).append(name)
    for path, names in covered.items():
        own = None if path is None else declared[path]
        is_unfit = all(readings[name] is None for name in names)
        if isinstance(own, NeuronDimensions) and is_unfit:
            raise ValueError(
                f"{own} at {path or 'all leaves'} must fit one leaf or more, got"
                f" {listed(names)}, which have no such axes."
            )


def _nothing_found(readings: Mapping[str, Any], at_least: int) -> str:
    least = f", {at_least} neurons of {at_least} dimensions or more"
    return (
        "params must have neurons: leaves named kernel, of rank two or above, or"
        " declared, such as neurons={'head/table': NeuronDimensions(index_axis=0)}"
        f"{least if at_least > 1 else ''}; got {listed(readings)}."
    )
