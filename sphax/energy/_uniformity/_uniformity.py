"""Uniformity of all points, and alignment of positive pairs."""

import jax
import jax.numpy as jnp

from sphax._checks import as_points, as_vectors, check_flag, is_number
from sphax._compiled import compiled
from sphax._masking import as_weights, log_mean_exp, weighted_mean, zero_masked
from sphax.energy._uniformity._sets import of_every_set, pair_cosines
from sphax.sphere import angle


def uniformity(
    points: jax.typing.ArrayLike,
    *,
    scale: jax.typing.ArrayLike = 2.0,
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Logarithm of the mean Gaussian potential of pairs of directions (uniformity).

    .. math::
        \log \frac{2}{n (n - 1)} \sum_{i < j} e^{-t \|\hat x_i - \hat x_j\|^2}

    It is 0 where all directions coincide, and :math:`-2t` for orthogonal directions.
    Minimized as a loss, it spreads the points over the sphere.

    Args:
        points: Floating, ``[..., n, d]``; their lengths do not count.
        scale: :math:`t`, positive, a scalar.
        half_space: Whether the mirror images of the points count too, so that a
            direction and its opposite are one. A point and its image make no pair.
        where: Boolean mask or weights of the points, ``[..., n]``. A pair has the
            product of its weights; points of weight zero are zeroed before anything
            else: a NaN in them reaches nothing.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        The logarithm, ``[...]``, in float32 at least; 0, with zero gradient, when no
        pair is left. A zero point is at a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``points`` is not floating.
        ValueError: If shapes do not fit or ``scale``, given as a number, is not
            positive.

    Example:
        >>> sx.energy.uniformity(jnp.eye(5))
        Array(-4., dtype=float32)

    References:
        Wang, Isola, `Understanding Contrastive Representation Learning through
        Alignment and Uniformity on the Hypersphere
        <https://arxiv.org/abs/2005.10242>`_, ICML 2020.
    """
    _check_positive("scale", scale)
    check_flag("half_space", half_space)
    points, scale = as_points("points", points), jnp.asarray(scale)
    where = as_weights(where, points.shape[:-1], "points without their last axis")
    return _uniformity(points, where, scale, half_space=half_space, precision=precision)


@compiled("half_space", "precision")
def _uniformity(points, where, scale, *, half_space, precision):
    def energy(rows, weights):
        cosines, weights = pair_cosines(
            rows, weights, half_space=half_space, precision=precision
        )
        exponents = -2.0 * scale.astype(cosines.dtype) * (1.0 - cosines)
        # Every pair is there twice, which does not change a mean.
        return log_mean_exp(exponents.ravel(), weights.ravel())

    return of_every_set(energy, points, where)


def alignment(
    x: jax.typing.ArrayLike,
    y: jax.typing.ArrayLike,
    *,
    power: jax.typing.ArrayLike = 2.0,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean distance of positive pairs, to a power (alignment).

    :math:`\operatorname{mean}_i \|\hat x_i - \hat y_i\|^\alpha`, the chord
    :math:`2 \sin(\theta_i / 2)` between them.

    Args:
        x: Floating, ``[..., d]``; lengths do not count.
        y: Positives of ``x``, floating, of a shape that broadcasts with it.
        power: :math:`\alpha`, positive, a scalar.
        where: Boolean mask or weights of the pairs, ``[...]``. Pairs of weight zero are
            zeroed before anything else: a NaN in them reaches nothing.

    Returns:
        The mean, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left. Coincident directions have distance 0, with zero gradient; with a power
        below 1, the gradient grows without bound as directions approach each other. A
        zero vector is at a right angle to all, with zero gradient.

    Raises:
        TypeError: If ``x`` or ``y`` is not floating.
        ValueError: If shapes do not fit or ``power``, given as a number, is not
            positive.

    Example:
        >>> y = jnp.array([[0.0, 1.0], [0.0, 3.0]])
        >>> sx.energy.alignment(jnp.eye(2), y)  # 2 and 0
        Array(1., dtype=float32)

    References:
        Wang, Isola, `Understanding Contrastive Representation Learning through
        Alignment and Uniformity on the Hypersphere
        <https://arxiv.org/abs/2005.10242>`_, ICML 2020.
    """
    x, y = as_vectors(x=x, y=y)
    _check_positive("power", power)
    shape = jnp.broadcast_shapes(x.shape, y.shape)
    where = as_weights(where, shape[:-1], "the pairs")
    x, y = (zero_masked(jnp.broadcast_to(v, shape), where) for v in (x, y))
    chord = 2.0 * jnp.sin(0.5 * angle(x, y))
    power = jnp.asarray(power, dtype=chord.dtype)
    is_zero = chord == 0.0
    # A power has no finite slope at 0 if it is below 1, and no logarithm if traced.
    powers = jnp.where(is_zero, 0.0, jnp.where(is_zero, 1.0, chord) ** power)
    return weighted_mean(powers, where)


def _check_positive(name: str, x: jax.typing.ArrayLike) -> None:
    if is_number(x, name) and not x > 0:
        raise ValueError(f"{name} must be positive, got {x}.")
