"""The functions and files that one argument of a function passes through.

Read from the source alone: a statement that mentions the argument, or a name assigned
from it, and calls (or passes on) a function of ``sphax`` leads into that function. The
methods of arguments, such as those of a margin, are not followed.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sphax as sx

ROOT = Path(sx.__file__).parent

# Private modules at the top: the checks, masks and arithmetic that all packages share,
# which a reader knows before reading a path. They are neither counted nor entered.
SHARED = "_"
# Public vocabulary: a package counts as one file, and its functions are not entered.
KNOWN = ("sphere", "neurons")
# Tables of functions, of which a call enters one.
TABLES = {"_MAPS": "cayley"}


class Place(NamedTuple):
    """A function, ``"name"``, or one inside of a function or a class, ``"outer.name"``,
    by the file that defines it.
    """

    file: Path
    name: str


def path_of(module: str, function: str, *arguments: str) -> list[Place]:
    """The functions that arguments of a function enter, in reading order.

    Args:
        module: ``"losses"``, or a private module, ``"reparam._core"``.
        function: A function of it, or one inside of that, ``"per_kernel.apply"``.
        arguments: Names of those that are followed.
    """
    file = _file_of(f"sphax.{module}")
    assert file is not None, f"there is no sphax.{module}"
    entry = _exported(file, function)
    assert entry is not None, f"sphax.{module} has no function {function}"
    found: dict[Place, set[str]] = {}
    _follow(entry, set(arguments), found)
    return list(found)


def entered(places: list[Place]) -> list[Place]:
    """The functions of a path but for public vocabulary and checks of arguments."""
    return [
        place
        for place in places
        if place.file.relative_to(ROOT).parts[0] not in KNOWN
        and not place.name.lstrip("_").startswith(("as_", "check_"))
    ]


def files_of(places: list[Place]) -> list[str]:
    """The files of a path; a known package counts as one."""
    names = (place.file.relative_to(ROOT) for place in places)
    return list(
        dict.fromkeys(
            name.parts[0] if name.parts[0] in KNOWN else str(name) for name in names
        )
    )


def _follow(place: Place, arguments: set[str], found: dict[Place, set[str]]) -> None:
    """Enters a function with the arguments that carry what is followed."""
    if arguments <= found.get(place, {""}):
        return
    found[place] = found.get(place, set()) | arguments
    module = _module(place.file)
    function = module.functions[place.name]
    if place.file.relative_to(ROOT).parts[0] in KNOWN:
        return
    carried = set(arguments)
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    for _ in range(2):  # a loop may use a name before the line that assigns it
        for statement in statements:
            carried |= _assigned(statement, carried)
    for name in _names(function) & TABLES.keys() & module.assigned:
        chosen = module.place(ast.Name(name), place.name)
        if chosen is not None:
            _follow(chosen, _all_parameters(chosen), found)
    for statement in statements:
        for callee, given in _entered(statement, carried, module, place.name):
            _follow(callee, given, found)


def _assigned(statement: ast.stmt, carried: set[str]) -> set[str]:
    """Names that a statement assigns from what is carried."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            sources = value
        case ast.AnnAssign(target=target, value=value) if value is not None:
            targets, sources = [target], value
        case ast.AugAssign(target=target, value=value):
            targets, sources = [target], value
        case ast.For(target=target, iter=value):
            targets, sources = [target], value
        case ast.FunctionDef():
            inner = {arg.arg for arg in statement.args.args}
            # A nested function sees what is carried, or is passed it.
            return inner if _names(statement) & carried else set()
        case _:
            return set()
    if not _names(sources) & carried:
        return set()
    return set().union(*map(_names, targets))


def _entered(
    statement: ast.stmt, carried: set[str], module: "_Module", inside: str
) -> Iterator[tuple[Place, set[str]]]:
    """Functions that a statement gives what is carried, by which arguments."""
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            continue  # a statement of its own
        for call in ast.walk(node):
            if not isinstance(call, ast.Call):
                continue
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            if not any(_names(value) & carried for value in given):
                continue
            callee = module.place(call.func, inside)
            if callee is not None:
                yield callee, _parameters(callee, call, carried)
            # As an argument, in `jax.vmap(function)(x)` or `partial(function, x)`.
            for value in [*given, *_given_to(call.func), *_given_to(*given)]:
                passed = module.place(value, inside)
                if passed is not None:
                    yield passed, _all_parameters(passed)


def _given_to(*calls: ast.expr) -> list[ast.expr]:
    """Arguments of those that are calls, such as ``partial(function, option=...)``."""
    return [x for call in calls if isinstance(call, ast.Call) for x in call.args]


def _parameters(place: Place, call: ast.Call, carried: set[str]) -> set[str]:
    """The parameters of ``place`` that a call gives something carried."""
    arguments = _module(place.file).functions[place.name].args
    positional = [arg.arg for arg in [*arguments.posonlyargs, *arguments.args]]
    if any(isinstance(value, ast.Starred) for value in call.args):
        return _all_parameters(place)
    given = {
        name
        for name, value in zip(positional, call.args, strict=False)
        if _names(value) & carried
    }
    given |= {
        keyword.arg
        for keyword in call.keywords
        if keyword.arg and _names(keyword.value) & carried
    }
    return given or _all_parameters(place)


def _all_parameters(place: Place) -> set[str]:
    arguments = _module(place.file).functions[place.name].args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg for argument in listed}


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


class _Module(NamedTuple):
    """A file: its functions, and what its names mean."""

    file: Path
    functions: dict[str, ast.FunctionDef]
    assigned: set[str]
    imported: dict[str, tuple[Path, str]]

    def place(self, called: ast.expr, inside: str) -> Place | None:
        """The function of ``sphax`` that an expression names, inside of a function."""
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            file, name = self.imported.get(called.value.id, (None, ""))
            method = f"{name}.{called.attr}" if name else called.attr
            return _defined(file, method) if file else None
        if not isinstance(called, ast.Name):
            return None
        sibling = f"{inside.partition('.')[0]}.{called.id}"
        if sibling in self.functions and sibling != inside:
            return Place(self.file, sibling)
        if called.id in TABLES and called.id in self.assigned:
            called = ast.Name(TABLES[called.id])
        if called.id in self.functions:
            return Place(self.file, called.id)
        if called.id in self.imported:
            file, name = self.imported[called.id]
            return _defined(file, name) if name else None
        return None


def _defined(file: Path, name: str) -> Place | None:
    if file.relative_to(ROOT).parts[0].startswith(SHARED):
        return None
    return _exported(file, name)


def _exported(file: Path, name: str) -> Place | None:
    module = _module(file)
    if name in module.functions:
        return Place(file, name)
    if name in module.imported:
        source, original = module.imported[name]
        return _defined(source, original) if original else None
    return None


@functools.cache
def _module(file: Path) -> _Module:
    tree = ast.parse(file.read_text())
    functions = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    for outer in tree.body:
        if isinstance(outer, ast.FunctionDef | ast.ClassDef):
            for node in outer.body:
                if isinstance(node, ast.FunctionDef):
                    functions[f"{outer.name}.{node.name}"] = node
    assigned = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for name in _names(node)
    }
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sphax"):
            for alias in node.names:
                target = _file_of(f"{node.module}.{alias.name}")
                source = (target, "") if target else (_file_of(node.module), alias.name)
                if source[0] is not None:
                    imported[alias.asname or alias.name] = source
    return _Module(file, functions, assigned, imported)


def _file_of(dotted: str | None) -> Path | None:
    """The file of a module of ``sphax``."""
    path = ROOT.joinpath(*(dotted or "").split(".")[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None
