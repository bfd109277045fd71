"""Steepest descent in the spectral norm, on matrices of fixed spectral norm."""

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from sphax._checks import check_choice, check_flag, check_number, check_range
from sphax._linalg import entries, largest_entry, product
from sphax._numerics import divide, inverse_power, widen
from sphax.neurons import Neurons
from sphax.optim._neurons import Mask, as_rows, as_update, check_not_zero
from sphax.optim._whole import whole_optimizer
from sphax.orthogonal import polar_factor
from sphax.sphere import direction, length

_Radius = Literal["mup", "initial"]
_Multiplier = Literal["solve", "zero"]


class SpectralSphereState(NamedTuple):
    """State of :func:`spectral_sphere`.

    Attributes:
        count: Number of steps taken.
        momentum: Mean gradient of each leaf found, by path, in the shape of the leaf
            and float32 at least.
        norms: Spectral norm of each matrix at the start, ``[sets, 1, 1]``, which only
            ``radius="initial"`` uses.
        others: State of the optimizer of all other leaves.

    Example:
        >>> params = {"kernel": jnp.eye(3, 2)}
        >>> sx.optim.spectral_sphere(0.1).init(params).momentum["kernel"].shape
        (3, 2)
    """

    count: jax.Array
    momentum: dict[str, jax.Array]
    norms: dict[str, jax.Array]
    others: optax.OptState


