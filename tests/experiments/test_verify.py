"""The open-set study: protocols, measures, every loss, a short run, its report."""

import dataclasses
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from PIL import Image

import sphax as sx
from experiments.common import identification, images, objectives, store
from experiments.common.objectives import METHODS
from experiments.verify import config, report, train
from experiments.verify.__main__ import parse


def test_three_steps_are_stored_and_repeat_themselves(tmp_path):
    small: dict[str, Any] = {"seeds": 1, "steps": 3, "drops": (2,), "batch": 10}
    chosen = dataclasses.replace(
        config.preset(),
        methods=("pixels", "softmax", "triplet"),
        per_class=2,
        components=8,
        **small,
    )
    planned = config.planned(chosen)
    store.complete(planned, train.train, tmp_path)
    found = [(run, store.load(run, tmp_path / "verify") or {}) for run in planned]
    keys = {"accuracy", "standard_error", "eer", "tar", "rank_1", "roc"}
    pixels, *trained = (record["metrics"] for _, record in found)
    assert set(pixels) == keys | {"data"}
    assert pixels["data"]["train_classes"] == pixels["data"]["test_classes"] == 5
    for metrics in trained:
        assert set(metrics) == keys | {"accuracy_pca"}
        assert 50.0 < metrics["accuracy"] < 100.0
    lines = list(report.table(chosen, found))
    starts = "| Pixels, no network | ", "| Softmax | ", "| Triplet, semi-hard | "
    for line, start in zip(lines[2:5], starts, strict=True):
        assert line.startswith(start)
    assert lines[-2].startswith("Trained on 901 images of 5 classes, tested on 896 of ")
    report.draw(chosen, found, tmp_path)
    assert (tmp_path / "quick-digits-roc.png").stat().st_size > 10_000
    store.complete(planned[1:2], train.train, tmp_path / "again")
    again = store.load(planned[1], tmp_path / "again/verify")
    assert again is not None
    assert again["metrics"] == trained[0]


def test_every_margin_and_every_loss_is_in_the_table():
    text = pathlib.Path(objectives.__file__).read_text()
    # What is no loss by itself: parts of margin_softmax, of its heads, of a memory.
    without = {
        *("Margin", "Target", "Psi", "margin_logits", "annealing_schedule"),
        "GeneralizedAngular",  # Part II's; with the cosine, SphereFace
        *("MarginAux", "margin_softmax_per_example", "subcenter_cosines"),
        *("check_margin_softmax", "class_logits"),
        *("dominant_subcenters", "angles_to_dominant"),
        *("MemoryBank", "enqueue", "init_memory", "PairOptions"),
        *("mine_easy_positive", "mine_multi_similarity"),
        # Fixed prototypes, few examples and generative models have their own studies.
        *("hyperspherical_prototype", "vmf_likelihood", "imprint"),
        *("polar_regression", "polar_values", "prototypical", "prototypical_logits"),
        *("negative_elbo", "importance_weighted_elbo"),
        *("sphere_gan_critic", "sphere_gan_generator"),
    }
    public = {name for package in (sx.margins, sx.losses) for name in vars(package)}
    names = {name for name in public - without if not name.startswith("_")}
    assert {name for name in names if not re.search(rf"\.{name}\b", text)} == set()


def head(name, classes=6, seed=0) -> Any:
    return METHODS[name].head(4, classes, 30.0, rngs=nnx.Rngs(seed))


def value_and_grad(name, key):
    """The loss with the head's new state, and the gradients, as functions."""
    graph, params, rest = nnx.split(head(name), nnx.Param, ...)
    labels = jnp.array([0, 0, 1, 1, 2, 2, 5, 5])

    def loss(params, embeddings):
        model: Any = nnx.merge(graph, params, rest, copy=True)
        value = model.loss(embeddings, labels, key=key)
        return value, nnx.state(model, nnx.Not(nnx.Param))

    arguments = params, jax.random.normal(key, (8, 4))
    return jax.value_and_grad(loss, (0, 1), has_aux=True), arguments, rest


def test_every_loss_trains_with_one_step_for_all_seeds(key):
    for name in METHODS:
        assert nnx.graphdef(head(name)) == nnx.graphdef(head(name, seed=1)), name
        function, arguments, rest = value_and_grad(name, key)
        # Without compiling: the losses themselves are tested beside the library.
        (value, state), gradients = jax.eval_shape(function, *arguments)
        assert value.shape == (), name
        for found, given in ((state, rest), (gradients, arguments)):
            shapes = jax.tree.map(jnp.shape, given), jax.tree.map(jnp.shape, found)
            assert shapes[0] == shapes[1], name


