"""The READMEs: the code runs, CI runs the test command, tables and links are right."""

import pathlib
import re

import jax
import pytest
from flax import nnx

from experiments import report

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_code_of_the_readme_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)  # noqa: S102, in order: later blocks use earlier names
    assert float(names["slope"]) > 0
    assert names["predictions"].shape == (4,)
    assert all(jax.numpy.isfinite(g).all() for g in names["gradients"])
    # The step of orthogonal training returns the statistics of its batch.
    statistics = jax.tree.leaves(nnx.state(names["model"], nnx.BatchStat))
    assert statistics
    assert all((x.mean() != 1.0).all() for x in statistics)


def test_ci_calls_the_test_command():
    run, test = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    assert "experiments.classify" in run
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()


READMES = pytest.mark.parametrize(
    "path", report.readmes(), ids=lambda path: str(path.relative_to(ROOT))
)


@READMES
def test_tables_are_those_of_the_stored_results(path):
    assert report.rewrite(path) == path.read_text()


def anchors(text):
    """The anchors that GitHub gives to headings."""
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@READMES
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target
