"""The wheel and the source distribution: what they hold, and that they work."""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest

import sphax as sx
from sphax import doctor

ROOT = pathlib.Path(__file__).parents[1]
# What an installed copy has to do, away from the repository.
USE = """
import importlib.metadata
import jax.numpy as jnp
import sphax as sx

assert sx.__file__.startswith({target!r}), sx.__file__
assert importlib.metadata.version("sphax") == sx.__version__
margin = sx.margins.ArcFace(margin=0.5)
print(sx.losses.margin_softmax(jnp.eye(2, 3), jnp.eye(3), jnp.array([0, 2]), margin))
"""


def run(*command, cwd, **environment):
    """What a Python command prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_distributions_install_and_work_from_elsewhere(tmp_path):
    # The wheel is made from the source distribution, so that this builds too. Without
    # isolation, nothing is fetched.
    run("-m", "build", "--no-isolation", "--outdir", str(tmp_path), cwd=ROOT)
    name = f"sphax-{sx.__version__}"
    wheel = tmp_path / f"{name}-py3-none-any.whl"
    files = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sphax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "sphax/py.typed" in ours
    described = {path for path in files if path.startswith(f"{name}.dist-info/")}
    assert files - described == ours
    assert f"{name}.dist-info/licenses/LICENSE" in described

    with tarfile.open(tmp_path / f"{name}.tar.gz") as source:
        members = set(source.getnames())
    # All that the tests need, and that a reader of the repository finds.
    others = [
        *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "conftest.py"),
        *("docs/index.md", "notebooks/margins.ipynb", "tests/test_packaging.py"),
        "experiments/classify/results/quick-digits-plane.png",
    ]
    assert {f"{name}/{path}" for path in [*ours, *others]} <= members
    assert not any("/.venv" in path or "/runs/" in path for path in members)

    target = tmp_path / "installed"
    run(
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-index", "--target", str(target), str(wheel)),
        cwd=tmp_path,
    )
    there = {"PYTHONPATH": str(target)}
    loss = run(
        "-W", "error", "-c", USE.format(target=str(target)), cwd=tmp_path, **there
    )
    # jaxlib may log before, where it loads a compiled program from a cache on disk.
    assert float(loss.splitlines()[-1]) > 0
    there["JAX_NUM_CPU_DEVICES"] = "8"
    checked = run("-W", "error", "-m", "sphax.doctor", cwd=tmp_path, **there)
    assert "devices: 8 x cpu" in checked
    passed = [f"ok      {check.name}" for check in (doctor.DEVICES, *doctor.CHECKS)]
    assert [line for line in checked.splitlines() if line[:2] == "ok"] == passed
    assert "failed" not in checked
