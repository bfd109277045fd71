"""Runs the study from the command line.

    python -m experiments.thomson
    python -m experiments.thomson --largest 100

Ends with a table and a figure of its runs, one for each number of charges; those that
are finished are not made again.
"""

from experiments.common import cli
from experiments.thomson import config, report
from experiments.thomson.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings."""
    return cli.parse("experiments.thomson", config.Config, arguments)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
