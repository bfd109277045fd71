"""SphereFace2: binary classification of every class by itself."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_floating, check_choice, check_count
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses._core.batch import (
    as_batch,
    as_operands,
    as_scalar,
    check_range,
    masked_batch,
)
from sphax.losses._core.blocked import Blocks, as_blocks
from sphax.losses._core.class_logits import sum_over_others
from sphax.sphere import angle

Variant = Literal["C", "A", "M"]
Gradient = Literal["exact", "detached"]


class _Variant(NamedTuple):
    """Where the margin acts; ``g`` is the similarity as a function of the cosine."""

    margin: float  # the paper's
    range: tuple[float, float]  # lowest margin, and the first that is too high
    positive: Callable[..., jax.Array]  # p of (g, angle to the target, margin)
    negative: Callable[..., jax.Array]  # q of (g, cosines to other classes, margin)


_VARIANTS = {
    "C": _Variant(
        margin=0.4,
        range=(0.0, 2.0),
        positive=lambda g, theta, m: g(jnp.cos(theta)) - m,
        negative=lambda g, cosines, m: g(cosines) + m,
    ),
    "A": _Variant(
        margin=0.5,
        range=(0.0, math.pi),
        positive=lambda g, theta, m: g(jnp.cos(jnp.minimum(theta + m, math.pi))),
        negative=lambda g, cosines, m: g(cosines),
    ),
    "M": _Variant(
        margin=1.7,
        range=(1.0, math.inf),
        positive=lambda g, theta, m: g(jnp.cos(jnp.minimum(theta * m, math.pi))),
        negative=lambda g, cosines, m: g(cosines),
    ),
}


@explain_names(OF_LOSSES)
def sphereface2(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    bias: jax.typing.ArrayLike,
    *,
    variant: Variant = "C",
    margin: jax.typing.ArrayLike | None = None,
    scale: jax.typing.ArrayLike = 40.0,
    exponent: jax.typing.ArrayLike = 3.0,
    balance: jax.typing.ArrayLike = 0.7,
    gradient: Gradient = "exact",
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Mean over examples of one binary logistic loss for every class (SphereFace2).

    The classes do not compete. With the similarity
    :math:`g(c) = 2\,((c + 1)/2)^t - 1` and one bias :math:`b` for all,

    .. math::
        L = \frac{\alpha}{r} \log\big(1 + e^{-r p(\theta_y) - b}\big) + \frac{1 -
            \alpha}{r} \sum_{j \ne y} \log\big(1 + e^{r q(\theta_j) + b}\big)

    ===========  =====================================  =========================
    ``variant``  :math:`p(\theta)`                      :math:`q(\theta)`
    ===========  =====================================  =========================
    ``"C"``      :math:`g(\cos\theta) - m`              :math:`g(\cos\theta) + m`
    ``"A"``      :math:`g(\cos\min(\theta + m, \pi))`   :math:`g(\cos\theta)`
    ``"M"``      :math:`g(\cos\min(m \theta, \pi))`     :math:`g(\cos\theta)`
    ===========  =====================================  =========================

    The authors' code differs twice. It multiplies the loss by a weight, 10 in their
    configurations. And it trains with :math:`\partial z/\partial c = r` for the logits
    :math:`z`, whatever :math:`g` and the margin (characteristic gradient detachment):
    ``gradient="detached"``. The default is the derivative of the formula, which is what
    the paper writes; it fades where :math:`g` is flat, towards opposite vectors.

    Args:
        embeddings: Floating, ``[..., features]``.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Target class, integer, ``[...]``, each in ``[0, classes)``. Any other
            makes the loss and its gradients NaN.
        bias: :math:`b`, learned, a scalar; start it at :func:`sphereface2_bias`.
        variant: Where the margin acts, one of the three above.
        margin: :math:`m`, a scalar: a similarity in ``[0, 2)`` for ``"C"`` (0.4 if not
            given), radians in ``[0, pi)`` for ``"A"`` (0.5), a factor of at least 1 for
            ``"M"`` (1.7).
        scale: :math:`r`, positive, a scalar.
        exponent: :math:`t`, at least 1, a scalar.
        balance: :math:`\alpha`, the paper's lambda, weight of the positives in
            ``(0, 1)``, a scalar.
        gradient: ``"exact"``, or ``"detached"`` for the values of the formula with the
            gradient of plain cosines.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing.
        block_size: Number of classes handled at a time; ``None`` for all at once. The
            blocked form keeps no array of ``batch x classes``, forms its logits twice,
            and has no forward-mode derivative.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split, as in :func:`margin_softmax`.
        num_classes: How many classes exist, if rows at the end are padding.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or prototype is at a right angle to all, with
        zero gradient. The target's term has zero gradient at angles 0 and pi.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or an option is out of range.

    Example:
        >>> x, w, labels = jnp.eye(2, 3), jnp.eye(4, 3), jnp.array([0, 2])
        >>> bias = sx.losses.sphereface2_bias(classes=4)
        >>> sx.losses.sphereface2(x, w, labels, bias)
        Array(0.5644377, dtype=float32)

    References:
        Wen et al., `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, ICLR 2022; Liu et
        al., `SphereFace Revived <https://arxiv.org/abs/2109.05565>`_, TPAMI 2022
        (detachment).
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    m = _checked_margin(variant, margin, scale, exponent, balance)
    check_choice("gradient", gradient, ("exact", "detached"))
    labels, where = as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, prototypes, jnp.float32)
    return _sphereface2(
        embeddings,
        prototypes,
        labels,
        where,
        as_scalar("bias", as_floating("bias", bias), dtype),
        as_scalar("margin", m, dtype),
        as_scalar("scale", scale, dtype),
        as_scalar("exponent", exponent, dtype),
        as_scalar("balance", balance, dtype),
        variant=variant,
        is_detached=gradient == "detached",
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("variant", "is_detached", "classes", "blocks", "precision")
def _sphereface2(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    bias: jax.Array,
    margin: jax.Array,
    scale: jax.Array,
    exponent: jax.Array,
    balance: jax.Array,
    *,
    variant: Variant,
    is_detached: bool,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x, prototypes = vary_alike(x, prototypes)
    theta = angle(x, classes.take(prototypes, labels).astype(x.dtype))
    theta = classes.from_owners(theta, labels)
    cosine = jnp.cos(theta)
    similarity = _VARIANTS[variant].positive(_similarity(exponent), theta, margin)
    if is_detached:
        similarity = cosine + jax.lax.stop_gradient(similarity - cosine)
    positive = jax.nn.softplus(-(scale * similarity + bias))
    negatives = sum_over_others(
        partial(_negative_loss, variant, is_detached),
        (bias, margin, scale, exponent),
        x,
        prototypes,
        labels,
        classes=classes,
        blocks=blocks,
        precision=precision,
    )
    losses = balance * positive + (1.0 - balance) * negatives
    return weighted_mean(losses / scale, weights)


def _negative_loss(
    variant: Variant, is_detached: bool, parameters: Any, cosines: jax.Array
) -> jax.Array:
    """The loss of the classes that are not the target, elementwise."""
    bias, margin, scale, exponent = parameters
    similarity = _VARIANTS[variant].negative(_similarity(exponent), cosines, margin)
    if is_detached:
        similarity = cosines + jax.lax.stop_gradient(similarity - cosines)
    return jax.nn.softplus(scale * similarity + bias)


def _similarity(exponent: jax.typing.ArrayLike) -> Callable[[jax.Array], jax.Array]:
    """The similarity g of the paper, as a function of the cosine."""

    def similarity(cosines):
        half = 0.5 * (1.0 + cosines)
        # A cosine may leave [-1, 1] by rounding, where a power does not exist.
        return 2.0 * jnp.where(half < 0.0, 0.0, half) ** exponent - 1.0

    return similarity


def sphereface2_bias(
    classes: int,
    *,
    variant: Variant = "C",
    margin: float | None = None,
    scale: float = 40.0,
    exponent: float = 3.0,
    balance: float = 0.7,
) -> float:
    r"""Initial bias of :func:`sphereface2`, which balances positives and negatives.

    Where all cosines are 0, as they are approximately at the start, the gradients of
    the positive and of all negatives with respect to :math:`b` cancel:

    .. math::
        \alpha\, \sigma(-r p_0 - b) = (1 - \alpha)(C - 1)\, \sigma(r q_0 + b),

    :math:`\sigma` the logistic function, :math:`p_0, q_0` of :func:`sphereface2` at a
    right angle. With :math:`\zeta = \alpha / ((1 - \alpha)(C - 1))` the solution is

    .. math::
        b = \tfrac12 \ln \zeta - \tfrac r2 (p_0 + q_0) + \operatorname{arsinh}\Big(
            \tfrac{\zeta - 1}{2\sqrt\zeta}\, e^{r (q_0 - p_0) / 2}\Big).

    Args:
        classes: :math:`C`, at least 2.
        variant: Variant of :func:`sphereface2`.
        margin: Its margin :math:`m`, the same default.
        scale: Its :math:`r`.
        exponent: Its :math:`t`.
        balance: Its :math:`\alpha`.

    Returns:
        The bias, a Python float.

    Raises:
        TypeError: If ``classes`` is not an integer.
        ValueError: If ``classes`` is below 2 or another argument out of range.

    Example:
        >>> sx.losses.sphereface2_bias(8631)
        5.784568

    References:
        Wen et al., `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, ICLR 2022, whose
        code has the same root in another form.
    """
    check_count("classes", classes, 2)
    m = _checked_margin(variant, margin, scale, exponent, balance)
    row = _VARIANTS[variant]
    # In float64, whatever the precision of JAX, and now, under any transformation.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        g = _similarity(exponent)
        positive = scale * float(row.positive(g, jnp.float64(math.pi / 2), m))
        negative = scale * float(row.negative(g, jnp.float64(0.0), m))
    ratio = balance / ((1.0 - balance) * (classes - 1))
    tilt = (ratio - 1.0) / (2.0 * math.sqrt(ratio))
    middle = 0.5 * (math.log(ratio) - positive - negative)
    return middle + math.asinh(tilt * math.exp(0.5 * (negative - positive)))


def _checked_margin(
    variant: str, margin: Any, scale: Any, exponent: Any, balance: Any
) -> Any:
    """The margin, the paper's if it is None; raises if a number is out of range."""
    check_choice("variant", variant, tuple(_VARIANTS))
    row = _VARIANTS[variant]
    margin = row.margin if margin is None else margin
    check_range(f'margin of variant "{variant}"', margin, *row.range)
    check_range("scale", scale, 0.0, is_open=True)
    check_range("exponent", exponent, 1.0)
    check_range("balance", balance, 0.0, 1.0, is_open=True)
    return margin
