"""A network that never lengthens the difference of two images, and what that proves."""

import math
from typing import Any

import jax
import numpy as np
from flax import nnx

import sphax as sx


class Unit(nnx.Module):
    """A convolution that keeps lengths, and sorted pairs of channels."""

    def __init__(self, in_features: int, features: int, stride: int = 1, **options):
        options.pop("conv")
        self.conv = sx.layers.CayleyConv(
            in_features, features, (3, 3), stride, **options
        )

    def __call__(self, x: jax.Array, use_running_average: bool | None = None):
        """Maps ``[..., height, width, in_features]`` to ``[..., h, w, features]``."""
        del use_running_average
        return sx.operators.group_sort(self.conv(x))


class Embedding(nnx.Module):
    """A dense layer with orthonormal neurons on all of the last map."""

    def __init__(self, map_shape: tuple[int, int, int], features: int, **options):
        options.pop("conv")
        self.features = features
        self.linear = sx.layers.OrthogonalLinear(
            math.prod(map_shape), features, method="gram_schmidt", **options
        )

    def __call__(self, x: jax.Array, use_running_average: bool | None = None):
        """Maps ``[..., *map_shape]`` to ``[..., features]``."""
        del use_running_average
        return self.linear(x.reshape(*x.shape[:-3], -1))


def design(shape: tuple[int, int, int]) -> sx.networks.Design:
    """The design for images of a shape, of sides divisible by 2, or 4 from 16 on."""
    repeats, stride = (2, 1) if shape[0] < 16 else (1, 2)
    stages = (
        sx.networks.Stage(16, repeats, unit=Unit, stride=stride, pool=None),
        sx.networks.Stage(64, repeats, unit=Unit, stride=2, pool=None),
    )
    return sx.networks.Design(shape, stages, 64, Embedding)


# Usual radii of certificates in the Euclidean norm, for pixels in [0, 1].
RADII = (36 / 255, 72 / 255, 108 / 255)


def certified(
    model: Any, logits: np.ndarray, labels: np.ndarray, corner: float
) -> list[float]:
    """Accuracies that no change of an image can lower, in percent.

    Args:
        model: A classifier, its network of a :func:`design`, its head linear.
        logits: Of the model, ``[n, classes]``.
        labels: Of the images, ``[n]``.
        corner: One more radius, that of the largest change to be withstood.

    Returns:
        For changes that are shorter than each of ``RADII``, and than ``corner``.
    """
    radii = sx.metrics.certified_radius(
        logits,
        labels,
        lipschitz=constant(model.network),
        prototypes=model.head.prototypes[...],
    )
    return [float(100.0 * np.mean(radii > x)) for x in (*RADII, corner)]


def constant(network: Any) -> float:
    """Lipschitz constant of a network of a :func:`design`: 1, but for rounding.

    The product of the largest singular values of its layers as they are in float32.
    Neither sorting nor the order of pixels changes a length.
    """
    height, width, _ = network.input_shape
    product = largest(network.embedding.linear.effective_kernel())
    for stage in network.stages:
        for unit in stage.units:
            rows, columns = unit.conv.strides
            height, width = height // rows, width // columns
            kernel = unit.conv.kernel[...]
            product *= largest(sx.operators.cayley_response(kernel, (height, width)))
    return product


def largest(matrices: Any) -> float:
    """Largest singular value of all matrices, in double precision."""
    exact = np.asarray(matrices, np.result_type(matrices.dtype, np.float64))
    return float(np.max(np.linalg.norm(exact, 2, axis=(-2, -1))))
