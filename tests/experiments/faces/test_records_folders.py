"""Folders of images by identity, and the command that writes files from them."""

import errno
import io
import sys

import numpy as np
import pytest
from PIL import Image

from experiments.faces.records import (
    RecordError,
    RecordReader,
    RecordWriter,
    __main__,
    folders,
    read_verification_set,
    recordio,
    write_image_folder,
)


def encoded(kind, value, height=112, width=112, **options):
    file = io.BytesIO()
    pixels = np.full((height, width, 3), value, np.uint8)
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three identities, of which one has no readable image, and other files."""
    contents = {
        "carla/2.jpg": encoded("JPEG", 20),
        "carla/1.png": encoded("PNG", 10),
        "carla/notes.txt": b"",
        "anna/b.jpg": b"broken",
        "bea/wide.JPEG": encoded("JPEG", 30, 112, 150),
        "bea/small.jpg": encoded("JPEG", 40, 56, 56),
        "bea/z.jpg": encoded("JPEG", 50)[:300],
        "list.txt": b"",
    }
    for name, content in contents.items():
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "faces"


def test_folders_become_records_of_insightface_s_form(folder, tmp_path):
    with pytest.warns(UserWarning, match="2 unreadable images .*: anna/b.jpg .*bea/z"):
        assert write_image_folder(folder, tmp_path / "train.rec") == 4
    assert (tmp_path / "property").read_text() == "2,112,112\n"
    with RecordReader(tmp_path / "train.rec") as reader:
        np.testing.assert_array_equal(reader.keys, [1, 2, 3, 4])
        # By names: bea is 0, since anna has no readable image, and carla is 1.
        np.testing.assert_array_equal(reader.identities, [[1, 3], [3, 5]])
        assert [record.label for record in reader] == [0, 0, 1, 1]
        images = [Image.open(io.BytesIO(record.image)) for record in reader]
        assert {(image.format, image.size) for image in images} == {
            ("JPEG", (112, 112))
        }
        values = [np.asarray(image)[5, 5, 0] for image in images]
        np.testing.assert_allclose(values, [40, 30, 10, 20], atol=1)
        # A JPEG of this size is copied; another one is encoded anew.
        assert reader[3].image == (folder / "carla/2.jpg").read_bytes()


def test_only_the_identities_that_are_named_are_written(folder, tmp_path):
    count = write_image_folder(folder, tmp_path / "a.rec", size=56, names={"carla"})
    assert count == 2
    with RecordReader(tmp_path / "a.rec") as reader:
        assert reader.size == (56, 56)
        assert reader.num_classes == 1


def test_a_folder_without_images_is_refused(folder, tmp_path):
    with pytest.raises(RecordError, match="a folder for each identity.* 0 folders"):
        write_image_folder(folder / "carla", tmp_path / "a.rec")
    with pytest.raises(RecordError, match=r"no readable image: anna/b.jpg \(6 bytes"):
        write_image_folder(folder, tmp_path / "a.rec", names={"anna"})
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_a_full_disk_leaves_nothing_and_says_what_all_images_need(
    folder, tmp_path, monkeypatch
):
    written = []

    def write(self, image, *arguments):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(image))
        return whole(self, image, *arguments)

    whole = RecordWriter.write
    monkeypatch.setattr(recordio.RecordWriter, "write", write)
    with pytest.raises(OSError, match="a.rec needs about") as error:
        write_image_folder(folder, tmp_path / "a.rec", names={"carla"})
    assert error.value.errno == errno.ENOSPC
    sizes = [(folder / f"carla/{name}").stat().st_size for name in ("1.png", "2.jpg")]
    record = 8 + 24 + written[0] + -written[0] % 4
    assert f"about {record * sum(sizes) // sizes[0]} bytes" in str(error.value)
    assert f"has {record}; they are removed" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command: exit code, stdout and stderr."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["-m", *map(str, arguments)])
        code = 0
        try:
            __main__.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def thirty(tmp_path):
    """Thirty identities with two images, and one with a single image."""
    for person in range(31):
        place = tmp_path / "faces" / f"{person:02d}"
        place.mkdir(parents=True)
        for number in range(1 if person == 7 else 2):
            content = encoded("JPEG", 8 * person, quality=100)
            (place / f"{number}.jpg").write_bytes(content)
    return tmp_path / "faces"


def test_the_command_writes_training_and_verification(thirty, tmp_path, command):
    code, out, err = command(thirty, tmp_path / "out", "--held-out", "0.66")
    assert (code, err) == (0, "")
    assert "train.rec: 21 images of 11 identities" in out
    assert "verification.bin: 40 pairs of 20 identities, not trained on" in out
    assert folders.identities_of(thirty)[7] == ("07", ["0.jpg"])
    found = read_verification_set(tmp_path / "out" / "verification.bin")
    values = found.images[:, 0, 0, 0].reshape(-1, 2) // 8
    np.testing.assert_array_equal(values[:, 0] == values[:, 1], found.is_same)
    with RecordReader(tmp_path / "out" / "train.rec") as reader:
        assert reader.num_classes == 11
        trained = {
            np.asarray(Image.open(io.BytesIO(record.image)))[0, 0, 0] // 8
            for record in reader
        }
    assert not trained & set(values.ravel())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["property", "train.idx", "train.rec", "verification.bin"]


def test_without_identities_held_out_pairs_are_of_those_trained_on(
    thirty, tmp_path, command
):
    code, out, _ = command(
        thirty, tmp_path / "out", "--held-out", 0, "--min-images", 2, "--size", 32
    )
    assert code == 0
    assert "train.rec: 60 images of 30 identities" in out
    assert "60 pairs of 30 identities, trained on" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--held-out", 1), "--held-out must be a share from 0 to below 1, got 1.0"),
        (("--size", 0), "--size must be 1 or more, got 0"),
        (("--min-images", -1), "--min-images must be 1 or more"),
        (("--pears", 4), "Unrecognized"),
        ((), "pairs need two identities for each of ten folds"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    thirty, tmp_path, command, arguments, message
):
    code, out, err = command(thirty, tmp_path / "out", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_explains_each_setting(command):
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    for name in ("--size", "--min-images", "--held-out", "--pairs", "--seed"):
        assert name in out
    assert "folder for each identity" in out
