"""Maps from raw arrays, which are trained, to orthogonal matrices."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from sphax._checks import check_choice, check_number
from sphax._linalg import entries, identity_like, skew_of_upper
from sphax._numerics import divide, widen
from sphax.orthogonal import (
    cayley,
    cayley_neumann,
    exponential,
    gram_schmidt,
    householder,
    lowdin,
    random_orthogonal,
)
from sphax.sphere import length

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
# Maps of matrices near the identity to such matrices; all others have it at zero.
_NEAR_IDENTITY = ("gram_schmidt", "lowdin", "identity")
# A factor does not change reflections, and would change the matrices themselves.
_UNSCALED = ("householder", "identity")
# Maps without a skew-symmetric matrix that could be bounded.
_UNBOUNDED = (*_NEAR_IDENTITY, "householder")


@dataclasses.dataclass(frozen=True)
class OrthogonalMap:
    """Map of raw arrays ``[..., b, b]`` to orthogonal matrices.

    ``scale`` multiplies raw arrays, by default ``b ** -0.5``. ``bound`` limits the
    Frobenius norm of the skew-symmetric matrices that some methods make of them.
    """

    method: Method
    scale: float | None = None
    rotation_init: RotationInit = "identity"
    bound: float | None = None

    def __post_init__(self):
        if not callable(self.method):
            check_choice("method", self.method, get_args(Named))
        check_choice("rotation_init", self.rotation_init, get_args(RotationInit))
        for name in ("scale", "bound"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value)
                if not value > 0:
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

    def __call__(self, raw: jax.Array) -> jax.Array:
        """Returns the orthogonal matrices, in float32 at least."""
        scaled = self._scale(raw.shape[-1]) * widen(raw)
        if self.bound is not None:
            norm = length(entries(skew_of_upper(scaled)))[..., None, None]
            within = divide(self.bound * scaled, norm)
            scaled = jnp.where(norm > self.bound, within, scaled)
        to_matrix = self.method if callable(self.method) else _MAPS[self.method]
        return to_matrix(scaled)

    def init(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draws raw arrays ``[*shape, b]`` for ``shape = (..., b)``.

        They are float32 at least, because rounding to bfloat16 would lose steps of
        training, which are small beside a raw array. ``"householder"`` has
        ``[..., 2 * (b // 2), b]``.
        """
        size, dtype = shape[-1], jnp.promote_types(dtype, jnp.float32)
        matrices, is_normal = (*shape, size), self.rotation_init == "normal"
        if self.method == "householder":
            *batch, _ = shape
            if is_normal:
                pairs = (*batch, 2 * (size // 2), size)
                return jax.random.normal(key, pairs).astype(dtype)
            # Two equal reflections cancel, and training can move them apart.
            rows = jax.random.normal(key, (*batch, size // 2, size))
            return jnp.repeat(rows, 2, axis=-2).astype(dtype)
        if is_normal and self.method == "identity":
            return random_orthogonal(key, matrices, dtype)
        if is_normal:
            return jax.random.normal(key, matrices, dtype)
        raw = jnp.zeros(matrices, dtype)
        if self.method in _NEAR_IDENTITY:
            return identity_like(raw) / jnp.asarray(self._scale(size), dtype)
        return raw

    def _scale(self, size: int) -> float:
        if self.scale is not None:
            return self.scale
        return 1.0 if self.method in _UNSCALED else size**-0.5
