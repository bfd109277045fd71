"""What a compiled program does in a call: operations of products, and bytes sent.

Both are read from the text of the program, as XLA prints it for a CPU. XLA's own count
of operations takes the body of a loop once.
"""

import math
import re
from typing import Any, NamedTuple

_SHAPE = re.compile(r"\b[a-z]+(\d*)\w*\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?(%[\w.-]+) = (.*?) ([\w-]+)\((.*)")
_CALLED = re.compile(r"(?:calls|body|to_apply)=(%[\w.-]+)")


class Work(NamedTuple):
    """Work of one device in one call.

    Attributes:
        flops: Operations of matrix products.
        sent: Bytes sent to other devices if they form a ring.
    """

    flops: float
    sent: float


def work(compiled: Any) -> Work:
    """The work of a compiled function."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in compiled.as_text().splitlines():
        if line.endswith("{") and not line.startswith(("HloModule", " ")):
            name = next(word for word in line.split() if word.startswith("%"))
            entry = name if line.startswith("ENTRY") else entry
            lines = computations[name] = []
        else:
            lines.append(line)
    return _of_computation(entry, computations)


def _of_computation(name: str, computations: dict[str, list[str]]) -> Work:
    shapes: dict[str, str] = {}
    flops = sent = 0.0
    for match in filter(None, map(_INSTRUCTION.match, computations[name])):
        result, shape, operation, rest = match.groups()
        shapes[result] = shape
        if operation == "dot":
            contracted = re.search(r"lhs_contracting_dims={([\d,]*)}", rest)
            assert contracted
            sizes = _sizes(shapes[rest.split(",")[0].rstrip(")")])
            axes = map(int, contracted[1].split(","))
            flops += 2.0 * math.prod(_sizes(shape)) * math.prod(sizes[i] for i in axes)
        elif operation in ("all-reduce", "all-gather", "reduce-scatter"):
            sent += _sent(operation, shape, rest)
        times = re.search(r'known_trip_count":{"n":"(\d+)"', rest)
        for called in _CALLED.findall(rest):
            inner = _of_computation(called, computations)
            count = int(times[1]) if times else 1
            flops, sent = flops + count * inner.flops, sent + count * inner.sent
    return Work(flops, sent)


def _sizes(shape: str) -> list[int]:
    found = _SHAPE.search(shape)
    assert found
    return [int(size) for size in found[2].split(",") if size]


def _devices(groups: str) -> int:
    """Devices of one group, in any of three notations."""
    if listed := re.match(r"{{([\d,]+)}", groups):
        return len(listed[1].split(","))
    if table := re.match(r"\[\d+,(\d+)\]", groups):
        return int(table[1])
    mesh = re.match(r"mesh\[(.*?)\] {(.*?)}", groups)
    assert mesh, groups
    sizes = dict(re.findall(r"('\w+')=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in mesh[2].split(","))


def _sent(operation: str, shape: str, rest: str) -> float:
    """Bytes that a device sends in a ring; ``shape`` is that of the result."""
    devices = _devices(rest.partition("replica_groups=")[2])
    size = sum(
        int(bits or 8) / 8 * math.prod(int(n) for n in sizes.split(",") if n)
        for bits, sizes in _SHAPE.findall(shape)
    )
    if operation == "all-reduce":
        return 2.0 * size * (devices - 1) / devices
    if operation == "all-gather":
        return size * (devices - 1) / devices
    return size * (devices - 1)
