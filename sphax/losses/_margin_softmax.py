"""Softmax cross-entropy with a margin on the target, for any margin."""

from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_key
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax.losses import _checks
from sphax.losses._blocks import Blocks, as_blocks
from sphax.losses._examples import as_examples
from sphax.losses._negatives import Form, Normalize, make_rows, negatives
from sphax.losses._target import gather, target_logit, target_of
from sphax.margins import Margin

Gradient = Literal["exact", "detached"]

# CosFace's and ArcFace's.
DEFAULT_SCALE = 64.0


class MarginAux(NamedTuple):
    """What training logs of a :func:`margin_softmax`, without gradient.

    Attributes:
        correct: Whether the target's logit, without the margin, is above all others,
            boolean, ``[...]``; false on a tie and where ``where`` masks.
        angle: Angle to the target in radians, ``[...]``.
        norm: Length of the embedding, ``[...]``.
        weight: Sum of the weights, the number of examples if there are none, ``[]``.
        margin: The margin for the next step: with its running state brought up to this
            batch, if it keeps one, else the margin that was given.

    Example:
        >>> x, labels, margin = jnp.eye(3), jnp.array([0, 2, 2]), sx.margins.ArcFace()
        >>> loss, aux = sx.losses.margin_softmax(x, x, labels, margin, has_aux=True)
        >>> print(aux.correct, aux.weight)
        [ True False  True] 3.0
    """

    correct: jax.Array
    angle: jax.Array
    norm: jax.Array
    weight: jax.Array
    margin: Margin


class _Options(TypedDict, total=False):
    """What both losses take beside ``has_aux``."""

    scale: jax.typing.ArrayLike | None
    normalize: Normalize
    where: jax.typing.ArrayLike | None
    key: jax.Array | None
    block_size: int | None
    gradient: Gradient
    label_smoothing: jax.typing.ArrayLike
    precision: jax.lax.PrecisionLike


@overload
def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    has_aux: Literal[False] = False,
    **options: Unpack[_Options],
) -> jax.Array: ...


@overload
def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    has_aux: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, MarginAux]: ...


