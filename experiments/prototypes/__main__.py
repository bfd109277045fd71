"""Runs the study from the command line.

    python -m experiments.prototypes
    python -m experiments.prototypes --preset poles
    python -m experiments.prototypes --preset resnet-32 --data-dir DIR

Ends with a table and a figure of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

from experiments.common import cli
from experiments.prototypes import config, report
from experiments.prototypes.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    return cli.parse_preset(config, arguments)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
