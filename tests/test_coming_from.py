"""The calls of sphax in the tables of ``docs/coming-from.md``."""

import pathlib
import re

import jax
import pytest

from tests.test_docs import blocks

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "coming-from.md"


def calls():
    """The second column of all tables: our call beside that of the other library."""
    for line in PAGE.read_text().splitlines():
        cells = line.split(" | ")
        if line.startswith("|") and len(cells) > 2:
            yield from re.findall(r"`(sx\.[^`]*\)[^`]*)`", cells[1])


@pytest.fixture(scope="module")
def names():
    """What the tables call ``x``, ``w`` and so on."""
    found = {"__name__": PAGE.stem}
    for block, _ in blocks(PAGE):
        exec(block, found)  # noqa: S102
    return found


@pytest.mark.parametrize("call", list(calls()))
def test_a_call_of_the_tables_can_be_made(call, names):
    def evaluated():
        eval(call, names)  # noqa: S307

    # Metrics and batches are made on the host; all else is traced, not computed.
    is_host = call.startswith(("sx.metrics", "sx.data"))
    evaluated() if is_host else jax.eval_shape(evaluated)
