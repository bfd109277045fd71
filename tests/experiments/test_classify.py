"""The classification experiment: killed, resumed, repeated, on small images."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import _batches, _data, _recipes, _training, classify, report

ROOT = pathlib.Path(__file__).parents[2]


def small(tmp_path, **options):
    defaults = dict(
        methods=("softmax",),
        seeds=1,
        steps=4,
        drops=(3,),
        batch=16,
        plane=False,
        checkpoint_every=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )
    return dataclasses.replace(_recipes.preset("quick"), **(defaults | options))


def outcomes(results):
    return {
        name: [{k: run[k] for k in ("error", "margin", "parameters")} for run in runs]
        for name, runs in results["methods"].items()
    }


@pytest.mark.slow
def test_the_experiment_leaves_its_results_and_repeats_itself(tmp_path):
    config = small(tmp_path, methods=("softmax", "l-softmax-4"), plane=True)
    config = dataclasses.replace(config, plane_steps=3)
    results = classify.train(config)
    written = json.loads((tmp_path / "results/classify_quick_digits.json").read_text())
    assert written == json.loads(json.dumps(results))
    assert set(written) == {
        "config",
        "methods",
        "device",
        "python",
        "versions",
        "seconds",
    }
    assert str(tmp_path) not in json.dumps(written)
    for figure in ("psi.png", "classify_quick_digits_plane.png"):
        assert (tmp_path / "results" / figure).stat().st_size > 10_000
    assert not list((tmp_path / "checkpoints").iterdir())
    again = classify.train(dataclasses.replace(config, plane=False))
    assert outcomes(again) == outcomes(results)
    table = list(report.classification(results))
    assert table[2].startswith("| Softmax | ")
    assert len(table) == 4  # of one seed there is no verdict


COMMAND = (
    "-m experiments.classify --methods l-softmax-2 --seeds 2 --steps 60 --drops 40"
    " --batch 16 --no-plane --checkpoint-every 5"
)


def start(folder):
    """In a folder of its own, with nothing said of where files go."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *COMMAND.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stop_when(process, is_time, number):
    """Exit code, stdout and stderr of a process that gets a signal in time."""
    deadline = time.monotonic() + 120
    while not is_time() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    said = process.communicate()
    return process.returncode, *said


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path):
    folders = tmp_path / "killed", tmp_path / "whole"
    result = "runs/classify_quick_digits.json"
    whole = start(folders[1])

    def checkpoints(pattern="*.ckpt"):
        return sorted(folders[0].rglob(pattern))

    stop_when(start(folders[0]), checkpoints, signal.SIGKILL)
    (newest,) = checkpoints()[-1:]
    newest.write_bytes(newest.read_bytes()[:-100])
    # The second seed is stopped too, the first being done.
    code, out, err = stop_when(
        start(folders[0]),
        lambda: len({path.parent for path in checkpoints()}) == 2,
        signal.SIGINT,
    )
    *warned, line = err.splitlines()
    # Python may end by the signal itself, which a shell shows as 130 too.
    assert code in (130, -signal.SIGINT)
    assert out == ""
    assert line == "interrupted: the same command goes on from its last checkpoint."
    assert "is damaged" in warned[0]
    assert "Traceback" not in err
    assert checkpoints("outcome.json")
    assert not (folders[0] / result).exists()
    last = start(folders[0])
    for process in (last, whole):
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        assert out.endswith("written to runs/classify_quick_digits*\n")
    found = [json.loads((folder / result).read_text()) for folder in folders]
    assert outcomes(found[0]) == outcomes(found[1])


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    config = small(tmp_path, learning_rate=1e38, steps=30)
    with pytest.raises(
        FloatingPointError, match=r"Softmax, seed 0: the loss is .*step"
    ):
        classify.train(config)


@pytest.mark.slow
def test_seeds_side_by_side_are_seeds_one_by_one(tmp_path):
    settings = dict(seeds=2, methods=("cosface",), augment=True, steps=3)
    one, all_ = (
        classify.train(small(tmp_path / str(mode), side_by_side=mode, **settings))
        for mode in (False, True)
    )
    for a, b in zip(one["methods"]["cosface"], all_["methods"]["cosface"], strict=True):
        assert a["margin"] == pytest.approx(b["margin"], abs=0.05)
    first, second = one["methods"]["cosface"]
    assert first["parameters"] != second["parameters"]


