"""The study of faces: its whole path on made files, resuming, cleaning, presets."""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from experiments.common import estimates, sharded, store
from experiments.common.runs import Work
from experiments.faces import config, records, report, train
from experiments.faces.__main__ import parse
from experiments.faces.records import alignment

ROOT = pathlib.Path(__file__).parents[3]
IDENTITIES, IMAGES = 12, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A record file of blurred noise for each identity, and pairs of it."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    means = rng.uniform(40, 215, (IDENTITIES, 1, 8, 8, 3))
    noise = rng.normal(0, 20, (IDENTITIES, IMAGES, 8, 8, 3))
    images = np.clip(means + noise, 0, 255).astype(np.uint8)
    with records.RecordWriter(folder / "made.rec") as writer:
        for identity in range(IDENTITIES):
            for image in images[identity]:
                writer.write(records.encode(image), identity)
    (folder / "property").write_text(f"{IDENTITIES},8,8\n")
    first, second = np.arange(40) % IDENTITIES, (np.arange(40) + 1) % IDENTITIES
    second = np.where(np.arange(40) % 2, second, first)
    pairs = np.stack([images[first, 0], images[second, 1]], axis=1)
    records.write_verification_set(
        folder / "pairs.bin", pairs.reshape(-1, 8, 8, 3), first == second
    )
    return folder


def settings(files, runs, **changes: Any):
    small = dict(
        data=files / "made.rec",
        verification=(files / "pairs.bin",),
        runs=runs,
        image_size=8,
        width=0.05,
        margins=("adaface",),
        augment="default",
        batch=16,
        epochs=2,
        verify_every=4,
        checkpoint_every=2,
        log_every=2,
    )
    return dataclasses.replace(config.preset("quick"), **small | changes)


def make(chosen):
    """All of the runs with their records."""
    planned = config.planned(chosen)
    store.complete(planned, train.train, chosen.runs)
    return [(run, store.load(run, chosen.runs / "faces") or {}) for run in planned]


