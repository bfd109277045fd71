"""Raw arrays, which are trained, and the orthogonal matrices that they stand for."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_number
from sphax._compiled import map_alike
from sphax._numerics import divide, widen
from sphax._paths import by_path
from sphax.orthogonal import (
    cayley,
    cayley_neumann,
    exponential,
    gram_schmidt,
    householder,
    lowdin,
    random_orthogonal,
)
from sphax.orthogonal._matrices import frobenius_norm, identity_like, skew_of_upper

Map = Callable[[jax.Array], jax.Array]
Named = Literal[
    "cayley",
    "cayley_neumann",
    "exponential",
    "gram_schmidt",
    "householder",
    "lowdin",
    "identity",
]
Method = Named | Map
RotationInit = Literal["identity", "normal"]

_MAPS: dict[str, Map] = {
    "cayley": cayley,
    "cayley_neumann": cayley_neumann,
    "exponential": exponential,
    "gram_schmidt": gram_schmidt,
    "householder": householder,
    "lowdin": lowdin,
    "identity": lambda raw: raw,
}
# They map a matrix near the identity, not one near zero, to the identity.
_MATRICES = ("gram_schmidt", "lowdin", "identity")
# They are their own scale: rows of reflections, and rotations themselves.
_UNSCALED = ("householder", "identity")
# What is bounded is a skew-symmetric matrix.
_UNBOUNDED = (*_MATRICES, "householder")


class Rotations(NamedTuple):
    """What is trained in the place of one kernel.

    Raw arrays are ``[sets, factors, blocks, b, b]``: for each set of neurons (a kernel
    is one, unless it has batch axes), for each factor of the product, for each of its
    blocks, a matrix from which the method makes an orthogonal one, in float32 at least,
    whatever the dtype of the kernel is. Of ``"cayley"``,
    ``"cayley_neumann"`` and ``"exponential"``, only what is above the diagonal counts;
    ``"householder"`` has rows in pairs, ``[..., 2 * (b // 2), b]``.

    Attributes:
        left: Of the rotations of the space that neurons lie in; ``None`` if there are
            none, or if they are tied to those of another kernel.
        right: Of the rotations that mix the neurons, likewise.
        scale: Factor of each neuron, ``[sets, n]``, float32 at least, or ``None``.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4))}
        >>> blocks = sx.reparam.orthogonal(block_size=4)
        >>> free, _ = blocks.init(jax.random.key(0), params)
        >>> free["kernel"].left.shape
        (1, 1, 2, 4, 4)
    """

    left: Any = None
    right: Any = None
    scale: Any = None


@dataclasses.dataclass(frozen=True)
class Parameterization:
    """How raw arrays stand for orthogonal matrices.

    ``bound`` is on the Frobenius norm of the skew-symmetric matrices of the skew maps.
    """

    method: Method
    scale: float | None = None
    rotation_init: RotationInit = "identity"
    bound: float | None = None

    def __post_init__(self):
        """Checks the hyperparameters."""
        if not callable(self.method):
            check_choice("method", self.method, get_args(Named))
        check_choice("rotation_init", self.rotation_init, get_args(RotationInit))
        for name in ("scale", "bound"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        if self.bound is not None and self.method in _UNBOUNDED:
            raise ValueError(
                "bound is on the skew-symmetric matrices of maps such as cayley, got"
                f" method={self.method!r}; leave it out."
            )
        if self.scale not in (None, 1.0) and self.method in _UNSCALED:
            raise ValueError(
                f"scale has no meaning for method={self.method!r}, got {self.scale};"
                " leave it out."
            )

    def matrices(self, rotations: dict[str, Rotations]) -> dict[str, Rotations]:
        """With orthogonal matrices, in float32 at least, in the place of raw arrays."""
        raw = {
            (name, side): getattr(own, side)
            for name, own in rotations.items()
            for side in ("left", "right")
        }
        raw = {place: array for place, array in raw.items() if array is not None}
        made = map_alike(_matrix, raw, dict.fromkeys(raw, self))
        return {
            name: own._replace(
                left=made.get((name, "left")), right=made.get((name, "right"))
            )
            for name, own in rotations.items()
        }

    def start(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Raw arrays ``[*shape, b]`` for ``shape = (..., b)``, most of them square.

        In float32 at least: steps of training, small beside a raw array, would be lost
        to the rounding of bfloat16.
        """
        size, dtype = shape[-1], jnp.promote_types(dtype, jnp.float32)
        if self.method == "householder":
            return self._reflections(key, shape).astype(dtype)
        if self.rotation_init == "normal":
            matrices = (*shape, size)
            if self.method == "identity":
                return random_orthogonal(key, matrices, dtype)
            return jax.random.normal(key, matrices, dtype)
        raw = jnp.zeros((*shape, size), dtype)
        if self.method in _MATRICES:
            return identity_like(raw) / jnp.asarray(self._scale(size), dtype)
        return raw

    def _reflections(self, key, shape):
        *batch, size = shape
        if self.rotation_init == "normal":
            return jax.random.normal(key, (*batch, 2 * (size // 2), size))
        # Two equal reflections undo one another, and can yet turn apart.
        rows = jax.random.normal(key, (*batch, size // 2, size))
        return jnp.repeat(rows, 2, axis=-2)

    def matrix(self, raw: jax.Array) -> jax.Array:
        """The matrices of raw arrays ``[..., b, b]``."""
        scaled = self._scale(raw.shape[-1]) * widen(raw)
        if self.bound is not None:
            scaled = _within(self.bound, scaled)
        return self._map()(scaled)

    def _map(self) -> Map:
        return self.method if callable(self.method) else _MAPS[self.method]

    def _scale(self, size: int) -> float:
        if self.scale is not None:
            return self.scale
        return 1.0 if self.method in _UNSCALED else size**-0.5


def _matrix(parameterization, raw):
    return parameterization.matrix(raw)


def is_rotations(x: Any) -> bool:
    """Whether it stands for a kernel."""
    return isinstance(x, Rotations)


def rotations_by_path(free: Any) -> dict[str, Rotations]:
    """What stands for kernels, by the path of these."""
    leaves = by_path(free, Rotations)
    return {name: leaf for name, leaf in leaves.items() if is_rotations(leaf)}


def rotation_mask(free: Any) -> Any:
    """Which leaves of ``free`` are raw arrays of rotations.

    For :func:`optax.masked` and :func:`optax.partition`: to leave rotations out of
    weight decay, or to give them an optimizer of their own. The lengths of neurons,
    which some methods train too, are none: a decay of what has rank two shrinks them.

    Args:
        free: As ``init`` returns it.

    Returns:
        Booleans in the structure of ``free``.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.zeros(4)}
        >>> free, _ = sx.reparam.orthogonal().init(jax.random.key(0), params)
        >>> sx.reparam.rotation_mask(free)
        {'bias': False, 'kernel': Rotations(left=True, right=None, scale=None)}
    """

    def mask(leaf):
        if not is_rotations(leaf):
            return False
        everything = jax.tree.map(lambda _: True, leaf)
        return everything._replace(scale=None if leaf.scale is None else False)

    return jax.tree.map(mask, free, is_leaf=is_rotations)


def _within(bound, raw):
    """``raw``, scaled down where the skew-symmetric matrix is longer than the bound."""
    size = frobenius_norm(skew_of_upper(raw))[..., None, None]
    return jnp.where(size > bound, divide(bound * raw, size), raw)