def write_mnist(folder, size=24):
    """A prepared set of the name and features of tfds's own, without TensorFlow."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples() for name in ("train", "test")}

        def _generate_examples(self):
            from PIL import Image

            for i in range(size):
                image = Image.fromarray(np.full((28, 28), 10 * (i % 10), np.uint8))
                yield i, {"image": image, "label": i % 10}

    Builder.name = "mnist"
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prepared_sets_are_read_through_tfds(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = _data.load("mnist")
    assert found.shape == (28, 28, 1)
    assert found.classes == 10
    assert found.train.images.dtype == np.uint8
    np.testing.assert_array_equal(found.test.images[:, 3, 4, 0], 10 * found.test.labels)
    assert "tensorflow" not in sys.modules


def test_a_set_that_is_not_prepared_is_not_looked_for_elsewhere(tmp_path, monkeypatch):
    # By itself, tfds would try to download for minutes.
    monkeypatch.setattr(tfds, "builder_from_directory", None)
    monkeypatch.setattr(tfds, "builder", None)
    with pytest.raises(_data.DatasetNotFoundError) as error:
        _data.load("cifar10", tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "download_and_prepare" in str(error.value)


def write_info(folder, version, file_format):
    """What tfds writes of a prepared set, without the images."""
    place = folder / "mnist" / version
    place.mkdir(parents=True)
    splits = [
        {"name": name, "shardLengths": ["1"], "numBytes": "1"}
        for name in ("train", "test")
    ]
    info = {"name": "mnist", "version": version, "fileFormat": file_format}
    (place / "dataset_info.json").write_text(json.dumps(info | {"splits": splits}))
    (place / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": (
                    "tensorflow_datasets.core.features.features_dict.FeaturesDict"
                ),
                "featuresDict": {"features": {}},
            }
        )
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_latest_version_is_read_if_it_can_be(tmp_path):
    for version in ("3.0.2", "3.0.10", "2.9.11"):
        write_info(tmp_path, version, "array_record")
    assert str(_data._builder("mnist", tmp_path).version) == "3.0.10"
    write_info(tmp_path, "10.0.0", "tfrecord")
    with pytest.raises(_data.DatasetNotFoundError) as error:
        _data.load("mnist", tmp_path)
    message = str(error.value)
    assert "is prepared as tfrecord, which only TensorFlow reads" in message
    assert "file_format='array_record'" in message
    assert f"data_dir='{tmp_path}_array_record'" in message


def test_digits_come_with_scikit_learn():
    digits = _data.load("digits")
    assert digits.train.images.shape == (898, 8, 8, 1)
    assert digits.test.images.shape == (899, 8, 8, 1)
    assert digits.train.images.max() == 240
    assert np.bincount(digits.test.labels).min() > 80


def test_presets_are_the_papers_recipes():
    papers: dict[_recipes.PresetName, str] = {
        "table-2.2": "mnist",
        "table-2.3": "cifar10",
        "table-2.4": "cifar100",
    }
    for name, dataset in papers.items():
        config = _recipes.preset(name)
        assert config.dataset == dataset
        assert (config.steps, config.batch, config.drops) == (
            18_000,
            256,
            (12_000, 15_000),
        )
        assert config.result(".json").name == f"classify_{name}_{dataset}.json"
        recipe = config.learning_rate, config.momentum, config.weight_decay
        assert recipe == (0.1, 0.9, 5e-4)
    plus = _recipes.parse(["--preset", "table-2.3", "--augment"])
    assert plus.augment
    assert plus.annealing == (1000.0, 1e-5, 45.0, 0.0)
    quick = _recipes.parse(["--dataset", "mnist", "--seeds", "3"])
    assert (quick.dataset, quick.seeds, quick.steps) == ("mnist", 3, 2_000)
    # lambda falls as in the paper, in fewer steps.
    assert quick.annealing[1] * quick.steps == pytest.approx(2.5e-5 * 18_000)
    with pytest.raises(ValueError, match=r"table-2\.2 is for mnist or fashion_mnist"):
        _recipes.preset("table-2.2", "cifar10")
    with pytest.raises(ValueError, match="seeds must be positive, got 0"):
        dataclasses.replace(plus, seeds=0)


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit):
        _recipes.parse(["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(_recipes.Config):
        assert f"--{field.name.replace('_', '-')}" in text
    assert text.count("(default:") >= len(dataclasses.fields(_recipes.Config)) - 2


def test_batches_cover_an_epoch_and_go_on_where_they_stopped(tmp_path):
    config = small(tmp_path, steps=9, batch=4)
    all_ = list(_batches.by_epoch(config, 14, seed=1, start=0))
    assert len(all_) == 9
    assert len(np.unique(np.concatenate(all_[:3]))) == 12
    assert not np.array_equal(all_[0], all_[3])
    for ours, theirs in zip(
        _batches.by_epoch(config, 14, seed=1, start=5), all_[5:], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="--batch must be at most 3, .*got 4"):
        _batches.by_epoch(config, 3, seed=1, start=0)


def test_augmentation_crops_and_flips():
    image = np.arange(1.0, 65.0).reshape(8, 8, 1)
    images = jnp.asarray(np.repeat(image[None], 200, axis=0), jnp.float32)
    out = np.asarray(_training.augmented(jax.random.key(0), images))
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[..., 0], (8, 8))
    allowed = {w.tobytes() for w in windows.reshape(-1, 8, 8)}
    allowed |= {w[:, ::-1].tobytes() for w in windows.reshape(-1, 8, 8)}
    found = {o[..., 0].astype(np.float64).tobytes() for o in out}
    assert found <= allowed
    assert len(found) > 80  # of 162, in 200 draws


def test_report_rewrites_marked_tables(tmp_path):
    row = {"error": 1.0, "margin": 60.0, "within": 20.0, "parameters": "x"}
    config = dataclasses.asdict(_recipes.preset("table-2.2")) | {"batch": 128}
    content = {
        "config": json.loads(json.dumps(config, default=str)),
        "methods": {"softmax": [row, row | {"error": 2.0}]},
        "device": "cpu",
        "versions": {"jax": "0.10"},
        "seconds": 12.3,
    }
    (tmp_path / "classify.json").write_text(json.dumps(content))
    marked = "a\n<!-- classify -->\nold\n<!-- end -->\nb\n"
    text = report.rewrite(marked, tmp_path)
    assert "| Softmax | 1.50 ± 0.71 | 60.0 ± 0.0 | 20.0 ± 0.0 | 0.40 |" in text
    flags = "--preset table-2.2 --dataset mnist --batch 128"
    assert f"`python -m experiments.classify {flags}`; cpu, jax 0.10, 12 s." in text
    assert "old" not in text
    assert report.rewrite(text, tmp_path) == text
