"""Calls of ``sphax.optim``."""

from tests.calls._call import Call

CALLS: list[Call] = []
EXEMPT: dict[str, str] = {}
