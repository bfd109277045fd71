"""Record files, whose bytes are put together here by ``struct``."""

import errno
import itertools
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest

from experiments.faces.records import Record, RecordError, RecordReader, RecordWriter

MAGIC = b"\x0a\x23\xd7\xce"
JPEG = b"\xff\xd8 not truly an image \xff\xd9"


def part(content, flag=0):
    lengths = struct.pack("<I", flag << 29 | len(content))
    return MAGIC + lengths + content + bytes(-len(content) % 4)


def image(label, content=JPEG, labels=(), key=0):
    header = struct.pack("<IfQQ", len(labels), label, key, 0)
    return header + struct.pack(f"<{len(labels)}f", *labels) + content


def two(first, second, key=0):
    """A record without image, of insightface's form."""
    return struct.pack("<IfQQ2f", 2, 0.0, key, 0, first, second)


def write(folder, records, keys=None, index=True):
    """Writes records, each the bytes of its parts, and their index; the offsets."""
    offsets = [0, *itertools.accumulate(map(len, records))][:-1]
    (folder / "a.rec").write_bytes(b"".join(records))
    if index:
        lines = zip(keys or range(len(records)), offsets, strict=True)
        text = "".join(f"{key}\t{offset}\n" for key, offset in lines)
        (folder / "a.idx").write_text(text)
    return offsets


