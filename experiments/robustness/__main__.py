"""Runs the study from the command line.

    python -m experiments.robustness
    python -m experiments.robustness --dataset cifar10 --data-dir DIR

Trains every operator naturally and on attacks, attacks the networks, and checks whether
the attacks could work at all.
"""

from experiments.common import cli
from experiments.robustness import config, report
from experiments.robustness.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their images."""
    dataset = cli.peek(arguments, "dataset")["dataset"]
    # Other names are refused with everything else that is wrong.
    default = config.preset(dataset if dataset in config.DATASETS else "digits")
    return cli.parse("experiments.robustness", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
