"""Likelihood of embeddings under von Mises-Fisher distributions around prototypes."""

import jax
import jax.numpy as jnp

from sphax._checks import as_array, as_floating
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax._masking import weighted_mean
from sphax._numerics import widen
from sphax.distributions import VonMisesFisher
from sphax.losses._core.batch import as_batch, as_operands, check_range, masked_batch


@explain_names(OF_LOSSES, kappa="it is called concentration")
def vmf_likelihood(
    embeddings: jax.typing.ArrayLike,
    prototypes: jax.typing.ArrayLike,
    labels: jax.typing.ArrayLike,
    concentration: jax.typing.ArrayLike,
    *,
    where: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Mean negative log-likelihood of directions around the prototype of their class.

    With the density :math:`C_d(\kappa) e^{\kappa \cos\theta}` of
    :class:`sphax.distributions.VonMisesFisher`,

    .. math::
        L = -\operatorname{mean}_i
        \big(\kappa_i \cos\theta_i + \log C_d(\kappa_i)\big).

    For a fixed concentration, this pulls embeddings to fixed prototypes, as
    :func:`hyperspherical_prototype` does, with a slope :math:`\kappa \sin\theta` that
    vanishes at the prototype and at its antipode alone. A concentration learned for
    each example, such as ``1 + jax.nn.softplus(outputs)``, becomes smaller where the
    angle is larger, and so says how sure the network is. A learned scalar grows to the
    maximum-likelihood estimate, :func:`sphax.distributions.concentration_of` the mean
    cosine.

    The likelihood of the class given the embedding, for one concentration, is the
    softmax of :func:`margin_softmax` with ``scale=concentration``.

    Args:
        embeddings: Floating, ``[..., features]``, two features or more.
        prototypes: Floating, ``[classes, features]``, one row per class.
        labels: Class, integer, ``[...]``, each in ``[0, classes)``. Any other makes the
            loss and its gradients NaN.
        concentration: :math:`\kappa`, 0 or more, a scalar or floating of the shape of
            ``labels``. Where a traced one is negative, the loss is NaN.
        where: Boolean mask or weights, of the shape of ``labels``. Examples of weight
            zero are zeroed before anything else: a NaN in them, or in their
            concentration, reaches nothing.

    Returns:
        The loss, a scalar in float32 at least; 0, with zero gradient, when nothing is
        left to average. It is negative where the density is above 1. A zero embedding
        or prototype has cosine 0 with zero gradient.

    Raises:
        TypeError: If an argument has the wrong kind of dtype.
        ValueError: If shapes do not fit or a known concentration is negative.

    Example:
        >>> x, labels = jnp.array([[2.0, 0.0], [0.6, 0.8]]), jnp.array([0, 1])
        >>> sx.losses.vmf_likelihood(x, jnp.eye(2), labels, 4.0)
        Array(0.663, dtype=float32)

    References:
        Kumar, Tsvetkov, `Von Mises-Fisher Loss for Training Sequence to Sequence Models
        with Continuous Outputs <https://arxiv.org/abs/1812.04616>`_, ICLR 2019.
    """
    embeddings, prototypes = as_operands(embeddings, prototypes)
    labels, where = as_batch(embeddings, labels, where)
    check_range("concentration", concentration, 0.0)
    k = as_array("concentration", concentration)
    if k.ndim:
        k = as_floating("concentration", k)
    if k.shape not in ((), labels.shape):
        raise ValueError(
            f"concentration must be a scalar or have the shape of labels,"
            f" {labels.shape}, got {k.shape}."
        )
    return _vmf_likelihood(embeddings, prototypes, labels, k, where)


@compiled()
def _vmf_likelihood(
    embeddings: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    concentration: jax.Array,
    where: jax.Array | None,
) -> jax.Array:
    x, labels, weights = masked_batch(
        embeddings, prototypes, labels, where, len(prototypes)
    )
    k = jnp.broadcast_to(concentration.astype(weights.dtype), labels.shape)
    k = jnp.where(weights == 0.0, 1.0, k)
    means = prototypes[labels].astype(x.dtype)
    return -weighted_mean(VonMisesFisher(widen(means), k).log_prob(widen(x)), weights)