# Images 1 to 3 of identity 0 and 4 to 5 of identity 1.
FACES = [
    part(two(6, 8)),
    *(part(image(k // 4, b"%d" % k * k, key=k)) for k in range(1, 6)),
    part(two(1, 4, key=6)),
    part(two(4, 6, key=7)),
]


def test_images_of_a_file_without_header_are_in_the_order_of_their_keys(tmp_path):
    records = [part(image(7)), part(image(0.0, b"abcd", (3, 0.5)))]
    write(tmp_path, records, keys=[12, 5])
    with RecordReader(tmp_path / "a.rec") as reader:
        assert len(reader) == 2
        first, second = reader
        assert reader[-1].key == reader[1].key == 12
        assert reader.identities is None
        assert reader.num_classes == 8
        assert reader.size is None
        np.testing.assert_array_equal(reader.labels, [3, 7])
        for beyond in (2, -3):
            with pytest.raises(IndexError):
                reader[beyond]
    assert first[:2] == (b"abcd", 3)
    assert first.key == 5
    np.testing.assert_array_equal(first.labels, np.array([3, 0.5], np.float32))
    assert second == Record(JPEG, 7, np.array([7], np.float32), 12)
    assert first.labels.dtype == second.labels.dtype == np.float32


def test_insightface_files_have_images_and_identities(tmp_path):
    write(tmp_path, FACES)
    (tmp_path / "property").write_text("9,112,96\n")
    with RecordReader(tmp_path / "a.rec") as reader:
        np.testing.assert_array_equal(reader.keys, [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(reader.identities, [[1, 4], [4, 6]])
        np.testing.assert_array_equal(reader.labels, [0, 0, 0, 1, 1])
        assert [record.image for record in reader][2:4] == [b"333", b"4444"]
        assert reader.num_classes == 9
        assert reader.size == (112, 96)


@pytest.mark.parametrize("place", [0, 5, 7])
def test_a_file_without_index_is_passed_over_once(tmp_path, place):
    # Some writers put the record of key 0 after the images, or last.
    records = FACES[1:]
    records.insert(place, FACES[0])
    write(tmp_path, records, index=False)
    with RecordReader(tmp_path / "a.rec") as reader:
        assert [len(record.image) for record in reader] == [1, 2, 3, 4, 5]
        np.testing.assert_array_equal(reader.keys, [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(reader.identities, [[1, 4], [4, 6]])


def test_records_in_several_parts_get_the_magic_number_back(tmp_path):
    # At the beginning of the image, twice in a row, and off the multiples of four.
    head = image(1, MAGIC + MAGIC + b"abc" + MAGIC + b"x" + MAGIC)
    whole = struct.pack("<IfQQ", 0, 1.0, 0, 0)
    rest = b"abc" + MAGIC + b"x"
    records = [
        part(whole, 1) + part(b"", 2) + part(rest, 2) + part(b"", 3),
        part(image(2)),
    ]
    write(tmp_path, records)
    for index in (True, False):
        if not index:
            (tmp_path / "a.idx").unlink()
        with RecordReader(tmp_path / "a.rec") as reader:
            assert reader[0].image == head[24:]
            assert reader[1].label == 2
            np.testing.assert_array_equal(reader.labels, [1, 2])


def test_the_index_may_have_another_name_and_other_line_ends(tmp_path):
    offsets = write(tmp_path, FACES, index=False)
    lines = [f"{key}\t{offset}" for key, offset in enumerate(offsets)]
    (tmp_path / "other").write_bytes("\r\n".join(reversed(lines)).encode())
    with RecordReader(tmp_path / "a.rec", tmp_path / "other") as reader:
        assert len(reader) == 5


def test_readers_pickle_and_open_the_file_again(tmp_path):
    write(tmp_path, FACES)
    with RecordReader(tmp_path / "a.rec") as reader:
        copied = pickle.loads(pickle.dumps(reader))
        assert copied[4].image == reader[4].image
        assert repr(copied) == repr(reader)
        state = pickle.dumps(reader)
    with open(tmp_path / "a.rec", "ab") as file:
        file.write(b"more")
    with pytest.raises(RecordError, match="must not change while it is read"):
        pickle.loads(state)


ONE, LONG = part(image(0)), part(image(0, JPEG * 3))
AT = "key 1 at offset 56: "
DAMAGES = [
    # Bytes of the file, index (or None without one), what the error says.
    (b"", "0\t0\n", "a.rec is empty"),
    (ONE, "", "a.idx is empty"),
    (ONE, "0\t0\n1\t5x\n", "a.idx: line 2 must be 2 integers"),
    (ONE, "0\t0\n1\n", "a.idx: line 2 must be 2 integers"),
    (ONE, "0\t0\t0\n", "a.idx: line 1 must be 2 integers"),
    (ONE, "-1\t0\n", "a.idx: line 1 must be 2 integers"),
    (ONE, "0\t0\n\n", "a.idx: line 2 must be 2 integers"),
    (ONE * 2, "0\t0\n1\t54\n", "key 1, offset 54: an offset must be a multiple of 4"),
    (ONE, "0\t0\n1\t56\n", "key 1, offset 56: .*a.rec ends at 56 bytes, before 1 of"),
    (ONE * 2, "4\t0\n4\t56\n", "key 4 is there twice, at offsets 0 and 56"),
    (ONE + LONG[:-12], None, AT + "the part at byte 56 ends at .* and lacks 12; trunc"),
    (ONE + LONG[:-12], "0\t0\n1\t56\n", AT + "the part at byte 56 ends at"),
    (ONE + MAGIC, None, AT + "only 4 of the 8 bytes that begin a part"),
    (ONE + b"\0" * 60, "0\t0\n1\t56\n", AT + "no part begins at byte 56.*and has 0x0"),
    (ONE + b"\0" * 60, None, AT + "no part begins at byte 56, which must have 0xced7"),
    (ONE + part(JPEG, 2), None, AT + "a middle part without a first one"),
    (ONE + part(JPEG, 3), None, AT + "a last part without a first one"),
    (ONE + part(JPEG, 1), None, AT + "a first part that no last part follows"),
    (ONE + part(JPEG, 1) + ONE, None, AT + "the record is not ended before another"),
    (ONE + part(JPEG, 5), None, AT + "the flag of a part must be 0 to 3, got 5"),
    (
        part(two(2, 3)) + ONE,
        None,
        "key 0 at offset 0: images must have the keys 1 to 1",
    ),
    (part(two(2, 1)) + ONE, None, "key 0 at offset 0: images must have the keys"),
    (part(two(0.5, 2)) + ONE, None, "key 0 at offset 0: two keys must be integers"),
    (part(two(2, 3)) + ONE * 2, None, "key 2 at offset 96: an identity must be two of"),
    (
        part(two(2, 3)) + ONE + part(two(2, 1)),
        None,
        r"key 2 at offset 96: an identity .* keys 1 to 2, .* got \(2, 1\)",
    ),
    (
        part(two(2, 3)) + ONE + part(two(1, 3)),
        None,
        r"key 2 at offset 96: an identity .* got \(1, 3\)",
    ),
    (
        part(two(3, 5)) + ONE * 2 + part(two(1, 3)) + part(two(2, 3)),
        None,
        r"key 4 at offset 192: .* overlapping ranges \(1, 3\) and \(2, 3\)",
    ),
]


@pytest.mark.parametrize(
    ("content", "index", "message"), DAMAGES, ids=map(str, range(len(DAMAGES)))
)
def test_damaged_files_are_refused_when_they_are_opened(
    tmp_path, content, index, message
):
    assert len(ONE) == 56
    (tmp_path / "a.rec").write_bytes(content)
    if index is not None:
        (tmp_path / "a.idx").write_text(index)
    with pytest.raises(RecordError, match=message) as error:
        RecordReader(tmp_path / "a.rec")
    assert str(tmp_path) in str(error.value)
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (part(b"x" * 20), "its 20 bytes are fewer than the 24 of its header"),
        (part(image(0, b"", (1, 2))[:-4]), "its 28 bytes are fewer than its 2 labels"),
        (part(image(0.5)), "must be an integer from 0 to 2.24 - 1, got 0.5"),
        (part(image(-1.0)), "got -1"),
        (part(image(2.0**24)), "got 16777216; larger ones are not exact"),
        (part(image(float("nan"))), "got nan"),
        (part(image(0, JPEG, (1.5, 0))), "got 1.5"),
    ],
    ids=map(str, range(7)),
)
def test_damaged_records_are_refused_when_they_are_read(tmp_path, record, message):
    write(tmp_path, [ONE, record, ONE])
    with RecordReader(tmp_path / "a.rec") as reader:
        assert reader[2].label == 0
        for read in (lambda: reader[1], lambda: reader.labels):
            with pytest.raises(RecordError, match=AT + ".*" + message):
                read()


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path):
    write(tmp_path, [ONE, ONE])
    with RecordReader(tmp_path / "a.rec") as reader:
        os.truncate(tmp_path / "a.rec", 60)
        with pytest.raises(RecordError, match="byte 60 is missing now"):
            reader[1]


@pytest.mark.parametrize("text", ["3,112", "3;112;112", "a,b,c", ""])
def test_a_property_of_other_form_is_refused(tmp_path, text):
    write(tmp_path, FACES)
    (tmp_path / "property").write_text(text)
    with (
        RecordReader(tmp_path / "a.rec") as reader,
        pytest.raises(RecordError, match="property must be three numbers"),
    ):
        reader.num_classes  # noqa: B018


def test_what_is_written_has_the_bytes_of_the_format(tmp_path):
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for key in range(1, 6):
            assert writer.write(b"%d" % key * key, key // 4, key) == key
        writer.write_header([(1, 4), (4, 6)], (112, 96))
        assert not path.exists()
    # The record of key 0 is written when the numbers are known.
    order = [*range(1, 6), 0, 6, 7]
    assert path.read_bytes() == b"".join(FACES[key] for key in order)
    lines = (tmp_path / "a.idx").read_text().splitlines()
    offsets = [0, *itertools.accumulate(len(FACES[key]) for key in order)]
    assert lines == [f"{k}\t{at}" for k, at in zip(order, offsets, strict=False)]
    assert (tmp_path / "property").read_text() == "2,112,96\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.idx", "a.rec", "property"]


def test_the_magic_number_is_cut_out_and_put_back(tmp_path):
    contents = [
        b"",
        MAGIC,
        b"x" + MAGIC,
        b"1234" + MAGIC * 3 + b"ab",
        np.random.default_rng(0).bytes(1001),
    ]
    with RecordWriter(tmp_path / "a.rec") as writer:
        for key, content in enumerate(contents, 1):
            assert writer.write(content, [4, 0.5], 1 if key == 1 else None) == key
    written = (tmp_path / "a.rec").read_bytes()
    assert part(image(0, b"", (4, 0.5), 2), 1) + part(b"", 3) in written
    places = [written[at : at + 4] for at in range(0, len(written), 4)]
    # One for each part: a record in two parts, and one in four.
    assert places.count(MAGIC) == 3 + 2 + 4
    with RecordReader(tmp_path / "a.rec") as reader:
        assert [record.image for record in reader] == contents
        assert [record.labels.tolist() for record in reader] == [[4, 0.5]] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((JPEG, 2**24), "from 0 to 2.24 - 1, got 16777216: a record has it as float32"),
        ((JPEG, -1), "got -1"),
        ((JPEG, [0.5, 1]), "got .0.5, 1"),
        ((JPEG, []), "label must be numbers"),
        ((JPEG, 0, 0), "not used before, got 0"),
        ((JPEG, 0, -2), "must be 0 or more"),
        ((bytes(2**29), 0), "smaller than 2.29 bytes, got 536870936"),
    ],
    ids=map(str, range(7)),
)
def test_what_does_not_fit_the_format_is_not_written(tmp_path, arguments, message):
    writer = RecordWriter(tmp_path / "a.rec")
    writer.write(JPEG, 0)
    with pytest.raises(RecordError, match=message), writer:
        writer.write(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_leaves_nothing(tmp_path):
    (tmp_path / "a.rec.partial").symlink_to("/dev/full")
    writer = RecordWriter(tmp_path / "a.rec")
    with (
        pytest.raises(OSError, match="a.rec needs .* bytes, and 0 could") as error,
        writer,
    ):
        writer.write(JPEG * 10_000, 0)
    assert error.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_end_leaves_nothing(tmp_path):
    (tmp_path / "a.rec.partial").symlink_to("/dev/full")
    writer = RecordWriter(tmp_path / "a.rec")
    writer.write(JPEG, 0)  # stays in the buffer
    with pytest.raises(OSError, match="a.rec needs 56 bytes, and 0 could"), writer:
        pass
    assert not list(tmp_path.iterdir())
