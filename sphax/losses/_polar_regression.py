"""Polar regression: a number is the cosine of the angle to a pole."""

import math

import jax
import jax.numpy as jnp

from sphax._checks import as_array, as_floating, check_range
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import as_weights, weighted_mean, zero_masked
from sphax.losses._core.batch import as_operands, as_rows
from sphax.sphere import angle


@explain_names(OF_LOSSES)
def polar_regression(
    embeddings: jax.typing.ArrayLike,
    poles: jax.typing.ArrayLike,
    targets: jax.typing.ArrayLike,
    *,
    low: jax.typing.ArrayLike = -1.0,
    high: jax.typing.ArrayLike = 1.0,
    radius: jax.typing.ArrayLike | None = None,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared error of cosines to poles, which stand for numbers.

    With one pole :math:`p_t` for each of :math:`T` targets :math:`y_t`,

    .. math::
        L = \operatorname{mean}_i \sum_t (r_{it} - \cos\theta(x_i, p_t))^2, \qquad
        r_{it} = \rho \Big(2\, \frac{y_{it} - l_t}{h_t - l_t} - 1\Big).

    The cosines to orthogonal poles satisfy :math:`\sum_t \cos^2\theta_t \le 1`. So the
    default radius :math:`\rho = 1 / \sqrt T` makes all targets in their ranges possible
    at once; for one target, as in the paper, it is 1. Targets that are never far from
    the middle together permit a larger one.

    Orthogonal poles are ``jnp.eye(targets, features)``. The other features are then
    free for classes, whose prototypes ``[classes, features - targets]`` are compared
    with ``embeddings[..., targets:]``. :func:`polar_values` predicts.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        poles: :math:`p`, floating, ``[targets, features]``, fixed; their lengths do
            not count.
        targets: :math:`y`, floating, ``[..., targets]``.
        low: :math:`l`, the number at the antipode of the pole (with radius 1), a scalar
            or ``[targets]``.
        high: :math:`h`, the number at the pole, like ``low``.
        radius: :math:`\rho`, in (0, 1], a scalar.
        where: Boolean mask or weights, ``[...]``. Examples of weight zero are zeroed
            before anything else: a NaN in them or their targets reaches nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. At a pole and its antipode the gradient is zero. A zero
        embedding has cosines 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, or numbers are out of range.

    Example:
        >>> x, pole = jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 1.0]])
        >>> sx.losses.polar_regression(x, pole, jnp.array([[8.0]]), low=0.0, high=10.0)
        Array(0.04, dtype=float32)
        >>> sx.losses.polar_values(x, pole, low=0.0, high=10.0)
        Array([[9.]], dtype=float32)

    References:
        Mettes, van der Pol, Snoek, `Hyperspherical Prototype Networks
        <https://arxiv.org/abs/1901.10514>`_, NeurIPS 2019, Section 3.3.
    """
    embeddings, poles = as_operands(
        embeddings, as_rows(poles, name="poles"), name="poles"
    )
    targets = as_floating("targets", targets)
    expected = (*embeddings.shape[:-1], len(poles))
    if targets.shape != expected:
        raise ValueError(
            f"targets must be [..., targets], a number for each embedding and pole,"
            f" {expected}, got shape {targets.shape}."
        )
    where = as_weights(where, expected[:-1], "embeddings without their last axis")
    scale = _as_scale(low, high, radius, len(poles))
    return _polar_regression(embeddings, poles, targets, *scale, where)


@explain_names(OF_LOSSES)
def polar_values(
    embeddings: jax.typing.ArrayLike,
    poles: jax.typing.ArrayLike,
    *,
    low: jax.typing.ArrayLike = -1.0,
    high: jax.typing.ArrayLike = 1.0,
    radius: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""The numbers for which embeddings stand, by their angles to poles.

    It is the inverse of the scaling of :func:`polar_regression`,
    :math:`l_t + \frac{h_t - l_t}2 (1 + \frac{\cos\theta_t}\rho)`. With a radius below 1
    it may leave the range from ``low`` to ``high``.

    Args:
        embeddings: Floating, ``[..., features]``.
        poles: Floating, ``[targets, features]``; lengths do not count.
        low: As in :func:`polar_regression`.
        high: As in :func:`polar_regression`.
        radius: As in :func:`polar_regression`.

    Returns:
        Numbers, ``[..., targets]``, float32 at least; the middle of the range, with
        zero gradient, for a zero embedding.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit, or numbers are out of range.

    Example:
        >>> x = jnp.array([[3.0, 4.0, 0.0]])
        >>> sx.losses.polar_values(x, jnp.eye(2, 3), radius=0.8)
        Array([[0.75, 1.  ]], dtype=float32)
    """
    embeddings, poles = as_operands(
        embeddings, as_rows(poles, name="poles"), name="poles"
    )
    return _polar_values(embeddings, poles, *_as_scale(low, high, radius, len(poles)))


def _as_scale(
    low: jax.typing.ArrayLike,
    high: jax.typing.ArrayLike,
    radius: jax.typing.ArrayLike | None,
    targets: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three arguments as arrays; raises unless they have a shape that fits."""
    if radius is None:
        radius = 1.0 / math.sqrt(targets)
    check_range("radius", radius, 0.0, 1.0, exclude_low=True, include_high=True)
    ends = as_array("low", low), as_array("high", high)
    for name, end in zip(("low", "high"), ends, strict=True):
        if end.shape not in ((), (targets,)) or not jnp.isrealobj(end):
            raise ValueError(
                f"{name} must be a real scalar or [targets] = ({targets},), got"
                f" {end.dtype} of shape {end.shape}."
            )
    if (
        isinstance(low, (int, float))
        and isinstance(high, (int, float))
        and not low < high
    ):
        raise ValueError(f"low must be below high, got {low} and {high}.")
    return *ends, jnp.asarray(radius)


def _cosines(x: jax.Array, poles: jax.Array) -> jax.Array:
    """Of every embedding and pole, ``[..., targets]``, from the vectors themselves."""
    return jnp.cos(angle(x[..., None, :], jnp.expand_dims(poles, range(x.ndim - 1))))


def _like(cosines: jax.Array, *numbers: jax.Array) -> list[jax.Array]:
    """Numbers of every target, in the dtype and of the rank of ``cosines``."""
    shape = (1,) * (cosines.ndim - 1) + cosines.shape[-1:]
    flat = (jnp.broadcast_to(x, shape[-1:]).reshape(shape) for x in numbers)
    return [x.astype(cosines.dtype) for x in flat]


@compiled()
def _polar_regression(embeddings, poles, targets, low, high, radius, where):
    x, y = zero_masked(embeddings, where), zero_masked(targets, where)
    cosines = _cosines(x, poles)
    low, high, radius = _like(cosines, low, high, radius)
    y = y.astype(cosines.dtype)
    wanted = radius * (2.0 * (y - low) / (high - low) - 1.0)
    return weighted_mean(jnp.sum(jnp.square(wanted - cosines), axis=-1), where)


@compiled()
def _polar_values(embeddings, poles, low, high, radius):
    cosines = _cosines(embeddings, poles)
    low, high, radius = _like(cosines, low, high, radius)
    return low + 0.5 * (high - low) * (1.0 + cosines / radius)
