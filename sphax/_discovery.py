"""The public names of a package, for ``dir``."""

import sys
from collections.abc import Callable


def dir_of(package: str) -> Callable[[], list[str]]:
    """The ``__dir__`` of a package: its public names without private modules."""

    def names() -> list[str]:
        members = vars(sys.modules[package])
        return sorted(name for name in members if not name.startswith("_"))

    return names
