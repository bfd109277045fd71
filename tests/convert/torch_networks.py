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
# Height and width of images.
SMALL = {
    "iresnet": (32, 48),
    "adaface": (32, 32),
    "sfnet": (32, 32),
    "bare_sfnet": (32, 32),
    "early_sfnet": (32, 32),
}


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


def draw_images(number: int, shape: tuple[int, int]) -> np.ndarray:
    """Images ``[n, height, width, 3]``, of patches that differ, and noise."""
    rng = np.random.default_rng(1)
    coarse = (number, shape[0] // 16, shape[1] // 16, 3)
    patches = rng.uniform(-1, 1, coarse).repeat(16, 1).repeat(16, 2)
    noise = rng.uniform(-1, 1, (number, *shape, 3))
    return (0.8 * patches + 0.2 * noise).astype(np.float32)


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


# Functions that make a network in PyTorch, and those that read its arrays.
NETWORKS: dict[str, tuple[Any, Any]] = {
    "iresnet": (iresnet, sx.convert.from_insightface),
    "adaface": (adaface, sx.convert.from_adaface),
    "sfnet": (sfnet, sx.convert.from_opensphere),
    "bare_sfnet": (bare_sfnet, sx.convert.from_opensphere),
    "early_sfnet": (early_sfnet, sx.convert.from_opensphere),
}
_REPEATS = {"iresnet": (1, 2, 1, 1), "adaface": (2, 1, 1, 1)}
_PUBLISHED = {
    "iresnet18": ("iresnet", (2, 2, 2, 2)),
    "iresnet50": ("iresnet", (3, 4, 14, 3)),
    "iresnet100": ("iresnet", (3, 13, 30, 3)),
    "adaface18": ("adaface", (2, 2, 2, 2)),
    "adaface101": ("adaface", (3, 13, 30, 3)),
    "sfnet20": ("sfnet", (1, 2, 4, 1)),
    "bare_sfnet64": ("bare_sfnet", (3, 8, 16, 3)),
    "early_sfnet20": ("early_sfnet", (1, 2, 4, 1)),
}


def _drawn(net: Any) -> dict[str, np.ndarray]:
    """Gives a network drawn arrays, and returns them."""
    torch = import_module("torch")
    state = net.state_dict()
    names = [name for name in state if "num_batches" not in name]
    arrays = draw({name: tuple(state[name].shape) for name in names})
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    net.load_state_dict(tensors, strict=False)
    return arrays


def _channels_first(images: np.ndarray) -> Any:
    return import_module("torch").from_numpy(images.transpose(0, 3, 1, 2).copy())


def write_small() -> None:
    """Writes shapes and embeddings of all formats, computed in float64."""
    torch = import_module("torch")
    found = {}
    for name, (make, _) in NETWORKS.items():
        images = draw_images(2, SMALL[name])
        positions = images.shape[1] * images.shape[2] // 256
        repeats = _REPEATS.get(name, (1, 0, 2, 0))
        net, compute = make(torch.nn, (4, 5, 6, 7), repeats, 3, positions)
        shapes = {key: array.shape for key, array in _drawn(net).items()}
        net.double().eval()
        with torch.no_grad():
            embeddings = compute(_channels_first(images).double()).numpy()
        found[name] = {"shapes": shapes, "embeddings": embeddings.round(9).tolist()}
    FILE.write_text(json.dumps(found) + "\n")


def _write_published(kind: str, repeats: Any, images: np.ndarray, file: Path) -> None:
    """A file as after training, with the statistics of images, and two embeddings."""
    torch = import_module("torch")
    make, _ = NETWORKS[kind]
    net, compute = make(torch.nn, (64, 128, 256, 512), repeats, 512, 49)
    _drawn(net)
    for module in net.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs = _channels_first(images)
    with torch.no_grad():
        compute(inputs)  # in training mode, which sets the statistics
        net.eval()
        embeddings = compute(inputs[:2]).numpy()
    import_module("safetensors.torch").save_file(net.state_dict(), file)
    np.save(file.with_suffix(".npy"), embeddings)


def compare_published(folder: Path) -> None:
    """Prints the largest difference in parts of the largest entry, in float32."""
    images = draw_images(16, (112, 112))
    for name, (kind, repeats) in _PUBLISHED.items():
        file = folder / f"{name}.safetensors"
        if not file.exists():
            _write_published(kind, repeats, images, file)
        network = NETWORKS[kind][1](file)
        network.eval()
        ours = nnx.jit(lambda net, x: net(x))(network, images[:2])
        theirs = np.load(file.with_suffix(".npy"))
        difference, largest = np.abs(ours - theirs).max(), np.abs(theirs).max()
        print(f"{name}: {difference / largest:.1e} of {largest:.2f}", flush=True)


if __name__ == "__main__":
    compare_published(Path(sys.argv[1])) if sys.argv[1:] else write_small()
