"""RecordIO files of images (MXNet's format), and their index beside them.

A file is a sequence of parts, each at a multiple of four bytes: the number 0xced7230a,
a number with a flag in its upper 3 bits and a length in its lower 29, so many bytes,
and zeros to a multiple of four. All numbers are little-endian. A record is one part
(flag 0), or several (1, then 2, then 3) between which that first number was cut out.

A record of an image begins with ``<IfQQ``: number of labels, label, id, second id. If
the number of labels is not zero, so many float32 follow, the first of them being the
label. The encoded image is the rest.

The index is text with a line for each record: key, tab, offset. Files in the form of
insightface have at key 0 a record of two labels ``a, b`` without image: images have the
keys from 1 to a - 1, and the records of keys a to b - 1 have no image either, but the
first key of the images of an identity and the one after its last.
"""

import array
import contextlib
import functools
import os
import pathlib
import struct
from collections.abc import Sequence
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

import sphax as sx
from experiments.faces.records.disk import disk_full

MAGIC = 0xCED7230A
_MAGIC = struct.pack("<I", MAGIC)
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_LENGTHS = 2**29  # of a part; the field has 29 bits
_LABELS = 2**24  # from here on, not every integer is a float32
_NO_IMAGE = _HEADER.size + 8  # bytes of a record with two labels alone

Path = str | os.PathLike[str]


class RecordError(ValueError):
    """A file is damaged, or not of the format that its name says."""


class Record(NamedTuple):
    """An image of a record file.

    Attributes:
        image: The encoded image, JPEG or PNG.
        label: Identity, a non-negative integer.
        labels: All labels of the record, the identity first, float32, ``[labels]``.
        key: Key of the record in the index.
    """

    image: bytes
    label: int
    labels: np.ndarray
    key: int


