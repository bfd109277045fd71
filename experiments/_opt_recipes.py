"""How one run is trained: what stands in the place of kernels, and its optimiser."""

import dataclasses
from functools import partial
from typing import Any

import jax
import optax

import sphax as sx
from experiments._opt_methods import METHODS, MethodName
from experiments._opt_problems import is_hidden
from sphax.reparam import Reparameterization, Rotations, rotation_mask

# Records of a run, about: curves of more points look the same.
_RECORDS = 20
# Steps from one record to the next, at most: with a record, the progress is told.
_LONGEST = 250


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one run is trained; the same for all methods but in ``method``.

    With ``drops``, it is the recipe of the authors of OPT: their forms of the maps,
    gradient descent with momentum, and learning rates that fall at these steps; without
    any, Adam, with rates that fall to zero along a cosine.
    """

    method: MethodName
    """What stands in the place of the kernels of hidden layers."""
    steps: int
    """Optimisation steps."""
    batch: int
    """Examples in a step."""
    learning_rate: float
    """Of all params but rotations, at the start."""
    rotation_rate: float
    """Of what rotations are made from."""
    descent_rate: float
    """Of rotations that are params themselves."""
    weight_decay: float
    """Decay of kernels, of hidden layers or as published of all; it is a part of the
    gradient."""
    redrawn_every: int
    """Steps from one redrawing to the next, of methods that do it."""
    drops: tuple[int, ...] = ()
    """Steps at which learning rates fall."""
    checkpoint_every: int = 500
    """Steps between checkpoints, about, from which a killed run goes on."""

    def stretched(self, steps: int) -> "Recipe":
        """The same in another number of steps: rates fall at the same shares of it."""
        drops = tuple(drop * steps // self.steps for drop in self.drops)
        return dataclasses.replace(self, steps=steps, drops=drops)

    def without(self, *names: str) -> dict[str, Any]:
        """All settings but these, by name."""
        settings = dataclasses.asdict(self)
        return {name: value for name, value in settings.items() if name not in names}

    @property
    def title(self) -> str:
        """Of the method, in tables."""
        return METHODS[self.method].title

    @property
    def every(self) -> int:
        """Steps from one record to the next."""
        return min(-(-self.steps // _RECORDS), _LONGEST)

    def redraws_at(self, count: int) -> bool:
        """Whether rotations are absorbed before this step."""
        is_due = count > 0 and count % self.redrawn_every == 0
        return is_due and METHODS[self.method].is_redrawn

    def saves_after(self, done: int) -> bool:
        """Whether a checkpoint follows the record of what began at step ``done``."""
        before, after = done, min(done + self.every, self.steps)
        return before // self.checkpoint_every < after // self.checkpoint_every

    @property
    def training(self) -> Reparameterization:
        """What stands in the place of kernels."""
        return METHODS[self.method].reparameterization(as_released=bool(self.drops))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into updates."""
        return self._released if self.drops else self._adam

    @property
    def _adam(self) -> optax.GradientTransformation:
        def falling(rate: float) -> optax.Schedule:
            return optax.cosine_decay_schedule(rate, self.steps)

        # Not by `optax.partition`, in whose state the moments of rotations have no
        # place to be set back in.
        ratio = self.rotation_rate / self.learning_rate
        decaying = partial(_decaying, as_released=False)
        adam = optax.chain(
            optax.add_decayed_weights(self.weight_decay, mask=decaying),
            optax.scale_by_adam(),
            optax.masked(optax.scale(ratio), rotation_mask),
            optax.scale_by_learning_rate(falling(self.learning_rate)),
        )
        descent = sx.optim.orthogonal_descent(falling(self.descent_rate))
        return self._with_descent(adam, descent)

    @property
    def _released(self) -> optax.GradientTransformation:
        def falling(rate: float, factor: float) -> optax.Schedule:
            return optax.piecewise_constant_schedule(
                rate, dict.fromkeys(self.drops, factor)
            )

        # Raw arrays decay as well; beside the descent, all else does a tenth of it.
        is_descent = METHODS[self.method].is_descent
        decay = self.weight_decay * (0.1 if is_descent else 1.0)
        decaying = partial(_decaying, as_released=True)
        momentum = optax.chain(
            optax.add_decayed_weights(decay, mask=decaying),
            optax.sgd(falling(self.learning_rate, 0.1), momentum=0.9),
        )
        descent = sx.optim.orthogonal_descent(falling(self.descent_rate, 0.2))
        return self._with_descent(momentum, descent)

    def _with_descent(
        self,
        optimizer: optax.GradientTransformation,
        descent: optax.GradientTransformation,
    ) -> optax.GradientTransformation:
        if not METHODS[self.method].is_descent:
            return optimizer
        return optax.partition({True: descent, False: optimizer}, rotation_mask)


def _decaying(free: Any, *, as_released: bool) -> Any:
    """Kernels of hidden layers that are trained themselves; as released, others too."""

    def decays(path, leaf):
        if _is_rotated(leaf):
            # Never the lengths of neurons.
            raw = rotation_mask(leaf)
            return jax.tree.map(lambda is_raw: is_raw and as_released, raw)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim >= 2 and (as_released or is_hidden(name))

    return jax.tree.map_with_path(decays, free, is_leaf=_is_rotated)


def _is_rotated(leaf: Any) -> bool:
    return isinstance(leaf, Rotations)
