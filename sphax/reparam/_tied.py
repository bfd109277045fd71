"""One rotation for all kernels that have one of its shape."""

from sphax.reparam._rotations import Rotations

# Of the raw arrays of a kernel, by side: sets, factors, blocks and their size.
Shapes = dict[str, tuple[int, ...]]


def tie(
    rotations: dict[str, Rotations], shapes: dict[str, Shapes]
) -> dict[str, Rotations]:
    """Without the arrays that an earlier kernel, by path, has in the same shape."""

    def left_out(name, owners):
        return {side: None for side, owner in owners.items() if owner != name}

    return {
        name: rotations[name]._replace(**left_out(name, owners))
        for name, owners in _owners(shapes).items()
    }


def untie(
    rotations: dict[str, Rotations], shapes: dict[str, Shapes]
) -> dict[str, Rotations]:
    """With those arrays of the earlier kernels, or with what was made of them."""

    def all_of(owners):
        return {side: getattr(rotations[owner], side) for side, owner in owners.items()}

    return {
        name: rotations[name]._replace(**all_of(owners))
        for name, owners in _owners(shapes).items()
    }


def _owners(shapes: dict[str, Shapes]) -> dict[str, dict[str, str]]:
    """By kernel and side, the first kernel, by path, with this shape on this side."""
    firsts = {}
    for name in sorted(shapes):
        for key in shapes[name].items():
            firsts.setdefault(key, name)
    return {
        name: {side: firsts[side, shape] for side, shape in sides.items()}
        for name, sides in shapes.items()
    }