@pytest.mark.parametrize(
    "name", ["adacos", "curricularface", "softmax-center", "softmax-uniformface"]
)
def test_running_state_moves(name, key):
    function, arguments, rest = value_and_grad(name, key)
    (_, state), gradients = jax.jit(function)(*arguments)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    pairs = zip(jax.tree.leaves(rest), jax.tree.leaves(state), strict=True)
    assert any(not np.array_equal(before, after) for before, after in pairs)


def test_centers_are_those_before_the_batch_and_then_move():
    model = head("softmax-center", classes=2).second
    x, labels = jnp.array([[3.0, 4.0, 0.0, 0.0]]), jnp.array([1])
    assert model.loss(x, labels, key=None) == pytest.approx(0.003 * 25 / 2)
    # n = 1: half of half the way.
    np.testing.assert_allclose(model.centers[...][1], x[0] / 4)


def made_faces():
    """Three people in each of three folds, and one, 9, whom no pair names.

    Person 4 is named in folds 1 and 2. Images are numbered; of people 0, 3 and 6 there
    are three images, of people 2, 5 and 8 only one.
    """
    labels = np.repeat(np.arange(10), [3, 2, 1, 3, 2, 1, 3, 2, 1, 4])
    numbers = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    first = np.flatnonzero(np.diff(labels, prepend=-1))
    pairs, folds = [], []
    for fold in range(3):
        a, b, c = first[3 * fold : 3 * fold + 3]
        pairs += [(a, a + 1), (b, b + 1), (a, c), (c, b)]
        folds += [fold] * 4
    pairs = np.array([*pairs, (first[4], first[8])])
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    return images.Images(numbers, labels), pairs, same, np.array([*folds, 2])


def test_no_person_of_a_fold_is_trained_on_for_it():
    faces, pairs, same, folds = made_faces()
    splits = train.ten_folds(faces, pairs, same, folds)

    def people(side):
        return set(faces.labels[side.images.ravel()])

    assert [people(split.data.test) for split in splits] == [
        {0, 1, 2},
        {3, 4, 5},
        {4, 6, 7, 8},
    ]
    # Two images or more, most images first, as many in each: 4 is in two folds.
    trained = [people(split.data.train) for split in splits]
    assert trained == [{3, 6, 4}, {0, 6, 1}, {0, 3, 1}]
    for fold, split in enumerate(splits):
        assert split.data.classes == 3
        assert set(split.data.train.labels) == {0, 1, 2}
        np.testing.assert_array_equal(split.pairs.folds, fold)
        numbers = split.data.test.images.ravel()[split.pairs.images]
        found = numbers[split.pairs.first], numbers[split.pairs.second]
        np.testing.assert_array_equal(np.transpose(found), pairs[folds == fold])
        np.testing.assert_array_equal(split.pairs.same, same[folds == fold])


def write_lfw(folder, faces, pairs, same, folds):
    """A prepared set with the features of ``lfw_aligned``, without TensorFlow."""
    number = tfds.features.Tensor(shape=(), dtype=np.int64)
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
        "index": number,
        "pair": tfds.features.Tensor(shape=(2,), dtype=np.int64),
        "same": tfds.features.Tensor(shape=(), dtype=np.bool_),
        "fold": number,
    }
    none = np.array((-1, -1))
    rows = {
        "train": [(int(x), i, none, False, -1) for i, x in enumerate(faces.labels)],
        "pairs": [
            (0, -1, pair, bool(same[i]), int(folds[i])) for i, pair in enumerate(pairs)
        ],
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name) for name in rows}

        def _generate_examples(self, name):
            for i, row in enumerate(rows[name]):
                image = Image.fromarray(np.full((4, 4), i, np.uint8))
                yield i, dict(zip(features, (image, *row), strict=True))

    Builder.name = "lfw_aligned"
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prepared_faces_are_brought_in_order(tmp_path):
    faces, pairs, same, folds = made_faces()
    write_lfw(tmp_path, faces, pairs, same, folds)
    splits = train.load("lfw_aligned", tmp_path)
    assert len(splits) == 3
    for fold, split in enumerate(splits):
        numbers = split.data.test.images[:, 0, 0, 0][split.pairs.images]
        found = numbers[split.pairs.first], numbers[split.pairs.second]
        assert set(zip(*found, strict=True)) == set(map(tuple, pairs[folds == fold]))
        people = faces.labels[np.stack(found)]
        np.testing.assert_array_equal(people[0] == people[1], split.pairs.same)
    resized, _ = images.read("lfw_aligned", "train", tmp_path, (2, 3))
    assert resized.images.shape == (22, 2, 3, 1)


