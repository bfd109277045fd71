"""The decoupled dense operator."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sphax._checks import check_dimensions
from sphax._compiled import compiled
from sphax._numerics import widen
from sphax.neurons import to_rows
from sphax.operators._angular import Angular
from sphax.operators._decoupled import (
    Part,
    as_linear,
    as_operands,
    check_functions,
    combine,
    scale_products,
)
from sphax.operators._magnitude import Magnitude
from sphax.sphere import inner_products, length


def decoupled_dense(
    inputs: ArrayLike,
    kernel: ArrayLike,
    *,
    magnitude: Magnitude,
    angular: Angular,
    part: Part = "output",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    r"""Dense layer with its inner product taken apart: :math:`h(\|w\|,\|x\|)g(\theta)`.

    :func:`decoupled_conv` at one position, with the same functions and gradients. For
    accurate small angles between vectors, use :func:`sphax.sphere.angle`.

    Args:
        inputs: Floating, ``[..., in]``.
        kernel: Dtype of ``inputs``, ``[in, out]``, one neuron per column.
        magnitude: Function h of the lengths; hyperparameters are scalars or ``[out]``.
        angular: Function g of the angle; hyperparameters likewise.
        part: ``"output"``, or one of its factors: ``"magnitude"`` for h alone,
            ``"angle"`` for g alone.
        precision: Of the matrix product, as in :func:`jax.lax.dot_general`.

    Returns:
        ``[..., out]``, dtype of ``inputs``, computed in float32 at least; 0, with zero
        gradient, where input or neuron is zero, as in :func:`decoupled_conv`.

    Raises:
        TypeError: If ``inputs`` is not floating, ``kernel`` has another dtype, or
            ``magnitude`` or ``angular`` is not such a function.
        ValueError: If shapes do not fit, or an option is out of range.

    Example:
        >>> x, w = jnp.array([[3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, -1.0]])
        >>> ball, linear = sx.operators.Ball(rho=10.0), sx.operators.LinearAngle()
        >>> sx.operators.decoupled_dense(x, w, magnitude=ball, angular=linear)
        Array([[ 0.2048, -0.2952]], dtype=float32)

    References:
        Liu et al., `Decoupled Networks <https://arxiv.org/abs/1804.08071>`_, CVPR 2018.
    """
    check_functions(magnitude, angular, part)
    inputs, kernel = as_operands(inputs, kernel)
    if kernel.ndim != 2 or inputs.ndim < 1 or inputs.shape[-1] != kernel.shape[0]:
        raise ValueError(
            "kernel must be [in, out] and inputs [..., in], got kernel"
            f" {kernel.shape} and inputs {inputs.shape}."
        )
    check_dimensions("inputs", inputs)
    return _decoupled(
        inputs, kernel, magnitude, angular, part=part, precision=precision
    )


@compiled("part", "precision")
def _decoupled(
    inputs: jax.Array,
    kernel: jax.Array,
    magnitude: Magnitude,
    angular: Angular,
    *,
    part: Part,
    precision: Any,
) -> jax.Array:
    filters = to_rows(kernel)
    linear = as_linear(magnitude, angular, part)
    if linear is not None and linear.weighted != "none":
        # The kernel is not transposed, so that this equals a plain layer bit by bit.
        wide = jnp.promote_types(inputs.dtype, jnp.float32)
        plain = jnp.matmul(
            inputs, kernel, precision=precision, preferred_element_type=wide
        )
        return scale_products(linear, plain, inputs.dtype)
    lengths = length(widen(filters))
    if linear is not None:
        projections = inner_products(
            inputs, filters, None, lengths, precision=precision
        )
        return scale_products(linear, projections, inputs.dtype)
    norms = length(widen(inputs))
    return combine(
        inner_products(inputs, filters, norms, lengths, precision=precision),
        None,
        norms[..., None],
        lengths,
        magnitude,
        angular,
        part=part,
        dtype=inputs.dtype,
    )
