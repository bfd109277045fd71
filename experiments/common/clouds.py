"""Point clouds: drawn from the surface of meshes, generated shapes, and a network."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# Corners of a circle, and of a round profile.
_ROUND = 64
_ARC = 33
# Generated shapes are stretched along each axis by a factor between these, and their
# points moved by Gaussian noise, before they are scaled to the unit ball.
_STRETCH = 0.5, 1.0
_NOISE = 0.02
_INIT = nnx.initializers.he_normal()


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
    # The other half of the parallelogram, rotated onto the triangle.
    weights = np.where(weights.sum(1, keepdims=True) > 1.0, 1.0 - weights, weights)
    return corner[chosen] + np.einsum("ns,nsd->nd", weights, sides[chosen])


def normalized(points: np.ndarray) -> np.ndarray:
    """A cloud ``[points, 3]`` about its mean, scaled to fill the unit ball."""
    centered = points - points.mean(0)
    radius = np.linalg.norm(centered, axis=1).max()
    return centered / radius if radius > 0.0 else centered


def generate(
    *, train: int = 60, test: int = 20, points: int = 256, seed: int = 0
) -> CloudSet:
    """Clouds of all ``SHAPES``, stretched, rotated about the upward axis and jittered.

    Args:
        train: Clouds of each class to train on.
        test: Clouds of each class to test on.
        points: Points of a cloud.
        seed: Of all draws.
    """

    def split(number, rng):
        meshes = [mesh for mesh in SHAPES.values() for _ in range(number)]
        clouds = np.stack([_generated(mesh, points, rng) for mesh in meshes])
        labels = np.repeat(np.arange(len(SHAPES), dtype=np.int32), number)
        return Clouds(clouds.astype(np.float32), labels)

    splits = (
        split(number, np.random.default_rng((seed, place)))
        for place, number in enumerate((train, test))
    )
    return CloudSet(*splits, names=tuple(SHAPES))


def _generated(mesh, points, rng):
    stretched = mesh._replace(vertices=mesh.vertices * rng.uniform(*_STRETCH, 3))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cosine, sine, rotation = np.cos(angle), np.sin(angle), np.eye(3)
    rotation[:2, :2] = [[cosine, sine], [-sine, cosine]]
    drawn = sample(stretched, points, rng) @ rotation
    return normalized(drawn + rng.normal(scale=_NOISE, size=drawn.shape))


def _revolved(profile: np.ndarray, corners: int = _ROUND) -> Mesh:
    """The surface of revolution of a profile about the upward axis.

    Args:
        profile: Radius and height along it, ``[k, 2]``.
        corners: Of a circle: four for a square.
    """
    radii, heights = profile.T
    # With sides, not corners, on the axes: stretched squares are to be rectangles.
    angles = 2.0 * np.pi * (np.arange(corners) + 0.5) / corners
    ring = np.stack([np.cos(angles), np.sin(angles), np.ones(corners)], axis=1)
    vertices = ring * np.stack([radii, radii, heights], axis=1)[:, None]
    here = np.arange(len(profile) * corners).reshape(len(profile), corners)
    aside = np.roll(here, -1, axis=1)
    a, b, c, d = here[:-1], aside[:-1], aside[1:], here[1:]
    triangles = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    return Mesh(vertices.reshape(-1, 3), triangles)


def _line(*places: tuple[float, float]) -> np.ndarray:
    return np.array(places, float)


def _circle(start: float, end: float, center: float = 0.0, radius: float = 1.0):
    angles = np.linspace(start, end, _ARC) * np.pi
    return np.stack([center + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


_CYLINDER = _line((0, -1), (1, -1), (1, 1), (0, 1))
_CONE = _line((0, -1), (1, -1), (0, 1))
_SPINDLE = _line((0, -1), (1, 0), (0, 1))
# All about the upward axis: a cube is a cylinder with four corners.
SHAPES: dict[str, Mesh] = {
    "sphere": _revolved(_circle(-0.5, 0.5)),
    "hemisphere": _revolved(np.vstack([_line((0, 0)), _circle(0.0, 0.5)])),
    "torus": _revolved(_circle(-1.0, 1.0, center=0.7, radius=0.3)),
    "cylinder": _revolved(_CYLINDER),
    "tube": _revolved(_CYLINDER[1:3]),
    "cone": _revolved(_CONE),
    "spindle": _revolved(_SPINDLE),
    "hourglass": _revolved(_line((0, -1), (1, -1), (0, 0), (1, 1), (0, 1))),
    "cube": _revolved(_CYLINDER * _line((2**0.5, 1)), 4),
    "prism": _revolved(_CYLINDER, 3),
    "pyramid": _revolved(_CONE, 4),
    "octahedron": _revolved(_SPINDLE, 4),
}


class PointNet(nnx.Module):
    """Point clouds to logits, whatever the order of the points (PointNet).

    A perceptron that all points share, the maximum over the points, and a perceptron of
    the result. This is the basic variant, without the networks that align points and
    features (T-Nets): its accuracy on ModelNet40, 87.1 %, is the baseline of orthogonal
    over-parameterized training. Every linear layer but the last, the only one with a
    bias, is followed by batch normalization and a rectifier; 30 % of the last features
    are dropped, as in the authors' code.

    Args:
        classes: Number of logits.
        width: Share of the published layers, which are 64, 64, 64, 128 and 1024 wide
            for points and 512 and 256 wide for clouds.
        rngs: Key stream; uses ``params`` and ``dropout``.

    References:
        Qi et al., `PointNet: Deep Learning on Point Sets for 3D Classification and
        Segmentation <https://arxiv.org/abs/1612.00593>`_, CVPR 2017, Table 5.
    """

    def __init__(self, classes: int, *, width: float = 1.0, rngs: nnx.Rngs):
        point, cloud = (
            [max(1, round(width * size)) for size in sizes]
            for sizes in ((64, 64, 64, 128, 1024), (512, 256))
        )
        self.points = _perceptron([3, *point], rngs)
        self.clouds = _perceptron([point[-1], *cloud], rngs)
        # A stream of this name, which `nnx.reseed` finds, whatever those of rngs.
        self.dropout = nnx.Dropout(0.3, rngs=nnx.Rngs(dropout=rngs.dropout()))
        self.classifier = nnx.Linear(cloud[-1], classes, kernel_init=_INIT, rngs=rngs)

    def __call__(self, clouds: jax.Array) -> jax.Array:
        """Maps clouds ``[n, points, 3]`` to logits ``[n, classes]``."""
        features = jnp.max(self.points(clouds), axis=-2)
        return self.classifier(self.dropout(self.clouds(features)))


def _perceptron(sizes: Sequence[int], rngs: nnx.Rngs) -> nnx.Sequential:
    layers = []
    for pair in zip(sizes, sizes[1:], strict=False):
        linear = nnx.Linear(*pair, use_bias=False, kernel_init=_INIT, rngs=rngs)
        norm = nnx.BatchNorm(pair[1], momentum=0.9, rngs=rngs)
        layers += [linear, norm, nnx.relu]
    return nnx.Sequential(*layers)