def test_digits_are_trained_on_and_tested_apart():
    (split,) = train.load("digits")
    assert len(split.data.train.labels) + len(split.data.test.labels) == 1_797
    assert split.data.classes == 5
    digits = images.load("digits")
    ours = {image.tobytes() for image in split.data.train.images}
    theirs = {
        image.tobytes()
        for pixels, labels in (digits.train, digits.test)
        for image in pixels[labels >= 5]
    }
    assert not ours & theirs


def test_pairs_are_all_there_are_and_fill_the_folds_evenly():
    labels = np.repeat(np.arange(4), 7)
    pairs = train.all_pairs(labels)
    assert len(pairs.same) == 28 * 27 // 2
    ends = labels[pairs.images][pairs.first], labels[pairs.images][pairs.second]
    np.testing.assert_array_equal(pairs.same, ends[0] == ends[1])
    # 4 x 21 of one class: eight in each of ten folds, and as many of different ones.
    for fold in range(10):
        assert np.bincount(pairs.same[pairs.folds == fold]).tolist() == [8, 8]
    fewer = train.all_pairs(labels, paired=20)
    assert len(np.unique(fewer.images)) == 20
    assert fewer.second.max() == 19


def test_trials_are_among_twenty_classes_of_one_group():
    # The same 20 directions in two alphabets: distinct in one, not in both.
    labels = np.repeat(np.arange(40), 3)
    groups = labels // 20
    embeddings = np.eye(20, dtype=np.float32)[labels % 20]
    assert identification.one_shot(embeddings, labels, groups) == 1.0
    assert identification.rank_1(embeddings, labels) == 0.0  # ties do not count
    # Now half of the first alphabet looks like its other half.
    alike = np.eye(20, dtype=np.float32)[
        np.where(groups == 0, labels % 10, labels % 20)
    ]
    share = identification.one_shot(alike, labels, groups)
    assert share == pytest.approx(0.5, abs=0.1)  # of the trials in the second


def test_a_gallery_has_one_image_of_each_class_with_two():
    # Class 0 is found. Either image of class 1 is nearer to class 0 than to the other.
    # The one image of class 2, which would be as near to class 0's, is in no gallery.
    degrees = np.radians([30.0, 30.0, 0.0, 60.0, 30.0])
    embeddings = np.stack([np.cos(degrees), np.sin(degrees)], 1).astype(np.float32)
    assert identification.rank_1(embeddings, np.array([0, 0, 1, 1, 2])) == 0.5