def spectral_sphere(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: jax.typing.ArrayLike = 0.9,
    nesterov: bool = False,
    radius: Literal["mup", "initial"] | jax.typing.ArrayLike = "mup",
    radius_scale: jax.typing.ArrayLike = 1.0,
    multiplier: Literal["solve", "zero"] = "solve",
    neurons: Neurons = None,
    mask: Mask | None = None,
    others: optax.GradientTransformation | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Moves matrices of fixed spectral norm as steeply as it allows (SSO, MuonSphere).

    For a matrix :math:`W` of :math:`n` neurons in :math:`d` dimensions, with gradient
    :math:`G`, mean gradient :math:`M` and top singular vectors :math:`u, v`,

    .. math::
        M \leftarrow \beta M + (1 - \beta)\, G, \qquad
        \Phi = \operatorname{msign}(M / \|M\|_F + \lambda\, u v^\top), \qquad
        W \leftarrow R\, \frac{W - \eta R\, \Phi}{\|W - \eta R\, \Phi\|_2}

    where msign is :func:`sphax.orthogonal.polar_factor`, and :math:`\lambda` solves
    :math:`\langle u v^\top, \Phi \rangle = 0`. No step of spectral norm
    :math:`\eta R` that keeps :math:`\|W\|_2` to first order descends more. Bisection
    finds :math:`\lambda`; where msign jumps across the solution, as it can for square
    matrices, :math:`\Phi` is the mixture of both sides that solves the equation.
    ``multiplier="zero"`` takes :math:`\lambda = 0`, which is MuonSphere: the step of
    Muon, and a rescaling back to the sphere.

    The layer then multiplies no length by more than :math:`R`. Weight decay would do
    nothing, as it only changes the norm. Where the top singular value is not simple, as
    for orthonormal neurons, the sphere has a corner: the step is tangent for one of the
    top pairs only, and :func:`stiefel_muon` fits better.

    It is a whole optimizer of all params: leaves without neurons, such as biases, are
    updated by another optimizer, ``others``. Updates are differences to the new params:
    put nothing behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, a scalar or a schedule: a function of the step. Not
            negative.
        momentum: :math:`\beta`, in ``[0, 1)``.
        nesterov: Whether the step is along :math:`\beta M + (1 - \beta)\, G`, with the
            new :math:`M`.
        radius: What :math:`R` is, but for ``radius_scale``: :math:`\sqrt{n / d}` with
            ``"mup"``, the spectral norm at ``init`` with ``"initial"``, or a number.
            Unless it is ``"initial"``, the first update rescales the matrix, whatever
            the learning rate.
        radius_scale: Factor of :math:`R`, positive.
        multiplier: ``"solve"``, of about twenty msigns in float32, or ``"zero"``, of
            one.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Each index of a
            batch axis, such as a head or a layer of a stack, is a matrix of its own.
        mask: Leaves to move, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`; the rest go to ``others``.
        others: Optimizer of all other leaves; by default :func:`optax.adam` with the
            same learning rate, ``b1=0.9`` and ``b2=0.95``.
        allow_empty: Whether there may be no neurons at all, as in a group of
            :func:`optax.partition` that has biases only.

    Returns:
        The transform, with a :class:`SpectralSphereState`; ``update`` needs ``params``.
        Updates keep their dtype; the computation is in float32 at least. Params in
        bfloat16 have the spectral norm to its rounding only: keep them in float32. A
        gradient of zero moves nothing. In :func:`optax.inject_hyperparams`,
        ``nesterov``, ``radius`` and ``multiplier``, if they are no numbers, and
        callables ``neurons`` and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If an argument is unknown or out of range; from ``init``, if there
            are no neurons, if declared axes do not fit, or if a matrix that is to keep
            its norm is zero (one that is traced gets NaN); from ``update``, without
            ``params``.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.diag(jnp.array([1.0, 0.5]))}
        >>> tx = sx.optim.spectral_sphere(0.1)
        >>> updates, _ = tx.update({"kernel": jnp.eye(2)}, tx.init(params), params)
        >>> optax.apply_updates(params, updates)
        {'kernel': Array([[1. , 0. ],
               [0. , 0.4]], dtype=float32)}

    References:
        Xie et al., `Controlled LLM Training on Spectral Sphere
        <https://arxiv.org/abs/2601.08393>`_, 2026.
    """
    check_number("momentum", momentum)
    check_flag("nesterov", nesterov)
    check_choice("multiplier", multiplier, get_args(_Multiplier))
    check_range("radius_scale", radius_scale, 0.0, exclude_low=True)
    if isinstance(radius, str):
        check_choice("radius", radius, get_args(_Radius))
    else:
        check_range("radius", radius, 0.0, exclude_low=True)
    kind, number = (radius, 1.0) if isinstance(radius, str) else ("given", radius)
    return whole_optimizer(
        SpectralSphereState,
        _start,
        _step,
        learning_rate=learning_rate,
        options=(kind, multiplier, bool(nesterov)),
        hyperparams=(momentum, number, radius_scale),
        check=partial(check_not_zero, per="matrix") if kind == "initial" else None,
        others=others,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def _start(fixed, leaf):
    """The momentum of a leaf, and the spectral norms of its matrices."""
    axes, radius, *_ = fixed
    rows = axes.rows(widen(leaf))
    norms = jnp.ones((len(rows), 1, 1), rows.dtype)
    if radius == "initial":
        norms = _top_pair(rows)[0]
        norms = jnp.where(norms == 0.0, jnp.nan, norms)
    return jnp.zeros_like(widen(leaf)), norms


def _step(fixed, entry, rate, count, hyperparams):
    """The update of a leaf, its momentum, and the norms at the start."""
    del count
    (axes, kind, multiplier, nesterov), (gradient, leaf, momentum, norms) = fixed, entry
    slopes, rows = as_rows(axes, gradient, leaf)
    beta, radius, scale, rate = (
        jnp.asarray(x, rows.dtype) for x in (*hyperparams, rate)
    )
    means = beta * axes.rows(momentum).astype(rows.dtype) + (1.0 - beta) * slopes
    ahead = beta * means + (1.0 - beta) * slopes if nesterov else means
    if kind == "mup":
        radius = (rows.shape[-2] / rows.shape[-1]) ** 0.5
    elif kind == "initial":
        radius = norms.astype(rows.dtype)
    norm, left, right = _top_pair(rows)
    points = radius * scale * divide(rows, norm)
    if multiplier == "solve":
        move = _tangent_direction(ahead, product(left, right.mT))
    else:
        move = polar_factor(ahead)
    moved = points - rate * radius * scale * move
    norm, _, _ = _top_pair(moved)
    # A matrix that a step moves to zero keeps its place.
    new = jnp.where(norm == 0.0, points, radius * scale * divide(moved, norm))
    return (
        as_update(axes, new - rows, gradient),
        as_update(axes, means, momentum),
        norms,
    )


def _tangent_direction(slopes: jax.Array, pair: jax.Array) -> jax.Array:
    """The matrix of spectral norm 1 along ``slopes`` that has no part along ``pair``.

    It maximizes the inner product with ``slopes`` under both constraints.
    """
    norm = length(entries(slopes))[..., None, None]
    slopes = divide(slopes, norm)

    def part(matrix):
        """The part along the pair."""
        return jnp.sum(pair * matrix, axis=(-2, -1), keepdims=True)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2.0
        is_below = part(polar_factor(slopes + middle * pair)) < 0.0
        return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

    # The solution is within twice the nuclear norm of the slopes. The part rises with
    # the multiplier, so that a mixture of both ends has none; where it is smooth, the
    # error of the mixture is about the square of the distance of the ends.
    bound = 2.0 * min(slopes.shape[-2:]) ** 0.5
    distance = float(jnp.finfo(slopes.dtype).eps) ** 0.5
    halvings = math.ceil(math.log2(2.0 * bound / distance))
    ends = jnp.full_like(norm, -bound), jnp.full_like(norm, bound)
    ends = jax.lax.fori_loop(0, halvings, halve, ends)
    below, above = (polar_factor(slopes + end * pair) for end in ends)
    share = divide(part(above), part(above) - part(below))
    mixture = share * below + (1.0 - share) * above
    return jnp.where(norm == 0.0, 0.0, mixture)


def _top_pair(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The largest singular value, ``[..., 1, 1]``, and its two vectors as columns."""
    if x.shape[-2] < x.shape[-1]:
        norm, right, left = _top_pair(x.mT)
        return norm, left, right
    scale = inverse_power(largest_entry(x))
    scaled = x * scale
    # The Gram matrix to so high a power, by squaring, that other singular values have
    # vanished, but for those that rounding cannot tell from the largest.
    power = product(scaled.mT, scaled)
    squarings = -math.floor(math.log2(float(jnp.finfo(x.dtype).eps)))
    power = jax.lax.fori_loop(0, squarings, _squared, power)
    # Its longest column is not orthogonal to any of them.
    diagonal = jnp.diagonal(power, axis1=-2, axis2=-1)
    largest = jnp.argmax(diagonal, axis=-1)[..., None, None]
    right = direction(jnp.take_along_axis(power, largest, axis=-1).mT).mT
    left = product(scaled, right)
    norm = length(left.mT)[..., None]
    return norm / scale, divide(left, norm), right


def _squared(_, x):
    """The square of symmetric matrices, scaled against overflow."""
    x = x / largest_entry(x)
    return product(x.mT, x)