def events(folder):
    """What TensorBoard reads: (step, value) of each name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event: Any = vars(event_pb2)["Event"].FromString(
                content[at + 12 : at + 12 + length]
            )
            at += 16 + length
            for value in event.summary.value:
                each = event.step, value.simple_value
                found.setdefault(value.tag, []).append(each)
    return found


def write_ijb(files, folder):
    """A template of each identity from two images each, and all pairs of templates."""
    with records.RecordReader(files / "made.rec") as reader:
        images = [reader[i] for i in range(0, IDENTITIES * IMAGES, IMAGES // 2)]
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    media, points, pairs = [], [], []
    places = alignment.POINTS * (8 / 112)
    for number, record in enumerate(images):
        name = f"{number}.png"
        (folder / "loose_crop" / name).write_bytes(record.image)
        media.append(f"{name} {record.label} {number}")
        numbers = " ".join(map(str, places.ravel()))
        points.append(f"{name} {numbers} 0.9")
    for first in range(IDENTITIES):
        pairs += [f"{first} {x} {int(x % 5 == 0)}" for x in range(first)]
    for name, lines in (
        ("face_tid_mid", media),
        ("name_5pts_score", points),
        ("template_pair_label", pairs),
    ):
        path = folder / "meta" / f"ijbc_{name}.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
    return folder


def last_state(run):
    """The arrays of the last checkpoint."""
    with contextlib.closing(
        sharded.manager(train.folder_of(run) / "checkpoints")
    ) as manager:
        found: Any = manager.restore(manager.latest_step())
    return manager.latest_step(), dict(found.state)


def test_a_run_from_files_to_the_report_and_again(files, tmp_path):
    chosen = settings(files, tmp_path / "whole", export=tmp_path / "x.npz")
    ((run, record),) = make(chosen)
    metrics = record["metrics"]
    assert (metrics["images"], metrics["identities"]) == (72, 12)
    assert metrics["devices"] == 8
    assert len(metrics["losses"]) == 8
    assert [each["step"] for each in metrics["verification"]] == [4, 8]
    assert 50.0 <= metrics["verification"][-1]["pairs"] <= 100.0
    assert metrics["rule"].startswith("image + mirror image, normalized; ten folds")
    lines = list(report.table(chosen, [(run, record)]))
    assert lines[0] == "|  | pairs, % |"
    assert lines[2].startswith("| adaface | ")
    assert lines[4].startswith("72 images of 12 identities, on 8 devices; 1 seed; ± er")
    report.draw(chosen, [(run, record)], tmp_path)
    assert (tmp_path / "quick-curves.png").stat().st_size > 10_000

    written = events(train.folder_of(run))
    assert [step for step, _ in written["loss"]] == [2, 4, 6, 8]
    expected = np.mean(np.reshape(metrics["losses"], (4, 2)), axis=1)
    np.testing.assert_allclose([x for _, x in written["loss"]], expected, atol=1e-3)
    assert [step for step, _ in written["pairs"]] == [4, 8]
    assert {"correct", "angle", "norm", "gradient", "learning_rate"} <= set(written)

    train.export(run, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as exported:
        assert exported["embeddings"].shape == (72, 26)
        np.testing.assert_array_equal(exported["labels"], np.arange(72) // 6)
        assert exported["names"][7] == "key 7"
        assert np.all(np.std(exported["embeddings"], axis=0) > 0)

    folder = records.read_ijb_folder(write_ijb(files, tmp_path / "ijb"))
    lines = train.verify_templates(run, folder)
    assert lines[:2] == ["| FAR | TAR, % |", "| --- | --- |"]
    assert lines[2] == "| 1e-06 | too few pairs |"
    assert re.fullmatch(r"\| 0.1 \| \d+\.\d\d \|", lines[7])
    assert lines[-1].startswith("66 pairs; ")

    # Interrupted in the middle, between two checkpoints; then continued.
    again = settings(files, tmp_path / "parts", log_every=1)
    (other,) = config.planned(again)
    reported: list[int] = []

    def interrupt(steps, metrics):
        reported.append(steps)
        if sum(reported) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train([other], Work(tmp_path, interrupt))
    assert last_state(other)[0] == 5
    ((other, resumed),) = make(again)
    assert resumed["metrics"] == metrics
    (_, one), (_, two) = last_state(run), last_state(other)
    assert one.keys() == two.keys()
    # Network, prototypes, statistics, both optimizers, margin, key, step, losses.
    for part in ("network", "head", "rest", "optimizers", "margin_state", "key"):
        assert any(part in name for name in one)
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values, err_msg=name)


def test_far_images_are_dropped_and_the_rest_trains_again(files, tmp_path):
    options = dict(subcenters=2, drop_angle=80.0, margins=("arcface",), epochs=1)
    chosen = settings(files, tmp_path, **options)
    ((run, record),) = make(chosen)
    assert run.method == "arcface-2-centers"
    metrics = record["metrics"]
    kept = np.load(train.folder_of(run) / "kept.npy")
    assert metrics["before"]["images"] == 72
    assert metrics["images"] == len(kept) < 72
    assert metrics["kept"] == pytest.approx(len(kept) / 72, abs=1e-4)
    table = list(report.table(chosen, [(run, record)]))
    assert table[0] == "|  | pairs, % | kept, % |"
    path = tmp_path / "x.npz"
    train.export(dataclasses.replace(run), path)
    with np.load(path) as exported:
        assert exported["embeddings"].shape == (72, 26)


def test_planted_noise_is_far_from_the_dominant_center():
    """Two identities in the plane: 20 images near a center, 6 near another one."""
    rng = np.random.default_rng(0)
    degrees = np.concatenate(
        [rng.uniform(0, 70, 20), rng.uniform(110, 150, 6), [74.0, 76.0]] * 2
    )
    labels = np.repeat([0, 1], 28)
    # The second identity has its dominant center at the other place.
    places = np.where(labels[:, None] == 0, [0.0, 130.0], [130.0, 0.0])
    cosines = np.cos(np.radians(degrees[:, None] - places))
    kept = train.near_dominant(cosines, labels, 75.0)
    clean = [*range(20), 26]
    np.testing.assert_array_equal(kept, [*clean, *(28 + i for i in clean)])


def test_presets_are_the_published_recipes():
    found = {each.preset: each for each in config.presets()}
    assert set(found) == set(config.PRESETS)
    for name, images, batch, epochs, rate, margin, sampled in (
        ("ms1mv3-r50", 5_179_510, 1024, 20, 0.1, "ArcFace(margin=0.5", 1.0),
        ("ms1mv3-r100", 5_179_510, 1024, 20, 0.1, "ArcFace(margin=0.5", 1.0),
        ("ms1mv2", 5_822_653, 1024, 20, 0.1, "ArcFace(margin=0.5", 1.0),
        ("glint360k", 17_091_657, 1024, 20, 0.1, "CosFace(margin=0.4", 1.0),
        ("wf42m-pfc02", 42_474_557, 1024, 20, 0.1, "CosFace(margin=0.4", 0.2),
        ("wf42m-vit", 42_474_557, 24_576, 40, 1e-3, "CosFace(margin=0.4", 0.3),
        ("adaface", 5_822_653, 512, 26, 0.1, "AdaFace(margin=0.4, h=0.333", 1.0),
        ("magface", 5_822_653, 512, 25, 0.1, "MagFace(lower_norm=10.0", 1.0),
        ("subcenter", 5_822_653, 1024, 20, 0.1, "ArcFace(margin=0.5", 1.0),
    ):
        each = found[name]
        assert each.batch == batch
        assert each.epochs == epochs
        assert each.learning_rate == rate
        assert each.scale == 64.0
        assert repr(each.head["margin"]).startswith(margin)
        assert each.sample_rate == sampled
        (run,) = config.planned(each)
        steps = images // batch * epochs
        assert run.steps == steps * (2 if name == "subcenter" else 1)
        last: Any = each.rate(steps)(steps)
        assert last <= rate * (1.001e-3 if each.drops else 0.0)
    assert found["wf42m-vit"].rate(40_000)(2_000) == pytest.approx(0.5e-3)
    assert found["adaface"].rate(26_000)(13_000) == pytest.approx(0.01)
    assert found["subcenter"].head["subcenters"] == 3
    assert found["subcenter"].drop_angle == 75.0
    assert parse(["--preset", "magface", "--epochs", "3", "--drops", "1"]).batch == 512


def test_an_estimate_is_of_the_data(files, tmp_path):
    chosen = settings(files, tmp_path)
    assert config.size_of(chosen) == (72, 12)
    (run,) = config.planned(chosen)
    assert run.steps == 8
    lines = list(estimates.table({"a": chosen}, 72_000, 12))
    assert lines[2].startswith("| a | 8 TPU v5e | 0.0 + 0.0 M | 0.00 GB | 0.00 of 16 G")
    assert lines[3].startswith("| a | 8 H100 | ")
    assert lines[2].split(" | ")[5] == "fits"
    missing = dataclasses.replace(chosen, data=tmp_path / "train.rec")
    assert config.size_of(missing) == (1000, 10)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Four devices each; what the other process has is not here."""
    flags = ["--epochs", "1", "--margins", "arcface", "--verify-every", "5"]
    launch = ["experiments.launch", "--processes", "2", "--devices", "4", "--", "-m"]
    found = []
    for name, before in (("one", []), ("two", launch)):
        command = [sys.executable, "-m", *before, "experiments.faces", *flags]
        runs = ["--runs", str(tmp_path / name)]
        subprocess.run([*command, *runs], cwd=ROOT, check=True, capture_output=True)
        (run,) = config.planned(parse([*flags, *runs]))
        record = store.load(run, tmp_path / name / "faces")
        assert record is not None
        found.append(record["metrics"])
    one, two = found
    assert one["devices"] == two["devices"] == 8
    # Sums are rounded differently.
    np.testing.assert_allclose(one["losses"][:5], two["losses"][:5], rtol=1e-3)
    assert abs(one["verification"][0]["digits"] - two["verification"][0]["digits"]) < 2


@pytest.mark.slow
def test_a_killed_process_goes_on_bit_for_bit(tmp_path):
    """A real process, killed by a signal that it cannot handle, and started again."""
    common = (
        "--epochs 4 --checkpoint-every 5 --verify-every 30 --margins curricularface"
    )

    def begin(folder):
        command = [sys.executable, "-m", "experiments.faces", *common.split()]
        return subprocess.Popen(
            [*command, "--runs", folder],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    folders = tmp_path / "whole", tmp_path / "killed"
    assert begin(folders[0]).wait() == 0
    killed = begin(folders[1])
    while not list(folders[1].glob("faces/quick/*/checkpoints/1[05]")):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not list(folders[1].glob("faces/quick/*.json"))
    assert begin(folders[1]).wait() == 0
    found = []
    for folder in folders:
        chosen = parse([*common.split(), "--runs", str(folder)])
        (run,) = config.planned(chosen)
        record = store.load(run, folder / "faces")
        assert record is not None
        found.append((record["metrics"], *last_state(run)))
    (one, one_step, one_state), (two, two_step, two_state) = found
    assert one == two
    assert one_step == two_step == 60
    jax.tree.map(np.testing.assert_array_equal, one_state, two_state)
