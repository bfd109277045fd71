"""Hyperspherical energy: how far directions are from being spread evenly."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_classes,
    as_floating,
    as_labels,
    check_choice,
    check_count,
    check_dimensions,
    check_flag,
    is_number,
)
from sphax._compiled import compiled
from sphax._masking import as_weights
from sphax.energy._pair_energies import Kind
from sphax.energy._pair_means import Form, Set, pair_mean, pair_mean_and_gradients
from sphax.energy._riesz import split_power
from sphax.energy._sets import ones_for

Distance = Literal["euclidean", "geodesic"]
_DISTANCES = ("euclidean", "geodesic")
# On a CPU, a tile of this side stays in the cache of a core.
_BLOCK_SIZE = 512


def hyperspherical_energy(
    points: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    bank: jax.typing.ArrayLike | None = None,
    bank_where: jax.typing.ArrayLike | None = None,
    own: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> jax.Array:
    r"""Mean Riesz energy of pairs of directions (hyperspherical energy, MHE).

    .. math::
        E_s = \frac{1}{n (n - 1)} \sum_{i \ne j} f_s(\rho(\hat x_i, \hat x_j)), \qquad
        f_s(\rho) = \rho^{-s}, \quad f_0(\rho) = -\log \rho

    with :math:`\rho = \|\hat x_i - \hat x_j\|` or the angle :math:`\theta_{ij}`. Pairs
    repel each other: a low energy is an even spread. In half space, points stand for
    lines: the mean is over the set joined with its mirror image, where a point and its
    own image are no pair, and costs no further product.

    With a ``bank`` the pairs are those of a point and a row of the bank, such as of the
    classes of a batch and all classes: ``points=prototypes[labels], bank=prototypes,
    own=labels``.

    Pairs are taken a tile at a time, value and gradient together; derivatives of the
    gradient, by ``jvp``, keep to that, too. There is no array of all pairs, unless a
    gradient is differentiated in reverse. Matrix products have the highest precision.
    Cosines close to 1 or -1 are taken again as differences, so that distances keep
    their digits down to the rounding of the directions; a tile with such a pair takes
    several times as long as one without.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count. Each of the
            leading axes' sets has an energy of its own.
        power: :math:`s`, 0 or more, a scalar. The numbers 0, 1 and 2 are cheapest; an
            array can be traced and differentiated, except at 0, where the energy jumps
            to the logarithm and its derivative is given as 0.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle in radians.
        half_space: Whether a point stands for its mirror image as well.
        where: Boolean mask or weights of the points, ``[..., n]``. A pair has the
            product of its weights; points of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.
        bank: The other side of the pairs, dtype of ``points``, ``[..., m, d]``; by
            default ``points`` are, each with all others.
        bank_where: Boolean mask or weights of the bank, ``[..., m]``.
        own: The row of the bank that each point is and makes no pair with, integer,
            ``[..., n]``; any number outside ``[0, m)``, such as -1, is no row.
        block_size: Side of a tile, at most; by default 512. From n on, there is one
            tile, of all pairs.

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
        TypeError: If ``points`` is not floating, ``bank`` has another dtype, a mask is
            neither boolean nor floating, ``own`` is not integer, or an option is of the
            wrong kind, such as a traced ``block_size``.
        ValueError: If shapes do not fit, ``distance`` is unknown, ``power``, given as a
            number, is negative, ``block_size`` below 1, or an option of the bank comes
            without one.

    Example:
        >>> triangle = jnp.array([[2.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
        >>> sx.energy.hyperspherical_energy(triangle, power=2.0)
        Array(0.33333, dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018, Eqs. 1, 3 and 5, but for
        :math:`s = 0`: there, the logarithm of the inverse distance as here; in the
        authors' code, twice that.
    """
    form, traced = as_form(power, distance, half_space, block_size)
    sets = _as_sets(points, where, bank, bank_where, own)
    return mean_energy(form, traced, sets)


def energy_and_grad(
    points: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    bank: jax.typing.ArrayLike | None = None,
    bank_where: jax.typing.ArrayLike | None = None,
    own: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
) -> tuple[jax.Array, jax.Array | tuple[jax.Array, jax.Array]]:
    r"""Value and gradient of :func:`hyperspherical_energy`, from one sweep.

    What :func:`jax.value_and_grad` gives, too; here, each set of a batch has its own,
    and calls that are not compiled do not sweep twice.

    .. math::
        \frac{\partial E_s}{\partial x_i} = \frac{2}{n (n - 1) \|x_i\|}
        (I - \hat x_i \hat x_i^\top) \sum_{j \ne i} f_s'(c_{ij})\, \hat x_j

    with the derivative in the cosine :math:`c`, for the chord :math:`s \rho^{-s - 2}`
    and for the angle :math:`s \theta^{-s - 1} / \sin\theta`, and :math:`\rho^{-2}` and
    :math:`1 / (\theta \sin\theta)` if :math:`s = 0`.

    Args:
        points: As in :func:`hyperspherical_energy`, as are all others.
        power: :math:`s`.
        distance: ``"euclidean"`` or ``"geodesic"``.
        half_space: Whether a point stands for its mirror image as well.
        where: Mask or weights of the points.
        bank: The other side of the pairs.
        bank_where: Mask or weights of the bank.
        own: The row of the bank that each point is.
        block_size: Side of a tile, at most.

    Returns:
        The energy, ``[...]``, and its gradient, shape and dtype of ``points``; with a
        ``bank``, the pair of the gradients in ``points`` and in ``bank``.

    Raises:
        TypeError: As :func:`hyperspherical_energy`.
        ValueError: As :func:`hyperspherical_energy`.

    Example:
        >>> sx.energy.energy_and_grad(jnp.eye(2), power=0.0)  # -log(2) / 2
        (Array(-0.34657, dtype=float32), Array([[0. , 0.5],
               [0.5, 0. ]], dtype=float32))
    """
    form, traced = as_form(power, distance, half_space, block_size)
    sets = _as_sets(points, where, bank, bank_where, own)
    value, of_sets = mean_energy_and_gradients(form, traced, sets)
    if bank is None:
        return value, of_sets[0]
    return value, (of_sets[0], of_sets[1])


@compiled("form")
def mean_energy(form: Form, power: jax.Array | None, sets: tuple[Set, ...]):
    """Energy of each set of a batch, ``[...]``, within it or with a second one."""
    return _over_batch(partial(pair_mean, form), sets)(power, sets)


@compiled("form")
def mean_energy_and_gradients(
    form: Form, power: jax.Array | None, sets: tuple[Set, ...]
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The same, and its gradients in the vectors of each side."""
    step = _over_batch(partial(pair_mean_and_gradients, form), sets)
    value, gradients = step(power, sets)
    return value, tuple(of_vectors for of_vectors, _ in gradients.sets)


def as_form(
    power: jax.typing.ArrayLike,
    distance: Distance,
    half_space: bool,
    block_size: int | None,
) -> tuple[Form, jax.Array | None]:
    """The options, checked: what is fixed, and the power if it is not."""
    check_choice("distance", distance, _DISTANCES)
    check_flag("half_space", half_space)
    if block_size is not None:
        check_count("block_size", block_size, 1)
    if is_number(power, "power") and not power >= 0:
        raise ValueError(f"power must be 0 or more, got {power}.")
    number, traced = split_power(power)
    kind = Kind(distance == "geodesic", bool(half_space))
    return Form(kind, number, int(block_size or _BLOCK_SIZE)), traced


def _as_sets(points, where, bank, bank_where, own) -> tuple[Set, ...]:
    of_points = as_set("points", points, where)
    if bank is None:
        if bank_where is not None or own is not None:
            raise ValueError("bank_where and own say more of a bank, got bank=None.")
        return (of_points,)
    of_bank = as_set("bank", bank, bank_where)
    _check_fit(of_points.vectors, of_bank.vectors)
    return with_own(of_points, own, of_bank), of_bank


def as_set(
    name: str, vectors: jax.typing.ArrayLike, where: jax.typing.ArrayLike | None
) -> Set:
    """Vectors ``[..., n, d]`` that make pairs, each with its number."""
    vectors = as_floating(name, vectors)
    check_dimensions(name, vectors)
    if vectors.ndim < 2:
        raise ValueError(f"{name} must be [..., n, d], got shape {vectors.shape}.")
    shape = vectors.shape[:-1]
    where = as_weights(where, shape, f"{name} without their last axis")
    dtype = jnp.promote_types(vectors.dtype, jnp.float32)
    ones = ones_for(vectors, dtype=dtype)
    weights = ones if where is None else ones * where.astype(dtype)
    numbers = jnp.arange(shape[-1], dtype=jnp.int32)
    return Set(vectors, weights, jnp.broadcast_to(numbers, shape))


def with_own(points: Set, own: jax.typing.ArrayLike | None, bank: Set) -> Set:
    """The points with the number of the row of the bank that each is, -1 for none."""
    if own is None:
        return points._replace(ids=jnp.full_like(points.ids, -1))
    own = as_labels(own, points.ids.shape, "points", name="own")
    rows, is_row = as_classes(own, bank.ids.shape[-1])
    return points._replace(ids=jnp.where(is_row, rows, -1))


def _check_fit(points, bank):
    if bank.dtype != points.dtype:
        raise TypeError(
            f"bank must have the dtype of points, got bank {bank.dtype} and points"
            f" {points.dtype}; cast one."
        )
    if (bank.shape[:-2], bank.shape[-1]) != (points.shape[:-2], points.shape[-1]):
        raise ValueError(
            "bank must be [..., m, d] where points are [..., n, d], got bank"
            f" {bank.shape} and points {points.shape}."
        )


def _over_batch(function, sets):
    """``function`` of a power and sets, for each of the sets on the leading axes."""
    for _ in sets[0].vectors.shape[:-2]:
        function = jax.vmap(function, in_axes=(None, 0))
    return function
