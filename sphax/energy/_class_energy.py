"""Energy of very many class prototypes, estimated from the labels of a batch."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import (
    as_classes,
    as_floating,
    as_integers,
    as_labels,
    check_choice,
)
from sphax._class_axis import ClassAxis, Classes, as_class_axis, vary_alike
from sphax._compiled import compiled
from sphax._masking import as_weights, total_pair_weight
from sphax._numerics import divide
from sphax.energy._hyperspherical import (
    Distance,
    as_options,
    energy_between,
    energy_within,
)
from sphax.energy._pairs._tiles import weight_between

Against = Literal["all", "present"]


def class_energy(
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    *,
    against: Against = "all",
    frequencies: jax.typing.ArrayLike | None = None,
    power: jax.typing.ArrayLike = 1.0,
    distance: Distance = "euclidean",
    half_space: bool = False,
    where: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
) -> jax.Array:
    r"""Unbiased estimate of the energy of all prototypes, from those of a batch.

    The energy of :math:`N` prototypes is a mean over :math:`N (N - 1)` pairs. With
    ``"all"``, it is taken over pairs of a class of the batch and any other class; with
    ``"present"``, over pairs of two classes of the batch.

    Without ``frequencies``, each class that is present counts once, however often it
    occurs. The mean over their pairs is unbiased if labels are drawn without favoring a
    class, be it with or without replacement or some examples of each of some classes,
    given that there are pairs at all. On unbalanced data, frequent classes count more.

    With ``frequencies`` :math:`q`, it is unbiased whatever they are, if labels are
    drawn independently (for ``"all"``, if each label has these frequencies, independent
    or not): a batch of :math:`B` labels :math:`y` with
    :math:`\bar e_i = \operatorname{mean}_{j \ne i} f(\rho_{ij})` gives

    .. math::
        \frac1B \sum_b \frac{\bar e_{y_b}}{N q_{y_b}} \qquad\text{or}\qquad
        \frac{1}{B (B - 1) N (N - 1)}
        \sum_{y_a \ne y_b} \frac{f(\rho_{y_a y_b})}{q_{y_a} q_{y_b}}

    where rare classes have large weights, and the second form is 0 for a batch of one
    class.

    Args:
        prototypes: One direction for each class, floating, ``[classes, features]``;
            their lengths do not count.
        labels: Classes of the batch, integer, ``[batch]``, in ``[0, classes)``.
        against: ``"all"`` or ``"present"``.
        frequencies: How often each class occurs, up to a factor (counts will do),
            positive, ``[classes]``; a constant. By default all classes are alike.
        power: :math:`s`, like the options below the same as in
            :func:`hyperspherical_energy`.
        distance: ``"euclidean"``, the chord, or ``"geodesic"``, the angle.
        half_space: Whether a prototype stands for its mirror image as well.
        where: Boolean mask or weights of the labels, ``[batch]``; weights count with
            ``frequencies`` only. Masked labels are not in the batch.
        block_size: Side of a tile of pairs; no array has the size of batch times
            classes.
        class_axis: Axis or axes of the mesh, inside :func:`jax.shard_map`, along which
            the classes are split; see :func:`sphax.losses.margin_softmax`. Prototypes
            and frequencies are then those of this device. The prototypes of the labels
            travel, ``batch * features`` numbers, and their gradient.
        num_classes: How many classes exist; rows beyond are padding.

    Returns:
        The estimate, a scalar in float32 at least; 0, with zero gradient, when no pair
        is left. Singular points are those of :func:`hyperspherical_energy`. NaN, with
        the gradient of the classes of the batch, if a label is not in
        ``[0, classes)``, unless masked.

    Raises:
        TypeError: If ``prototypes`` are not floating, or ``labels`` not integer.
        ValueError: If shapes do not fit, ``against`` is unknown, or by
            :func:`hyperspherical_energy`.

    Example:
        SphereFace+ adds the energy of the classes of the batch to SphereFace's loss:

        >>> def sphereface_plus(embeddings, prototypes, labels, *, weight=1.0):
        ...     loss = sx.losses.margin_softmax(
        ...         embeddings, prototypes, labels, sx.margins.SphereFace(m=4),
        ...         normalize="prototypes")
        ...     return loss + weight * sx.energy.class_energy(
        ...         prototypes, labels, against="present", power=2, distance="geodesic")
        >>> sphereface_plus(2.0 * jnp.eye(2), jnp.eye(2), jnp.arange(2))  # + (2 / pi)^2
        Array(0.53221, dtype=float32)

    References:
        Liu et al., `Learning towards Minimum Hyperspherical Energy
        <https://arxiv.org/abs/1805.09298>`_, NeurIPS 2018 (SphereFace+, minibatches).
    """
    check_choice("against", against, ("all", "present"))
    options, array_power = as_options(power, distance, half_space, block_size)
    prototypes, batch, classes = as_batch(
        prototypes, labels, where, class_axis, num_classes
    )
    if frequencies is not None:
        frequencies = jax.lax.stop_gradient(jnp.asarray(frequencies))
        frequencies = frequencies.astype(batch.weights.dtype)
        if frequencies.shape != (classes.rows,):
            raise ValueError(
                f"frequencies must be [classes], ({classes.rows},), got"
                f" {frequencies.shape}."
            )
    return _class_energy(
        options,
        array_power,
        prototypes,
        batch,
        frequencies,
        against=against,
        classes=classes,
    )


@compiled("options", "against", "classes")
def _class_energy(
    options, power, prototypes, batch, frequencies, *, against, classes: Classes
):
    labels, each, nan_if_unknown = batch
    if not len(labels) or not classes.rows:
        return jnp.zeros((), each.dtype) * nan_if_unknown
    # Each class has a weight at its first label only, so that it makes no pair with
    # itself.
    is_there = each != 0.0
    is_same = (labels[:, None] == labels[None, :]) & is_there[None, :]
    is_first = is_there & (jnp.argmax(is_same, axis=1) == jnp.arange(len(labels)))
    exists = None
    if classes.is_padded:
        exists = jnp.arange(classes.rows) < classes.number - classes.start()
    # The weighted mean over pairs, times the correction, is the estimate.
    if frequencies is None:
        weights, correction = is_first, 1.0
    else:
        total = classes.sum(jnp.sum(frequencies, where=exists))
        of_labels = classes.sum(classes.take(frequencies, labels)) / total
        rarity = divide(each, classes.number * of_labels)
        of_class = jnp.sum(jnp.where(is_same, rarity[None, :], 0), 1)
        weights = jnp.where(is_first, of_class, 0)
        if against == "all":
            correction = divide(jnp.sum(weights), jnp.sum(each))
        else:
            correction = divide(total_pair_weight(weights), total_pair_weight(each))
            correction = correction * classes.number / max(classes.number - 1, 1)
    points = classes.sum(classes.take(prototypes, labels))
    if against == "present":
        energy = energy_within(options, power, points, weights)
    else:
        sides = points, weights.astype(each.dtype), prototypes, exists
        energy = _mean_against_all(options, power, *sides, labels, classes)
    return correction * energy * nan_if_unknown


def _mean_against_all(
    options, power, points, weights, prototypes, exists, labels, classes: Classes
):
    """Mean energy of the pairs of points and all classes' prototypes."""
    if not classes.axes:
        return energy_between(
            options, power, points, weights, prototypes, exists, labels
        )
    # Elsewhere, a label is the number of no row.
    power, points, weights, prototypes, exists, labels = vary_alike(
        power, points, weights, prototypes, exists, labels - classes.start()
    )
    mean = energy_between(options, power, points, weights, prototypes, exists, labels)
    ones = jnp.ones_like(prototypes[:, 0], weights.dtype)
    ones = ones if exists is None else jnp.where(exists, ones, 0.0)
    pair_weight = weight_between(weights, ones, labels)
    return divide(*classes.sum((mean * pair_weight, pair_weight)))


