"""Runs the study from the command line.

    python -m experiments.classify
    python -m experiments.classify --preset table-2.2 --data-dir DIR
    python -m experiments.classify --preset operators
    python -m experiments.classify --network resnet20 --operator plain tanh-cosine

Ends with a table and figures of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

from experiments.classify import config, report
from experiments.classify.train import train
from experiments.common import cli


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    return cli.parse_preset(config, arguments, "augment?")


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
