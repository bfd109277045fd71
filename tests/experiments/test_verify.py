"""The open-set experiment: protocols, measures, every loss of its table, small runs."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx

import sphax as sx
from experiments import (
    _batches,
    _checkpoints,
    _data,
    _heads,
    _objectives,
    _open_set,
    _open_set_recipes,
    _verification,
    report,
    verify,
)
from experiments._objectives import METHODS


def small(tmp_path, **options):
    defaults = dict(
        methods=("softmax", "triplet"),
        seeds=1,
        steps=3,
        drops=(2,),
        batch=10,
        per_class=2,
        checkpoints=tmp_path / "checkpoints",
        results=tmp_path / "results",
    )
    return dataclasses.replace(_open_set_recipes.recipe(), **(defaults | options))


@pytest.mark.slow
def test_the_experiment_leaves_its_results_and_repeats_itself(tmp_path):
    results = verify.train(small(tmp_path, components=8))
    written = json.loads((tmp_path / "results/verify_digits.json").read_text())
    assert written == json.loads(json.dumps(results))
    assert str(tmp_path) not in json.dumps(written)
    assert (tmp_path / "results/verify_digits_roc.png").stat().st_size > 10_000
    assert not list((tmp_path / "checkpoints").iterdir())
    for (run,) in results["methods"].values():
        assert {"accuracy", "eer", "tar", "rank_1", "accuracy_pca"} < set(run)
        assert 50.0 < run["accuracy"] < 100.0
    assert results["data"]["train_classes"] == results["data"]["test_classes"] == 5
    again = verify.train(small(tmp_path, components=8))
    assert again["methods"] == results["methods"]
    table = list(report.verification(results))
    assert table[2].startswith("| Pixels, no network | ")
    assert table[3].startswith("| Softmax | ")
    assert len(table) == 11


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_what_it_has_measured(tmp_path, monkeypatch):
    whole = verify.train(small(tmp_path / "whole"))
    measure, calls = _verification.measure, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(_verification, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        verify.train(small(tmp_path))
    resumed = verify.train(small(tmp_path))
    assert resumed["methods"] == whole["methods"]
    assert len(calls) == 4  # softmax, triplet in vain, triplet, pixels


def test_what_was_computed_is_remembered(tmp_path):
    path = tmp_path / "a" / "outcome.json"
    assert _checkpoints.remembered(path, lambda: [1.5]) == ([1.5], True)
    assert _checkpoints.remembered(path, lambda: 1 / 0) == ([1.5], False)


def test_every_margin_and_every_loss_is_in_the_table():
    sources = pathlib.Path(_heads.__file__), pathlib.Path(_objectives.__file__)
    text = "".join(source.read_text() for source in sources)
    # What is no loss of its own: parts of margin_softmax, of its heads, of a memory.
    without = {
        *("Margin", "Target", "Psi", "margin_logits", "annealing_schedule"),
        "GeneralizedAngular",  # Part II's; with the cosine, SphereFace
        *("MarginAux", "margin_softmax_per_example", "subcenter_cosines"),
        *("MemoryBank", "enqueue", "init_memory"),
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


@pytest.mark.parametrize("name", METHODS)
def test_every_loss_trains_with_one_step_for_all_seeds(name, key):
    assert nnx.graphdef(head(name)) == nnx.graphdef(head(name, seed=1))
    function, arguments, rest = value_and_grad(name, key)
    # Without compiling: what the losses are is tested beside the library.
    (value, state), gradients = jax.eval_shape(function, *arguments)
    assert value.shape == ()
    for found, given in ((state, rest), (gradients, arguments)):
        shapes = jax.tree.map(jnp.shape, given), jax.tree.map(jnp.shape, found)
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "name", ["adacos", "curricularface", "softmax-center", "softmax-uniformface"]
)
def test_running_state_moves(name, key):
    function, arguments, rest = value_and_grad(name, key)
    (_, state), gradients = jax.jit(function)(*arguments)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    pairs = zip(jax.tree.leaves(rest), jax.tree.leaves(state), strict=True)
    assert any(not np.array_equal(before, after) for before, after in pairs)


def test_centres_are_those_before_the_batch_and_then_move():
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
    counts = [3, 2, 1, 3, 2, 1, 3, 2, 1, 4]
    labels = np.repeat(np.arange(10), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    first = np.flatnonzero(np.diff(labels, prepend=-1))
    pairs, folds = [], []
    for fold in range(3):
        a, b, c = first[3 * fold : 3 * fold + 3]
        pairs += [(a, a + 1), (b, b + 1), (a, c), (c, b)]
        folds += [fold] * 4
    pairs.append((first[4], first[8]))
    folds.append(2)
    pairs = np.array(pairs)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    return _data.Images(images, labels), pairs, same, np.array(folds)


def people(faces, images):
    """The people of images that carry their number."""
    return set(faces.labels[images.images.ravel()])


def test_no_person_of_a_fold_is_trained_on_for_it():
    faces, pairs, same, folds = made_faces()
    splits = _open_set.ten_folds(faces, pairs, same, folds)
    trained = [people(faces, split.data.train) for split in splits]
    tested = [people(faces, split.data.test) for split in splits]
    assert tested == [{0, 1, 2}, {3, 4, 5}, {4, 6, 7, 8}]
    # Two images or more, most images first, as many in each: 4 is in two folds.
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
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
        "index": tfds.features.Tensor(shape=(), dtype=np.int64),
        "pair": tfds.features.Tensor(shape=(2,), dtype=np.int64),
        "same": tfds.features.Tensor(shape=(), dtype=np.bool_),
        "fold": tfds.features.Tensor(shape=(), dtype=np.int64),
    }

    def row(number, label, index, pair, is_same, fold):
        from PIL import Image

        image = Image.fromarray(np.full((4, 4), number, np.uint8))
        values = image, label, index, np.array(pair), is_same, fold
        return dict(zip(features, values, strict=True))

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name) for name in ("train", "pairs")}

        def _generate_examples(self, name):
            if name == "train":
                for i, label in enumerate(faces.labels):
                    yield i, row(i, int(label), i, (-1, -1), False, -1)
            else:
                for i, pair in enumerate(pairs):
                    yield i, row(0, 0, -1, pair, bool(same[i]), int(folds[i]))

    Builder.name = "lfw_aligned"
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prepared_faces_are_brought_in_order(tmp_path):
    faces, pairs, same, folds = made_faces()
    write_lfw(tmp_path, faces, pairs, same, folds)
    splits = _open_set.load("lfw_aligned", tmp_path)
    assert len(splits) == 3
    for fold, split in enumerate(splits):
        numbers = split.data.test.images[:, 0, 0, 0][split.pairs.images]
        found = numbers[split.pairs.first], numbers[split.pairs.second]
        assert set(zip(*found, strict=True)) == set(map(tuple, pairs[folds == fold]))
        people_of = faces.labels[np.stack(found)]
        np.testing.assert_array_equal(people_of[0] == people_of[1], split.pairs.same)
    resized, _ = _data.read("lfw_aligned", "train", tmp_path, (2, 3))
    assert resized.images.shape == (22, 2, 3, 1)


def test_sets_that_tfds_cannot_prepare_say_so(tmp_path):
    with pytest.raises(_data.DatasetNotFoundError, match="no builder for it"):
        _open_set.load("orl_faces", tmp_path)
    with pytest.raises(_data.DatasetNotFoundError, match="download_and_prepare"):
        _open_set.load("omniglot", tmp_path)


def test_digits_are_trained_on_and_tested_apart():
    (split,) = _open_set.load("digits")
    assert len(split.data.train.labels) + len(split.data.test.labels) == 1_797
    assert split.data.classes == 5
    digits = _data.load("digits")
    ours = {image.tobytes() for image in split.data.train.images}
    theirs = {
        image.tobytes()
        for images, labels in (digits.train, digits.test)
        for image in images[labels >= 5]
    }
    assert not ours & theirs


def test_pairs_are_all_there_are_and_fill_the_folds_evenly():
    labels = np.repeat(np.arange(4), 7)
    pairs = _open_set.all_pairs(labels)
    assert len(pairs.same) == 28 * 27 // 2
    ends = labels[pairs.images][pairs.first], labels[pairs.images][pairs.second]
    np.testing.assert_array_equal(pairs.same, ends[0] == ends[1])
    # 4 x 21 of one class: eight in each of ten folds, and as many of different ones.
    for fold in range(10):
        assert np.bincount(pairs.same[pairs.folds == fold]).tolist() == [8, 8]
    fewer = _open_set.all_pairs(labels, paired=20)
    assert len(np.unique(fewer.images)) == 20
    assert fewer.second.max() == 19


def test_trials_are_among_twenty_classes_of_one_group():
    # The same 20 directions in two alphabets: told apart in one, not in both.
    labels = np.repeat(np.arange(40), 3)
    groups = labels // 20
    embeddings = np.eye(20, dtype=np.float32)[labels % 20]
    assert _verification.one_shot(embeddings, labels, groups) == 1.0
    assert _verification.rank_1(embeddings, labels) == 0.0  # ties do not count
    # Now half of the first alphabet looks like its other half.
    alike = np.eye(20, dtype=np.float32)[
        np.where(groups == 0, labels % 10, labels % 20)
    ]
    share = _verification.one_shot(alike, labels, groups)
    assert share == pytest.approx(0.5, abs=0.1)  # of the trials in the second


def test_a_gallery_has_one_image_of_each_class_with_two():
    # Class 0 is found. Either image of class 1 is nearer to class 0 than to the other.
    # The one image of class 2, which would be as near to class 0's, is in no gallery.
    degrees = np.radians([30.0, 30.0, 0.0, 60.0, 30.0])
    embeddings = np.stack([np.cos(degrees), np.sin(degrees)], 1).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 2])
    assert _verification.rank_1(embeddings, labels) == 0.5


def test_verification_of_separate_classes_is_perfect():
    labels = np.repeat(np.arange(4), 7)
    pairs = _open_set.all_pairs(labels)
    perfect = np.eye(4, dtype=np.float32)[labels]
    found = _verification.verification([pairs], [perfect])
    assert (found["accuracy"], found["eer"], found["tar"]) == (100.0, 0.0, 100.0)
    # 28 x 27 / 2 - 84 impostors support no rate below one in 294.
    known = [tar is not None for tar in found["roc"]]
    assert known == (_verification.FAR >= 1.0 / 294).tolist()
    merged = np.eye(2, dtype=np.float32)[labels // 2]
    found = _verification.verification([pairs], [merged])
    # A third of the impostors scores as the genuine pairs do.
    assert found["tar"] == 0.0
    assert 75.0 < found["accuracy"] < 92.0


def test_folds_of_several_networks_are_judged_together():
    labels = np.repeat(np.arange(4), 7)
    pairs = _open_set.all_pairs(labels)
    halves = [
        pairs._replace(
            first=pairs.first[own],
            second=pairs.second[own],
            same=pairs.same[own],
            folds=pairs.folds[own],
        )
        for own in (pairs.folds < 5, pairs.folds >= 5)
    ]
    embeddings = np.random.default_rng(0).normal(size=(28, 3)).astype(np.float32)
    together = _verification.verification(halves, [embeddings, embeddings])
    assert together == _verification.verification([pairs], [embeddings])


def test_principal_axes_are_those_of_the_training_features():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(50, 4)) * [1.0, 5.0, 0.1, 3.0] + 7.0
    test = rng.normal(size=(6, 4)) + 100.0
    centred = train - train.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    expected = (test - train.mean(0)) @ axes[:, [3, 2]]
    found = _verification.principal(train, test, 2)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-5)


def test_batches_are_some_images_of_some_classes(tmp_path):
    labels = np.array([0] * 5 + [1] * 5 + [2] * 2 + [7] * 4)
    config = small(tmp_path, steps=30, batch=9, per_class=3)
    all_ = list(_batches.indices(config, labels, seed=1, start=0))
    drawn = [np.unique(labels[batch], return_counts=True) for batch in all_]
    for classes, counts in drawn:
        assert len(classes) == 3
        assert (counts == 3).all()
    assert len({tuple(classes) for classes, _ in drawn}) == 4
    for batch in all_:  # none twice, but for the class that has two images
        own = batch[labels[batch] != 2]
        assert len(np.unique(own)) == len(own)
    resumed = _batches.indices(config, labels, seed=1, start=20)
    for ours, theirs in zip(resumed, all_[20:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for batch in (8, 15):
        config = small(tmp_path, batch=batch, per_class=3)
        with pytest.raises(ValueError, match=f"at most 4 of them, got {batch}"):
            _batches.indices(config, labels, seed=0, start=0)


def test_recipes_are_the_same_for_all_losses_and_explained(capsys):
    lfw = _open_set_recipes.parse(["--dataset", "lfw_aligned", "--steps", "9"])
    assert (lfw.dataset, lfw.steps, lfw.seeds) == ("lfw_aligned", 9, 1)
    assert lfw.methods == _open_set_recipes.MAIN
    assert set(_open_set_recipes.recipe().methods) == set(METHODS)
    with pytest.raises(ValueError, match=r"got \['arcfce'\]"):
        dataclasses.replace(lfw, methods=("softmax", "arcfce"))
    with pytest.raises(ValueError, match="per-class must be positive, got 0"):
        dataclasses.replace(lfw, per_class=0)
    with pytest.raises(SystemExit):
        _open_set_recipes.parse(["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(_open_set_recipes.Config):
        assert f"--{field.name.replace('_', '-')}" in text


def test_each_multiplicative_margin_has_its_own_lambda():
    config = _open_set_recipes.recipe("omniglot")
    base, gamma, power, minimum = config.annealing
    fade = sx.margins.annealing_schedule(base, gamma, power, minimum)
    assert fade(config.steps - 1) == pytest.approx(0.00225, rel=0.01)  # as at 18 000
    assert _open_set_recipes.of_method(config, "l-softmax-4") == config
    fade = sx.margins.annealing_schedule(
        *_open_set_recipes.of_method(config, "sphereface").annealing
    )
    # Published: 76.9 after 100 of 28 000 steps, the floor of 5 after 1 659.
    steps = np.array([100, 1_659, 28_000]) * config.steps / 28_000
    found = [float(fade(step - 1)) for step in steps]
    np.testing.assert_allclose(found, [76.9, 5.0, 5.0], rtol=1e-3)


def runs(*accuracies):
    others = {"standard_error": 0.5, "eer": 9.0, "tar": 50.0, "rank_1": 80.0}
    return [{"accuracy": accuracy, **others} for accuracy in accuracies]


def results(dataset, **methods):
    config = dataclasses.asdict(_open_set_recipes.recipe(dataset))
    sizes = ("train_classes", "train_images", "test_classes", "test_images")
    pairs = ("genuine_pairs", "impostor_pairs")
    return {
        "config": json.loads(json.dumps(config, default=str)),
        "data": {"splits": 1, **dict.fromkeys(sizes + pairs, 7)},
        "pixels": runs(91.0)[0],
        "methods": methods,
        "device": "cpu",
        "versions": {"jax": "0.10"},
        "seconds": 12.3,
    }


def test_the_report_says_which_losses_do_not_beat_softmax(tmp_path):
    found = results(
        "digits",
        softmax=runs(89.0, 90.0, 91.0),
        arcface=runs(91.0, 91.0, 94.0),  # 2, 1, 3: t = 3.46, p = 0.074
        cosface=runs(91.4, 92.5, 93.6),  # t = 43, p = 0.0005
        sphereface=runs(79.0, 80.1, 80.9),  # t = -174, p = 0.00003
        triplet=runs(87.1, 88.0, 89.2),  # t = -22, p = 0.002
    )
    *_, margins, others = text = list(report.verdict(found))
    assert margins == (
        "- 1 of 3 margin losses beat softmax: CosFace, m = 0.35 (+2.50). Not told"
        " apart: ArcFace, m = 0.5 (+2.00). Worse: SphereFace (A-Softmax), m = 4"
        " (-10.00)."
    )
    assert others == (
        "- 0 of 1 other losses beat softmax: none. Not told apart: none. Worse:"
        " Triplet, semi-hard (-1.90)."
    )
    (tmp_path / "verify_digits.json").write_text(json.dumps(found))
    marked = "<!-- verify_digits -->\n<!-- end -->"
    written = report.rewrite(marked, tmp_path)
    row = "| ArcFace, m = 0.5 | 92.00 ± 1.73 | 9.00 ± 0.00 | 50.00 ± 0.00 |"
    assert row in written
    assert "\n".join(text) in written
    assert "| Pixels, no network | 91.00 | 9.00 | 50.00 | 80.00 |" in written
    assert "The accuracy of 2 of 5 losses is above that of the pixels." in written
    assert "`python -m experiments.verify`; cpu, jax 0.10, 12 s." in written


def test_one_run_is_judged_by_its_folds_and_shown_beside_the_dissertation():
    found = results("lfw_aligned", softmax=runs(70.0), arcface=runs(70.4))
    table = "\n".join(report.verification(found))
    assert "| ArcFace, m = 0.5 | 70.40 ± 0.50 |" in table
    assert "| 96.53 |" in table
    assert "over the folds" in table
    assert "Not told apart: ArcFace, m = 0.5 (+0.40)" in table
