"""The base class of margins that wrap another margin."""

import dataclasses
from typing import Self

import jax

from sphax.margins._margin import Margin, Target


@dataclasses.dataclass(frozen=True)
class Composite(Margin):
    """A margin that modifies the other classes and leaves the rest to ``base``."""

    base: Margin
    modifies_negatives = True

    def __post_init__(self):
        # Anything else may be a placeholder of a pytree transformation.
        if not isinstance(self.base, Margin) and (
            callable(self.base) or isinstance(self.base, (int, float, str))
        ):
            raise TypeError(
                f"{type(self).__name__}: base must be a sphax.margins.Margin, such as"
                f" ArcFace(), got {self.base!r}."
            )

    def __call__(self, angle: jax.Array) -> jax.Array:
        return self.base(angle)

    def for_batch(self, target: Target, key: jax.Array | None = None) -> Self:
        return dataclasses.replace(self, base=self.base.for_batch(target, key))

    def penalty(self, target: Target) -> jax.typing.ArrayLike:
        return self.base.penalty(target)

    def update(self, target: Target) -> Self:
        return dataclasses.replace(self, base=self.base.update(target))

    @property
    def keeps_state(self) -> bool:
        return self.base.keeps_state
