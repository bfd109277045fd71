"""Checks of what the operators are given."""

import jax
from jax.typing import ArrayLike

from sphax._checks import as_floating, check_choice, check_dimensions
from sphax.operators._angular import Angular
from sphax.operators._magnitude import Magnitude


def check_functions(magnitude: object, angular: object, emit: object) -> None:
    """Raises unless an operator can be made of these."""
    if not isinstance(magnitude, Magnitude):
        raise TypeError(
            "magnitude must be a sphax.operators.Magnitude, such as Tanh(), got"
            f" {magnitude!r}."
        )
    if not isinstance(angular, Angular):
        raise TypeError(
            "angular must be a sphax.operators.Angular, such as Cosine(), got"
            f" {angular!r}."
        )
    check_choice("emit", emit, ("output", "magnitude", "angle"))


def as_operands(inputs: ArrayLike, kernel: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises unless floating, of one dtype."""
    inputs, kernel = as_floating("inputs", inputs), as_floating("kernel", kernel)
    if inputs.dtype != kernel.dtype:
        raise TypeError(
            f"kernel must have the dtype of inputs, {inputs.dtype}, got {kernel.dtype};"
            " cast one."
        )
    return inputs, kernel


def check_convolution(inputs: jax.Array, kernel: jax.Array, groups: int) -> None:
    """Raises unless the shapes are those of a convolution."""
    check_space(inputs, window_rank(kernel), groups)
    channels, filters = kernel.shape[-2:]
    if channels * groups != inputs.shape[-1] or filters % groups:
        raise ValueError(
            f"kernel must be [*window, channels / {groups}, filters], filters a"
            f" multiple of {groups} (feature_group_count), for the channels of inputs,"
            f" got kernel {kernel.shape} and inputs {inputs.shape}."
        )


def window_rank(kernel: jax.Array) -> int:
    """Number of axes of the window of a kernel; raises unless one to three."""
    if not 3 <= kernel.ndim <= 5:
        raise ValueError(
            "kernel must be [*window, channels, filters] with one to three axes of the"
            f" window, got shape {kernel.shape}."
        )
    return kernel.ndim - 2


def check_space(inputs: jax.Array, rank: int, groups: int) -> None:
    """Raises unless a window with ``rank`` axes can slide over the inputs."""
    if not 1 <= rank <= 3:
        raise ValueError(f"kernel_size must have one to three axes, got {rank}.")
    if inputs.ndim < rank + 1:
        raise ValueError(
            f"inputs must be [..., *space, channels] with {rank} axes of space, as the"
            f" window has, got shape {inputs.shape}."
        )
    check_dimensions("inputs", inputs)
    if groups < 1 or inputs.shape[-1] % groups:
        raise ValueError(
            "feature_group_count must be positive and divide the channels of inputs,"
            f" got {groups} for {inputs.shape[-1]} channels."
        )
