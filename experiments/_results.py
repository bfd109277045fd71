"""The file that an experiment leaves."""

import dataclasses
import json
import pathlib
from typing import Any, ClassVar, Protocol

from experiments import _checkpoints, _provenance

# Where a machine keeps things does not matter.
ELSEWHERE = ("data_dir", "checkpoints", "results")


class Config(Protocol):
    """The settings of an experiment, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def result(self, ending: str) -> pathlib.Path:
        """A result file, by the ending of its name."""
        ...


def save(config: Config, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes settings, what was found, and provenance; returns all that is written.

    Args:
        config: The settings; of what is a path, the name is written.
        found: By name.
        seconds: What it took.
    """
    settings = {
        name: value.name if isinstance(value, pathlib.Path) else value
        for name, value in dataclasses.asdict(config).items()
        if name not in ELSEWHERE
    }
    results = {
        "config": settings,
        **found,
        **_provenance.provenance(),
        "seconds": round(seconds, 1),
    }
    text = json.dumps(results, indent=1) + "\n"
    _checkpoints.write(config.result(".json"), text.encode())
    return json.loads(text)
