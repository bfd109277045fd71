"""What the tests need to know of an objective: one row for each."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Objective(NamedTuple):
    """An objective with its hyperparameters bound, and its definition in NumPy.

    Attributes:
        loss: ``loss(*operands, labels, where=...)``, without ``labels`` if there are
            none.
        definition: The same in float64 NumPy, written from the formula alone:
            ``definition(*operands, labels, held=operands)``, without ``where``.
            ``held`` are the operands at which what the objective detaches is
            evaluated; a definition that detaches nothing ignores it.
        shapes: Of the operands, drawn from a Gaussian; embeddings come first.
        labels: Of the rows of the embeddings; ``None`` if the objective has none.
        classes: Number of classes, if a label beyond them has to make the loss NaN.
        masked: Which operands have the rows that ``where`` masks; empty if the
            objective takes no ``where``.
        rotated: Which operands turn together when the space is turned; a turn changes
            nothing.
        scales: Which operands count by their directions only.
        positive: Which operands are drawn positive.
        errors: Exception, what its message matches, and what to call the function
            with, ``call()``.
    """

    loss: Callable[..., Any]
    definition: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...] | None
    classes: int | None = None
    masked: tuple[int, ...] = (0,)
    rotated: tuple[int, ...] = (0,)
    scales: tuple[int, ...] = ()
    positive: tuple[int, ...] = ()
    errors: tuple[tuple[type[Exception], str, Callable[[], Any]], ...] = ()
