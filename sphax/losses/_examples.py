"""Labelled examples, made safe to gather by and to average over."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sphax._checks import as_classes
from sphax._masking import zero_masked
from sphax._numerics import dot, widen
from sphax.losses._negatives import Normalize
from sphax.sphere import angle
from sphax.sphere import normalize as to_direction


class Examples(NamedTuple):
    """A batch of labelled embeddings."""

    embeddings: jax.Array  # zero where the weight is, [..., features]
    labels: jax.Array  # a class that exists, whatever was given, [...]
    weights: jax.Array  # NaN for an example that counts and whose label is no class


def as_examples(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
) -> Examples:
    """The examples as a class-wise objective computes with them.

    A weighted mean over them is NaN, with its gradients, if a label is not a class.
    """
    dtype = jnp.promote_types(embeddings.dtype, prototypes.dtype)
    embeddings = zero_masked(embeddings, where).astype(dtype)
    weights = jnp.ones(labels.shape) if where is None else where
    weights = weights.astype(jnp.promote_types(dtype, jnp.float32))
    labels, is_known = as_classes(labels, prototypes.shape[0])
    weights = jnp.where(is_known | (weights == 0.0), weights, jnp.nan)
    return Examples(embeddings, labels, weights)


def target_products(
    examples: Examples, prototypes: jax.Array, normalize: Normalize
) -> jax.Array:
    """Product with the target's prototype, ``[...]``, from the gathered vectors.

    In half precision the matrix product is not exact enough for it.
    """
    vectors = widen(examples.embeddings)
    own = prototypes[examples.labels].astype(vectors.dtype)
    if normalize == "both":
        return jnp.cos(angle(vectors, own))
    return dot(vectors, to_direction(own) if normalize == "prototypes" else own)
