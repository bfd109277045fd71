"""Runs the study from the command line.

    python -m experiments.energy
    python -m experiments.energy --dataset cifar10 --data-dir DIR
    python -m experiments.energy --preset cnn-9 --data-dir DIR

Every regularizer is a part of the optimizer's chain, before the momentum; all else of
the training is the same for all of them.
"""

from experiments.common import cli
from experiments.energy import config, report
from experiments.energy.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    return cli.parse_preset(config, arguments)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
