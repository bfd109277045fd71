"""Runs the cases of ``ordinary_optimization.py`` as users' programs are compiled."""

import os
import pathlib
import subprocess
import sys

import pytest

CASES = pathlib.Path(__file__).with_name("ordinary_optimization.py")


@pytest.mark.slow
def test_values_hold_with_the_compilers_ordinary_flags():
    ordinary = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES],
        env={**os.environ, **ordinary},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout
