"""Where the files of an experiment go, and the file that holds its results."""

import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from experiments import _checkpoints, _numbers, _provenance

# The committed results, from which the tables of the READMEs are written.
PUBLISHED = pathlib.Path(__file__).parent / "results"
# Where a machine keeps things does not matter.
ELSEWHERE = ("data_dir", "checkpoints", "results", "output", "publish")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that every experiment has: where its files go."""

    checkpoints: pathlib.Path = pathlib.Path("runs/checkpoints")
    """Folder for checkpoints; they are removed at the end."""
    results: pathlib.Path = pathlib.Path("runs")
    """Folder for the figures and the JSON file."""
    publish: bool = False
    """Write figures and JSON file to the committed experiments/results instead. A
    result that is there with other settings is not overwritten: remove it first."""

    def __post_init__(self):
        _numbers.check(self)

    @property
    def name(self) -> str:
        """Name of the result files, without their endings."""
        raise NotImplementedError

    @property
    def folder(self) -> pathlib.Path:
        """Folder of the result files."""
        return PUBLISHED if self.publish else self.results

    def result(self, ending: str) -> pathlib.Path:
        """A result file, by the ending of its name."""
        # Not with_suffix, which would cut off what follows the dot of "table-2.2".
        return self.folder / f"{self.name}{ending}"


def prepare(config: Config) -> None:
    """Makes the folders of an experiment, before anything is trained for them.

    Raises:
        ValueError: If one of them cannot be written to, or if a result of other
            settings is published under the name of this one.
    """
    writable("--checkpoints", config.checkpoints)
    writable("--publish" if config.publish else "--results", config.folder)
    refuse_other_settings(config.result(".json"), config)


def writable(flag: str, folder: pathlib.Path) -> None:
    """Makes a folder, and tries whether a file can be written to it.

    Raises:
        ValueError: If not; names the flag.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{flag} must be a folder that can be written to, got {folder}:"
            f" {error.strerror}."
        ) from error


def refuse_other_settings(path: pathlib.Path, config: Any) -> None:
    """Keeps a published result from being overwritten by one of other settings.

    Args:
        path: The JSON file that would be written, wherever that is.
        config: A dataclass, the settings of what would be written.

    Raises:
        ValueError: If the file is there, with other settings; says which.
    """
    if path.parent.resolve() != PUBLISHED.resolve() or not path.exists():
        return
    published = json.loads(path.read_text())["config"]
    usual = {field.name: field.default for field in dataclasses.fields(config)}
    differences = [
        f"{_numbers.flag(name)} {_numbers.shown(published.get(name, usual[name]))},"
        f" not {_numbers.shown(value)}"
        for name, value in json.loads(json.dumps(settings(config))).items()
        if value != json.loads(json.dumps(published.get(name, usual[name])))
    ]
    if differences:
        raise ValueError(
            f"--publish must not replace {path.name} by a result of other settings:"
            f" it has {'; '.join(differences)}. Remove that file first, or leave"
            " --publish out."
        )


def settings(config: Any) -> dict[str, Any]:
    """All settings but where files go; of what is a path, the name alone."""
    return {
        name: value.name if isinstance(value, pathlib.Path) else value
        for name, value in dataclasses.asdict(config).items()
        if name not in ELSEWHERE
    }


def save(config: Config, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes settings, what was found, and provenance; returns all that is written.

    Args:
        config: The settings.
        found: By name.
        seconds: What it took.
    """
    results = {
        "config": settings(config),
        **found,
        **_provenance.provenance(),
        "seconds": round(seconds, 1),
    }
    text = json.dumps(results, indent=1) + "\n"
    _checkpoints.write(config.result(".json"), text.encode())
    return json.loads(text)
