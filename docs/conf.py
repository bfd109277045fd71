"""Builds the documentation: ``sphinx-build -W -j auto docs docs/_build/html``."""

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

# On first use matplotlib builds a cache of fonts, and says so on stderr. Here rather
# than in a notebook, where output on stderr is an error.
import matplotlib.font_manager  # noqa: F401
from docutils import nodes
from jupyter_cache import get_cache
from sphinx import addnodes
from sphinx.util import inspect as signatures

# Most of the notebooks' time goes into compiling, as in conftest.py.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import sphax as sx  # noqa: E402
from docs import reference  # noqa: E402

# JAX warns of any fork.
warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)

project = "sphax"
author = "the authors of sphax"
release = sx.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "sphax"
# With the files of MathJax, so that formulas need no network.
MATHJAX = importlib.util.find_spec("sphinx-mathjax-offline").origin
html_static_path = ["_static", str(pathlib.Path(MATHJAX).parent / "static")]
mathjax_path = "mathjax/tex-chtml.js"
html_css_files = ["style.css"]
html_js_files = ["anchor.js"]
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
pygments_dark_style = "monokai"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_cache_path = str(DOCS / "_build" / "notebooks")
nb_execution_timeout = 300
nb_output_stderr = "error"

autodoc_typehints = "none"  # the docstrings say kinds, shapes and ranges
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False
viewcode_follow_imported_members = True
default_role = "py:obj"
# A reference to a name that is not documented is a warning, but for other libraries'.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(flax|functools|jax|numpy|optax|typing)\..*")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Pages that stand elsewhere in the repository, with their figures. They are copied to
# the same path below ``docs/``.
ELSEWHERE = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "notebooks/*.ipynb",
    "experiments/README.md",
    "experiments/*/README.md",
    "experiments/*/results/*.png",
]


def write(path: pathlib.Path, text: str) -> None:
    """Writes a file if it has changed, so that Sphinx reads again only what has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def gather(app) -> None:
    """Puts the reference and the pages from elsewhere into ``docs/``."""
    del app
    for name, text in reference.pages().items():
        write(DOCS / "api" / name, text)
    for pattern in ELSEWHERE:
        for found in ROOT.glob(pattern):
            copy = DOCS / found.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, copy)
    # By a process of its own: parallel ones are forks of this one, where JAX, once it
    # has computed something, could wait for threads that a fork does not have.
    draw = [sys.executable, "-m", "docs.figures", str(DOCS / "_figures")]
    subprocess.run(draw, cwd=ROOT, check=True)
    # Parallel processes would each make the tables of the cache of executed notebooks.
    get_cache(nb_execution_cache_path).list_cache_records()


def spread(app, env, docnames: list[str]) -> None:
    """Spreads the notebooks, which take longest, over the parallel processes."""
    del app, env
    notebooks = [name for name in docnames if name.startswith("notebooks/")]
    rest = [name for name in docnames if name not in notebooks]
    for number, notebook in enumerate(notebooks):
        rest.insert(number * (len(docnames) // len(notebooks)), notebook)
    docnames[:] = rest


def lead_inside(app, docname: str, source: list[str]) -> None:
    """Makes links to files of the repository lead to their pages in ``docs/``."""
    page = app.env.doc2path(docname, base=False)
    folder = (ROOT if (ROOT / page).exists() else DOCS).joinpath(page).parent

    def inside(match: re.Match) -> str:
        if not (folder / match[1]).is_file():
            return match[0]
        path = pathlib.Path(os.path.relpath(folder / match[1], DOCS))
        if path.parts[0] == ".." and DOCS.joinpath(*path.parts[1:]).exists():
            path = pathlib.Path(*path.parts[1:])  # its copy
        return f"](/{path.as_posix()}{match[2] or ''})"

    source[0] = re.sub(r"\]\(([^()#:\s]+)(#[^()\s]*)?\)", inside, source[0])


def tie_deviations(app, docname: str, source: list[str]) -> None:
    """Keeps a number and its deviation on one line."""
    del app, docname
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")


def link_names(app, doctree: nodes.document) -> None:
    """Links names such as ``sx.losses.triplet`` in the text to the reference.

    A name that does not exist is a warning.
    """
    for literal in list(doctree.findall(nodes.literal)):
        found = re.fullmatch(
            r"(?:sx|sphax)\.([a-z]\w*(?:\.\w+)*)(\(.*\))?", literal.astext()
        )
        if not found or isinstance(literal.parent, addnodes.pending_xref):
            continue
        link = addnodes.pending_xref(
            "",
            refdomain="py",
            reftype="obj",
            reftarget=f"sphax.{found[1]}",
            refdoc=app.env.docname,
            refwarn=True,
        )
        literal.replace_self(link)
        link += literal


# Defaults as Python shows them, and as readers know them.
SHORT_DEFAULTS = {
    r"=Ellipsis\b": "=...",
    r"<class '(?:\w+\.)*(\w+)'>": r"\1",
    r"<function (\w+)\.<locals>\.\w+>": r"\1(...)",
    r"<function (\w+)>": r"\1",
}


def sign(app, what, name, obj, options, signature, returns):
    """Signatures with short defaults, and of classes whose metaclass hides them."""
    del app, name, options
    if what == "class" and signature == "(*args, **kwargs)":
        found = signatures.signature(obj.__init__, bound_method=True)
        signature = signatures.stringify_signature(found, show_annotation=False)
    for pattern, short in SHORT_DEFAULTS.items():
        signature = signature and re.sub(pattern, short, signature)
    return signature, returns


def leave_out(app, what, name, obj, skip, options) -> bool | None:
    """Leaves out what JAX calls, and fields, which the docstring has as attributes."""
    del app, what, skip, options
    is_field = type(obj).__name__ == "_tuplegetter"
    return True if is_field or name in ("tree_flatten", "tree_unflatten") else None


def setup(app) -> None:
    """Connects what is above to the build."""
    app.connect("builder-inited", gather)
    app.connect("env-before-read-docs", spread)
    app.connect("source-read", lead_inside)
    app.connect("source-read", tie_deviations)
    app.connect("doctree-read", link_names)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", leave_out)
