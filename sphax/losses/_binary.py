"""Binary classification of every class by itself (SphereFace2)."""

import math
from functools import partial
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphax._checks import as_floating, check_choice
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses import _checks
from sphax.losses._blocks import Blocks, as_blocks
from sphax.losses._class_sums import sum_over_others
from sphax.losses._examples import as_examples
from sphax.losses._numbers import as_scalar, check_range
from sphax.sphere import angle

Variant = Literal["C", "A", "M"]
Gradient = Literal["exact", "detached"]

# The paper's; lowest value and the first that is too high.
_MARGINS = {"C": 0.4, "A": 0.5, "M": 1.7}
_RANGES = {"C": (0.0, 2.0), "A": (0.0, math.pi), "M": (1.0, math.inf)}


class _Head(NamedTuple):
    """What the logits depend on beside the vectors, ``[]`` each."""

    bias: Any
    margin: Any
    scale: Any
    exponent: Any


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
        prototypes: Floating, ``[classes, features]``, a row for each class.
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
        precision: Of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or prototype is at a right angle to all, with
        zero gradient; so has the target's part at angles 0 and pi.

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
    embeddings, prototypes = _checks.as_operands(embeddings, prototypes)
    margin = _checked(variant, margin, scale, exponent, balance)
    check_choice("gradient", gradient, ("exact", "detached"))
    _checks.check_block_size(block_size)
    labels, where = _checks.as_batch(embeddings, labels, where)
    dtype = jnp.result_type(embeddings, prototypes, jnp.float32)
    head = _Head(as_floating("bias", bias), margin, scale, exponent)
    head = _Head(*(as_scalar(name, x, dtype) for name, x in head._asdict().items()))
    return _sphereface2(
        embeddings,
        prototypes,
        labels,
        where,
        head,
        as_scalar("balance", balance, dtype),
        variant=variant,
        is_detached=gradient == "detached",
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
    )


@compiled("variant", "is_detached", "blocks", "precision")
def _sphereface2(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    head: _Head,
    balance: jax.Array,
    *,
    variant: Variant,
    is_detached: bool,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    examples = as_examples(embeddings, prototypes, labels, where)
    logit = partial(_logit, is_detached, head)
    own = prototypes[examples.labels].astype(examples.embeddings.dtype)
    theta = angle(examples.embeddings, own)
    positive = logit(jnp.cos(theta), _positive(variant, head, theta))
    negatives = sum_over_others(
        partial(_negative_loss, variant, is_detached),
        head,
        examples,
        prototypes,
        blocks=blocks,
        precision=precision,
    )
    losses = balance * jax.nn.softplus(-positive) + (1.0 - balance) * negatives
    return weighted_mean(losses / head.scale, examples.weights)


def sphereface2_bias(
    classes: int,
    *,
    variant: Variant = "C",
    margin: float | None = None,
    scale: float = 40.0,
    exponent: float = 3.0,
    balance: float = 0.7,
) -> float:
    r"""Bias with which a :func:`sphereface2` starts in balance.

    Where all cosines are 0, as about they are at the start, the gradients of the
    positive and of all the negatives by :math:`b` cancel:

    .. math::
        \alpha\, \sigma(-r p_0 - b) = (1 - \alpha)(C - 1)\, \sigma(r q_0 + b),

    :math:`\sigma` the logistic function, :math:`p_0, q_0` of :func:`sphereface2` at a
    right angle. With :math:`\zeta = \alpha / ((1 - \alpha)(C - 1))` it is solved by

    .. math::
        b = \tfrac12 \ln \zeta - \tfrac r2 (p_0 + q_0) + \operatorname{arsinh}\Big(
            \tfrac{\zeta - 1}{2\sqrt\zeta}\, e^{r (q_0 - p_0) / 2}\Big).

    Args:
        classes: :math:`C`, at least 2.
        variant: As in :func:`sphereface2`, as for the rest.
        margin: As there.
        scale: As there.
        exponent: As there.
        balance: As there.

    Returns:
        The bias, a Python float.

    Raises:
        ValueError: If ``classes`` is below 2 or another argument out of range.

    Example:
        >>> sx.losses.sphereface2_bias(8631)
        5.784568

    References:
        Wen et al., `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, ICLR 2022, whose
        code has the same root in another form.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}.")
    margin = _checked(variant, margin, scale, exponent, balance)
    head = _Head(0.0, margin, scale, exponent)
    # NumPy: in float64, whatever the precision of JAX.
    positive = scale * float(_positive(variant, head, np.float64(math.pi / 2), np))
    negative = scale * float(_negative(variant, head, np.float64(0.0), np))
    ratio = balance / ((1.0 - balance) * (classes - 1))
    tilt = (ratio - 1.0) / (2.0 * math.sqrt(ratio))
    middle = 0.5 * (math.log(ratio) - positive - negative)
    return middle + math.asinh(tilt * math.exp(0.5 * (negative - positive)))


def _positive(variant: Variant, head: _Head, theta: Any, xp: ModuleType = jnp) -> Any:
    """The target's similarity with its margin, from the angle."""
    if variant == "C":
        return _similarity(head, xp.cos(theta), xp) - head.margin
    moved = theta + head.margin if variant == "A" else theta * head.margin
    return _similarity(head, xp.cos(xp.minimum(moved, math.pi)), xp)


def _negative(variant: Variant, head: _Head, cosines: Any, xp: ModuleType = jnp) -> Any:
    """The similarity to another class with its margin, from the cosine."""
    similarity = _similarity(head, cosines, xp)
    return similarity + head.margin if variant == "C" else similarity


def _similarity(head: _Head, cosines: Any, xp: ModuleType) -> Any:
    half = 0.5 * (1.0 + cosines)
    # A cosine may leave [-1, 1] by rounding, where a power does not exist.
    return 2.0 * xp.where(half < 0.0, 0.0, half) ** head.exponent - 1.0


def _logit(
    is_detached: bool, head: _Head, cosines: jax.Array, similarity: jax.Array
) -> jax.Array:
    if is_detached:
        similarity = cosines + jax.lax.stop_gradient(similarity - cosines)
    return head.scale * similarity + head.bias


def _negative_loss(
    variant: Variant, is_detached: bool, head: _Head, cosines: jax.Array
) -> jax.Array:
    """What a class that is not the target adds."""
    similarity = _negative(variant, head, cosines)
    return jax.nn.softplus(_logit(is_detached, head, cosines, similarity))


def _checked(variant, margin, scale, exponent, balance):
    """The margin, the paper's if there is none; raises if a number is out of range."""
    check_choice("variant", variant, ("C", "A", "M"))
    margin = _MARGINS[variant] if margin is None else margin
    low, high = _RANGES[variant]
    check_range(f'margin of variant "{variant}"', margin, low, high)
    check_range("scale", scale, 0.0, is_open=True)
    check_range("exponent", exponent, 1.0)
    check_range("balance", balance, 0.0, 1.0, is_open=True)
    return margin
