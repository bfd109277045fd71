"""Runs the study from the command line.

    python -m experiments.few_shot
    python -m experiments.few_shot --dataset omniglot --data-dir DIR
    python -m experiments.few_shot --preset long --data-dir DIR

Ends with a table and a figure of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

from experiments.common import cli
from experiments.few_shot import config, report
from experiments.few_shot.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    return cli.parse_preset(config, arguments)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
