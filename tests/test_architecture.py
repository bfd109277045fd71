"""The rooms of the library: who may import whom, what is public, how long files are."""

import ast
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import pytest

import sphax as sx

ROOT = Path(sx.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

# sphere <- neurons <- {operators, energy, orthogonal, distributions, metrics}
# <- margins <- {losses, sharding};  {energy, orthogonal} <- {optim, reparam};
# all of these <- layers <- networks. A room imports what lies left of it.
LEFT = {"sphere", "neurons"}
MIDDLE = {"operators", "energy", "orthogonal", "distributions", "metrics"}
RIGHT = {"losses", "sharding", "optim", "reparam"}
MAY_IMPORT = {
    "sphere": set(),
    "neurons": {"sphere"},
    **dict.fromkeys(MIDDLE, LEFT),
    "margins": LEFT | MIDDLE,
    **dict.fromkeys(("losses", "sharding"), {"margins"} | LEFT | MIDDLE),
    **dict.fromkeys(("optim", "reparam"), {"energy", "orthogonal"} | LEFT),
    "layers": {"margins"} | LEFT | MIDDLE | RIGHT,
    "networks": {"margins", "layers"} | LEFT | MIDDLE | RIGHT,
    "plots": {"margins"} | LEFT | MIDDLE | RIGHT,
}
# Beside jax, numpy and the standard library.
MAY_USE = {
    "layers": {"flax"},
    "networks": {"flax"},
    "losses": {"optax"},
    "optim": {"optax"},
    "reparam": {"optax"},
    "plots": {"matplotlib"},
}
# These inside functions only, so that the import of the package is without them.
MAY_USE_LAZILY = {"neurons": {"flax"}}
# Others import no private module of these.
PUBLIC_NAMES_ONLY = {"neurons"}


def room_of(file: Path) -> str:
    """The room of a file; the shared modules ``_*.py`` and ``__init__.py`` are none."""
    return file.parts[0].removesuffix(".py")


ROOMS = sorted({room_of(file) for file in FILES if not room_of(file).startswith("_")})


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
    room, found = room_of(file), []
    outside = {"jax", "numpy"} | MAY_USE.get(room, set())
    if room == "energy" and "minim" in file.stem:
        outside.add("optax")
    at_top = {name.partition(".")[0] for name in names_of(ast.parse(text).body)}
    outside |= MAY_USE_LAZILY.get(room, set()) - at_top
    for name in imports_of(text):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top != "sphax":
            is_allowed = top in outside or top in sys.stdlib_module_names
        elif room == "__init__" or target == room:
            is_allowed = True
        elif rest.startswith(tuple(f"{other}._" for other in PUBLIC_NAMES_ONLY)):
            is_allowed = False
        elif target.startswith("_"):
            is_allowed = True  # shared modules are below all rooms
        else:
            is_allowed = target in MAY_IMPORT.get(room, set())
        if not is_allowed:
            found.append(name)
    return sorted(found)


def public_names(room: str) -> dict[str, object]:
    """What a room offers: names that its own modules define."""
    members = vars(getattr(sx, room)).items()
    return {
        f"{room}.{name}": member
        for name, member in members
        if not name.startswith("_") and not isinstance(member, types.ModuleType)
    }


PUBLIC = {name: member for room in ROOMS for name, member in public_names(room).items()}


def test_every_room_has_a_row_and_is_exposed():
    assert set(ROOMS) <= set(MAY_IMPORT)
    for room in ROOMS:
        assert getattr(sx, room).__name__ == f"sphax.{room}"
    public = {name for name in vars(sx) if not name.startswith("_")}
    assert public == set(ROOMS)


def test_the_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {room for room, below in MAY_IMPORT.items() if below <= done}
        assert ready - done
        done |= ready


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_follow_the_arrows(file):
    assert violations(file, (ROOT / file).read_text()) == []


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
        ("layers/_a.py", "from sphax.networks import ConvNet"),
        ("metrics/_a.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("networks/_a.py", "import torch"),
        ("neurons/_a.py", "from flax import nnx\ndef f():\n    from flax import nnx"),
        ("optim/_a.py", "from sphax.neurons._find import find"),
        ("_norms.py", "from sphax.sphere import normalize"),
    ],
)
def test_the_check_finds_what_is_not_allowed(file, line):
    assert len(violations(Path(file), line)) == 1


def test_the_check_lets_through_what_is():
    assert not violations(Path("energy/_minimize.py"), "import optax")
    assert not violations(Path("plots/_a.py"), "def f():\n    import matplotlib")
    assert not violations(Path("neurons/_a.py"), "def f():\n    from flax import nnx")
    assert not violations(Path("layers/_a.py"), "from sphax import losses, sphere")
    assert not violations(Path("margins/_a.py"), "from sphax._norms import dot")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented_by_example(name):
    member = PUBLIC[name]
    if not callable(member):  # a constant has no docstring of its own
        return
    text = member.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    _, _, example = text.partition("Example:\n")
    assert ">>> " in example, f"{name} has no Example section with code"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_are_short(file):
    assert len((ROOT / file).read_text().splitlines()) <= 300