class Batch(NamedTuple):
    """Labels ``[batch]`` that index prototypes."""

    labels: jax.Array
    weights: jax.Array  # in float32 at least
    nan_if_unknown: jax.Array  # a factor: an unknown label must not train silently


def as_batch(
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    where: jax.typing.ArrayLike | None,
    class_axis: ClassAxis = None,
    num_classes: int | None = None,
) -> tuple[jax.Array, Batch, Classes]:
    """Prototypes ``[classes, features]`` and labels as arrays; raises unless they fit.

    Labels that are of no class become 0.
    """
    prototypes = as_floating("prototypes", prototypes)
    if prototypes.ndim != 2:
        raise ValueError(
            f"prototypes must be [classes, features], got shape {prototypes.shape}."
        )
    array = as_integers("labels", labels)
    labels = as_labels(array, array.shape[:1], "a batch of embeddings")
    where = as_weights(where, labels.shape, "labels")
    dtype = jnp.promote_types(prototypes.dtype, jnp.float32)
    weights = jnp.ones(labels.shape, dtype) if where is None else where.astype(dtype)
    classes = as_class_axis(class_axis, num_classes, len(prototypes))
    numbers, is_class = as_classes(labels, classes.number)
    are_known = jnp.all(is_class | (weights == 0.0))
    factor = jnp.where(are_known, 1.0, jnp.nan).astype(dtype)
    return prototypes, Batch(numbers, weights, factor), classes
