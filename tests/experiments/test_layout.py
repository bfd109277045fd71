"""The size of a study: its files, and the code that they import."""

import ast
import functools
import pathlib
import re

import pytest

import experiments

ROOT = pathlib.Path(experiments.__file__).parent
STUDIES = sorted(path.parent.name for path in ROOT.glob("*/config.py"))
FILES = sorted(ROOT.rglob("*.py"))


@functools.cache
def names_in(file: pathlib.Path) -> frozenset[str]:
    """The modules that a file imports, and what it imports from them."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@functools.cache
def imported(file: pathlib.Path) -> frozenset[pathlib.Path]:
    """The files of ``experiments`` that a file imports."""
    places = [ROOT.parent.joinpath(*name.split(".")) for name in names_in(file)]
    candidates = {path.with_suffix(".py") for path in places}
    return frozenset(candidates & set(FILES))


def folder_of(file: pathlib.Path) -> str:
    parts = file.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def lines_of(file: pathlib.Path) -> int:
    return len(file.read_text().splitlines())


@functools.cache
def longest_path(file: pathlib.Path) -> int:
    """Lines of ``common`` on the longest way from one import to the next."""
    others = [other for other in imported(file) if folder_of(other) == "common"]
    here = lines_of(file) if folder_of(file) == "common" else 0
    return here + max(map(longest_path, others), default=0)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_five_files_of_700_lines(study):
    files = sorted((ROOT / study).glob("*.py"))
    names = {file.name for file in files}
    assert {"__main__.py", "config.py", "train.py", "report.py"} <= names
    assert len([file for file in files if file.name != "__init__.py"]) <= 5
    assert sum(map(lines_of, files)) <= 700
    assert (ROOT / study / "README.md").exists()


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_stands_on_900_lines_of_common_on_any_one_path(study):
    for name in ("__main__", "config", "train", "report"):
        assert longest_path(ROOT / study / f"{name}.py") <= 900, name


def test_studies_know_common_and_themselves_alone():
    for file in FILES:
        folder = folder_of(file)
        allowed = {folder, "common"} if folder in STUDIES else {folder, "common", ""}
        if folder == "common":
            allowed = {"common"}
        found = {folder_of(other) for other in imported(file)}
        assert found <= allowed, file


def test_nobody_imports_the_report_of_all():
    for file in FILES:
        assert ROOT / "report.py" not in imported(file), file


def test_experiments_use_public_names_of_the_library():
    for file in FILES:
        private = [name for name in names_in(file) if re.match(r"sphax\b.*\._", name)]
        assert not private, file
        assert not re.search(r"\bsx(\.\w+)*\._", file.read_text()), file
