"""Calls of ``sphax.operators``."""

from tests.calls._call import Call

CALLS: list[Call] = []
EXEMPT: dict[str, str] = {}
