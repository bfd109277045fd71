"""Declarations of all leaves of a model, which print as a table."""

from collections.abc import Iterator, Mapping

from sphax.neurons._dimensions import NeuronDimensions, axes_of


class Declarations(Mapping[str, NeuronDimensions | str]):
    """The neurons of a model, as :func:`of` returns them; prints as a table.

    A mapping from the path of every leaf to its :class:`NeuronDimensions`, or to the
    reason why it has no neurons. Every argument ``neurons`` accepts it, also for params
    that are only a part of the model's. To change an entry, make a dict:
    ``{**neurons.of(model), "head/kernel": "a classifier"}``.

    Example:
        >>> found = sx.neurons.of(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
        >>> found["kernel"]
        NeuronDimensions(index_axis=-1, vector_axis=-2, batch_axis=None, count=None)
        >>> found["bias"]
        'a bias'
    """

    def __init__(
        self,
        leaves: Mapping[str, NeuronDimensions | str],
        shapes: Mapping[str, tuple[int, ...]],
    ):
        self._leaves, self._shapes = dict(leaves), dict(shapes)

    def __getitem__(self, path: str) -> NeuronDimensions | str:
        """The declaration of a leaf, or the reason why it has no neurons."""
        return self._leaves[path]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the paths."""
        return iter(self._leaves)

    def __len__(self) -> int:
        """The number of leaves."""
        return len(self._leaves)

    def __repr__(self) -> str:
        """A table of the leaves: path, shape, and neurons or the reason for none."""
        rows = [("leaf", "shape", "neurons")]
        for path, reading in self._leaves.items():
            shape = self._shapes[path]
            if isinstance(reading, NeuronDimensions):
                sets, n, d = axes_of(reading, shape, path).sizes(shape)
                of_sets = "" if sets == 1 else f"{sets} x "
                reading = f"{of_sets}{n} of {d} dimensions"
            rows.append((path or "a single leaf", str(shape), reading))
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
        return "\n".join(
            f"{path.ljust(widths[0])}  {shape.ljust(widths[1])}  {reading}"
            for path, shape, reading in rows
        )
