"""Numbers that differ from those of other libraries, beside their definition."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.benchmarks._peer_case import import_peer


class Difference(NamedTuple):
    """A number by both libraries in float32, and by its definition in float64.

    Attributes:
        name: What it is.
        peer: Who has another one.
        package: The package that has it.
        ours: The number of sphax.
        theirs: That of the other library.
        definition: That of a statement in NumPy.
    """

    name: str
    peer: str
    package: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    definition: Callable[[], float]


def _near(angle: float) -> tuple[np.ndarray, ...]:
    """An example at an angle to the prototype of its class, of two; and its label."""
    x = np.array([[math.cos(angle), math.sin(angle)]], np.float32)
    return x, np.eye(2, dtype=np.float32), np.array([0])


def _arcface_slope() -> float:
    x, w, y = _near(1e-4)
    margin = sx.margins.ArcFace(0.5)
    loss = partial(sx.losses.margin_softmax, margin=margin, scale=8.0)
    gradient = jax.grad(loss)(jnp.asarray(x), jnp.asarray(w), jnp.asarray(y))
    return float(jnp.linalg.norm(gradient))


def _peer_arcface_slope() -> float:
    torch, losses = _torch_and_losses()
    x, w, y = map(torch.tensor, _near(1e-4))
    loss = losses.ArcFaceLoss(2, 2, margin=math.degrees(0.5), scale=8.0)
    loss.W.data = w.T
    x.requires_grad = True
    return torch.autograd.grad(loss(x, y), x)[0].norm().item()


def _slope_of_arcface() -> float:
    def loss(angle):
        return np.log1p(np.exp(8.0 * (np.sin(angle) - np.cos(angle + 0.5))))

    return float(loss(1e-4 + 1e-6) - loss(1e-4 - 1e-6)) / 2e-6


# A positive opposite to its anchor, and a negative that coincides with it.
_OPPOSITE = np.array([[1, 0], [-1, 0], [1, 0]], np.float32), np.array([0, 0, 1])


def _peer_nt_xent() -> float:
    torch, losses = _torch_and_losses()
    return losses.NTXentLoss(temperature=0.01)(*map(torch.tensor, _OPPOSITE)).item()


def _nt_xent() -> float:
    # Of the two anchors with a positive, the second has both others opposite to it.
    return float(np.log1p(np.exp(200.0)) + np.log(2.0)) / 2.0


_ONE_CLASS = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32), np.zeros(3, int)


def _peer_supervised_contrastive() -> float:
    torch, losses = _torch_and_losses()
    return losses.SupConLoss()(*map(torch.tensor, _ONE_CLASS)).item()


def _supervised_contrastive() -> float:
    logits = 10.0 * np.array([[0.0, 0.6], [0.0, 0.8], [0.6, 0.8]])
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits.mean(1)))


# In float32 the two classes are one number.
_LARGE_LABELS = (
    np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.6]], np.float32),
    2**24 + np.array([0, 1, 0, 1]),
)


def _peer_precision_at_1() -> float:
    modules = "utils.accuracy_calculator", "utils.inference", "distances"
    package = import_peer("pytorch-metric-learning", *modules)
    knn = package.utils.inference.CustomKNN(package.distances.CosineSimilarity())
    calculator = package.utils.accuracy_calculator.AccuracyCalculator(
        include=("precision_at_1",), k=1, knn_func=knn
    )
    return calculator.get_accuracy(*_LARGE_LABELS)["precision_at_1"]


def _precision_at_1() -> float:
    x, y = _LARGE_LABELS[0].astype(float), _LARGE_LABELS[1]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T - 4.0 * np.eye(len(x))
    return float(np.mean(y[cosines.argmax(1)] == y))


# Entries above the diagonal of a small skew-symmetric matrix.
_SMALL = np.array([0.05, 0.02, -0.03, 0.01, 0.04, 0.02])


def _series_error() -> float:
    a = jnp.zeros((4, 4)).at[np.triu_indices(4, 1)].set(_SMALL)
    series = sx.orthogonal.cayley_neumann(a, terms=4, halve_last_term=True)
    return float(jnp.abs(series - sx.orthogonal.cayley(a)).max())


def _peer_series_error() -> float:
    torch = import_peer("torch")
    oft = import_peer("peft", "tuners.oft.layer").tuners.oft

    def rotation(is_series: bool) -> Any:
        linear = torch.nn.Linear(4, 4, bias=False)
        linear.weight.data = torch.eye(4)
        config = oft.OFTConfig(oft_block_size=4, use_cayley_neumann=is_series)
        layer = oft.layer.Linear(linear, "default", config, r=0)
        raw = torch.tensor(_SMALL[None], dtype=torch.float32)
        layer.oft_R["default"].weight.data = raw
        return layer(torch.eye(4)).detach()

    return (rotation(True) - rotation(False)).abs().max().item()


def _error_of_series() -> float:
    s = np.zeros((4, 4))
    s[np.triu_indices(4, 1)] = _SMALL
    s, one = s - s.T, np.eye(4)
    series = one + 2.0 * s + 2.0 * s @ s + 2.0 * s @ s @ s + s @ s @ s @ s
    return float(np.abs(series - np.linalg.solve(one - s, one + s)).max())


def _p2sgrad_along() -> float:
    x, w, y = map(jnp.asarray, _near(1.0))
    gradient = jax.grad(sx.losses.p2sgrad, argnums=1)(x, w, y)
    return float(jnp.abs(jnp.sum(gradient * w, axis=1)).max())


def _peer_p2sgrad_along() -> float:
    torch, losses = _torch_and_losses()
    x, w, y = map(torch.tensor, _near(1.0))
    loss = losses.P2SGradLoss(2, 2)
    loss.weight.data = w.T
    (gradient,) = torch.autograd.grad(loss(x, y), loss.weight)
    return (gradient.T * w).sum(1).abs().max().item()


# Two classes: a far and a near pair of positives.
_TWO_CLASSES = (
    np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]], np.float32),
    np.array([0, 0, 1, 1]),
)


def _margin_loss() -> float:
    x, y = _TWO_CLASSES[0].astype(float), _TWO_CLASSES[1]
    distances = np.sqrt(np.maximum(2.0 - 2.0 * x @ x.T, 0.0))
    is_same = y[:, None] == y
    costs = np.where(is_same, distances - 1.2 + 0.2, 1.2 - distances + 0.2)
    return float(costs[(costs > 0.0) & ~np.eye(4, dtype=bool)].mean())


def _peer_margin_loss() -> float:
    torch, losses = _torch_and_losses()
    return losses.MarginLoss()(*map(torch.tensor, _TWO_CLASSES)).item()


def _angular() -> float:
    x = _TWO_CLASSES[0].astype(float)
    cosines = x @ x.T
    negatives = np.array([[2, 3], [2, 3], [0, 1], [0, 1]])
    total = 0.0
    for a, p in ((0, 1), (1, 0), (2, 3), (3, 2)):
        k = negatives[a]
        exponents = 4.0 * (cosines[a, k] + cosines[p, k]) - 4.0 * cosines[a, p]
        total += math.log(1.0 + np.exp(exponents).sum()) / 4.0
    return total


def _peer_angular() -> float:
    torch, losses = _torch_and_losses()
    x, y = map(torch.tensor, _TWO_CLASSES)
    return losses.AngularLoss(alpha=45)(2.0 * x, y).item()


_DUPLICATES = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


def _duplicates() -> tuple[np.ndarray, np.ndarray]:
    """Each row twice, as the two examples of a class."""
    return np.repeat(_DUPLICATES, 2, axis=0), np.arange(16) // 2


def _tuplet_margin() -> float:
    x, y = _duplicates()
    x = x.astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    excess = np.exp(64.0 * (x @ x.T - math.cos(0.1))) * (y[:, None] != y)
    return float(np.log1p(excess.sum(1)).mean())


def _peer_tuplet_margin() -> float:
    torch, losses = _torch_and_losses()
    loss = losses.TupletMarginLoss(margin=math.degrees(0.1))
    return loss(*map(torch.tensor, _duplicates())).item()


def _torch_and_losses() -> tuple[Any, Any]:
    package = import_peer("pytorch-metric-learning", "losses")
    return import_peer("torch"), package.losses


_METRIC_LEARNING = "pytorch-metric-learning"
DIFFERENCES = (
    Difference(
        "gradient of ArcFace at 0.0001 rad",
        "ArcFaceLoss",
        _METRIC_LEARNING,
        _arcface_slope,
        _peer_arcface_slope,
        _slope_of_arcface,
    ),
    Difference(
        "gradient of P2SGrad along a prototype",
        "P2SGradLoss",
        _METRIC_LEARNING,
        _p2sgrad_along,
        _peer_p2sgrad_along,
        lambda: 0.0,
    ),
    Difference(
        "NT-Xent at temperature 0.01",
        "NTXentLoss",
        _METRIC_LEARNING,
        lambda: float(sx.losses.nt_xent(*_OPPOSITE, scale=100.0)),
        _peer_nt_xent,
        _nt_xent,
    ),
    Difference(
        "supervised contrastive loss of one class",
        "SupConLoss",
        _METRIC_LEARNING,
        lambda: float(sx.losses.supervised_contrastive(*_ONE_CLASS)),
        _peer_supervised_contrastive,
        _supervised_contrastive,
    ),
    Difference(
        "margin loss of two classes",
        "MarginLoss",
        _METRIC_LEARNING,
        lambda: float(sx.losses.margin_loss(*_TWO_CLASSES)),
        _peer_margin_loss,
        _margin_loss,
    ),
    Difference(
        "angular loss of rows of length 2",
        "AngularLoss",
        _METRIC_LEARNING,
        lambda: float(sx.losses.angular(2.0 * _TWO_CLASSES[0], _TWO_CLASSES[1])),
        _peer_angular,
        _angular,
    ),
    Difference(
        "tuplet margin loss of duplicates",
        "TupletMarginLoss",
        _METRIC_LEARNING,
        lambda: float(sx.losses.tuplet_margin(*_duplicates())),
        _peer_tuplet_margin,
        _tuplet_margin,
    ),
    Difference(
        "precision at 1 with labels from 16,777,216 on",
        "AccuracyCalculator",
        _METRIC_LEARNING,
        lambda: float(sx.metrics.recall_at_k(*_LARGE_LABELS).recall[0]),
        _peer_precision_at_1,
        _precision_at_1,
    ),
    Difference(
        "OFT: Neumann series less the Cayley map",
        "OFT",
        "peft",
        _series_error,
        _peer_series_error,
        _error_of_series,
    ),
)


def measure(difference: Difference) -> dict[str, Any]:
    """The three numbers."""
    return {
        "name": difference.name,
        "peer": difference.peer,
        "value": difference.ours(),
        "peer_value": difference.theirs(),
        "definition": difference.definition(),
    }
