"""The arrays of one layer: where they are in a file of PyTorch, and where in ours."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from sphax.layers import PReLU


class Place(NamedTuple):
    """An array of a file, and the variable that holds it.

    Attributes:
        name: In the file; None where its layer has no such array.
        variable: Ours; None where our layer has none.
        constant: What the one has to be where the other is missing.
        shape: Of the array in the file.
        window: For kernels, their ``(height, width, in, out)``: files have
            ``[out, in, height, width]``, a linear layer in one axis for all but the
            outputs.
    """

    name: str | None
    variable: nnx.Variable[jax.Array] | None
    constant: float
    shape: tuple[int, ...]
    window: tuple[int, ...] | None = None

    def set(self, array: np.ndarray) -> None:
        """Puts an array of the file into the variable."""
        assert self.variable is not None
        if self.window is not None:
            height, width, columns, rows = self.window
            array = array.reshape(rows, columns, height, width).transpose(2, 3, 1, 0)
        old = self.variable.get_value()
        self.variable.set_value(placed(array.reshape(old.shape), old))

    def constants(self) -> np.ndarray:
        """The array that the missing one stands for."""
        return np.full(self.shape, self.constant, np.float32)

    def get(self) -> np.ndarray:
        """The array of the file."""
        if self.variable is None:
            return self.constants()
        array = np.asarray(self.variable.get_value())
        if self.window is not None:
            array = array.reshape(self.window).transpose(3, 2, 0, 1)
        return np.ascontiguousarray(array.reshape(self.shape))


def placed(array: np.ndarray, like: jax.Array) -> jax.Array:
    """In the dtype of another array, and on the mesh where that one lies."""
    made = jnp.asarray(array, like.dtype)
    sharding = getattr(like, "sharding", None)
    return jax.device_put(made, sharding) if _is_on_mesh(sharding) else made


def _is_on_mesh(sharding: Any) -> bool:
    return isinstance(sharding, NamedSharding) and not sharding.mesh.empty


def places(
    name: str, layer: Any, map_shape: tuple[int, int], *, is_affine: bool = True
) -> Iterator[Place]:
    """The arrays of a layer.

    Args:
        name: Of the layer in the file.
        layer: Convolution, linear layer, batch normalization, or PReLU.
        map_shape: ``(height, width)`` of the map that a linear layer reads.
        is_affine: Whether a batch normalization has scale and bias in the file.
    """
    if isinstance(layer, nnx.BatchNorm):
        shape = (layer.num_features,)
        for end, variable, constant in (
            ("weight", layer.scale, 1.0),
            ("bias", layer.bias, 0.0),
        ):
            place = Place(f"{name}.{end}", variable, constant, shape)
            yield place if is_affine else place._replace(name=None)
        yield Place(f"{name}.running_mean", layer.mean, 0.0, shape)
        yield Place(f"{name}.running_var", layer.var, 1.0, shape)
    elif isinstance(layer, PReLU):
        yield Place(f"{name}.weight", layer.slope, 0.0, (layer.features,))
    elif isinstance(layer, nnx.Conv | nnx.Linear):
        *window, columns, rows = layer.kernel.shape
        shape = (rows, columns, *window)
        if isinstance(layer, nnx.Linear):
            window = map_shape
            columns //= math.prod(window)
        full = (*window, columns, rows)
        yield Place(f"{name}.weight", layer.kernel, 0.0, shape, full)
        if layer.bias is not None:
            yield Place(f"{name}.bias", layer.bias, 0.0, (rows,))
    else:
        kind = getattr(layer, "__name__", type(layer).__name__)
        raise ValueError(
            f"module must have a plain layer of this format for {name}, a convolution,"
            f" linear layer, batch normalization or PReLU, got {kind}."
        )
