"""Softmax cross-entropy with a margin on the target, for any margin."""

from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp

from sphax._checks import as_array, check_choice, check_count, check_key
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import dot, widen
from sphax.losses._core.batch import as_batch, as_operands, masked_batch
from sphax.losses._core.blocked import Blocks, as_blocks, reduce_classes
from sphax.losses._core.class_logits import (
    DEFAULT_SCALE,
    Normalize,
    Rows,
    block_logits,
    check_normalize,
    check_scale,
    nearest_subcenter,
)
from sphax.margins import Margin, Target
from sphax.sphere import angle, length
from sphax.sphere import normalize as to_direction

Gradient = Literal["exact", "detached"]


class MarginAux(NamedTuple):
    """What :func:`margin_softmax` returns for logging, without gradient.

    Attributes:
        correct: Whether the target's logit, without the margin, is above all others,
            boolean, ``[...]``; false on a tie and where ``where`` masks.
        angle: Angle to the target in radians, ``[...]``.
        norm: Length of the embedding, ``[...]``.
        weight: Sum of the weights, the number of examples if there are none, ``[]``.
        margin: The margin for the next step: with its running state updated by this
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
    """Keyword arguments of both losses, without ``has_aux``."""

    scale: jax.typing.ArrayLike | None
    normalize: Normalize
    where: jax.typing.ArrayLike | None
    key: jax.Array | None
    block_size: int | None
    gradient: Gradient
    label_smoothing: jax.typing.ArrayLike
    class_axis: ClassAxis
    num_classes: int | None
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
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
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

    If the margin has more than :math:`\psi, \eta`, every call takes care of it: its
    running state is updated by the batch first and returned in ``aux.margin``, its
    random numbers are drawn from ``key``, its penalty is added to the loss.

    With label smoothing :math:`\epsilon` and :math:`C` classes, :math:`1 - \epsilon` of
    the mass stays on the target's logit with its margin, and the rest is spread evenly
    over the logits :math:`z^0_j` without one:

    .. math::
        L_\epsilon = \log \sum_j e^{z_j} - (1 - \epsilon) z_y
        - \frac{\epsilon}{C} \sum_j z^0_j.

    The matrix products run in the dtype of the inputs and accumulate in float32 at
    least; everything else is computed in float32 at least. With float16, scale the
    loss, as with any other one.

    **Classes on many devices.** Inside :func:`jax.shard_map`, ``class_axis`` names the
    axis of the mesh along which the classes are split: ``prototypes`` are then the
    classes of this device, as many on each, so that class ``j`` lies on device
    ``j // len(prototypes)``. Labels count over the classes of all devices. Embeddings
    and everything else are equal along the axis, and so are loss and ``aux``. With
    :math:`B` examples and :math:`D` features, a step sends neither logits nor
    prototypes. Forward, it sends numbers in float32: :math:`4B` bytes for the angles to
    the targets (:math:`8B` with ``"prototypes"``, :math:`12B` with ``"none"``),
    :math:`4B` for the largest logits (:math:`8B` with ``has_aux``) and :math:`4B` for
    the sums (:math:`8B` with label smoothing). Backward, it sends the gradient of the
    embeddings alone, :math:`4BD` bytes. :mod:`sphax.sharding` has the same functions
    for arrays outside of ``shard_map``. A gradient that is taken inside of it needs
    ``check_vma=True``, the default.

    Args:
        embeddings: :math:`x`, floating, ``[..., features]``.
        prototypes: :math:`w`, floating, ``[classes, features]``, one row per class; or
            ``[classes, k, features]``, with k sub-centers, of which the nearest counts
            and has the gradient (the first of several equally near).
        labels: :math:`y`, integer, ``[...]``, in ``[0, classes)``. There is no ignored
            label: any other makes loss and gradients NaN, unless ``where`` masks it.
        margin: A margin of :mod:`sphax.margins`; hyperparameters may have the shape of
            ``labels``, one for each example.
        scale: :math:`s`, positive, a scalar or of the shape of ``labels``, which may be
            traced and differentiated; 64 if not given. For ``normalize="both"`` alone.
        normalize: Which vectors count by their direction only, see the table.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them reaches nothing. A
            negative weight raises, or makes the loss NaN where ``where`` is traced.
        key: Random key for a margin that draws, another one in every step.
        block_size: Number of classes handled at a time; ``None`` for all at once. The
            blocked form keeps no array of ``batch x classes``, forms its logits twice,
            and has no forward-mode derivative. If the prototypes may be sharded, a
            block has as many classes of every device, one or more, and no prototype is
            sent to another device.
        gradient: ``"exact"``, or ``"detached"`` for the values of the margin with the
            gradient of the plain cosine (characteristic gradient detachment).
        label_smoothing: :math:`\epsilon`, in ``[0, 1)``.
        class_axis: Axis of the mesh, or a tuple of axes from major to minor, along
            which the classes are split, inside :func:`jax.shard_map`; see above.
        num_classes: Number of classes, if rows of ``prototypes`` at the end, on all
            devices together, stand for no class. Such rows have no mass and exactly
            zero gradient. Known when the function is compiled.
        has_aux: Whether to return ``(loss, aux)`` with a :class:`MarginAux`; needed by
            a margin that keeps a running state.
        precision: Precision of the matrix products, as in :func:`jax.lax.dot_general`.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. A zero embedding or prototype has cosine 0, and a zero gradient
        where its direction is needed; so has the target's part at angles 0 and pi.

    Raises:
        TypeError: If an argument has the wrong kind of dtype, ``margin`` is not a
            ``Margin``, or ``block_size`` is traced.
        ValueError: If shapes do not fit, an option is out of range, ``class_axis`` is
            not an axis of a ``shard_map`` around the call, or the margin needs a key or
            ``has_aux`` that is not given.

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
        class_axis=class_axis,
        num_classes=num_classes,
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
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
    has_aux: bool = False,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array | tuple[jax.Array, MarginAux]:
    """The losses that :func:`margin_softmax` averages, for reweighting and mining.

    All arguments are those of :func:`margin_softmax`. Of ``where``, only zeros have an
    effect: such examples are left out, with loss 0.

    Returns:
        Losses, ``[...]``, float32 at least; ``(losses, aux)`` if ``has_aux``.

    Raises:
        TypeError: For the same reasons as :func:`margin_softmax`.
        ValueError: For the same reasons as :func:`margin_softmax`.

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
        class_axis=class_axis,
        num_classes=num_classes,
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
    class_axis,
    num_classes,
    has_aux,
    precision,
    is_mean,
):
    """The losses, or their mean: checks the arguments and calls what is compiled."""
    check_margin_softmax(
        margin,
        normalize=normalize,
        gradient=gradient,
        label_smoothing=label_smoothing,
        block_size=block_size,
    )
    if margin.keeps_state and not has_aux:
        raise ValueError(
            f"{type(margin).__name__} keeps a running state, which would stand still:"
            " call with has_aux=True and go on with aux.margin."
        )
    embeddings, prototypes = as_operands(embeddings, prototypes, ranks=(2, 3))
    labels, where = as_batch(embeddings, labels, where)
    check_normalize(normalize, has_subcenters=prototypes.ndim == 3)
    check_scale(scale, normalize, labels.shape)
    if key is not None:
        check_key(key)
    is_number = isinstance(label_smoothing, (int, float))
    outcome = _losses(
        embeddings,
        prototypes,
        labels,
        margin,
        DEFAULT_SCALE if scale is None else scale,
        label_smoothing,
        where,
        key,
        normalize=normalize,
        is_detached=gradient == "detached",
        is_smoothed=not (is_number and label_smoothing == 0),
        classes=as_class_axis(class_axis, num_classes, len(prototypes)),
        blocks=as_blocks(block_size, prototypes),
        precision=precision,
        is_mean=is_mean,
        has_aux=has_aux,
    )
    if not has_aux or margin.keeps_state:
        return outcome
    losses, aux = outcome
    return losses, aux._replace(margin=margin)


