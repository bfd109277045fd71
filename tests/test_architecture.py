"""The packages of the library: who may import whom, and what is public."""

import ast
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import pytest

import sphax as sx
from tests import paths

ROOT = Path(sx.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

# sphere <- neurons <- {operators, energy, orthogonal, distributions, metrics, data}
# <- margins <- losses <- sharding;  {energy, orthogonal} <- {optim, reparam};
# all of these <- layers <- networks <- convert. A package imports what lies left of it.
LEFT = {"sphere", "neurons"}
MIDDLE = {"operators", "energy", "orthogonal", "distributions", "metrics", "data"}
RIGHT = {"losses", "sharding", "optim", "reparam"}
MAY_IMPORT = {
    "sphere": set(),
    "neurons": {"sphere"},
    **dict.fromkeys(MIDDLE, LEFT),
    "margins": LEFT | MIDDLE,
    "losses": {"margins"} | LEFT | MIDDLE,
    "sharding": {"margins", "losses"} | LEFT | MIDDLE,
    **dict.fromkeys(("optim", "reparam"), {"energy", "orthogonal"} | LEFT),
    "layers": {"margins"} | LEFT | MIDDLE | RIGHT,
    "networks": {"margins", "layers"} | LEFT | MIDDLE | RIGHT,
    "convert": {"margins", "layers", "networks"} | LEFT | MIDDLE | RIGHT,
    "plots": {"margins"} | LEFT | MIDDLE | RIGHT,
    "doctor": {"margins"} | LEFT | MIDDLE | RIGHT,
}
# Beside jax, numpy and the standard library.
MAY_USE = {
    "layers": {"flax"},
    "networks": {"flax"},
    "convert": {"flax"},
    "losses": {"optax"},
    "optim": {"optax"},
    "reparam": {"optax"},
    "sharding": {"optax"},
    "plots": {"matplotlib"},
}
# These inside functions only, so that the import of the package is without them.
MAY_USE_LAZILY = {
    "neurons": {"flax"},
    "data": {"scipy"},
    "plots": {"scipy"},
    "convert": {"safetensors"},
}


def package_of(file: Path) -> str:
    """The package of a file; files at the top of ``sphax`` are in no package."""
    return file.parts[0].removesuffix(".py")


# Run as ``python -m sphax.doctor``; imported by its tests alone.
COMMANDS = {"doctor"}
PACKAGES = sorted(
    {package_of(file) for file in FILES if not package_of(file).startswith("_")}
    - COMMANDS
)


def imports_of(text: str) -> set[str]:
    """Dotted names that a module imports, at its top or inside a function."""
    return names_of(ast.walk(ast.parse(text)))


def names_of(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names that these statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not checked"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(file: Path, text: str) -> list[str]:
    """The imports that ``file`` may not have."""
    package, found = package_of(file), []
    outside = {"jax", "numpy"} | MAY_USE.get(package, set())
    if package == "energy" and "minim" in file.stem:
        outside.add("optax")
    at_top = {name.partition(".")[0] for name in names_of(ast.parse(text).body)}
    outside |= MAY_USE_LAZILY.get(package, set()) - at_top
    for name in imports_of(text):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top != "sphax":
            is_allowed = top in outside or top in sys.stdlib_module_names
        elif package == "__init__" or target == package:
            is_allowed = True
        elif f".{rest}".count("._") > target.startswith("_"):
            is_allowed = False  # a private module of another package
        elif target.startswith("_"):
            is_allowed = True  # shared modules are below all packages
        else:
            is_allowed = target in MAY_IMPORT.get(package, set())
        if not is_allowed:
            found.append(name)
    return sorted(found)


def public_names(package: str) -> dict[str, object]:
    """What a package offers: names that its own modules define."""
    members = vars(getattr(sx, package)).items()
    return {
        f"{package}.{name}": member
        for name, member in members
        if not name.startswith("_") and not isinstance(member, types.ModuleType)
    }


PUBLIC = {
    name: member
    for package in PACKAGES
    for name, member in public_names(package).items()
}


def test_every_package_has_a_row_and_is_exposed():
    assert set(PACKAGES) <= set(MAY_IMPORT)
    for package in PACKAGES:
        assert getattr(sx, package).__name__ == f"sphax.{package}"
    public = {name for name in vars(sx) if not name.startswith("_")}
    assert public - COMMANDS == set(PACKAGES)


@pytest.mark.parametrize("package", ["", *(f".{package}" for package in PACKAGES)])
def test_dir_and_star_give_the_public_names(package):
    names: dict[str, object] = {}
    exec(f"from sphax{package} import *", names)
    public = {name for name in names if not name.startswith("_")}
    module = sys.modules[f"sphax{package}"]
    assert set(dir(module)) == public
    expected = set(PACKAGES) if not package else public_names(package[1:])
    found = {f"{package}.{name}"[1:] if package else name for name in public}
    assert found - COMMANDS == set(expected)


def test_the_version_is_that_of_the_citation():
    citation = (ROOT.parent / "CITATION.cff").read_text()
    assert f"\nversion: {sx.__version__}\n" in citation


def test_the_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {package for package, below in MAY_IMPORT.items() if below <= done}
        assert ready - done
        done |= ready


def test_imports_follow_the_arrows():
    found = {str(file): violations(file, (ROOT / file).read_text()) for file in FILES}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("sphere/_a.py", "from sphax.margins import ArcFace"),
        ("sphere.py", "from sphax import losses"),
        ("margins/_a.py", "import sphax.losses._checks"),
        ("losses/_a.py", "from flax import nnx"),
        ("losses/_a.py", "from sphax.sharding import head"),
        ("energy/_compressive.py", "import optax"),
        ("optim/_a.py", "from sphax.margins import ArcFace"),
        ("layers/_a.py", "from sphax.networks import Backbone"),
        ("metrics/_a.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("networks/_a.py", "import torch"),
        ("neurons/_a.py", "from flax import nnx\ndef f():\n    from flax import nnx"),
        ("optim/_a.py", "from sphax.neurons._find import find"),
        ("optim/_a.py", "from sphax.energy._of_params import energy_penalty"),
        ("layers/_a.py", "from sphax.losses._core.batch import labeled_batch"),
        ("_numerics.py", "from sphax.sphere import normalize"),
    ],
)
def test_the_check_finds_what_is_not_allowed(file, line):
    assert len(violations(Path(file), line)) == 1


def test_the_check_lets_through_what_is():
    assert not violations(Path("energy/_minimize.py"), "import optax")
    assert not violations(Path("plots/_a.py"), "def f():\n    import matplotlib")
    assert not violations(Path("neurons/_a.py"), "def f():\n    from flax import nnx")
    assert not violations(Path("layers/_a.py"), "from sphax import losses, sphere")
    assert not violations(Path("margins/_a.py"), "from sphax._numerics import dot")


def test_public_names_are_documented_by_example():
    undocumented = [
        name
        for name, member in PUBLIC.items()
        # A constant has no docstring of its own.
        if callable(member)
        and ">>> " not in (member.__doc__ or "").partition("Example:\n")[2]
    ]
    assert undocumented == []


@pytest.mark.parametrize(
    ("module", "function", "arguments", "files"),
    [
        ("losses", "margin_softmax", "embeddings", 5),
        ("losses", "sphereface2", "embeddings", 5),
        ("losses", "circle", "embeddings", 6),
        ("energy", "hyperspherical_energy", "points", 5),
        ("optim", "add_energy_gradient", "power", 6),
        ("optim._penalty", "add_penalty_gradient.update", "params updates", 6),
        ("reparam._core", "per_kernel.apply", "free frozen", 6),
        ("operators", "decoupled_conv", "inputs", 6),
    ],
)
def test_an_argument_passes_through_few_files(module, function, arguments, files):
    """``sphere`` and ``neurons`` count as one file each, if they are called."""
    found = paths.path_of(module, function, *arguments.split())
    assert len(paths.files_of(found)) <= files, found


def test_the_embeddings_of_a_margin_loss_enter_few_functions():
    found = paths.entered(paths.path_of("losses", "margin_softmax", "embeddings"))
    # One of them, which masks classes, for the labels that go with the embeddings.
    assert len(found) <= 9, found
