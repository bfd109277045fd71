"""The target's part of a margin softmax, from gathered vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._numerics import dot, widen
from sphax.losses._examples import Examples
from sphax.losses._negatives import Form
from sphax.losses._subcenters import nearest_vectors
from sphax.margins import Margin, Target
from sphax.sphere import angle, length
from sphax.sphere import normalize as to_direction


class TargetLogit(NamedTuple):
    """The target class of every example, ``[...]`` each."""

    logit: jax.Array
    plain: jax.Array  # without a margin
    radius: jax.Array  # what a cosine is multiplied by; [] or [...]


class Gathered(NamedTuple):
    """Embeddings and targets' prototypes, ``[..., features]``, float32 at least."""

    vectors: jax.Array
    own: jax.Array


def gather(examples: Examples, prototypes: jax.Array) -> Gathered:
    """The vectors of which the target's logit is made."""
    vectors, own = widen(examples.embeddings), widen(prototypes[examples.labels])
    return Gathered(vectors, nearest_vectors(vectors, own))


def target_of(gathered: Gathered, examples: Examples) -> Target:
    """What a margin may know of the target."""
    vectors, own = gathered
    return Target(angle(vectors, own), length(vectors), examples.weights != 0.0)


def target_logit(
    form: Form,
    gathered: Gathered,
    target: Target,
    margin: Margin,
    scale: jax.typing.ArrayLike,
) -> TargetLogit:
    """The target's logit, with and without the margin."""
    vectors, own = gathered
    cosine = jnp.cos(target.angle)
    added = margin(target.angle) - cosine
    if form.is_detached:
        added = jax.lax.stop_gradient(added)
    if form.normalize == "both":
        radius = jnp.asarray(scale, dtype=target.angle.dtype)
        return TargetLogit(radius * (cosine + added), radius * cosine, radius)
    if form.normalize == "none":
        plain = dot(vectors, own)
        logit = plain + target.norm * length(own) * added
    else:
        plain = dot(vectors, to_direction(own))
        logit = plain + target.norm * added
    return TargetLogit(logit, plain, target.norm)
