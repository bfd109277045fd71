"""Runs the study from the command line.

    python -m experiments.omniglot --preset search --publish
    python -m experiments.omniglot

The first command searches the hyperparameters of each loss on held-out alphabets, the
second trains with the chosen ones and tests. Both end with a table of their runs; those
that are finished are not made again, and one that was killed goes on from its last
checkpoint.
"""

from experiments.common import cli
from experiments.omniglot import config, report
from experiments.omniglot.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    name = cli.peek(arguments, "preset")["preset"]
    default = config.preset(name) if name in config.PRESETS else config.preset()
    return cli.parse("experiments.omniglot", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