@compiled(
    "normalize",
    "is_detached",
    "is_smoothed",
    "classes",
    "blocks",
    "precision",
    "is_mean",
    "has_aux",
)
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
    normalize: Normalize,
    is_detached: bool,
    is_smoothed: bool,
    classes: Classes,
    blocks: Blocks | None,
    precision: jax.lax.PrecisionLike,
    is_mean: bool,
    has_aux: bool,
) -> Any:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, classes.number
    )
    x_length = length(widen(x))  # equal on all devices, if classes lie on several
    x, prototypes = vary_alike(x, prototypes)

    # The target, from the vectors themselves: its angle is exact however small.
    x_wide, target_prototype = widen(x), widen(classes.take(prototypes, labels))
    target_prototype = nearest_subcenter(x_wide, target_prototype)
    measured = [angle(x_wide, target_prototype)]
    if normalize == "none":
        measured += dot(x_wide, target_prototype), length(target_prototype)
    elif normalize == "prototypes":
        measured += [dot(x_wide, to_direction(target_prototype))]
    theta, *products = classes.from_owners(measured, labels)
    target = Target(theta, x_length, is_kept=weights != 0.0)
    margin = margin.update(jax.lax.stop_gradient(target))
    active = margin.for_batch(target, key)
    cosine = jnp.cos(target.angle)
    added = active(target.angle) - cosine
    if is_detached:
        added = jax.lax.stop_gradient(added)
    if normalize == "both":
        logit_scale = jnp.asarray(scale, dtype=target.angle.dtype)
        plain = logit_scale * cosine
        target_logit = logit_scale * (cosine + added)
    else:
        # The product itself keeps digits that lengths times a cosine would lose.
        logit_scale, plain = target.norm, products[0]
        if normalize == "none":
            added = products[1] * added
        target_logit = plain + target.norm * added

    # The other classes. `inner_products` forms the gradients of directions by itself,
    # but derivatives of these gradients pass through the lengths.
    is_modified = active.modifies_negatives
    x_lengths = target.norm if is_modified or normalize == "both" else None
    # Arrays, since the blocked form has a gradient to return for every leaf.
    negatives_margin = jax.tree.map(jnp.asarray, active) if is_modified else None
    others = reduce_classes(
        partial(
            block_logits,
            classes=classes,
            normalize=normalize,
            is_detached=is_detached,
            is_smoothed=is_smoothed,
            precision=precision,
        ),
        Rows(x, x_lengths, logit_scale, target.angle, negatives_margin),
        prototypes,
        labels,
        classes,
        blocks,
    )

    # softplus keeps the digits of a small loss, which log-sum-exp minus target loses.
    losses = jax.nn.softplus(others.log_sum - target_logit) + margin.penalty(target)
    if is_smoothed:
        mean = (others.total + plain) / classes.number
        losses = losses + label_smoothing * (target_logit - mean)
    if is_mean:
        losses = weighted_mean(jnp.where(target.is_kept, losses, 0.0), weights)
    else:
        # Multiplied, not replaced: the gradient has to be NaN as well.
        losses = losses * jnp.where(jnp.isnan(weights), jnp.nan, 1.0)
        losses = jnp.where(target.is_kept, losses, 0.0)
    if not has_aux:
        return losses
    correct = target.is_kept & (plain > others.largest)
    logged = correct, target.angle, target.norm, jnp.sum(weights)
    return losses, MarginAux(*jax.lax.stop_gradient(logged), margin)


