"""Point clouds, and how they are drawn from the surface of a mesh."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Clouds(NamedTuple):
    """A split: clouds ``[n, points, 3]`` in float32, labels ``[n]``."""

    points: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class CloudSet:
    """Training and test split of one set.

    Attributes:
        train: What is trained on.
        test: What is tested on.
        names: Of the classes, by label.
    """

    train: Clouds
    test: Clouds
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)


class Mesh(NamedTuple):
    """A surface: vertices ``[n, 3]``, and triangles ``[m, 3]`` of their numbers."""

    vertices: np.ndarray
    triangles: np.ndarray


def sample(mesh: Mesh, points: int, rng: np.random.Generator) -> np.ndarray:
    """Points ``[points, 3]``, uniform on the surface of a mesh.

    Raises:
        ValueError: If the mesh has no area.
    """
    corner, *others = np.moveaxis(mesh.vertices[mesh.triangles], 1, 0)
    sides = np.stack([other - corner for other in others], axis=1)
    areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    ends = np.cumsum(areas)
    if not ends.size or not ends[-1] > 0.0:
        raise ValueError("mesh must have an area to draw points from, got none.")
    chosen = np.searchsorted(ends[:-1], rng.uniform(0.0, ends[-1], points), "right")
    weights = rng.uniform(size=(points, 2))
    # The other half of a parallelogram, turned onto the triangle.
    weights = np.where(weights.sum(1, keepdims=True) > 1.0, 1.0 - weights, weights)
    return corner[chosen] + np.einsum("ns,nsd->nd", weights, sides[chosen])


def normalized(points: np.ndarray) -> np.ndarray:
    """A cloud ``[points, 3]`` about its mean, as large as fits the unit ball."""
    centered = points - points.mean(0)
    radius = np.linalg.norm(centered, axis=1).max()
    return centered / radius if radius > 0.0 else centered