def test_verification_of_separate_classes_is_perfect():
    labels = np.repeat(np.arange(4), 7)
    pairs = train.all_pairs(labels)
    perfect = np.eye(4, dtype=np.float32)[labels]
    found = train.verification([pairs], [perfect])
    assert (found["accuracy"], found["eer"], found["tar"]) == (100.0, 0.0, 100.0)
    # 28 x 27 / 2 - 84 impostors support no rate below one in 294.
    known = [tar is not None for tar in found["roc"]]
    assert known == (train.FAR >= 1.0 / 294).tolist()
    merged = np.eye(2, dtype=np.float32)[labels // 2]
    found = train.verification([pairs], [merged])
    # A third of the impostors scores as the genuine pairs do.
    assert found["tar"] == 0.0
    assert 75.0 < found["accuracy"] < 92.0


def test_folds_of_several_networks_are_judged_together():
    labels = np.repeat(np.arange(4), 7)
    pairs = train.all_pairs(labels)
    halves = [
        train.Pairs(pairs.images, *(column[chosen] for column in pairs[1:]))
        for chosen in (pairs.folds < 5, pairs.folds >= 5)
    ]
    embeddings = np.random.default_rng(0).normal(size=(28, 3)).astype(np.float32)
    together = train.verification(halves, [embeddings, embeddings])
    assert together == train.verification([pairs], [embeddings])


def test_principal_axes_are_those_of_the_training_features():
    rng = np.random.default_rng(0)
    fitted = rng.normal(size=(50, 4)) * [1.0, 5.0, 0.1, 3.0] + 7.0
    test = rng.normal(size=(6, 4)) + 100.0
    centered = fitted - fitted.mean(0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    expected = (test - fitted.mean(0)) @ axes[:, [3, 2]]
    found = train.principal(fitted, test, 2)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-5)


def test_recipes_are_the_same_for_all_losses():
    lfw = parse(["--dataset", "lfw_aligned", "--steps", "9"])
    assert (lfw.dataset, lfw.steps, lfw.seeds) == ("lfw_aligned", 9, 1)
    assert lfw.methods == ("pixels", *config.MAIN)
    assert set(config.preset().methods) == {"pixels", *METHODS}
    long, quick = (config.preset(name, "omniglot") for name in ("long", "quick"))
    assert (long.steps, long.drops) == (10 * quick.steps, (6_700, 8_300))
    assert long.precision == "tf32"
    planned = config.planned(long)
    assert [run.seed for run in planned if run.method == "pixels"] == [0]
    settings = [run.settings | {"methods": None} for run in planned]
    assert [x for x in settings if x != settings[0]] == [
        run.settings | {"methods": None}
        for run in planned
        if run.method == "sphereface"
    ]


def test_each_multiplicative_margin_has_its_lambda():
    chosen = config.preset("quick", "omniglot")
    by_method = {run.method: run.config for run in config.planned(chosen)}
    fade = sx.margins.annealing_schedule(*by_method["l-softmax-4"].annealing)
    assert fade(chosen.steps - 1) == pytest.approx(0.00225, rel=0.01)  # as at 18 000
    fade = sx.margins.annealing_schedule(*by_method["sphereface"].annealing)
    # Published: 76.9 after 100 of 28 000 steps, the floor of 5 after 1 659.
    steps = np.array([100, 1_659, 28_000]) * chosen.steps / 28_000
    found = [float(fade(step - 1)) for step in steps]
    np.testing.assert_allclose(found, [76.9, 5.0, 5.0], rtol=1e-3)


def records(dataset, **methods):
    """Stored runs with given accuracies, one for each seed."""
    numbers = {"standard_error": 0.5, "eer": 9.0, "tar": 50.0, "rank_1": 80.0}
    data = dict.fromkeys(("train_classes", "train_images", "test_classes"), 7)
    data |= dict.fromkeys(("test_images", "genuine_pairs", "impostor_pairs"), 7)
    made = {"device": "cpu (cpu)", "versions": {"jax": "0.10"}, "seconds": 6.0}
    chosen = dataclasses.replace(config.preset("quick", dataset), seeds=9)
    found = []
    for run in config.planned(chosen):
        accuracies = {"pixels": (91.0,), **methods}.get(run.method, ())
        if run.seed < len(accuracies):
            metrics = {"accuracy": accuracies[run.seed], **numbers}
            if run.method == "pixels":
                metrics["data"] = {"splits": 1, **data}
            found.append((run, {"metrics": metrics, "provenance": made}))
    return chosen, found


def test_the_table_says_which_losses_differ_from_softmax():
    chosen, found = records(
        "digits",
        softmax=(89.0, 90.0, 91.0),
        arcface=(91.0, 91.0, 94.0),  # 2, 1, 3: t = 3.46, p = 0.074
        cosface=(91.4, 92.5, 93.6),  # t = 43, p = 0.0005
        sphereface=(79.0, 80.1, 80.9),  # t = -174, p = 0.00003
        triplet=(87.1, 88.0, 89.2),  # t = -22, p = 0.002
    )
    lines = list(report.table(chosen, found))
    assert lines[0].startswith("|  | accuracy, % (3 seeds) | EER, % | ")
    assert lines[2] == "| Pixels, no network | 91.00 | 9.00 | 50.00 | 80.00 |"
    row = "| ArcFace, m = 0.5 | 92.00 ± 1.73 | 9.00 ± 0.00 | 50.00 ± 0.00 |"
    assert any(line.startswith(row) for line in lines)
    *_, margins, others, _, sizes, caption = lines
    assert margins == (
        "- 1 of 3 margin losses are better: CosFace, m = 0.35 (+2.50). Not"
        " significantly different: ArcFace, m = 0.5 (+2.00). Worse: SphereFace"
        " (A-Softmax), m = 4 (-10.00)."
    )
    assert others == (
        "- 0 of 1 other losses are better: none. Not significantly different: none."
        " Worse: Triplet, semi-hard (-1.90)."
    )
    assert "The accuracy of 2 of 5 losses is above the pixels'." in lines
    assert sizes.startswith("Trained on 7 images of 7 classes, tested on 7 of 7 others")
    assert caption == "`python -m experiments.verify`; cpu, jax 0.10, 96 s."


def test_one_run_is_judged_by_its_folds_and_shown_beside_the_dissertation():
    chosen, found = records("lfw_aligned", softmax=(70.0,), arcface=(70.4,))
    table = "\n".join(report.table(chosen, found))
    assert "| ArcFace, m = 0.5 | 70.40 ± 0.50 |" in table
    assert "| 96.53 |" in table
    assert "by a t-test over the folds" in table
    assert "Not significantly different: ArcFace, m = 0.5 (+0.40)" in table
