"""Hyperspherical energy: how far directions are from an even spread."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_classes,
    as_labels,
    as_points,
    check_choice,
    check_count,
    check_flag,
    is_number,
)
from sphax._class_axis import ClassAxis, devices_along
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax.energy._pairs._ring import (
    mean_over_devices,
    mean_over_devices_and_gradients,
)
from sphax.energy._pairs._tiles import (
    EnergyOptions,
    mean_between,
    mean_between_and_gradients,
    mean_within,
    mean_within_and_gradients,
)

Distance = Literal["euclidean", "geodesic"]
_DISTANCES = ("euclidean", "geodesic")
# On a CPU, a tile of this side stays in the cache of a core.
_BLOCK_SIZE = 512
# Powers with a cheaper form; all others are arrays, for which one program is compiled.
_CHEAP_POWERS = (0.0, 1.0, 2.0)


def hyperspherical_energy(
    points: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    others: jax.typing.ArrayLike | None = None,
    others_where: jax.typing.ArrayLike | None = None,
    self_index: jax.typing.ArrayLike | None = None,
    row_axis: ClassAxis = None,
    block_size: int | None = None,
) -> jax.Array:
    r"""Mean Riesz energy of pairs of directions (hyperspherical energy, MHE).

    .. math::
        E_s = \frac{1}{n (n - 1)} \sum_{i \ne j} f_s(\rho(\hat x_i, \hat x_j)), \qquad
        f_s(\rho) = \rho^{-s}, \quad f_0(\rho) = -\log \rho

    with :math:`\rho = \|\hat x_i - \hat x_j\|` or the angle :math:`\theta_{ij}`. Pairs
    repel each other: a low energy is an even spread. In half space, points stand for
    lines: the mean is over the set joined with its mirror image, where a point and its
    mirror image are no pair, at the cost of the same matrix product.

    With ``others``, a pair is one of a point and one of the others, such as of the
    classes of a batch and all classes: ``points=prototypes[labels], others=prototypes,
    self_index=labels``.

    Value and gradient are computed together, a tile of pairs at a time: memory is that
    of the points and of a tile, for derivatives of the gradient by ``jvp`` too. Only a
    gradient that is differentiated in reverse keeps an array of all pairs. Matrix
    products have the highest precision. Distances of nearly equal or opposite
    directions are computed from differences, to the rounding of the directions; a tile
    with such a pair takes several times as long as one without.

    With ``row_axis``, each of :math:`p` devices passes its points on to the next one,
    :math:`\lfloor p / 2 \rfloor` times, as :math:`4 n (d + 1)` bytes in float32, and
    their gradient once more than that. It holds its own points, visiting ones and a
    tile. Without, arrays that are sharded outside of ``shard_map`` are gathered: every
    device holds all points, and computes all pairs. A derivative that is taken inside
    of ``shard_map`` is right if ``check_vma=True``, the default.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count. Leading axes are
            a batch of sets, each with its energy.
        power: :math:`s`, 0 or more, a scalar. The numbers 0, 1 and 2 are cheapest; an
            array can be traced and differentiated, except at 0, where the energy jumps
            to the logarithm and its derivative is given as 0.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.
        half_space: Whether a point stands for its mirror image as well.
        where: Boolean mask or weights of the points, ``[..., n]``. A pair has the
            product of its weights; points of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.
        others: What points make pairs with, dtype of ``points``, ``[..., m, d]``; by
            default with all other points.
        others_where: Boolean mask or weights of the others, ``[..., m]``.
        self_index: For each point, the number of the one among the others that is the
            point itself, with which it makes no pair; integer, ``[..., n]``. Any number
            outside ``[0, m)``, such as -1, stands for no row.
        row_axis: Mesh axis, or a tuple of axes, along which the points are split,
            inside :func:`jax.shard_map`: ``points`` and ``where`` are then those of
            this device, as many as on every other, and the energy, that of all pairs of
            all points, is the same on all devices. Not with ``others``.
        block_size: Largest number of points on a side of a tile; by default 512.

    Returns:
        The energy, ``[...]``, float32 at least; 0, with zero gradient, when no pair is
        left. The gradient is at a right angle to each point, in the dtype of ``points``
        and clipped to its range. Directions closer than 4 epsilons of the energy's
        dtype, or that close to opposite, count as that far apart, with zero gradient
        from their pair: coincident points have the finite energy
        :math:`f_s(4 \epsilon)`. Energies whose slope would exceed the dtype's numbers
        (in float32, from :math:`s = 2.3` on, those of distances below
        :math:`2^{-88/(s + 2)}`) go on as tangents in :math:`\rho^2`. A zero point is at
        a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` is not floating, ``others`` has another dtype, a mask
            is neither boolean nor floating, ``self_index`` is not integer, or an option
            is of the wrong kind, such as a traced ``block_size``.
        ValueError: If shapes do not fit, ``distance`` is unknown, ``power``, given as a
            number, is negative, ``block_size`` is below 1, or ``others_where`` or
            ``self_index`` comes without ``others``.

    Example:
        >>> triangle = jnp.array([[2.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
        >>> sx.energy.hyperspherical_energy(triangle, power=2.0)
        Array(0.33333, dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018, Eqs. 1, 3 and 5. For
        :math:`s = 0` the authors' code has twice the logarithm of the paper, which is
        the one here.
    """
    options, array_power = as_options(power, distance, half_space, block_size, row_axis)
    points, where = _as_set("points", points, where)
    if others is None:
        _check_without_others(others_where, self_index)
        return energy_within(options, array_power, points, where)
    _check_without_axis(row_axis)
    others, others_where = _as_set("others", others, others_where)
    self_index = _as_self_index(self_index, points, others)
    sets = points, where, others, others_where, self_index
    return energy_between(options, array_power, *sets)


def energy_and_grad(
    points: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    others: jax.typing.ArrayLike | None = None,
    others_where: jax.typing.ArrayLike | None = None,
    self_index: jax.typing.ArrayLike | None = None,
    row_axis: ClassAxis = None,
    block_size: int | None = None,
) -> tuple[jax.Array, jax.Array | tuple[jax.Array, jax.Array]]:
    r"""Value and gradient of :func:`hyperspherical_energy`, from one sweep.

    The same as :func:`jax.value_and_grad` gives, but for each set of a batch, and
    without a second sweep in calls outside of ``jit``.

    .. math::
        \frac{\partial E_s}{\partial x_i} = \frac{2}{n (n - 1) \|x_i\|}
        (I - \hat x_i \hat x_i^\top) \sum_{j \ne i} f_s'(c_{ij})\, \hat x_j

    with the derivative in the cosine :math:`c`, for the chord :math:`s \rho^{-s - 2}`
    and for the angle :math:`s \theta^{-s - 1} / \sin\theta`, and :math:`\rho^{-2}` and
    :math:`1 / (\theta \sin\theta)` if :math:`s = 0`.

    Args:
        points: Same as :func:`hyperspherical_energy`, like all other arguments.
        power: :math:`s`.
        distance: ``"euclidean"`` or ``"geodesic"``.
        half_space: Whether a point stands for its mirror image as well.
        where: Mask or weights of the points.
        others: What points make pairs with.
        others_where: Mask or weights of the others.
        self_index: For each point, the number of itself among the others.
        row_axis: Mesh axes along which the points are split, in ``shard_map``.
        block_size: Largest number of points on a side of a tile.

    Returns:
        The energy, ``[...]``, and its gradient, shape and dtype of ``points``; with a
        ``others``, the pair of the gradients in ``points`` and in ``others``.

    Raises:
        TypeError: In the same cases as :func:`hyperspherical_energy`.
        ValueError: In the same cases as :func:`hyperspherical_energy`.

    Example:
        >>> sx.energy.energy_and_grad(jnp.eye(2), power=0.0)  # -log(2) / 2
        (Array(-0.34657, dtype=float32), Array([[0. , 0.5],
               [0.5, 0. ]], dtype=float32))
    """
    options, array_power = as_options(power, distance, half_space, block_size, row_axis)
    points, where = _as_set("points", points, where)
    if others is None:
        _check_without_others(others_where, self_index)
        return energy_within_and_gradient(options, array_power, points, where)
    _check_without_axis(row_axis)
    others, others_where = _as_set("others", others, others_where)
    self_index = _as_self_index(self_index, points, others)
    sets = points, where, others, others_where, self_index
    return _energy_between_and_gradients(options, array_power, *sets)


@compiled("options")
def energy_within(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """Energy of each set of points ``[..., n, d]``, ``[...]``."""
    mean = mean_over_devices if options.axes else mean_within
    mean = _over_batch(partial(mean, options), points)
    return mean(power, points, _weights(points, where))


@compiled("options")
def energy_within_and_gradient(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    where: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The energy of each set of points, and its gradient in the points."""
    mean = mean_within_and_gradients
    if options.axes:
        mean = mean_over_devices_and_gradients
    mean = _over_batch(partial(mean, options), points)
    value, (_, d_points, _) = mean(power, points, _weights(points, where))
    return value, d_points


@compiled("options")
def energy_between(
    options: EnergyOptions,
    power: jax.Array | None,
    points: jax.Array,
    where: jax.Array | None,
    others: jax.Array,
    others_where: jax.Array | None,
    self_index: jax.Array,
) -> jax.Array:
    """Energy of points with others; see :func:`mean_between` for ``self_index``."""
    sides = points, _weights(points, where), others, _weights(others, others_where)
    mean = _over_batch(partial(mean_between, options), points, 5)
    return mean(power, *sides, self_index)


@compiled("options")
def _energy_between_and_gradients(
    options, power, points, where, others, others_where, self_index
):
    sides = points, _weights(points, where), others, _weights(others, others_where)
    mean = _over_batch(partial(mean_between_and_gradients, options), points, 5)
    value, (_, d_points, _, d_others, _) = mean(power, *sides, self_index)
    return value, (d_points, d_others)


def as_options(
    power: jax.typing.ArrayLike,
    distance: Distance,
    half_space: bool,
    block_size: int | None,
    row_axis: ClassAxis = None,
) -> tuple[EnergyOptions, jax.Array | None]:
    """The checked options that are fixed, and the power if it is an array."""
    check_choice("distance", distance, _DISTANCES)
    check_flag("half_space", half_space)
    if block_size is not None:
        check_count("block_size", block_size, 1)
    if is_number(power, "power") and not power >= 0:
        raise ValueError(f"power must be 0 or more, got {power}.")
    fixed, array_power = split_power(power)
    block_size = int(block_size or _BLOCK_SIZE)
    axes = (row_axis,) if isinstance(row_axis, str) else row_axis
    if axes is not None:
        devices_along(axes, "row_axis")
    is_geodesic = distance == "geodesic"
    options = EnergyOptions(
        is_geodesic, bool(half_space), fixed, block_size, axes or ()
    )
    return options, array_power


def split_power(
    power: jax.typing.ArrayLike,
) -> tuple[float | None, jax.Array | None]:
    """The power as a number that is fixed, or as an array; the other one is None."""
    if isinstance(power, (int, float)) and not hasattr(power, "aval"):
        if power in _CHEAP_POWERS:
            return float(power), None
        power = float(power)
    return None, jnp.asarray(power)


def _as_set(name, points, where):
    """Points and their mask or weights as arrays; raises unless they fit."""
    points = as_points(name, points)
    of = f"{name} without their last axis"
    return points, as_weights(where, points.shape[:-1], of)


def _check_without_others(others_where, self_index):
    if others_where is not None or self_index is not None:
        raise ValueError(
            "others_where and self_index say more of others, got others=None."
        )


def _check_without_axis(row_axis):
    if row_axis is not None:
        raise ValueError(
            f"row_axis is for the pairs of one set of points, got row_axis={row_axis!r}"
            " with others."
        )


def _as_self_index(self_index, points, others):
    """Number of each point among the others, -1 for none; raises unless all fit."""
    if others.dtype != points.dtype:
        raise TypeError(
            f"others must have the dtype of points, got others {others.dtype} and"
            f" points {points.dtype}; cast one."
        )
    if (others.shape[:-2], others.shape[-1]) != (points.shape[:-2], points.shape[-1]):
        raise ValueError(
            "others must be [..., m, d] where points are [..., n, d], got others"
            f" {others.shape} and points {points.shape}."
        )
    shape = points.shape[:-1]
    if self_index is None:
        return jnp.full(shape, -1, jnp.int32)
    self_index = as_labels(self_index, shape, "points", name="self_index")
    rows, is_row = as_classes(self_index, others.shape[-2])
    return jnp.where(is_row, rows, -1)


def _weights(points, where):
    """Floating weights of points, one by default."""
    # Made from the points: inside `shard_map`, both differ between devices or neither.
    dtype = jnp.promote_types(points.dtype, jnp.float32)
    ones = jnp.ones_like(points[..., 0], dtype)
    return ones if where is None else ones * where.astype(dtype)


def _over_batch(function, points, arrays=2):
    """``function`` of a power and so many arrays, for each set of a batch."""
    for _ in points.shape[:-2]:
        function = jax.vmap(function, in_axes=(None, *(0,) * arrays))
    return function
