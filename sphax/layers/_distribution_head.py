"""A head that turns features into a distribution on the sphere."""

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_choice, check_range, check_sizes
from sphax.distributions import PowerSpherical, VonMisesFisher

FAMILIES = (VonMisesFisher, PowerSpherical)


class DistributionHead(nnx.Module):
    r"""Features to a distribution on the sphere, as in a hyperspherical VAE.

    Two dense layers give the mean direction, :math:`\mu = W_\mu x + b_\mu`, whose
    length does not count, and the concentration
    :math:`\kappa = \operatorname{softplus}(w_\kappa^\top x + b_\kappa) +
    \kappa_{\min}`. The published :math:`\kappa_{\min} = 1` keeps a distance from the
    uniform distribution, where formulas with Bessel functions break down. Those of
    :mod:`sphax.distributions` do not; with 0, a posterior that ignores its input can be
    the prior.

    Args:
        in_features: Size of the last axis of the input.
        dimension: :math:`d` of the space that contains the sphere, 2 or more; points
            have ``d - 1`` degrees of freedom.
        family: :class:`~sphax.distributions.VonMisesFisher` or
            :class:`~sphax.distributions.PowerSpherical`.
        min_concentration: :math:`\kappa_{\min}`, 0 or more.
        dtype: Dtype of the computation; ``None`` infers it from inputs and parameters.
        param_dtype: Dtype of the parameters.
        kernel_init: Initializer of both kernels.
        rngs: Key stream; uses ``params``.

    Raises:
        ValueError: If a size or ``min_concentration`` is out of range, or ``family``
            unknown.

    Example:
        >>> head = sx.layers.DistributionHead(8, 3, rngs=nnx.Rngs(0))
        >>> posterior = head(jnp.ones((5, 8)))
        >>> posterior.sample(jax.random.key(0)).shape
        (5, 3)

    References:
        Davidson et al., `Hyperspherical Variational Auto-Encoders
        <https://arxiv.org/abs/1804.00891>`_, UAI 2018.
    """

    def __init__(
        self,
        in_features: int,
        dimension: int,
        *,
        family: type[VonMisesFisher] | type[PowerSpherical] = VonMisesFisher,
        min_concentration: float = 1.0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        kernel_init: nnx.Initializer = nnx.initializers.lecun_normal(),
        rngs: nnx.Rngs,
    ):
        check_sizes("DistributionHead", in_features=in_features, dimension=dimension)
        if dimension < 2:
            raise ValueError(
                f"DistributionHead: dimension must be 2 or more, got {dimension}."
            )
        check_choice("DistributionHead: family", family, FAMILIES)
        check_range("DistributionHead: min_concentration", min_concentration, 0.0)
        self.family, self.min_concentration = family, min_concentration
        self.mean_direction, self.concentration = (
            nnx.Linear(
                in_features,
                features,
                dtype=dtype,
                param_dtype=param_dtype,
                kernel_init=kernel_init,
                rngs=rngs,
            )
            for features in (dimension, 1)
        )

    def __call__(self, inputs: jax.Array) -> VonMisesFisher | PowerSpherical:
        """Maps ``[..., in_features]`` to a batch ``[...]`` of distributions."""
        raw = jnp.squeeze(self.concentration(inputs), axis=-1)
        concentration = jax.nn.softplus(raw) + self.min_concentration
        return self.family(self.mean_direction(inputs), concentration)
