"""Table of the leaves of params: which have rotations, of which size."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from sphax._paths import by_path
from sphax.reparam._blocks import shape_in_words
from sphax.reparam._core import Frozen, Rotations


@dataclasses.dataclass(frozen=True)
class LeafDescription:
    """The arrays that are trained in place of one leaf.

    ``shape`` is the shape of the leaf in params; ``left`` and ``right`` are the shapes
    of the raw arrays of its rotations, ``[sets, factors, blocks, b, b]``, or ``None``;
    ``trained`` and ``frozen`` are the numbers of entries that are trained for it, and
    of those that are not; ``note`` is a description in words.

    Example:
        >>> free, frozen = sx.reparam.orthogonal().init(
        ...     jax.random.key(0), {"kernel": jnp.ones((8, 4))}
        ... )
        >>> sx.reparam.describe(free, frozen).leaves["kernel"].note
        'left: 8 x 8'
    """

    shape: tuple[int, ...]
    left: tuple[int, ...] | None
    right: tuple[int, ...] | None
    trained: int
    frozen: int
    note: str


@dataclasses.dataclass(frozen=True)
class Description:
    """The leaves of params by path, from :func:`describe`; prints as a table.

    Example:
        >>> params = {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}
        >>> free, frozen = sx.reparam.orthogonal().init(jax.random.key(0), params)
        >>> description = sx.reparam.describe(free, frozen)
        >>> description.trained, description.frozen
        (68, 32)
    """

    leaves: dict[str, LeafDescription]

    @property
    def trained(self) -> int:
        """Number of all entries that are trained."""
        return sum(leaf.trained for leaf in self.leaves.values())

    @property
    def frozen(self) -> int:
        """Number of all entries of frozen neurons."""
        return sum(leaf.frozen for leaf in self.leaves.values())

    def __str__(self) -> str:
        """The table."""
        rows = [("leaf", "shape", "trained", "frozen", "rotations")]
        for name, leaf in self.leaves.items():
            numbers = str(leaf.trained), str(leaf.frozen)
            rows.append((name or "params", str(leaf.shape), *numbers, leaf.note))
        rows.append(("all", "", str(self.trained), str(self.frozen), ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            texts = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            for i in (2, 3):
                texts[i] = row[i].rjust(widths[i])
            lines.append("  ".join(texts).rstrip())
        return "\n".join(lines)


def describe(free: Any, frozen: Frozen) -> Description:
    """Describes which leaves of params have rotations, and of which size.

    Args:
        free: ``free`` as ``init`` of any method returns it, or its shapes, as
            :func:`jax.eval_shape` returns them.
        frozen: ``frozen`` as ``init`` returns it, or its shapes.

    Returns:
        A table, with the numbers of entries that are trained and frozen. Leaves are not
        chosen if they hold no neurons by name or declaration, or only one, if ``where``
        excludes them, or if no block size of the method divides their dimension.

    Example:
        >>> params = {
        ...     "conv": {"kernel": jnp.ones((3, 3, 2, 8)), "bias": jnp.ones(8)},
        ...     "table": jnp.ones((5, 8)),
        ... }
        >>> training = sx.reparam.orthogonal(block_size=6)
        >>> free, frozen = jax.eval_shape(training.init, jax.random.key(0), params)
        >>> print(sx.reparam.describe(free, frozen))
        leaf         shape         trained  frozen  rotations
        conv/bias    (8,)                8       0  none: a bias
        conv/kernel  (3, 3, 2, 8)      108     144  left: 3 blocks of 6 x 6
        table        (5, 8)             40       0  none: not chosen
        all                            156     144
    """
    leaves = {}
    for name, leaf in by_path(free, Rotations).items():
        if isinstance(leaf, Rotations):
            leaves[name] = _rotated(leaf, jnp.shape(frozen[name].kernel))
        else:
            leaves[name] = _plain(name, jnp.shape(leaf))
    return Description(leaves)


def _plain(name: str, shape: tuple[int, ...]) -> LeafDescription:
    last = name.rpartition("/")[2]
    if last in ("bias", "scale"):
        why = f"a {last}"
    elif len(shape) < 2:
        why = "a vector, or a number"
    else:
        why = "not chosen"
    return LeafDescription(shape, None, None, math.prod(shape), 0, f"none: {why}")


def _rotated(rotations: Rotations, shape: tuple[int, ...]) -> LeafDescription:
    arrays = {side: raw for side, raw in rotations._asdict().items() if raw is not None}
    shapes = {side: jnp.shape(raw) for side, raw in arrays.items()}
    notes = [
        "a factor for each neuron"
        if side == "scale"
        else f"{side}: {shape_in_words(shape)}"
        for side, shape in shapes.items()
    ]
    return LeafDescription(
        shape=shape,
        left=shapes.get("left"),
        right=shapes.get("right"),
        trained=sum(map(math.prod, shapes.values())),
        frozen=math.prod(shape),
        note="; ".join(notes) or "those of another kernel (tied)",
    )
