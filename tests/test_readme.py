"""What the README promises: its code runs, CI runs its test command, tables are new."""

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


@pytest.mark.parametrize("path", ["README.md", "experiments/README.md"])
def test_tables_are_those_of_the_result_files(path):
    text = (ROOT / path).read_text()
    assert report.rewrite(text, ROOT / "experiments" / "results") == text


def test_links_lead_somewhere():
    for path in (ROOT / "README.md", ROOT / "experiments" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), target
