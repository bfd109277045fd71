"""The pages of ``docs/``: their code runs, and their links lead somewhere."""

import pathlib
import re

import pytest

from docs import reference
from tests.test_architecture import PUBLIC
from tests.test_readme import anchors

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {DOCS / "api" / page for page in reference.pages()}


def pages():
    """The pages that are written in ``docs/``, without what the build puts there."""
    for page in sorted(DOCS.rglob("*.md")):
        path = page.relative_to(DOCS)
        is_copy = (ROOT / path).exists()
        if not is_copy and not path.parts[0].startswith("_"):
            yield page


def blocks(page):
    """The ``python`` blocks of a page, each with the number of its first line."""
    text = page.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield found[1], text.count("\n", 0, found.start(1))


def named(pages):
    return pytest.mark.parametrize(
        "page", pages, ids=lambda page: str(page.relative_to(DOCS))
    )


@named([page for page in pages() if any(blocks(page))])
def test_the_code_of_a_page_runs(page):
    names = {"__name__": page.stem}
    for block, lines in blocks(page):
        # So that tracebacks show the line of the page.
        code = compile("\n" * lines + block, page, "exec")
        exec(code, names)  # noqa: S102, in order: later blocks use earlier names


@named(list(pages()))
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        if found.resolve() in GENERATED:
            continue
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def test_every_public_name_has_one_entry():
    entries = [
        f"{page.removesuffix('.rst')}.{name}"
        for page, text in reference.pages().items()
        for name in re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", text, re.MULTILINE)
    ]
    assert sorted(entries) == sorted(PUBLIC)