def check_margin_softmax(
    margin: Margin,
    *,
    scale: jax.typing.ArrayLike | None = None,
    normalize: Normalize = "both",
    subcenters: int = 1,
    block_size: int | None = None,
    gradient: Gradient = "exact",
    label_smoothing: jax.typing.ArrayLike = 0.0,
) -> None:
    """Checks options of :func:`margin_softmax` before there is a batch.

    For a layer that stores them, so that a wrong one raises where it is given.

    Args:
        margin: The margin.
        scale: The scale, None or a scalar.
        normalize: Which vectors count by their direction only.
        subcenters: Number of prototypes for each class.
        block_size: Number of classes handled at a time, or None.
        gradient: ``"exact"`` or ``"detached"``.
        label_smoothing: Share of the other classes, in ``[0, 1)``.

    Raises:
        TypeError: If ``margin`` is not a ``Margin``, or another option is of the wrong
            kind.
        ValueError: If an option is out of range.

    Example:
        >>> sx.losses.check_margin_softmax(sx.margins.ArcFace(), scale=64.0)
        >>> sx.losses.check_margin_softmax(sx.margins.ArcFace)
        Traceback (most recent call last):
        TypeError: margin must be a sphax.margins.Margin, got the class: call it, as in
            ArcFace().
    """
    if isinstance(margin, type) and issubclass(margin, Margin):
        raise TypeError(
            f"margin must be a sphax.margins.Margin, got the class: call it, as in"
            f" {margin.__name__}()."
        )
    if isinstance(margin, (int, float)):
        raise TypeError(
            "margin must be a sphax.margins.Margin, got a number; say what it is of, as"
            f" in ArcFace(margin={margin}) or CosFace(margin={margin})."
        )
    if not isinstance(margin, Margin):
        raise TypeError(
            "margin must be a sphax.margins.Margin, such as ArcFace() or NoMargin(),"
            f" got {margin!r}; a function of the angle is wrapped by Psi(function)."
        )
    check_normalize(normalize, has_subcenters=subcenters > 1)
    check_choice("gradient", gradient, ("exact", "detached"))
    check_scale(scale, normalize, ())
    if block_size is not None:
        check_count("block_size", block_size)
    as_array("label_smoothing", label_smoothing)
    if isinstance(label_smoothing, (int, float)) and not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}.")
    if jnp.shape(label_smoothing) != ():
        raise ValueError(
            f"label_smoothing must be a scalar, got shape {jnp.shape(label_smoothing)}."
        )