class RecordReader:
    """A sequence of the images of a record file, in the order of their keys.

    Opening reads the index, and compares it with the size of the file. Each access
    reads one record, without a file position: threads may share a reader, and pickling
    gives another process its own.

    Args:
        path: The file, such as ``train.rec``.
        index: Its index; by default the file of the same name that ends with ``.idx``,
            or if there is no such file, what one pass over the parts finds.

    Attributes:
        path: The file.
        keys: Key of each image, increasing, int64, ``[images]``.
        identities: In insightface's form, for each identity the key of its first image
            and the key after its last, int64, ``[identities, 2]``; else None.

    Raises:
        RecordError: If index and file do not fit each other, or the file is truncated.
    """

    def __init__(self, path: Path, index: Path | None = None):
        self.path = pathlib.Path(path)
        self._open()
        self._read_index(None if index is None else pathlib.Path(index))
        self._check_end()
        self._read_identities()
        del self._keys, self._offsets  # pickled with the rest otherwise

    def _open(self) -> None:
        self._file = open(self.path, "rb")  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size
        if not self._size:
            raise RecordError(
                f"{self.path} is empty: copy it again, or write it with RecordWriter."
            )

    def _read_index(self, index: pathlib.Path | None) -> None:
        beside = self.path.with_suffix(".idx")
        self._index = index or (beside if beside.exists() else None)
        if self._index is None:
            self._keys, self._offsets = self._scan()
            return
        try:
            columns = sx.data.read_integers(self._index, 2, what="key and offset")
        except ValueError as error:
            raise RecordError(str(error)) from error
        if not len(columns):
            raise RecordError(f"{self._index} is empty: the index has no record.")
        self._keys, self._offsets = columns.T
        is_beyond = self._offsets + _PART.size > self._size
        is_odd = self._offsets % 4 != 0
        for wrong in np.flatnonzero(is_beyond | is_odd)[:1]:
            key, offset = self._keys[wrong], self._offsets[wrong]
            where = f"{self._index}: key {key}, offset {offset}"
            if is_odd[wrong]:
                raise RecordError(
                    f"{where}: an offset must be a multiple of 4; the index is damaged."
                )
            raise RecordError(
                f"{where}: {self.path} ends at {self._size} bytes, before"
                f" {np.count_nonzero(is_beyond)} of the {len(columns)} records; it is"
                " truncated, or the index is that of another file."
            )
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._offsets = self._keys[order], self._offsets[order]
        for twice in np.flatnonzero(self._keys[1:] == self._keys[:-1])[:1]:
            first, second = self._offsets[twice : twice + 2]
            raise RecordError(
                f"{self._index}: key {self._keys[twice]} is there twice, at offsets"
                f" {first} and {second}; a key must name one record."
            )

    def _scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and offsets of all records, by their parts alone.

        Keys count the records from 0; but a record that has the ranges of insightface's
        form, with the right numbers of images and identities, gets key 0 wherever it
        is: some writers put it after the images, or at the end.
        """
        offsets, lengths, at = array.array("q"), array.array("q"), 0
        while at < self._size:
            parts, end = self._parts(len(offsets), at)
            offsets.append(at)
            lengths.append(sum(n for _, n in parts) + 4 * (len(parts) - 1))
            at = end
        number = len(offsets)
        keys, small = np.arange(number), np.flatnonzero(np.equal(lengths, _NO_IMAGE))
        for header in {*small[:1], *small[-1:]}:
            found = self._range(int(header), offsets[header])
            if found == (number - len(small) + 1, number):
                keys = np.where(keys == header, 0, keys + (keys < header))
        order = np.argsort(keys, kind="stable")
        return keys[order], np.array(offsets, np.int64)[order]

    def _check_end(self) -> None:
        """Reads the parts of the last record: the file must reach to its end."""
        last = int(np.argmax(self._offsets))
        self._parts(int(self._keys[last]), int(self._offsets[last]))

    def _read_identities(self) -> None:
        self.identities = None
        self.keys, self._places = self._keys, self._offsets
        said = self._range(0, int(self._offsets[0])) if self._keys[0] == 0 else None
        if said is None:
            return
        first, end = self._unrounded(*said)
        at = np.searchsorted(self._keys, (1, first, end))
        if not 1 <= first <= end or (np.diff(at) != (first - 1, end - first)).any():
            self._refuse(
                0,
                int(self._offsets[0]),
                f"images must have the keys 1 to {first - 1} and identities {first} to"
                f" {end - 1}, but the index has {len(self._keys) - 1} keys up to"
                f" {self._keys[-1]}; it is that of another file",
            )
        inside = slice(at[1], at[2])
        columns = self._keys[inside].tolist(), self._offsets[inside].tolist()
        rows = list(zip(*columns, strict=True))
        self.keys, self._places = (
            x[at[0] : at[1]] for x in (self._keys, self._offsets)
        )
        ranges = [self._range(*row) for row in rows]
        for row, pair in zip(rows, ranges, strict=True):
            if pair is None or not 1 <= pair[0] <= pair[1] <= said[0]:
                self._refuse(
                    *row,
                    "an identity must be two of the keys 1 to"
                    f" {first}, the first not above the second, got {pair}",
                )
        self.identities = np.array(ranges, np.int64).reshape(-1, 2)
        order = np.argsort(self.identities[:, 0], kind="stable")
        order = order[np.diff(self.identities)[order, 0] > 0]
        inside = self.identities[order]
        for wrong in np.flatnonzero(inside[1:, 0] < inside[:-1, 1])[:1]:
            self._refuse(
                *rows[order[wrong + 1]],
                "identities must have different images, got the overlapping ranges"
                f" {tuple(inside[wrong].tolist())} and"
                f" {tuple(inside[wrong + 1].tolist())}",
            )

    def _unrounded(self, first: int, end: int) -> tuple[int, int]:
        """The ranges of the record at key 0, whose float32 are rounded above 2^24."""
        if end <= _LABELS:
            return first, end
        reach = int(np.spacing(np.float32(end)))
        if abs(int(self._keys[-1]) + 1 - end) <= reach:
            end = int(self._keys[-1]) + 1
        near = range(*np.searchsorted(self._keys, (first - reach, first + reach + 1)))
        for row in near:
            key, offset = int(self._keys[row]), int(self._offsets[row])
            if self._range(key, offset) is not None:
                return key, end
        return first, end

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Record:
        place = range(len(self))[index]
        key, offset = int(self.keys[place]), int(self._places[place])
        return Record(*self._content(key, offset), key)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Label of each image, int32, ``[images]``.

        Where the file says which images an identity has, one of them is read;
        otherwise the first bytes of each record.
        """
        labels = np.full(len(self), -1, np.int32)
        for first, end in () if self.identities is None else self.identities:
            # Above, the ends of a range are rounded.
            if first < end <= _LABELS:
                start, stop = np.searchsorted(self.keys, (first, end))
                labels[start:stop] = self._label(int(start))
        for place in np.flatnonzero(labels < 0).tolist():
            labels[place] = self._label(place)
        return labels

    def _label(self, place: int) -> int:
        key, offset = int(self.keys[place]), int(self._places[place])
        return self._content(key, offset, _HEADER.size + 4)[1]

    @functools.cached_property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images, or None without a file ``property``."""
        return None if self._property is None else self._property[1:]

    @functools.cached_property
    def num_classes(self) -> int:
        """Number of identities: that of ``property``, or the largest label + 1."""
        if self._property is not None:
            return self._property[0]
        return int(self.labels.max(initial=-1)) + 1

    @functools.cached_property
    def _property(self) -> tuple[int, int, int] | None:
        path = self.path.with_name("property")
        if not path.exists():
            return None
        text = path.read_text(errors="replace").strip()
        words = text.split(",")
        if len(words) != 3 or not all(word.strip().isdecimal() for word in words):
            raise RecordError(
                f"{path} must be three numbers, classes,height,width, got"
                f" {text[:60]!r}."
            )
        classes, height, width = map(int, words)
        return classes, height, width

    def _range(self, key: int, offset: int) -> tuple[int, int] | None:
        """The two labels of a record without image, or None if it has an image."""
        parts, _ = self._parts(key, offset)
        if len(parts) > 1 or parts[0][1] != _NO_IMAGE:
            return None
        payload = self._bytes(*parts[0])
        count, *_ = _HEADER.unpack_from(payload)
        if count != 2:
            return None
        pair = struct.unpack_from("<2f", payload, _HEADER.size)
        if not all(x >= 0 and x.is_integer() for x in pair):
            self._refuse(key, offset, f"two keys must be integers, got {pair}")
        return int(pair[0]), int(pair[1])

    def _content(
        self, key: int, offset: int, limit: int | None = None
    ) -> tuple[bytes, int, np.ndarray]:
        """Image, label and labels of a record, from its first ``limit`` bytes alone."""
        parts, _ = self._parts(key, offset)
        length = sum(n for _, n in parts) + 4 * (len(parts) - 1)
        if limit is not None:
            parts = [(at, min(n, limit)) for at, n in parts]
        payload = _MAGIC.join(self._bytes(*part) for part in parts)
        if length < _HEADER.size:
            self._refuse(
                key,
                offset,
                f"its {length} bytes are fewer than the {_HEADER.size} of its header",
            )
        count, label, *_ = _HEADER.unpack_from(payload)
        start = _HEADER.size + 4 * count
        if length < start:
            self._refuse(
                key,
                offset,
                f"its {length} bytes are fewer than its {count} labels need",
            )
        if limit is not None:
            count = min(count, 1)
        labels = np.frombuffer(payload, "<f4", count, _HEADER.size).astype(np.float32)
        labels = labels if count else np.array([label], np.float32)
        if not (0 <= labels[0] < _LABELS and float(labels[0]).is_integer()):
            self._refuse(
                key,
                offset,
                f"a label must be an integer from 0 to 2^24 - 1, got {labels[0]:.9g};"
                " larger ones are not exact as float32",
            )
        return payload[start:], int(labels[0]), labels

    def _parts(self, key: int, offset: int) -> tuple[list[tuple[int, int]], int]:
        """Place and length of each part of a record, and where the next one begins."""
        parts, at = [], offset
        while True:
            if at + _PART.size > self._size:
                what = "a first part that no last part follows"
                if not parts:
                    what = f"only {self._size - at} of the 8 bytes that begin a part"
                self._refuse(key, offset, f"{what}, since the file ends; truncated")
            magic, flagged = _PART.unpack(self._bytes(at, _PART.size))
            flag, length = flagged >> 29, flagged & (_LENGTHS - 1)
            if magic != MAGIC:
                self._refuse(
                    key,
                    offset,
                    f"no part begins at byte {at}, which must have {MAGIC:#x} and has"
                    f" {magic:#x}; damaged, or the index is that of another file",
                )
            if flag > 3:
                self._refuse(
                    key, offset, f"the flag of a part must be 0 to 3, got {flag}"
                )
            if parts and flag < 2:
                self._refuse(
                    key,
                    offset,
                    f"the record is not ended before another begins at {at}",
                )
            if not parts and flag > 1:
                kind = "middle" if flag == 2 else "last"
                self._refuse(key, offset, f"a {kind} part without a first one")
            end = at + _PART.size + length
            if end > self._size:
                self._refuse(
                    key,
                    offset,
                    f"the part at byte {at} ends at {end}, but the file has"
                    f" {self._size} bytes and lacks {end - self._size}; truncated, copy"
                    " it again",
                )
            parts.append((at + _PART.size, length))
            at = end + -end % 4
            if flag in (0, 3):
                return parts, at

    def _bytes(self, at: int, length: int) -> bytes:
        found = os.pread(self._file.fileno(), length, at)
        if len(found) != length:
            raise RecordError(
                f"{self.path} had {self._size} bytes when it was opened, and byte"
                f" {at + len(found)} is missing now: it must not change while it is"
                " read."
            )
        return found

    def _refuse(self, key: int, offset: int, what: str) -> NoReturn:
        raise RecordError(f"{self.path}: key {key} at offset {offset}: {what}.")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __del__(self):
        if "_file" in self.__dict__:
            self.close()

    def __enter__(self) -> "RecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RecordReader({str(self.path)!r}, images={len(self)})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
        if self._size != state["_size"]:
            raise RecordError(
                f"{self.path} had {state['_size']} bytes and now has {self._size}: a"
                " file must not change while it is read."
            )


class RecordWriter:
    """Writes a record file and its index.

    A context manager. Both files have their names once the block has ended; until then
    they have ``.partial`` at the end, and if the block raises, they are removed.

    Args:
        path: The file, such as ``train.rec``.
        index: Its index; by default of the same name, ending with ``.idx``.

    Raises:
        RecordError: If a label or a key cannot be written.
        OSError: If the disk is full; says how many bytes the file needs so far.
    """

    def __init__(self, path: Path, index: Path | None = None):
        self.path = pathlib.Path(path)
        self._targets: list[pathlib.Path] = []
        self._files: list[IO[bytes]] = []
        self._begin(self.path)
        self._begin(pathlib.Path(index or self.path.with_suffix(".idx")))
        self._keys = array.array("q")
        self._largest = -1
        self.bytes_written = 0

    def _begin(self, target: pathlib.Path) -> None:
        self._targets.append(target)
        partial = target.with_name(f"{target.name}.partial")
        self._files.append(open(partial, "wb"))  # noqa: SIM115

    def write(
        self, image: bytes, label: int | Sequence[float], key: int | None = None
    ) -> int:
        """Writes an image, and returns its key.

        Args:
            image: The encoded image.
            label: Identity, or several numbers of which it is the first.
            key: Key in the index, not used before; by default the largest + 1, from 0.
        """
        labels = np.atleast_1d(np.asarray(label, np.float64))
        if labels.ndim != 1 or not len(labels):
            raise RecordError(f"{self.path}: label must be numbers, got {label!r}.")
        if not (0 <= labels[0] < _LABELS and float(labels[0]).is_integer()):
            raise RecordError(
                f"{self.path}: a label must be an integer from 0 to 2^24 - 1, got"
                f" {label!r}: a record has it as float32, where larger ones are not"
                " exact."
            )
        key = self._largest + 1 if key is None else key
        if key < 0 or (key <= self._largest and key in self._keys):
            raise RecordError(
                f"{self.path}: a key must be 0 or more and not used before, got {key}."
            )
        several = np.ndim(label) == 1
        header = _HEADER.pack(
            len(labels) * several, 0.0 if several else labels[0], key, 0
        )
        numbers = labels.astype("<f4").tobytes() if several else b""
        self._write(key, header + numbers, image)
        return key

    def write_header(
        self, identities: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> None:
        """Writes insightface's records without images, and the file ``property``.

        Call it after all images, which must have the keys from 1 on.

        Args:
            identities: For each, key of the first image and the key after the last.
            size: Height and width of the images.
        """
        first = self._largest + 1
        ranges = [(first, first + len(identities)), *identities]
        for key, pair in zip([0, *range(first, ranges[0][1])], ranges, strict=True):
            self._write(key, _HEADER.pack(2, 0.0, key, 0), struct.pack("<2f", *pair))
        self._begin(self.path.with_name("property"))
        self._files[-1].write(b"%d,%d,%d\n" % (len(identities), *size))

    def _write(self, key: int, header: bytes, rest: bytes) -> None:
        length = len(header) + len(rest)
        if length >= _LENGTHS:
            raise RecordError(
                f"{self.path}: key {key}: a record must be smaller than 2^29 bytes, got"
                f" {length}."
            )
        payload = header + rest
        # The magic number may only be where a part begins: it is cut out elsewhere.
        words = np.frombuffer(payload, "<u4", length // 4)
        cuts = [-4, *(4 * np.flatnonzero(words == MAGIC)).tolist(), length]
        flags = [1, *[2] * (len(cuts) - 3), 3] if len(cuts) > 2 else [0]
        content = b""
        for flag, start, end in zip(flags, cuts[:-1], cuts[1:], strict=True):
            part = payload[start + 4 : end]
            content += _PART.pack(MAGIC, flag << 29 | len(part)) + part
            content += bytes(-len(part) % 4)
        needed = self.bytes_written + len(content)
        with disk_full(self.path, self._files[0].name, needed):
            self._files[0].write(content)
            self._files[1].write(b"%d\t%d\n" % (key, self.bytes_written))
        self.bytes_written = needed
        self._keys.append(key)
        self._largest = max(self._largest, key)

    def close(self) -> None:
        """Ends both files, which get their names."""
        try:
            with disk_full(self.path, self._files[0].name, self.bytes_written):
                for file in self._files:
                    file.close()
        except BaseException:
            self.discard()
            raise
        for file, target in zip(self._files, self._targets, strict=True):
            os.replace(file.name, target)

    def discard(self) -> None:
        """Removes what was written."""
        for file in self._files:
            # Closing writes what is still buffered, which a full disk refuses again.
            with contextlib.suppress(OSError):
                file.close()
            pathlib.Path(file.name).unlink(missing_ok=True)

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
