"""Runs the study from the command line.

    python -m experiments.gan
    python -m experiments.gan --dataset mixture
    python -m experiments.gan --dataset mnist --data-dir DIR

Trains a generator against each critic, and measures how close its samples are to the
data, and how much of the data they cover. Runs that are finished are not made again.
"""

from experiments.common import cli
from experiments.gan import config, report
from experiments.gan.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their data."""
    dataset = cli.peek(arguments, "dataset")["dataset"]
    # Other names are refused with everything else that is wrong.
    default = config.preset(dataset if dataset in config.DATASETS else "digits")
    return cli.parse("experiments.gan", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
