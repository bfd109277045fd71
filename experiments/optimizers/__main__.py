"""Runs the study from the command line.

    python -m experiments.optimizers
    python -m experiments.optimizers --dataset mnist --data-dir DIR

Ends with a table and a figure of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

from experiments.common import cli
from experiments.optimizers import config, report
from experiments.optimizers.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    return cli.parse_preset(config, arguments)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
