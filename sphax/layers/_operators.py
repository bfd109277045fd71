"""What decoupled layers hold: a kernel, and hyperparameters, measured or learned."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_choice
from sphax._hyperparameters import leaf_names
from sphax.layers._common import add_bias, make_bias
from sphax.neurons import NeuronDimensions
from sphax.operators import Angular, Magnitude
from sphax.operators._checks import check_functions
from sphax.operators._decoupled import Emit

Radius = Literal["fixed", "mean", "learned"]


class Hyperparameter(nnx.Variable[jax.Array]):
    """A variable that holds a hyperparameter of an operator, which nothing trains.

    Example:
        >>> ball, cosine = sx.operators.Ball(rho=2.0), sx.operators.Cosine()
        >>> options = dict(magnitude=ball, angular=cosine, learn=["alpha"])
        >>> layer = sx.layers.DecoupledLinear(3, 8, **options, rngs=nnx.Rngs(0))
        >>> list(nnx.state(layer, sx.layers.Hyperparameter))
        ['rho']
        >>> layer.rho[...] = 3.0
    """


class Decoupled(nnx.Module):
    """Base of the decoupled layers; they say what is called with the functions."""

    def __init__(
        self,
        kernel_shape: tuple[int, ...],
        groups: int,
        *,
        magnitude: Magnitude,
        angular: Angular,
        radius: Radius,
        learn: Sequence[str],
        momentum: float,
        use_bias: bool,
        dtype: Any,
        param_dtype: Any,
        precision: Any,
        kernel_init: nnx.Initializer,
        bias_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ):
        check_functions(magnitude, angular, "output")
        check_choice("radius", radius, ("fixed", "mean", "learned"))
        self.groups, self.radius, self.momentum = groups, radius, float(momentum)
        self.dtype, self.precision = dtype, precision
        self.use_running_average = False  # what model.eval() sets
        self.kernel_shape, features = tuple(kernel_shape), kernel_shape[-1]
        self.kernel = nnx.Param(kernel_init(rngs.params(), kernel_shape, param_dtype))
        self.bias = make_bias(use_bias, bias_init, features, param_dtype, rngs)
        self._own_functions((magnitude, angular), learn, features, param_dtype)
        if radius != "fixed":
            _check_radius(magnitude, radius)
            # The norm of a patch whose entries have variance 1, until there is a mean.
            start = math.sqrt(math.prod(kernel_shape[:-1]))
            exact = jnp.promote_types(param_dtype, jnp.float32)
            self.mean_norm = nnx.BatchStat(jnp.full((groups,), start, exact))
        if radius == "learned":
            self.radius_root = nnx.Param(jnp.ones((features,), param_dtype))

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Which leaves hold neurons: the filters, see :func:`sphax.neurons.of`."""
        fan_in = tuple(range(-len(self.kernel_shape), -1))
        return {"kernel": NeuronDimensions(index_axis=-1, vector_axis=fan_in)}

    def _own_functions(self, functions, learn, features, param_dtype):
        """A variable for every hyperparameter, by its name."""
        leaves, self._structure = jax.tree.flatten(functions)
        self._names = tuple(name for f in functions for name in leaf_names(f))
        if not set(learn) <= set(self._names):
            raise ValueError(
                f"learn must name hyperparameters of the functions, {self._names}, got"
                f" {tuple(learn)}."
            )
        exact = jnp.promote_types(param_dtype, jnp.float32)
        for name, leaf in zip(self._names, leaves, strict=True):
            if name in learn:
                value = jnp.broadcast_to(jnp.asarray(leaf, param_dtype), (features,))
                setattr(self, name, nnx.Param(value))
            else:
                setattr(self, name, Hyperparameter(jnp.asarray(leaf, exact)))

    def _functions(
        self, norms: Callable[[], jax.Array], use_running_average: bool | None
    ) -> tuple[Magnitude, Angular]:
        """The functions as they are now, the radius measured if it is to be."""
        leaves = [getattr(self, name)[...] for name in self._names]
        magnitude, angular = jax.tree.unflatten(self._structure, leaves)
        if self.radius != "fixed":
            if use_running_average is None:
                use_running_average = self.use_running_average
            rho = magnitude.rho * self._radii(norms, use_running_average)
            magnitude = dataclasses.replace(magnitude, rho=rho)
        return magnitude, angular

    def _radii(self, norms, use_running_average: bool) -> jax.Array:
        """The mean norm of the patches, ``[features]``, times what is learned."""
        mean = self.mean_norm[...]
        if not use_running_average:
            batch = norms()
            batch_mean = jnp.mean(batch, axis=range(batch.ndim - 1))
            newest = jax.lax.stop_gradient(batch_mean).astype(mean.dtype)
            self.mean_norm[...] = self.momentum * mean + (1 - self.momentum) * newest
            mean = batch_mean
        # Both small constants are the authors'; the radius divides.
        radii = jnp.repeat(mean + 1e-6, self.kernel.shape[-1] // self.groups)
        if self.radius == "learned":
            radii = radii * (self.radius_root[...].astype(radii.dtype) ** 2 + 1e-4)
        return radii

    def _with_bias(self, outputs: jax.Array, emit: Emit) -> jax.Array:
        return add_bias(outputs, self.bias) if emit == "output" else outputs


def _check_radius(magnitude: Magnitude, radius: Radius) -> None:
    if "rho" not in leaf_names(magnitude):
        raise ValueError(
            f"radius={radius!r} needs a magnitude with a radius rho, such as Tanh, got"
            f" {type(magnitude).__name__}."
        )
