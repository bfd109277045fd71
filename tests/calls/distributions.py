"""Calls of ``sphax.distributions``."""

from tests.calls._call import Call

CALLS: tuple[Call, ...] = ()

EXEMPT: dict[str, str] = {}
