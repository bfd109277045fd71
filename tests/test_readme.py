"""The READMEs: the code runs, CI runs the test command, tables and links are right."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx
from experiments import report

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_code_of_the_readme_runs():
    names = {}
    loss, spread, rotated = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(loss, names)  # noqa: S102, in order: later blocks use earlier names
    assert float(names["loss"]) > 0
    assert all(jnp.isfinite(g).all() for g in names["gradients"])

    exec(spread + rotated, names)  # noqa: S102
    training, params = names["training"], names["params"]
    first = training.merge(*training.init(jax.random.key(0), params))
    last = nnx.state(names["model"], nnx.Param)
    # The neurons have turned, together.
    energies = [sx.energy.energy_of_params(params) for params in (first, last)]
    np.testing.assert_allclose(*energies, rtol=1e-5)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True)
    assert all(jnp.any(x != y) for x, y in pairs)


def test_the_readme_is_short():
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(text.split()) <= 900
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        assert len([line for line in block.splitlines() if line.strip()]) <= 10


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
