"""Optimizers of arrays of which each step has the gradient of some rows only."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from sphax._checks import as_integers, check_choice, shown
from sphax._compiled import compiled

Untouched = Literal["frozen", "dense"]


def sparse_rows(
    inner: optax.GradientTransformation, *, untouched: Untouched = "frozen"
) -> optax.GradientTransformationExtraArgs:
    r"""Makes an optimizer take gradients of some rows, such as of sampled classes.

    For prototypes ``[classes, features]`` of which a step has seen the rows that
    :func:`sample_classes` returned, with gradients ``[rows, features]``:

    >>> import optax
    >>> tx = sx.sharding.sparse_rows(optax.adam(0.1))
    >>> prototypes, rows = jnp.zeros((1000, 2)), jnp.array([3, 7])
    >>> state = tx.init(prototypes)
    >>> updates, state = tx.update(jnp.ones((2, 2)), state, prototypes, rows=rows)
    >>> sx.sharding.apply_rows(prototypes, updates, rows)[2:4]
    Array([[ 0. ,  0. ],
           [-0.1, -0.1]], dtype=float32)

    What happens to all other rows, ``untouched``, has two answers:

    ============================  ========================  ========================
    A row that is not sampled     ``"frozen"``              ``"dense"``
    ============================  ========================  ========================
    its momentum                  stands still              moves it on, and fades
    its weight decay              waits                     acts
    its second moment             stands still              fades
    Adam's bias correction        counts the row's steps    counts all steps
    updates                       ``[rows, ...]``           ``[classes, ...]``
    float32 numbers moved by SGD  6 for each entry of the   5 for each entry of all
    with momentum                 rows                      classes
    ============================  ========================  ========================

    ``"dense"`` is the inner optimizer on a gradient that is zero in all other rows,
    bit for bit, as in the second version of Partial FC. ``"frozen"``, as in the first,
    gives each row an optimizer of its own, which takes a step when the row is sampled;
    time and memory traffic are those of the sampled rows. A weight decay then acts on a
    row as often as it is sampled: a rate of .1 makes it ten times weaker.

    Counters of the inner optimizer that stand beside its moments, as in Adam's state,
    become one for each row, int32, ``[classes]``. By a single count, the first step of
    a row that is first sampled late would be :math:`(1 - \beta_1) / \sqrt{1 - \beta_2}`
    times the learning rate, 3.2 by default. All other counters, such as those of
    schedules and of :func:`optax.inject_hyperparams`, count every step: the learning
    rate is the same for all rows.

    Since ``"frozen"`` lets the inner optimizer see each row alone, as params
    ``[1, ...]``, nothing in it combines rows: :func:`optax.clip_by_global_norm`, for
    one, would clip each row. Put such a transform in front, where it sees the gradient
    of all sampled rows: ``optax.chain(optax.clip_by_global_norm(5.0),
    sparse_rows(...))``.

    Inside :func:`jax.shard_map`, params, gradients, rows and the state are those of the
    device. Donate params and state to the step (``donate_argnums``), or each step
    copies them.

    Args:
        inner: The optimizer, such as ``optax.sgd(0.1, momentum=0.9)``.
        untouched: ``"frozen"`` or ``"dense"``.

    Returns:
        The optimizer. Its params are an array or a pytree of arrays, ``[classes, ...]``
        with as many rows in each: sub-centers ``[classes, k, features]`` are one row
        for each class. Its ``update(grads, state, params, *, rows)`` takes gradients
        ``[rows, ...]`` and the numbers of these rows, distinct, ascending and in
        ``[0, classes)``. :func:`apply_rows` adds the updates. The state is the one that
        ``inner.init`` makes, but for the counts.

    Raises:
        TypeError: If ``inner`` is not an optax transform.
        ValueError: If ``untouched`` is unknown; from ``init``, if params do not have
            rows in common, or the state has a part of which it is unclear which rows it
            belongs to; from ``update``, without ``params``, if shapes do not fit, or if
            ``inner`` changes a number that all rows share by what is in a row.

    Example:
        >>> tx = sx.sharding.sparse_rows(optax.adam(1e-3))
        >>> tx.init(jnp.zeros((5, 2)))[0].count
        Array([0, 0, 0, 0, 0], dtype=int32)

    References:
        An et al., `Killing Two Birds with One Stone: Efficient and Robust Training of
        Face Recognition CNNs by Partial FC <https://arxiv.org/abs/2203.15565>`_, CVPR
        2022, and the authors' code, both versions.
    """
    check_choice("untouched", untouched, ("frozen", "dense"))
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            f"inner must be an optimizer, such as optax.adam(1e-3), got {shown(inner)}."
        )
    inner = optax.with_extra_args_support(inner)

    def init(params):
        leaves = jax.tree.leaves(params)
        state = inner.init(params)
        # Without leaves: all are masked, or `optax.tree.map_params` asks for the state.
        if not leaves:
            return state
        _number_of_rows(leaves)
        if untouched == "dense":
            return state
        # Counts lie on the devices as the rows do.
        like = jnp.sum(leaves[0], axis=tuple(range(1, leaves[0].ndim)))
        return jax.tree.map(
            lambda kind, x: jnp.full_like(like, x, x.dtype) if kind == "count" else x,
            _kinds_of_state(inner, params),
            state,
        )

    def update(grads, state, params=None, *, rows, **extra_args):
        if params is None:
            raise ValueError(
                "params must be given: update(grads, state, params, rows=rows)."
            )
        if not jax.tree.leaves(params):
            return inner.update(grads, state, params, **extra_args)
        rows = _as_rows(rows)
        _check_rows_of("grads", grads, params, len(rows))
        if untouched == "dense":
            zeros = jax.tree.map(lambda p, g: jnp.zeros_like(p, g.dtype), params, grads)
            dense = _replaced(zeros, grads, rows)
            return inner.update(dense, state, params, **extra_args)

        kinds, structure = jax.tree.flatten(_kinds_of_state(inner, params))
        axes = [None if kind == "shared" else 0 for kind in kinds]

        def update_row(grad, leaves, param):
            # All arrays with one row, and counts without.
            grad, param = jax.tree.map(lambda x: x[None], (grad, param))
            state = structure.unflatten(map(_with_axis, kinds, leaves))
            update, state = inner.update(grad, state, param, **extra_args)
            leaves = map(_without_axis, kinds, structure.flatten_up_to(state))
            return jax.tree.map(lambda x: jnp.squeeze(x, 0), update), list(leaves)

        leaves = structure.flatten_up_to(state)
        of_all = {
            i: jnp.moveaxis(x, _axis_of(kinds[i]), 0)
            for i, x in enumerate(leaves)
            if axes[i] == 0
        }
        of_rows, some_params = _taken((of_all, params), grads, rows)
        leaves = [of_rows.get(i, x) for i, x in enumerate(leaves)]
        try:
            updates, leaves = jax.vmap(update_row, (0, axes, 0), (0, axes))(
                grads, leaves, some_params
            )
        except ValueError as error:
            if "out_axes" not in str(error):
                raise
            raise ValueError(
                "inner must not let a row change a part of the state that all rows"
                " share; put such a transform around sparse_rows, or set"
                ' untouched="dense".'
            ) from error
        for i, x in _replaced(of_all, {i: leaves[i] for i in of_all}, rows).items():
            leaves[i] = jnp.moveaxis(x, 0, _axis_of(kinds[i]))
        return updates, structure.unflatten(leaves)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def apply_rows(params: Any, updates: Any, rows: jax.typing.ArrayLike) -> Any:
    """Adds updates of some rows, or of all, to these rows.

    Args:
        params: An array ``[classes, ...]``, or a pytree of such arrays.
        updates: What the ``update`` of :func:`sparse_rows` returned: one for each of
            ``rows``, or, with ``"dense"``, for each of all classes.
        rows: The numbers of the rows, int32, ``[rows]``, distinct and ascending.

    Returns:
        The new params, in their dtypes.

    Raises:
        TypeError: If ``rows`` is not integer.
        ValueError: If shapes do not fit.

    Example:
        >>> sx.sharding.apply_rows(jnp.zeros((3, 2)), jnp.ones((1, 2)), jnp.array([1]))
        Array([[0., 0.],
               [1., 1.],
               [0., 0.]], dtype=float32)
    """
    rows = _as_rows(rows)
    sizes = {x.shape[:1] for x in jax.tree.leaves(updates)}
    if sizes <= {x.shape[:1] for x in jax.tree.leaves(params)}:
        return optax.apply_updates(params, updates)
    _check_rows_of("updates", updates, params, len(rows))
    some_params = _taken(params, updates, rows)
    return _replaced(params, optax.apply_updates(some_params, updates), rows)


def _kinds_of_state(inner: optax.GradientTransformation, params: Any) -> Any:
    """What each part of the state is: axis of its rows, ``"count"`` or ``"shared"``.

    The axis of rows is the one that grows with the rows of params. A count is an
    integer in the same record as moments, which are what mirrors params, or, in the
    optimizers of sphax, a dict of leaves.
    """
    rows = _number_of_rows(jax.tree.leaves(params))

    def state_of(rows):
        def resized(x):
            return jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)

        return jax.eval_shape(inner.init, jax.tree.map(resized, params))

    state, structure = jax.tree.flatten_with_path(state_of(rows))
    larger = structure.flatten_up_to(state_of(rows + 1))
    kinds: dict[jax.tree_util.KeyPath, int | str] = {}
    for (path, x), y in zip(state, larger, strict=True):
        sizes = list(zip(x.shape, y.shape, strict=True))
        grown = [axis for axis, (before, after) in enumerate(sizes) if before != after]
        if grown and [sizes[axis] for axis in grown] != [(rows, rows + 1)]:
            raise ValueError(
                "inner must have a state of shared numbers, and of arrays with the rows"
                f" of params, {rows}, on one axis, got shape {x.shape} at"
                f" {jax.tree_util.keystr(path)}."
            )
        kinds[path] = grown[0] if grown else "shared"

    leaves_of_params = {path for path, _ in jax.tree.leaves_with_path(params)}
    records = set()
    for path in (path for path, kind in kinds.items() if kind != "shared"):
        for i in range(len(path)):
            is_in_dict = [type(key) for key in path[i + 1 :]] == [jax.tree_util.DictKey]
            if is_in_dict or path[i + 1 :] in leaves_of_params:
                records.add(path[:i])
    for path, x in state:
        is_integer = x.shape == () and jnp.issubdtype(x.dtype, jnp.integer)
        if is_integer and path[:-1] in records:
            kinds[path] = "count"
    return structure.unflatten(kinds.values())


def _with_axis(kind: int | str, x: jax.Array) -> jax.Array:
    """Part of the state of one row as the inner optimizer has it, with an axis of 1."""
    return jnp.expand_dims(x, kind) if isinstance(kind, int) else x


def _without_axis(kind: int | str, x: jax.Array) -> jax.Array:
    return jnp.squeeze(x, kind) if isinstance(kind, int) else x


def _axis_of(kind: int | str) -> int:
    return kind if isinstance(kind, int) else 0


@compiled()
def _taken(tree, like, rows):
    """The rows of these numbers; ``like`` has the shapes of what is taken."""
    del like  # its layout on a mesh is that of the result
    return jax.tree.map(
        lambda x: x.at[rows].get(indices_are_sorted=True, unique_indices=True), tree
    )


@compiled()
def _replaced(tree, values, rows):
    """The tree with other values in the rows of these numbers."""
    return jax.tree.map(
        lambda x, y: x.at[rows].set(y, indices_are_sorted=True, unique_indices=True),
        tree,
        values,
    )


def _number_of_rows(leaves: Sequence[jax.Array]) -> int:
    """The number of rows that all leaves have; raises if they differ."""
    sizes = {x.shape[:1] for x in leaves}
    if len(sizes) > 1 or () in sizes:
        raise ValueError(
            "params must have as many rows in each leaf, on the first axis, got shapes"
            f" {[x.shape for x in leaves]}; optax.partition separates the leaves of the"
            " classes from others."
        )
    return leaves[0].shape[0]


def _as_rows(rows: jax.typing.ArrayLike) -> jax.Array:
    rows = as_integers("rows", rows)
    if rows.ndim != 1:
        raise ValueError(f"rows must be numbers [rows], got shape {rows.shape}.")
    return rows


def _check_rows_of(name: str, some: Any, params: Any, count: int) -> None:
    """Raises unless ``some`` has so many of the rows of each leaf of params."""

    def check(param, x):
        if x.shape != (count, *param.shape[1:]):
            raise ValueError(
                f"{name} must be those of the rows, {(count, *param.shape[1:])} for"
                f" {count} rows of params {param.shape}, got {x.shape}."
            )

    jax.tree.map(check, params, some)
