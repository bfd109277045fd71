"""Runs the study from the command line.

    python -m experiments.ngpt
    python -m experiments.ngpt --preset optimizers
    python -m experiments.ngpt --preset large --text FILE

Ends with a table and a figure of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

import dataclasses
import pathlib

from experiments.common import cli, texts
from experiments.ngpt import config, report
from experiments.ngpt.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    name, text, digest = cli.peek(arguments, "preset", "text", "sha256").values()
    path = None if text is None else pathlib.Path(text)
    # Others are refused with everything else that is wrong.
    default = config.preset(name if name in config.PRESETS else "small", path)
    if digest is None:
        default = dataclasses.replace(default, sha256=texts.digest(path))
    return cli.parse("experiments.ngpt", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
