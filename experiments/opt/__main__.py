"""Runs the study from the command line.

    python -m experiments.opt
    python -m experiments.opt --preset cnn --dataset mnist --data-dir DIR
    python -m experiments.opt --preset gcn
    python -m experiments.opt --preset cnn-6 --data-dir DIR

Ends with a table and a figure of its runs; those that are finished are not made again,
and one that was killed goes on from its last checkpoint.
"""

from experiments.common import cli
from experiments.opt import config, report
from experiments.opt.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    chosen = cli.peek(arguments, "preset", "dataset")
    name, dataset = chosen["preset"] or "mlp", chosen["dataset"]
    default = config.preset("mlp")
    # Others are refused with everything else that is wrong.
    if name in config.FITTING and dataset in (None, *config.FITTING[name]):
        default = config.preset(name, dataset)
    return cli.parse("experiments.opt", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
