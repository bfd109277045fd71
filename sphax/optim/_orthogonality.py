"""Orthogonality of neurons, as a part of the gradient."""

from typing import Literal

import jax
import optax

from sphax._hyperparameters import register, static
from sphax.neurons import Neurons
from sphax.optim._layer_weights import Weight
from sphax.optim._neurons import Mask
from sphax.optim._penalty import add_penalty_gradient
from sphax.orthogonal import orthogonality_penalty

Kind = Literal["soft", "double_soft", "mutual_coherence", "spectral"]


def add_orthogonality_gradient(
    weight: Weight,
    *,
    kind: Kind = "soft",
    normalize: bool = False,
    iterations: int = 2,
    key: jax.Array | None = None,
    precision: jax.lax.PrecisionLike = None,
    every: jax.typing.ArrayLike = 1,
    neurons: Neurons = None,
    mask: Mask | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of an orthogonality penalty of the neurons to the updates.

    .. math::
        g_l \leftarrow g_l + \lambda\, \nabla P(W_l)

    for every leaf :math:`W_l` with neurons, with :math:`P` the
    :func:`sphax.orthogonal.orthogonality_penalty`: as if
    :math:`\lambda \sum_l P(W_l)` were a part of the loss. Put it **before** the
    optimizer, while updates are gradients:
    ``chain(add_orthogonality_gradient(weight), adam(1e-3))``. Behind one, updates are
    steps downhill, and a gradient added to them pushes uphill; beside one, use
    :func:`decoupled`.

    SphereNet takes 1e-4 of ``"soft"``, DCNet 5e-6 of it, with ``normalize`` on CIFAR.

    Args:
        weight: :math:`\lambda`, a scalar, or a schedule, a function of the step. Or a
            pytree of weights of leaves and subtrees by path, as in
            ``{"": 1e-4, "head": 1e-3}``: the longest matching path wins.
        kind: ``"soft"``, ``"double_soft"``, ``"mutual_coherence"`` or ``"spectral"``.
        normalize: Whether only the directions of the neurons count.
        iterations: Iterations of the power method; ``"spectral"`` only.
        key: PRNG key, needed by ``"spectral"``, which draws a vector in each step.
        precision: Precision of the matrix products; see :func:`jax.lax.dot_general`.
        every: Period :math:`k` in steps, 1 or more: the gradient is computed in the
            first step and in every k-th from there, and multiplied by :math:`k`.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. A leaf with batch
            axes has the sum of the penalties.
        mask: Leaves to treat, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`.
        allow_empty: Whether there may be no neurons, as in a group of
            :func:`optax.partition` that has biases only; updates then stay as they are.

    Returns:
        The transform, with a :class:`RegularizerState`; ``update`` needs ``params``.
        The updates keep their dtype; the computation is in float32 at least. In
        :func:`optax.inject_hyperparams`, ``iterations`` of ``"spectral"``, ``key`` and
        callables ``neurons`` and ``mask`` belong in ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If ``every``, given as a number, is out of range; from ``init``, if
            there are no neurons or declared axes do not fit; from ``update``, without
            ``params``, if ``weight`` does not fit, or by the penalty.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.diag(jnp.array([1.0, 2.0])), "bias": jnp.zeros(2)}
        >>> tx = optax.chain(sx.optim.add_orthogonality_gradient(0.01), optax.sgd(1.0))
        >>> grads = jax.tree.map(jnp.zeros_like, params)
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> updates["kernel"]  # -0.01 x 4 (W W' - I) W
        Array([[-0.  , -0.  ],
               [-0.  , -0.24]], dtype=float32)

    References:
        Bansal, Chen, Wang, `Can We Gain More from Orthogonality Regularizations in
        Training Deep CNNs? <https://arxiv.org/abs/1810.09102>`_, NeurIPS 2018.
    """
    penalty = _OrthogonalityPenalty(
        kind=kind,
        normalize=normalize,
        # Injected hyperparameters are arrays; only this kind has to know the number.
        iterations=iterations if kind == "spectral" else 1,
        precision=precision,
    )
    return add_penalty_gradient(
        penalty,
        weight,
        reduce="sum",
        every=every,
        key=key,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


@register
class _OrthogonalityPenalty:
    """The penalty with its options; equal options share one compiled program."""

    kind: Kind = static(default="soft")
    normalize: bool = static(default=False)
    iterations: int = static(default=1)
    precision: jax.lax.PrecisionLike = static(default=None)

    def __call__(self, rows: jax.Array, key: jax.Array | None) -> jax.Array:
        return orthogonality_penalty(
            rows,
            kind=self.kind,
            normalize=self.normalize,
            iterations=self.iterations,
            key=key,
            precision=self.precision,
        )
