"""Rows that the tests run over: a new margin adds one."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sphax import margins as sm


class MarginRow(NamedTuple):
    """A margin, its definition in NumPy, and where it departs from the criterion."""

    margin: sm.Margin
    psi: Callable
    eta: Callable = np.cos  # of the angles to the other classes
    exception: str = ""  # why psi < eta and psi decreasing do not hold strictly
    kinks: tuple[float, ...] = ()  # angles at which psi has no derivative


def sphereface(m, annealing=0.0):
    def psi(angle):
        # The definition as a sum over pieces, not by the piece's closed form.
        value = np.ones_like(angle)
        for k in range(math.ceil(m)):
            end = np.minimum((k + 1) * np.pi / m, np.pi)
            part = np.clip(angle, k * np.pi / m, end)
            step = (-1) ** k * (np.cos(m * part) - np.cos(k * np.pi))
            value += step
        return (annealing * np.cos(angle) + value) / (1 + annealing)

    return psi


def arcface(m, past):
    def psi(angle):
        return np.where(angle < np.pi - m, np.cos(angle + m), past(angle))

    return psi


TURN = math.pi - 0.5

MARGINS = {
    "none": MarginRow(sm.NoMargin(), np.cos, exception="no margin"),
    "sphereface1": MarginRow(sm.SphereFace(m=1), np.cos, exception="no margin"),
    "sphereface2": MarginRow(sm.SphereFace(m=2), sphereface(2)),
    "sphereface3": MarginRow(sm.SphereFace(m=3), sphereface(3)),
    "sphereface4": MarginRow(sm.SphereFace(m=4), sphereface(4)),
    "sphereface1.7": MarginRow(sm.SphereFace(m=1.7), sphereface(1.7)),
    "annealed": MarginRow(sm.SphereFace(m=4, annealing=5.0), sphereface(4, 5.0)),
    "spherefacer1": MarginRow(
        sm.SphereFaceR(m=1.5, version=1),
        lambda a: np.cos(np.minimum(1.5 * a, np.pi)),
        exception="flat from pi / m on",
        kinks=(math.pi / 1.5,),
    ),
    "spherefacer2": MarginRow(
        sm.SphereFaceR(m=1.4, version=2), np.cos, lambda a: np.cos(a / 1.4)
    ),
    "cosface": MarginRow(sm.CosFace(margin=0.35), lambda a: np.cos(a) - 0.35),
    "arcface": MarginRow(
        sm.ArcFace(margin=0.5),
        arcface(0.5, lambda a: np.cos(a) - 1 + np.cos(0.5)),
        kinks=(TURN,),
    ),
    "arcface-pure": MarginRow(
        sm.ArcFace(margin=0.5, beyond="pure"),
        lambda a: np.cos(a + 0.5),
        exception="rises beyond pi - m, above the cosine beyond pi - m / 2",
    ),
    "arcface-fallback": MarginRow(
        sm.ArcFace(margin=0.5, beyond="fallback"),
        arcface(0.5, lambda a: np.cos(a) - 0.5 * np.sin(0.5)),
        kinks=(TURN,),
    ),
    "arcface-clamp": MarginRow(
        sm.ArcFace(margin=0.5, beyond="clamp"),
        arcface(0.5, lambda a: np.full_like(a, -1.0)),
        exception="flat beyond pi - m, the cosine itself at pi",
        kinks=(TURN,),
    ),
    "arcface-easy": MarginRow(
        sm.ArcFace(margin=0.5, beyond="easy"),
        lambda a: np.where(a < np.pi / 2, np.cos(a + 0.5), np.cos(a)),
        exception="no margin from pi / 2 on, with a jump up",
        kinks=(math.pi / 2,),
    ),
    "combined": MarginRow(
        sm.Combined(m1=0.9, m2=0.4, m3=0.15),
        lambda a: np.cos(0.9 * a + 0.4) - 0.15,
        exception="rises beyond the turn",
    ),
    "combined-continuous": MarginRow(
        sm.Combined(m1=1.2, m2=0.3, m3=0.2, beyond="continuous"),
        lambda a: np.where(
            1.2 * a + 0.3 < np.pi,
            np.cos(1.2 * a + 0.3) - 0.2,
            np.cos(a) - np.cos((np.pi - 0.3) / 1.2) - 1.2,
        ),
        kinks=((math.pi - 0.3) / 1.2,),
    ),
    "liarcface": MarginRow(
        sm.LiArcFace(margin=0.45),
        lambda a: (np.pi - 2 * (a + 0.45)) / np.pi,
        lambda a: (np.pi - 2 * a) / np.pi,
    ),
    "psi": MarginRow(
        sm.Psi(lambda angle, m: 1.0 - m * angle, 1.5), lambda a: 1 - 1.5 * a
    ),
}
