"""What transforms share: the leaves that they treat, and the making of a transform."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from sphax._checks import check_number, shown
from sphax._compiled import map_alike
from sphax._linalg import entries
from sphax._numerics import widen
from sphax._paths import by_path, listed
from sphax.neurons import Axes, Neurons, find, replace
from sphax.sphere import length

# What has a norm of its own: each matrix of a leaf, or each of its rows.
Per = Literal["matrix", "neuron"]
# As optax takes it: a pytree of booleans, or a function of params to one.
Mask = Callable[[optax.Params], Any] | Any
# What optax puts in the place of leaves that a mask has left out.
MASKED = (optax.MaskedNode,)


def find_neurons(
    params: optax.Params | None,
    neurons: Neurons,
    *,
    at_least: int = 1,
    at_init: Iterable[str] | None = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> dict[str, Axes]:
    """The leaves that hold neurons, by path; raises as :func:`sphax.neurons.find` does.

    States hold arrays only, so that ``update`` has to find again what ``init`` found:
    given the paths of those leaves, this raises unless they are the same.

    With a mask, leaves are found where it is true. With ``allow_empty`` there may be no
    neurons at all.
    """
    if params is None:
        raise ValueError(
            "params must be given: update(updates, state, params); got no leaf."
        )
    if mask is not None:
        params = _masked(params, mask)
    found = find(
        params, neurons, at_least=at_least, masked=MASKED, allow_empty=allow_empty
    )
    if at_init is not None and (others := found.keys() ^ set(at_init)):
        raise ValueError(
            "params must have the neurons that init found, got none for, or others at"
            f" {listed(others)}."
        )
    return found


def transform(
    state_type: Any,
    init: Callable[..., Any],
    update: Callable[..., Any],
    *,
    mask: Mask | None = None,
    others: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The two functions as a transform, of the leaves of a mask if there is one.

    ``others`` is the optimizer whose state is the field ``others`` of the state, a
    NamedTuple of ``state_type``.
    """

    def init_any(params):
        if not _is_placeholder(params):
            return init(params)
        # So `optax.tree.map_params` asks which parts of a state are shaped like params.
        # Only those of other optimizers are; a leaf stands for each of the other parts.
        parts = dict.fromkeys(state_type._fields, jnp.zeros([]))
        if others is not None:
            parts["others"] = others.init(params)  # pyright: ignore[reportArgumentType]
        return state_type(**parts)

    whole = optax.GradientTransformationExtraArgs(init_any, update)
    if mask is None:
        return whole
    # A pytree may be callable, as Equinox modules are: optax would call it.
    is_function = callable(mask) and jax.tree_util.all_leaves([mask])
    return optax.masked(whole, mask if is_function else lambda params: mask)


def as_rows(
    axes: Axes, update: jax.Array, param: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both as rows ``[sets, n, d]``, in the wider dtype, float32 at least."""
    dtype = jnp.promote_types(widen(update).dtype, widen(param).dtype)
    return axes.rows(update).astype(dtype), axes.rows(param).astype(dtype)


def as_update(axes: Axes, rows: jax.Array, update: jax.Array) -> jax.Array:
    """Rows in the layout and the dtype of an update."""
    return axes.from_rows(rows, update.shape).astype(update.dtype)


def leave_out(tree: Any, found: Iterable[str]) -> Any:
    """The pytree with all leaves found masked: what another optimizer updates."""
    return replace(tree, dict.fromkeys(found, optax.MaskedNode()))


def update_others(
    updates: Any,
    params: Any,
    updates_by_path: Mapping[str, jax.Array],
    others: optax.GradientTransformation,
    state: optax.OptState,
    **extra_args: Any,
) -> tuple[Any, optax.OptState]:
    """All updates: those given, by path, and another optimizer's for all other leaves.

    The second result is the other optimizer's new state.
    """
    rest, state = optax.with_extra_args_support(others).update(
        leave_out(updates, updates_by_path),
        state,
        leave_out(params, updates_by_path),
        **extra_args,
    )
    return replace(updates, {**by_path(rest), **updates_by_path}), state


def check_period(every: jax.typing.ArrayLike) -> None:
    """Raises unless the period, if it is a number, is a number of steps."""
    check_number("every", every)
    if isinstance(every, (int, float)) and not (every >= 1 and every == int(every)):
        raise ValueError(f"every must be a whole number, 1 or more, got {every}.")


def check_optimizer(name: str, value: Any) -> None:
    """Raises unless ``value`` is an optax transform."""
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be an optimizer, such as optax.sgd(0.1), got {shown(value)}."
        )


def check_values(
    check: Callable[[str, Axes, jax.Array], None],
    found: Mapping[str, Axes],
    leaves: Mapping[str, jax.Array],
) -> None:
    """Calls ``check(path, axes, leaf)``, which may raise, for leaves of known values.

    Inside ``jit``, no value is known.
    """
    for name, leaf in leaves.items():
        if not isinstance(leaf, Tracer):
            check(name, found[name], leaf)


def check_not_zero(name: str, axes: Axes, leaf: jax.Array, *, per: Per) -> None:
    """Raises if a matrix, or a neuron, is zero, and so has no norm to keep."""
    if bool(map_alike(_any_is_zero, {name: leaf}, {name: (axes, per)})[name]):
        raise ValueError(
            f"params must have a norm that can be kept, got a zero {per} at"
            f" {listed([name])} of shape {leaf.shape}: start it from a random one, or"
            " leave the leaf out by mask."
        )


def as_vectors(rows: jax.Array, per: Per) -> jax.Array:
    """Rows ``[sets, n, d]`` as they are, or each matrix as one vector."""
    return rows if per == "neuron" else entries(rows)[:, None, :]


def _any_is_zero(fixed, leaf):
    axes, per = fixed
    return jnp.any(length(as_vectors(axes.rows(leaf), per)) == 0.0)


def _masked(params: Any, mask: Mask) -> Any:
    """``params`` without the leaves for which the mask is false."""

    def choose(is_chosen, subtree):
        return subtree if is_chosen else jax.tree.map(lambda _: MASKED[0](), subtree)

    return jax.tree.map(choose, mask(params) if callable(mask) else mask, params)


def _is_placeholder(params: Any) -> bool:
    """Whether it is the node with which `optax.tree.map_params` initializes."""
    is_container = params is None or isinstance(params, (Mapping, Sequence))
    structure = jax.tree.structure(params)
    return not is_container and structure.num_leaves == 0 and structure.num_nodes == 1
