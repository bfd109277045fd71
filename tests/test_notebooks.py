import json
import pathlib
import sys

import jupytext
import matplotlib.font_manager
import nbclient
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
# Their convolutions run for longer than it takes to compile them well.
TRAIN_LONG = ("decoupled",)
MEGABYTE = 1_000_000


@pytest.fixture
def kernel_name(tmp_path, monkeypatch):
    """A kernel of this very interpreter, whatever else is installed."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    folder = tmp_path / "kernels" / "this-interpreter"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return folder.name


def stored(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def assert_clean(notebook, figures):
    found = outputs(notebook)
    assert not [output for output in found if output.output_type == "error"]
    assert not [output.text for output in found if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in found) == figures


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
    assert_clean(notebook, FIGURES[name])
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_notebook_runs(name, kernel_name, tmp_path, monkeypatch):
    # On first use matplotlib builds a cache of fonts, and says on stderr if that takes
    # long: importing it here has built the one that the kernel will find.
    assert matplotlib.font_manager.fontManager.ttflist
    if name in TRAIN_LONG:
        monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    nbclient.NotebookClient(
        notebook,
        kernel_name=kernel_name,
        timeout=300,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert_clean(notebook, FIGURES[name])
