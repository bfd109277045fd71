"""Embeddings of small networks in PyTorch, written from what the libraries compute.

``python -m tests.convert.torch_networks`` writes ``torch_networks.json`` beside this
file; with a folder as its argument, it compares networks of the published sizes, whose
files it makes there unless they exist. Both need the extra ``peers``, but not the
comparison of files that exist.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

import sphax as sx

FILE = Path(__file__).with_suffix(".json")
# Height and width of images, their number, and the dimension of embeddings.
SMALL = {"iresnet": (32, 48), "adaface": (32, 32)}
IMAGES, FEATURES = 2, 3


def draw(shapes: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as after some training, by the names of PyTorch."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            drawn = rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5
        elif name.endswith("weight") and "prelu" not in name:
            drawn = rng.uniform(0.5, 1.2, shape)
        elif name.endswith("var"):
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            drawn = rng.normal(size=shape) / 5
        arrays[name] = drawn.astype(np.float32)
    return arrays


def draw_images(name: str, side: int | None = None) -> np.ndarray:
    """Images ``[n, height, width, 3]``."""
    shape = SMALL.get(name, (32, 32)) if side is None else (side, side)
    images = np.random.default_rng(1).uniform(-1, 1, (IMAGES, *shape, 3))
    return images.astype(np.float32)


def iresnet(nn: Any, widths, repeats, features, positions):
    """An IResNet of insightface and opensphere, and what it computes."""
    net = nn.Module()
    net.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
    net.bn1, net.prelu = nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
    before = widths[0]
    for i, (width, count) in enumerate(zip(widths, repeats, strict=True), 1):
        stage = nn.Sequential()
        for j in range(count):
            unit = nn.Module()
            stride = 1 if j else 2
            unit.bn1 = nn.BatchNorm2d(before)
            unit.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
            unit.bn2, unit.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
            unit.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
            unit.bn3 = nn.BatchNorm2d(width)
            if j == 0:
                projection = nn.Conv2d(before, width, 1, stride, bias=False)
                unit.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))
            stage.append(unit)
            before = width
        net.add_module(f"layer{i}", stage)
    net.bn2, net.fc = nn.BatchNorm2d(before), nn.Linear(before * positions, features)
    net.features = nn.BatchNorm1d(features)

    def compute(x):
        x = net.prelu(net.bn1(net.conv1(x)))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            for unit in stage:
                y = unit.prelu(unit.bn2(unit.conv1(unit.bn1(x))))
                y = unit.bn3(unit.conv2(y))
                x = y + (unit.downsample(x) if hasattr(unit, "downsample") else x)
        return net.features(net.fc(net.bn2(x).flatten(1)))

    return net, compute


def adaface(nn: Any, widths, repeats, features, positions):
    """An IR network of AdaFace, up to the division by the length."""
    net = nn.Module()
    first = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
    net.input_layer = nn.Sequential(
        first, nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
    )
    net.body = nn.Sequential()
    before = widths[0]
    for width, count in zip(widths, repeats, strict=True):
        for j in range(count):
            unit = nn.Module()
            stride = 1 if j else 2
            unit.shortcut_layer = nn.MaxPool2d(1, stride)
            if before != width:
                projection = nn.Conv2d(before, width, 1, stride, bias=False)
                unit.shortcut_layer = nn.Sequential(projection, nn.BatchNorm2d(width))
            unit.res_layer = nn.Sequential(
                nn.BatchNorm2d(before),
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.PReLU(width),
                nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )
            net.body.append(unit)
            before = width
    net.output_layer = nn.Sequential(
        nn.BatchNorm2d(before),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.Linear(before * positions, features),
        nn.BatchNorm1d(features, affine=False),
    )

    def compute(x):
        x = net.input_layer(x)
        for unit in net.body:
            x = unit.res_layer(x) + unit.shortcut_layer(x)
        return net.output_layer(x)

    return net, compute


def sfnet(nn: Any, widths, repeats, features, positions, *, has_norm=True):
    """An SFNet of opensphere; without normalization, convolutions have biases."""
    net = nn.Module()
    norm = nn.BatchNorm2d if has_norm else nn.Identity

    def conv(before, width, stride=1):
        return nn.Conv2d(before, width, 3, stride, padding=1, bias=not has_norm)

    before = 3
    for i, (width, count) in enumerate(zip(widths, repeats, strict=True), 1):
        stage = nn.Sequential()
        for j in range(count + 1):
            unit = nn.Module()
            unit.conv1 = conv(width, width) if j else conv(before, width, 2)
            unit.bn1 = norm(width)
            if j:
                unit.conv2, unit.bn2 = conv(width, width), norm(width)
            stage.append(unit)
        net.add_module(f"layer{i}", stage)
        before = width
    net.fc = nn.Linear(before * positions, features)
    net.features = nn.BatchNorm1d(features) if has_norm else nn.Identity()

    def compute(x):
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage[0].bn1(stage[0].conv1(x)).relu()
            for unit in stage[1:]:
                y = unit.bn1(unit.conv1(x)).relu()
                x = (unit.bn2(unit.conv2(y)) + x).relu()
        return net.features(net.fc(x.flatten(1)))

    return net, compute


def bare_sfnet(nn: Any, widths, repeats, features, positions):
    """SFNet without normalization."""
    return sfnet(nn, widths, repeats, features, positions, has_norm=False)


def early_sfnet(nn: Any, widths, repeats, features, positions):
    """SFNet with the rectifier before the sum."""
    net = nn.Module()
    before = 3
    for i, (width, count) in enumerate(zip(widths, repeats, strict=True), 1):
        stage = nn.Sequential()
        for j in range(count + 1):
            unit = nn.Module()
            if j:
                unit.conv1 = nn.Conv2d(width, width, 3, padding=1)
                unit.conv2 = nn.Conv2d(width, width, 3, padding=1)
            else:
                unit.conv = nn.Conv2d(before, width, 3, 2, padding=1)
            stage.append(unit)
        net.add_module(f"layer{i}", stage)
        before = width
    net.fc = nn.Linear(before * positions, features)

    def compute(x):
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage[0].conv(x).relu()
            for unit in stage[1:]:
                x = x + unit.conv2(unit.conv1(x).relu()).relu()
        return net.fc(x.flatten(1))

    return net, compute


READERS: dict[str, Any] = {
    "iresnet": sx.convert.from_insightface,
    "adaface": sx.convert.from_adaface,
    "sfnet": sx.convert.from_opensphere,
    "bare_sfnet": sx.convert.from_opensphere,
    "early_sfnet": sx.convert.from_opensphere,
}
_REPEATS = {"iresnet": (1, 2, 1, 1), "adaface": (2, 1, 1, 1)}
_FULL = {
    "iresnet18": ("iresnet", (2, 2, 2, 2)),
    "iresnet50": ("iresnet", (3, 4, 14, 3)),
    "iresnet100": ("iresnet", (3, 13, 30, 3)),
    "adaface18": ("adaface", (2, 2, 2, 2)),
    "adaface101": ("adaface", (3, 13, 30, 3)),
    "sfnet20": ("sfnet", (1, 2, 4, 1)),
    "bare_sfnet64": ("bare_sfnet", (3, 8, 16, 3)),
    "early_sfnet20": ("early_sfnet", (1, 2, 4, 1)),
}


def _embed(net: Any, compute: Any, images: np.ndarray, dtype: Any) -> Any:
    """Draws the arrays of a network in PyTorch; these, and the embeddings."""
    torch = import_module("torch")
    names = [name for name in net.state_dict() if "num_batches" not in name]
    state = net.state_dict()
    arrays = draw({name: tuple(state[name].shape) for name in names})
    tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
    net.load_state_dict(tensors, strict=False)
    net.to(dtype).eval()
    with torch.no_grad():
        inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(dtype)
        return arrays, compute(inputs).numpy()


def write_small() -> None:
    """Writes shapes and embeddings of all formats, computed in float64."""
    torch = import_module("torch")
    found = {}
    for name in READERS:
        images = draw_images(name)
        positions = images.shape[1] * images.shape[2] // 256
        repeats = _REPEATS.get(name, (1, 0, 2, 0))
        net, compute = globals()[name](
            torch.nn, (4, 5, 6, 7), repeats, FEATURES, positions
        )
        arrays, embeddings = _embed(net, compute, images, torch.float64)
        shapes = {key: list(x.shape) for key, x in arrays.items()}
        found[name] = {"shapes": shapes, "embeddings": embeddings.round(9).tolist()}
    FILE.write_text(json.dumps(found) + "\n")


def compare_full(folder: Path) -> None:
    """Prints the largest differences of embeddings of networks as published."""
    for name, (kind, repeats) in _FULL.items():
        file, expected = folder / f"{name}.safetensors", folder / f"{name}.npy"
        images = draw_images(kind, 112)
        if not file.exists():
            torch = import_module("torch")
            net, compute = globals()[kind](
                torch.nn, (64, 128, 256, 512), repeats, 512, 49
            )
            _, embeddings = _embed(net, compute, images, torch.float32)
            import_module("safetensors.torch").save_file(net.state_dict(), file)
            np.save(expected, embeddings)
        network = READERS[kind](file)
        network.eval()
        theirs = np.load(expected)
        ours = np.asarray(nnx.jit(lambda net, x: net(x))(network, images))
        difference = np.abs(ours - theirs).max()
        unit, other = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs)
        )
        print(
            f"{name}: {difference:.1e}, of embeddings up to {np.abs(theirs).max():.2f};"
            f" {np.abs(unit - other).max():.1e} where they are unit"
        )


if __name__ == "__main__":
    compare_full(Path(sys.argv[1])) if sys.argv[1:] else write_small()
