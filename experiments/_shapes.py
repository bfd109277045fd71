"""Point clouds of generated shapes."""

import numpy as np

from experiments._clouds import Clouds, CloudSet, Mesh, normalized, sample

# Corners of a circle, and of the profile of what is round.
_ROUND = 64
_ARC = 33
# Generated shapes are stretched along each axis by a factor between these, and their
# points moved by Gaussian noise, before they are brought to the unit ball.
_STRETCH = 0.5, 1.0
_NOISE = 0.02


def generate(
    *, train: int = 60, test: int = 20, points: int = 256, seed: int = 0
) -> CloudSet:
    """Clouds of all ``SHAPES``, stretched, turned about the upward axis and jittered.

    Args:
        train: Clouds of each class to train on.
        test: Clouds of each class to test on.
        points: Points of a cloud.
        seed: Of all that is drawn.
    """
    splits = (
        _clouds(number, points, np.random.default_rng((seed, split)))
        for split, number in enumerate((train, test))
    )
    return CloudSet(*splits, names=tuple(SHAPES))


def _clouds(number, points, rng):
    clouds = [
        _cloud(mesh, points, rng) for mesh in SHAPES.values() for _ in range(number)
    ]
    labels = np.repeat(np.arange(len(SHAPES), dtype=np.int32), number)
    return Clouds(np.stack(clouds).astype(np.float32), labels)


def _cloud(mesh, points, rng):
    stretched = mesh._replace(vertices=mesh.vertices * rng.uniform(*_STRETCH, 3))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    drawn = sample(stretched, points, rng) @ turn
    return normalized(drawn + rng.normal(scale=_NOISE, size=drawn.shape))


def revolved(profile: np.ndarray, corners: int) -> Mesh:
    """The surface that a profile makes about the upward axis.

    Args:
        profile: Radius and height along it, ``[k, 2]``.
        corners: Of a circle: many for what is round, four for what is square.
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
    "sphere": revolved(_circle(-0.5, 0.5), _ROUND),
    "hemisphere": revolved(np.vstack([_line((0, 0)), _circle(0.0, 0.5)]), _ROUND),
    "torus": revolved(_circle(-1.0, 1.0, center=0.7, radius=0.3), _ROUND),
    "cylinder": revolved(_CYLINDER, _ROUND),
    "tube": revolved(_CYLINDER[1:3], _ROUND),
    "cone": revolved(_CONE, _ROUND),
    "spindle": revolved(_SPINDLE, _ROUND),
    "hourglass": revolved(_line((0, -1), (1, -1), (0, 0), (1, 1), (0, 1)), _ROUND),
    "cube": revolved(_CYLINDER * _line((2**0.5, 1)), 4),
    "prism": revolved(_CYLINDER, 3),
    "pyramid": revolved(_CONE, 4),
    "octahedron": revolved(_SPINDLE, 4),
}
