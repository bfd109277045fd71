"""The notebooks as they are stored; the build of the documentation executes them."""

import pathlib

import jupytext
import nbformat
import pytest

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
FIGURES = {
    "margins": 5,
    "open_set": 4,
    "decoupled": 5,
    "energy": 4,
    "opt": 2,
    "ngpt": 5,
    "distributions": 7,
}
MEGABYTE = 1_000_000


def stored(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_listed():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == set(FIGURES)
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_script_and_notebook_are_in_step(name):
    script, notebook = jupytext.read(NOTEBOOKS / f"{name}.py"), stored(name)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]
    assert notebook.metadata.kernelspec == script.metadata.kernelspec
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", FIGURES)
def test_notebook_has_the_style_and_says_how_to_open_it(name):
    text = (NOTEBOOKS / f"{name}.py").read_text()
    assert text.count('plt.style.use("sphax.plots.paper")') == 1
    assert "rcParams" not in text
    assert f"`jupyter lab notebooks/{name}.ipynb`" in text


@pytest.mark.parametrize("name", FIGURES)
def test_notebook_is_stored_as_executed(name):
    notebook = stored(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    found = [output for cell in code for output in cell.outputs]
    assert not [output for output in found if output.output_type == "error"]
    assert not [output.text for output in found if output.get("name") == "stderr"]
    pictures = [output for output in found if "image/png" in output.get("data", {})]
    assert len(pictures) == FIGURES[name]
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MEGABYTE