@explain_names(OF_LOSSES)
def margin_softmax(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Normalize = "both",
    where: jax.typing.ArrayLike | None = None,
    key: jax.Array | None = None,
    block_size: int | None = None,
    gradient: Gradient = "exact",
    label_smoothing: jax.typing.ArrayLike = 0.0,
    has_aux: bool = False,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array | tuple[jax.Array, MarginAux]:
    r"""Mean softmax cross-entropy with a margin on the target.

    With :math:`\theta_j` the angle between embedding :math:`x` and prototype
    :math:`w_j`, target :math:`y`, and :math:`\psi, \eta` of the margin (:math:`\eta` is
    the cosine unless the margin says otherwise),

    .. math::
        L = \log\Big(1 + \sum_{j \ne y} e^{z_j - z_y}\Big), \qquad
        z_y = r_y\, \psi(\theta_y), \quad z_j = r_j\, \eta(\theta_j).

    ======================  =======================  ==========================
    ``normalize``           :math:`r_j`              without a margin
    ======================  =======================  ==========================
    ``"both"``              :math:`s`                :math:`s \cos\theta_j`
    ``"prototypes"``        :math:`\|x\|`            :math:`x \cdot \hat w_j`
    ``"none"``              :math:`\|x\| \|w_j\|`    :math:`x \cdot w_j`
    ======================  =======================  ==========================

    L-Softmax is ``SphereFace`` with ``"none"``, A-Softmax with ``"prototypes"``;
    CosFace, ArcFace and the others take ``"both"``. The target's angle is formed from
    the vectors, so that its gradient is right however small the angle.

    What a margin asks for beyond :math:`\psi, \eta` is done here, in every call: its
    running state is brought up to the batch first and returned in ``aux.margin``, its
    draws are made from ``key``, its penalty is added to the loss.

    With label smoothing :math:`\epsilon` and :math:`C` classes, :math:`1 - \epsilon` of
    the mass stays on the target's logit with its margin, and the rest lies evenly on
    the logits :math:`z^0_j` without one:

    .. math::
        L_\epsilon = \log \sum_j e^{z_j} - (1 - \epsilon) z_y
        - \frac{\epsilon}{C} \sum_j z^0_j.

    The matrix products run in the dtype of the inputs and accumulate in float32 at
    least; everything else is computed in float32 at least. With float16, scale the
    loss, as with any other one.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        prototypes: :math:`w`, floating, ``[classes, features]``, a row for each class;
            or ``[classes, k, features]``, with k sub-centres, of which the nearest
            counts and has the gradient (the first of several equally near).
        labels: :math:`y`, integer, ``[...]``, in ``[0, classes)``. There is no ignored
            label: any other makes loss and gradients NaN, unless ``where`` masks it.
        margin: One of :mod:`sphax.margins`; hyperparameters may have the shape of
            ``labels``, one for each example.
        scale: :math:`s`, positive, a scalar or of the shape of ``labels``, which may be
            traced and differentiated; 64 if not given. For ``normalize="both"`` alone.
        normalize: Which vectors count by their direction only.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing. A
            negative weight raises, or makes the loss NaN where ``where`` is traced.
        key: For a margin that draws, another one in every step.
        block_size: Number of classes handled at a time; ``None`` for all at once. The
            blocked form keeps no array of ``batch x classes``, forms its logits twice,
            and has no forward-mode derivative. Where a mesh may spread the prototypes,
            a block has as many of every device, one or more, and none is sent to
            another device.
        gradient: ``"exact"``, or ``"detached"`` for the values of the margin with the
            gradient of the plain cosine (characteristic gradient detachment).
        label_smoothing: :math:`\epsilon`, in ``[0, 1)``.
        has_aux: Whether to return ``(loss, aux)`` with a :class:`MarginAux`; needed by
            a margin that keeps a running state.
        precision: Of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or prototype has cosine 0, and a zero gradient
        where its direction is needed; so has the target's part at angles 0 and pi.

    Raises:
        TypeError: If an argument has the wrong kind of dtype, ``margin`` is not one, or
            ``block_size`` is traced.
        ValueError: If shapes do not fit, an option is out of range, or the margin needs
            a key or ``has_aux`` and there is none.

    Example:
        >>> x, w = jnp.eye(2, 3), jnp.eye(4, 3)
        >>> labels, margin = jnp.array([0, 2]), sx.margins.ArcFace(margin=0.5)
        >>> sx.losses.margin_softmax(x, w, labels, margin, scale=2.0)
        Array(1.8281125, dtype=float32)

    References:
        Liu et al., `Large-Margin Softmax Loss <https://arxiv.org/abs/1612.02295>`_,
        ICML 2016, Eq. 4; Liu et al., `SphereFace Revived
        <https://arxiv.org/abs/2109.05565>`_, TPAMI 2022 (detachment).
    """
    return _evaluate(
        embeddings,
        prototypes,
        labels,
        margin,
        scale=scale,
        normalize=normalize,
        where=where,
        key=key,
        block_size=block_size,
        gradient=gradient,
        label_smoothing=label_smoothing,
        has_aux=has_aux,
        precision=precision,
        is_mean=True,
    )


@overload
def margin_softmax_per_example(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    has_aux: Literal[False] = False,
    **options: Unpack[_Options],
) -> jax.Array: ...


@overload
def margin_softmax_per_example(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    has_aux: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, MarginAux]: ...


@explain_names(OF_LOSSES)
def margin_softmax_per_example(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    margin: Margin,
    *,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Normalize = "both",
    where: jax.typing.ArrayLike | None = None,
    key: jax.Array | None = None,
    block_size: int | None = None,
    gradient: Gradient = "exact",
    label_smoothing: jax.typing.ArrayLike = 0.0,
    has_aux: bool = False,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array | tuple[jax.Array, MarginAux]:
    """The losses that :func:`margin_softmax` averages, for reweighting and mining.

    Args:
        embeddings: See :func:`margin_softmax`, as for all arguments but ``where``.
        prototypes: As there.
        labels: As there.
        margin: As there.
        scale: As there.
        normalize: As there.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are left out, with loss 0; other weights have no effect here.
        key: As there.
        block_size: As there.
        gradient: As there.
        label_smoothing: As there.
        has_aux: As there.
        precision: As there.

    Returns:
        Losses, ``[...]``, float32 at least; ``(losses, aux)`` if ``has_aux``.

    Raises:
        TypeError: As :func:`margin_softmax`.
        ValueError: As :func:`margin_softmax`.

    Example:
        >>> x, w = jnp.eye(2, 3), jnp.eye(4, 3)
        >>> labels, margin = jnp.array([0, 2]), sx.margins.CosFace()
        >>> sx.losses.margin_softmax_per_example(x, w, labels, margin, scale=2.0)
        Array([0.59751445, 2.9910834 ], dtype=float32)
    """
    return _evaluate(
        embeddings,
        prototypes,
        labels,
        margin,
        scale=scale,
        normalize=normalize,
        where=where,
        key=key,
        block_size=block_size,
        gradient=gradient,
        label_smoothing=label_smoothing,
        has_aux=has_aux,
        precision=precision,
        is_mean=False,
    )


def _evaluate(
    embeddings,
    prototypes,
    labels,
    margin,
    *,
    scale,
    normalize,
    where,
    key,
    block_size,
    gradient,
    label_smoothing,
    has_aux,
    precision,
    is_mean,
):
    """The mean of the losses, or the losses, of arguments that it checks."""
    _checks.check_margin(margin, has_aux=has_aux)
    embeddings, prototypes = _checks.as_operands(embeddings, prototypes, ranks=(2, 3))
    labels, where = _checks.as_batch(embeddings, labels, where)
    check_choice("normalize", normalize, ("both", "prototypes", "none"))
    check_choice("gradient", gradient, ("exact", "detached"))
    _checks.check_subcenters(prototypes, normalize)
    _checks.check_scale(scale, normalize, labels.shape)
    _checks.check_label_smoothing(label_smoothing)
    _checks.check_block_size(block_size)
    if key is not None:
        check_key(key)
    is_number = isinstance(label_smoothing, (int, float))
    is_smoothed = not (is_number and label_smoothing == 0)
    outcome = _losses(
        embeddings,
        prototypes,
        labels,
        margin,
        DEFAULT_SCALE if scale is None else scale,
        label_smoothing,
        where,
        key,
        form=Form(normalize, gradient == "detached", is_smoothed, precision),
        blocks=as_blocks(block_size, prototypes),
        is_mean=is_mean,
        has_aux=has_aux,
    )
    if not has_aux or margin.keeps_state:
        return outcome
    losses, aux = outcome
    return losses, aux._replace(margin=margin)


@compiled("form", "blocks", "is_mean", "has_aux")
def _losses(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    margin: Margin,
    scale: jax.typing.ArrayLike,
    label_smoothing: jax.typing.ArrayLike,
    where: jax.Array | None,
    key: jax.Array | None,
    *,
    form: Form,
    blocks: Blocks | None,
    is_mean: bool,
    has_aux: bool,
) -> Any:
    examples = as_examples(embeddings, prototypes, labels, where)
    gathered = gather(examples, prototypes)
    target = target_of(gathered, examples)
    margin = margin.update(jax.lax.stop_gradient(target))
    current = margin.for_batch(target, key)
    own = target_logit(form, gathered, target, current, scale)
    rows = make_rows(form, examples.embeddings, own.radius, target.angle, current)
    others = negatives(form, blocks, rows, prototypes, examples.labels)
    # softplus keeps the digits of a small loss, which log-sum-exp minus target loses.
    losses = jax.nn.softplus(others.log_sum - own.logit) + margin.penalty(target)
    if others.total is not None:
        mean = (others.total + own.plain) / prototypes.shape[0]
        losses = losses + label_smoothing * (own.logit - mean)
    if is_mean:
        losses = weighted_mean(jnp.where(target.is_kept, losses, 0.0), examples.weights)
    else:
        # Multiplied, not replaced: the gradient has to be NaN as well.
        losses = losses * jnp.where(jnp.isnan(examples.weights), jnp.nan, 1.0)
        losses = jnp.where(target.is_kept, losses, 0.0)
    if not has_aux:
        return losses
    correct = target.is_kept & (own.plain > others.nearest)
    logged = correct, target.angle, target.norm, jnp.sum(examples.weights)
    return losses, MarginAux(*jax.lax.stop_gradient(logged), margin)
