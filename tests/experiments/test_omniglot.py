"""The study of Omniglot: its data, losses and search, a short run, its report."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import sphax as sx
from experiments.common import characters, runs, store
from experiments.omniglot import config, report, train
from experiments.omniglot.__main__ import parse
from experiments.omniglot.losses import LOSSES, RATE, Choice

COUNTS = {"train": (6, 3), "test": (2, 20)}  # alphabets, characters of each
IMAGES = 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A prepared set with the features of Omniglot; a copy differs in 30 % of it."""
    number = tfds.features.Tensor(shape=(), dtype=np.int64)
    label = tfds.features.ClassLabel(num_classes=100)
    features = {
        "image": tfds.features.Image(shape=(105, 105, 3)),
        "alphabet": number,
        "label": label,
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name) for name in COUNTS}

        def _generate_examples(self, name):
            alphabets, each = COUNTS[name]
            for label in range(alphabets * each):
                rng = np.random.default_rng((len(name), label))
                drawn = rng.random(25) < 0.5
                for copy in range(IMAGES):
                    seen = (drawn ^ (rng.random(25) < 0.3)).reshape(5, 5)
                    image = np.kron(seen, np.full((21, 21), 255)).astype(np.uint8)
                    picture = Image.fromarray(np.repeat(image[..., None], 3, -1))
                    row = {"image": picture, "alphabet": label // each, "label": label}
                    yield IMAGES * label + copy, row

    Builder.name = "omniglot"
    folder = tmp_path_factory.mktemp("prepared")
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_search_holds_alphabets_out_and_a_test_has_others(data_dir):
    search, test = (characters.load(data_dir, flag) for flag in (True, False))
    # Alphabets 0 and 5 of six, three characters each.
    assert characters.sizes(search) == {
        "train_classes": 4 * 12,
        "train_images": 4 * 12 * IMAGES,
        "test_classes": 6,
        "test_images": 6 * IMAGES,
        "alphabets": 2,
        "pairs": 2 * 6 * 6,
    }
    assert characters.sizes(test)["train_classes"] == 4 * 18
    assert characters.sizes(test)["test_classes"] == 40
    held = {image.tobytes() for image in search.test.images}
    assert not held & {image.tobytes() for image in search.train.images[: 12 * IMAGES]}
    assert held < {image.tobytes() for image in test.train.images[: 18 * IMAGES]}
    # A quarter turn is another class.
    first = search.train.labels == 3
    turned = search.train.labels == 3 + 12
    np.testing.assert_array_equal(
        np.rot90(search.train.images[first], axes=(1, 2)), search.train.images[turned]
    )


def test_pairs_are_genuine_first_then_as_many_impostors():
    labels = np.array([1, 0, 1, 2, 0, 1])
    pairs = characters.pairs_of(labels)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    np.testing.assert_array_equal(same, [True] * 4 + [False] * 4)
    genuine = {frozenset(pair) for pair in pairs[:4].tolist()}
    assert genuine == {frozenset(pair) for pair in ((1, 4), (0, 2), (0, 5), (2, 5))}


def test_resampled_characters_are_those_of_the_library_and_alphabets_vary_more():
    labels = np.repeat(np.arange(30), 6)
    pairs = characters.pairs_of(labels)
    sides = labels[pairs]
    same = sides[:, 0] == sides[:, 1]
    rng = np.random.default_rng(1)
    # Whole alphabets of ten characters are hard, or are not.
    scores = rng.normal(size=len(same)) + same * np.array([4, 1, 2])[sides[:, 0] // 10]
    ours = characters.resampled(scores, same, sides)
    library = sx.metrics.bootstrap(
        sx.metrics.equal_error_rate, scores, same, sides, resamples=200
    )
    np.testing.assert_array_equal(ours, library.samples)
    assert np.std(characters.resampled(scores, same, sides // 10)) > 1.5 * np.std(ours)


def test_trials_are_within_their_ranges_and_alike_for_all_losses():
    rates = set()
    for name, loss in LOSSES.items():
        first, *others = config.choices(name, 8)
        assert len(others) == 7
        for place, each in enumerate((RATE, loss.margin, loss.scale)):
            values = [choice[place] for choice in others]
            if each is None:
                assert {*values, first[place]} == {1.0}
                continue
            assert first[place] == each.default
            assert len(set(values)) == 7
            assert all(each.low < value < each.high for value in values)
        rates.add(tuple(choice.learning_rate for choice in (first, *others)))
    assert len(rates) == 1
    middle = config.choices("cosface", 2)[1]
    assert middle.learning_rate == pytest.approx(np.sqrt(5e-4 * 1e-2), rel=1e-3)
    assert middle.margin == pytest.approx(0.02 + 0.48 / 3, rel=1e-3)


def test_losses_are_the_librarys_with_the_given_values(key):
    x, w = jax.random.normal(key, (2, 6, 4))
    labels = jnp.array([0, 0, 1, 1, 5, 5])
    choice = Choice(0.0, 0.3, 7.0)
    softmax = sx.losses.margin_softmax
    plain = softmax(x, w, labels, sx.margins.NoMargin(), normalize="none")
    pairs = sx.losses.contrastive(x, labels, margin=0.3)
    floor = 1 / 0.3 - 1.0

    def multiplied(m, kind):
        margin = sx.margins.SphereFace(m=m, annealing=floor)
        return softmax(x, w, labels, margin, normalize=kind)

    expected = {
        "softmax": plain,
        "softmax-contrastive": plain + 7.0 * pairs,
        "triplet": sx.losses.triplet(x, labels, margin=0.3, mining="semi_hard"),
        "l-softmax-2": multiplied(2, "none"),
        "l-softmax-4": multiplied(4, "none"),
        "sphereface": multiplied(4, "prototypes"),
        "cosface": softmax(x, w, labels, sx.margins.CosFace(margin=0.3), scale=7.0),
        "arcface": softmax(x, w, labels, sx.margins.ArcFace(margin=0.3), scale=7.0),
        "normface": softmax(x, w, labels, sx.margins.NoMargin(), scale=7.0),
    }
    assert expected.keys() == LOSSES.keys()
    for name, loss in LOSSES.items():
        value = loss.value(x, w, labels, choice, 99, 100)
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
    # At first, the multiplied angle hardly counts.
    early = LOSSES["l-softmax-4"].value(x, w, labels, choice, 0, 10_000)
    np.testing.assert_allclose(early, plain, rtol=0.02)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_search_chooses_is_trained_and_repeats_itself(
    tmp_path, data_dir, monkeypatch
):
    monkeypatch.setattr(store, "published", lambda study: tmp_path / study)
    monkeypatch.setattr(train, "_STAGES", train._STAGES[:1])
    monkeypatch.setattr(train, "_BATCH", 40)
    small = {"data_dir": data_dir, "steps": 3, "batch": 8, "per_class": 2, "trials": 2}

    def preset(name: config.PresetName = "test"):
        return config.Config(preset=name, methods=("cosface",), seeds=1, **small)

    monkeypatch.setattr(config, "preset", preset)
    with pytest.raises(ValueError, match="cosface have not been searched"):
        config.planned(preset())
    found = {}
    for chosen in (preset("search"), preset()):
        planned = config.planned(chosen)
        store.complete(planned, train.train, tmp_path)
        found[chosen.group] = [
            (run, store.load(run, tmp_path / "omniglot") or {}) for run in planned
        ]
        report.draw(chosen, found[chosen.group], tmp_path)
        assert (tmp_path / f"{chosen.group}-curves.png").stat().st_size > 10_000
    ((_, searched),) = found["search"]
    trials = searched["metrics"]["trials"]
    assert [trial["choice"] for trial in trials] == [
        list(choice) for choice in config.choices("cosface", 2)
    ]
    best = min(trials, key=lambda trial: trial["eer"])["choice"]
    ((run, tested),) = found["test"]
    settings = run.settings
    assert [settings[key] for key in Choice._fields] == best
    metrics = tested["metrics"]
    assert set(metrics) == {
        *("eer", "tar", "one_shot", "characters", "alphabets", "eer_at", "loss_in")
    }
    assert metrics["eer_at"][-1] == pytest.approx(metrics["eer"], abs=1e-4)
    again = store.complete([run], train.train, tmp_path / "again")
    again = store.load(run, tmp_path / "again/omniglot") or {}
    assert again["metrics"] == metrics
    lines = list(report.table(preset("search"), found["search"]))
    assert lines[2].startswith(f"| CosFace | {best[0]:.2g} | {best[1]:.2g} |")
    pixels = runs.Run(
        dataclasses.replace(preset(), methods=("pixels",)), "test", "pixels", 0, 1
    )
    store.complete([pixels], train.train, tmp_path)
    both = [(pixels, store.load(pixels, tmp_path / "omniglot") or {}), *found["test"]]
    assert next(report.table(preset(), both[:1])).startswith("|  | EER, % | characters")
    lines = list(report.table(preset(), both))
    assert lines[2].startswith("| Pixels, no network | ")
    assert lines[3].startswith(f"| CosFace | {metrics['eer']:.2f} | ")
    assert lines[-2].startswith("Trained on 288 images of 72 classes, tested on 160 of")


def test_presets_train_alike_but_for_the_searched_values():
    search, test = config.presets()
    assert set(search.methods) == set(test.methods) - {"pixels"}
    assert parse(["--preset", "search"]) == search
    assert parse([]) == test
    with pytest.raises(ValueError, match="--methods must be some of softmax"):
        dataclasses.replace(search, methods=("pixels",))
