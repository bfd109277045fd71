"""The steps of augmentations: their probabilities, ranges and pixels."""

import numpy as np
import pytest

from experiments.faces.records import AUGMENTATIONS, augmentation


@pytest.fixture(scope="module")
def face():
    """Something smooth with colors, as photographs are."""
    rows, columns = np.mgrid[:112, :112] / 111
    channels = [rows, columns, 0.5 + 0.5 * np.sin(6 * rows + 3 * columns)]
    return np.round(40 + 160 * np.stack(channels, -1)).astype(np.uint8)


# The shares of images that each step changes, where every other step is left out.
@pytest.mark.parametrize(
    ("name", "step", "share"),
    [
        ("extended", "low_resolution", 0.1),
        ("extended", "blurred", 0.2),
        ("extended", "recolored", 0.3),  # color in 0.2, gray in 0.1
        ("adaface", "random_box", 0.2),
        ("adaface", "low_resolution", 0.2),
        ("adaface", "photometric", 0.2),
        ("mxnet", "encode", 0.5),
        ("mxnet", "photometric", 1.0),
    ],
)
def test_each_step_is_drawn_with_its_probability(face, monkeypatch, name, step, share):
    calls = []
    for other in ("low_resolution", "blurred", "recolored", "photometric"):
        monkeypatch.setattr(augmentation, other, lambda image, *_: image)
    counted = getattr(augmentation, step)

    def count(*arguments, **options):
        calls.append(arguments)
        return counted(*arguments, **options)

    monkeypatch.setattr(augmentation, step, count)
    for seed in range(500):
        AUGMENTATIONS[name](face[::7, ::7], np.random.default_rng(seed))
    spread = np.sqrt(500 * share * (1 - share))
    assert abs(len(calls) - 500 * share) <= 4 * spread


def test_drawn_sizes_and_factors_are_in_their_ranges(face, monkeypatch):
    seen = {"low_resolution": [], "recolored": []}
    for step, values in seen.items():
        monkeypatch.setattr(
            augmentation, step, lambda x, *v, values=values: values.append(v) or x
        )
    for seed in range(300):
        augmentation.extended(face, np.random.default_rng(seed))
    sides = 112 * np.array(seen["low_resolution"])
    assert sides.min() >= 56
    assert sides.max() <= 89
    assert sides.max() - sides.min() > 15
    degrees, saturation = np.array([v for v in seen["recolored"] if v[1] > 0]).T
    assert 0 <= degrees.min() < 5 < 15 < degrees.max() <= 20
    assert 1 <= saturation.min() < 1.05 < 1.15 < saturation.max() <= 1.2
    boxes = [
        augmentation.random_box((112, 112), np.random.default_rng(s))
        for s in range(300)
    ]
    top, left, height, width = np.array(boxes).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 112).all()
    assert (left + width <= 112).all()
    area, ratio = height * width / 112**2, width / height
    assert 0.19 < area.min() < 0.3 < 0.7 < area.max() <= 1.0
    assert 0.73 < ratio.min() < 0.8 < 1.25 < ratio.max() < 1.36


def test_steps_do_what_they_say(face):
    rng = np.random.default_rng(0)
    gray = augmentation.recolored(face, 0.0, 0.0)
    luma = face @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(gray, np.stack([luma] * 3, -1), atol=0.51)
    np.testing.assert_array_equal(augmentation.recolored(face, 0.0, 1.0), face)
    turned = augmentation.recolored(face, 20.0, 1.0)
    assert 5 < np.abs(turned.astype(int) - face).max() < 80
    inside = (turned > 0).all(-1) & (turned < 255).all(-1)
    np.testing.assert_allclose(
        (turned @ [0.299, 0.587, 0.114])[inside], luma[inside], atol=1.5
    )

    noise = rng.integers(0, 256, (9, 9, 3), np.uint8)
    weights = np.exp(-0.5 * np.array([-1, 0, 1]) ** 2 / 0.8**2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    expected = sum(
        window[i, j]
        * np.pad(noise, ((1, 1), (1, 1), (0, 0)), "reflect")[i : i + 9, j : j + 9]
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(augmentation.blurred(noise), expected, atol=0.51)

    small = augmentation.low_resolution(face, 0.5)
    assert 0 < np.abs(small.astype(int) - face).mean() < 5
    flipped = {
        AUGMENTATIONS["default"](face, np.random.default_rng(s)).tobytes()
        for s in range(20)
    }
    assert flipped == {face.tobytes(), face[:, ::-1].tobytes()}


def test_crops_and_cut_outs_leave_the_rest_where_it_is(face, monkeypatch):
    monkeypatch.setattr(augmentation, "photometric", lambda image, *_: image)
    monkeypatch.setattr(augmentation, "low_resolution", lambda image, *_: image)
    monkeypatch.setattr(augmentation, "encode", lambda image, *_, **__: image)
    monkeypatch.setattr(augmentation, "decode", lambda image: image)
    monkeypatch.setattr(augmentation, "default", lambda image, _: image)
    for name, value in (("adaface", 0), ("mxnet", 128)):
        changed = 0
        for seed in range(60):
            result = AUGMENTATIONS[name](face, np.random.default_rng(seed))
            same = (result == face).all(-1)
            assert (result[~same] == value).all()
            changed += not same.all()
        assert changed > 3
