"""What is measured of a model under attack."""

from typing import Any, NamedTuple

import numpy as np

from experiments import _attackers, _masking
from experiments._attackers import Target, Threat

# Attacks by their titles, in the order of the tables.
ATTACKS = {
    "clean": "no attack",
    "noise": "noise",
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "margin": "PGD on margin",
    "transfer": "black-box",
    "all": "worst of all",
}
# Radii of the curves, in those of the attack.
RADII = (0.25, 0.5, 1.0, 2.0, 4.0)


class Transfer(NamedTuple):
    """What attacks on another model have made of the test images.

    Attributes:
        images: At the radius of the attack, all.
        by_radius: At each of the radii, those that are checked.
    """

    images: np.ndarray
    by_radius: list[np.ndarray]


def transfer(source: Target, threat: Threat, checked: int) -> Transfer:
    """The images of BIM against ``source``."""
    few = source.first(checked)
    return Transfer(
        source.attacked(threat.bim),
        [few.attacked(_scaled(threat, radius).bim) for radius in RADII],
    )


def measure(
    target: Target, threat: Threat, transferred: Transfer, checked: int
) -> dict[str, Any]:
    """Everything that is asked of one model.

    Args:
        target: The model and the images.
        threat: The attacks.
        transferred: Attacks on another model, of the same images.
        checked: How many images, the first, all but the accuracies is measured on.

    Returns:
        ``accuracy``: under each of ``ATTACKS``, in percent; under ``all`` an image
        counts if none of the others makes it wrong. ``by_radius``: without attack and
        at each of ``RADII``, under three of them. ``by_steps``: after each number of
        ``_masking.STEPS``. ``surface`` and ``checks``: see :mod:`experiments._masking`.
    """
    moved = {
        "clean": target.images,
        "noise": target.attacked(threat.noise),
        "fgsm": target.attacked(threat.fgsm),
        "bim": target.attacked(threat.bim),
        "pgd": target.attacked(threat.pgd),
        "margin": target.attacked(threat.pgd, _attackers.margin),
        "transfer": transferred.images,
    }
    correct = {name: target.correct(images) for name, images in moved.items()}
    correct["all"] = np.logical_and.reduce(list(correct.values()))
    accuracy = {name: _attackers.percent(is_so) for name, is_so in correct.items()}
    few = target.first(checked)
    steps = _masking.by_steps(few, threat)
    checks = _masking.checks(few, threat, accuracy, steps)
    return {
        "accuracy": accuracy,
        "by_radius": _by_radius(few, threat, transferred),
        "by_steps": steps,
        "surface": _masking.surface(few, threat),
        "checks": {
            name: {**check._asdict(), "passed": check.passed}
            for name, check in checks.items()
        },
    }


def _by_radius(
    target: Target, threat: Threat, transferred: Transfer
) -> dict[str, list[float]]:
    threats = [_scaled(threat, radius) for radius in RADII]
    moved = {
        "fgsm": [target.attacked(one.fgsm) for one in threats],
        "pgd": [target.attacked(one.pgd) for one in threats],
        "transfer": transferred.by_radius,
    }
    return {
        name: [target.accuracy(images) for images in (target.images, *of_attack)]
        for name, of_attack in moved.items()
    }


def _scaled(threat: Threat, radius: float) -> Threat:
    """The attacks at a multiple of their radius, from one start."""
    return threat._replace(eps=radius * threat.eps, restarts=1)
