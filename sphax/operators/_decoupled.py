"""Magnitude times angular function, from the products of patches and filters."""

from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_choice, check_instance
from sphax._numerics import divide, sin2_noise_floor
from sphax.operators._angular import Angular, Cosine
from sphax.operators._magnitude import Magnitude
from sphax.operators._unbounded import Linear

Part = Literal["output", "magnitude", "angle"]

T = TypeVar("T")


def check_functions(magnitude: object, angular: object, part: object) -> None:
    """Raises unless these are functions of an operator, and a part of it."""
    check_instance("magnitude", magnitude, Magnitude, "Tanh()")
    check_instance("angular", angular, Angular, "Cosine()")
    check_choice("part", part, ("output", "magnitude", "angle"))


def as_operands(inputs: ArrayLike, kernel: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless floating, of one dtype."""
    inputs, kernel = as_floating("inputs", inputs), as_floating("kernel", kernel)
    if inputs.dtype != kernel.dtype:
        raise TypeError(
            f"kernel must have the dtype of inputs, {inputs.dtype}, got {kernel.dtype};"
            " cast one."
        )
    return inputs, kernel


def as_linear(magnitude: Magnitude, angular: Angular, part: Part) -> Linear | None:
    """The magnitude of an operator that is a product with its filters, or None.

    Such an operator needs no norm of a patch: dividing by the norm and multiplying
    again would cost time, digits, and the gradient at a zero patch.
    """
    is_product = isinstance(angular, Cosine) and part == "output"
    return magnitude if is_product and isinstance(magnitude, Linear) else None


def scale_products(
    magnitude: Linear, products: jax.Array, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """The operator that is linear, from its products ``[..., filters]``."""
    return (_for_filters(magnitude, products).alpha * products).astype(dtype)


def combine(
    products: jax.Array,
    divisors: jax.Array | None,
    norms: jax.Array,
    filter_norms: jax.Array,
    magnitude: Magnitude,
    angular: Angular,
    *,
    part: Part,
    dtype: jax.typing.DTypeLike,
) -> jax.Array:
    """The operator, or a factor of it, from the products of the vectors.

    Args:
        products: Cosines multiplied by ``divisors``, ``[..., filters]``.
        divisors: ``[..., groups]``, 0 where a patch is zero; None for 1.
        norms: Of the patches, ``[..., groups]``.
        filter_norms: ``[filters]``.
        magnitude: Function of the lengths.
        angular: Function of the angle.
        part: The operator, ``"output"``, or one of its factors.
        dtype: Of the vectors, and of the result.
    """
    magnitude, angular = _for_filters((magnitude, angular), products)
    filter_norms = jnp.expand_dims(filter_norms, range(products.ndim - 1))
    groups, filters = norms.shape[-1], products.shape[-1]
    # Multiplied, not divided: XLA keeps a quotient for the backward pass, which is one
    # more array of the size of the output, but forms a product again.
    factors = jnp.ones_like(norms)
    if divisors is not None:
        factors = divide(factors, divisors)
    if groups > 1:  # one norm for all filters stays as small as it is
        factors, norms = (
            jnp.repeat(x, filters // groups, -1) for x in (factors, norms)
        )
    resolution = sin2_noise_floor(dtype)
    h = magnitude.weigh(norms, filter_norms)
    if part == "magnitude":
        out = jnp.broadcast_to(h, products.shape)
    elif part == "angle":
        out = angular.of_cosine(products * factors, resolution)
    elif isinstance(angular, Cosine) and h.shape != products.shape:
        # One factor for all filters, whose gradient then is one sum over them.
        out = products * (factors * h)
    else:
        out = angular.of_cosine(products * factors, resolution) * h
    return out.astype(dtype)


def _for_filters(functions: T, like: jax.Array) -> T:
    """Hyperparameters made to broadcast with ``[..., filters]``, in its dtype."""
    filters = like.shape[-1]

    def prepare(leaf):
        leaf = jnp.asarray(leaf, like.dtype)
        if leaf.shape not in ((), (filters,)):
            raise ValueError(
                "a hyperparameter must be a scalar or have an entry for each filter,"
                f" ({filters},), got shape {leaf.shape}."
            )
        return jnp.expand_dims(leaf, range(like.ndim - leaf.ndim))

    return jax.tree.map(prepare, functions)
