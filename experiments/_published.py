"""What others have measured under the recipes of the presets, to stand beside ours."""

from typing import NamedTuple

# Error rates of the dissertation's Tables 2.2 to 2.4, by preset and augmentation: of
# softmax and of L-Softmax with m = 2, 3, 4.
ERRORS: dict[tuple[str, bool], tuple[float, float, float, float]] = {
    ("table-2.2", False): (0.40, 0.32, 0.31, 0.31),
    ("table-2.3", False): (9.05, 7.73, 7.66, 7.58),
    ("table-2.3", True): (6.50, 6.01, 5.94, 5.92),
    ("table-2.4", False): (32.74, 29.95, 29.87, 29.53),
}


class Accuracy(NamedTuple):
    """Test accuracy in percent: after the last step, and the best of all steps."""

    final: float
    best: float


_SPHERENET_9 = {
    "plain": Accuracy(90.61, 90.86),
    "sphere-cosine": Accuracy(91.29, 91.31),
    "sphere-linear": Accuracy(91.16, 91.65),
    "sphere-sigmoid": Accuracy(91.40, 91.81),
    "sphere-learned-sigmoid": Accuracy(91.32, 91.66),
}
# From the logs that the authors of SphereNet have published with their code, one run
# each, by preset, set and operator. The quick preset has SphereNet-9's beside it.
ACCURACIES: dict[tuple[str, str], dict[str, Accuracy]] = {
    ("operators", "cifar10"): _SPHERENET_9,
    ("spherenet-9", "cifar10"): _SPHERENET_9,
    ("sphereresnet-32", "cifar10"): {
        "plain": Accuracy(92.99, 93.09),
        "sphere-linear": Accuracy(94.63, 94.68),
    },
}
