"""Whether attacks fail only because the gradient is hidden from them (masking).

What points to it, after Athalye, Carlini and Wagner, `Obfuscated Gradients Give a False
Sense of Security <https://arxiv.org/abs/1802.00420>`_, ICML 2018, Sec. 3.1, and Carlini
et al., `On Evaluating Adversarial Robustness <https://arxiv.org/abs/1902.06705>`_: a
stronger attack that does less than a weaker one, images that no distance makes wrong,
and a loss that does not rise along its gradient.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _attacks
from experiments._attackers import Target, Threat, percent

# Steps of BIM of which a greater number should not leave a greater accuracy.
STEPS = (1, 2, 5, 10, 20, 50)
# With it, every image can become any other.
_WHOLE_RANGE = 1.0
# Differences of accuracies on the same images, in points, and a share of images, in %.
_POINTS, _SHARE = 2.0, 10.0
# Of a loss surface: how far to either side, in radii, and on how many images.
REACH = 2.0
_SIDE, _DRAWN = 9, 64


class Check(NamedTuple):
    """A number that is small unless the gradient is masked, and how small.

    Attributes:
        value: In percent, or in points of accuracy.
        limit: The largest value that passes.
    """

    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether nothing points to a masked gradient."""
        return self.value <= self.limit


# What the numbers are, in the order of the tables.
TITLES = {
    "noise": "FGSM above noise",
    "iteration": "BIM above FGSM",
    "steps": "rise with steps",
    "transfer": "PGD above transfer",
    "range": "left at eps = 1",
    "direction": "noise steeper, %",
}


def checks(
    target: Target, threat: Threat, accuracy: Mapping[str, float], steps: list[float]
) -> dict[str, Check]:
    """The six checks of a model.

    Args:
        target: The model and some images.
        threat: The attacks.
        accuracy: Under ``"noise"``, ``"fgsm"``, ``"bim"``, ``"pgd"`` and
            ``"transfer"``, in percent.
        steps: Accuracies after the numbers of steps in ``STEPS``.

    Returns:
        By name: ``noise``, how much more accurate the model is under FGSM than under
        noise; ``iteration``, than under FGSM under BIM; ``steps``, the greatest rise of
        the accuracy with more steps; ``transfer``, how much more accurate under PGD
        than under transferred images; ``range``, the accuracy under PGD when a pixel
        may become any other; ``direction``, the share of images whose loss rises no
        more along the sign of its gradient than along random signs.
    """
    anywhere = target.accuracy(target.attacked(Threat(_WHOLE_RANGE).pgd))
    return {
        "noise": Check(accuracy["fgsm"] - accuracy["noise"], _POINTS),
        "iteration": Check(accuracy["bim"] - accuracy["fgsm"], _POINTS),
        "steps": Check(float(np.max(np.diff(steps))), _POINTS),
        "transfer": Check(accuracy["pgd"] - accuracy["transfer"], _POINTS),
        "range": Check(anywhere, _POINTS),
        "direction": Check(_share_of_steeper_noise(target, threat), _SHARE),
    }


def by_steps(target: Target, threat: Threat) -> list[float]:
    """Accuracy after each number of steps of BIM in ``STEPS``, in percent."""

    def attack(loss: _attacks.Loss, images: jax.Array, key: jax.Array) -> jax.Array:
        path = _attacks.path(loss, images, images, eps=threat.eps, step=threat.step)
        points = list(itertools.islice(path, STEPS[-1]))
        return jnp.stack([points[number - 1] for number in STEPS], axis=1)

    moved = np.moveaxis(target.attacked(attack), 1, 0)
    return [target.accuracy(images) for images in moved]


def surface(target: Target, threat: Threat) -> list[list[float]]:
    """Mean loss over some images, along the gradient and across it.

    Returns:
        ``[9, 9]``: in a row, from minus to plus two radii along the sign of each
        image's gradient; in a column, along random signs. Pixels are cut to [0, 1].
    """
    few = target.first(_DRAWN)
    uphill, random = _directions(few)
    lengths = np.linspace(-REACH, REACH, _SIDE, dtype=np.float32) * threat.eps
    means = [
        [float(np.mean(_losses(few, a * uphill + b * random))) for a in lengths]
        for b in lengths
    ]
    return np.round(means, 4).tolist()


def _share_of_steeper_noise(target: Target, threat: Threat) -> float:
    uphill, random = _directions(target)
    # The same loss in both, as where the gradient is zero, is no rise along it.
    rises = _losses(target, threat.eps * uphill), _losses(target, threat.eps * random)
    return percent(rises[0] <= rises[1])


def _directions(target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The sign of the gradient of each image, and random signs."""
    uphill = target.attacked(lambda loss, images, key: _attacks.uphill(loss, images)[1])
    random = np.random.default_rng(0).choice([-1.0, 1.0], uphill.shape)
    return uphill, random.astype(uphill.dtype)


def _losses(target: Target, moves: np.ndarray) -> np.ndarray:
    """Cross entropy of the images after a move, ``[n]``."""
    logits: Any = target.logits(np.clip(target.images + moves, 0.0, 1.0))
    return np.asarray(
        optax.softmax_cross_entropy_with_integer_labels(logits, target.labels)
    )
