"""Lists the commands of the package.

python -m experiments
"""

import ast
import dataclasses
import pathlib

from experiments.common import cli


@dataclasses.dataclass(frozen=True)
class _List:
    """Lists the commands. Each has --help."""


def list_commands(package: str, folder: pathlib.Path) -> None:
    """Prints the commands of a package and the first line of each docstring."""
    with cli.ending(package, "run the same command again."):
        cli.parse(package, _List)
        # Their text is read, because importing them takes seconds.
        paths = [
            *folder.glob("[!_]*.py"),
            *(path.parent / "__init__.py" for path in folder.glob("*/__main__.py")),
        ]
        names = {
            path.parent.name if path.stem == "__init__" else path.stem: path
            for path in paths
        }
        for name, path in sorted(names.items()):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"python -m {package}.{name:14} {text.splitlines()[0]}")
        print("\nEach has --help.")


def main() -> None:
    """Runs from the command line."""
    list_commands("experiments", pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
