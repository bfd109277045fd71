"""Runs the study from the command line.

    python -m experiments.vae
    python -m experiments.vae --preset mnist --data-dir DIR
    python -m experiments.vae --latents von-mises-fisher --dimensions 2 5

Trains variational autoencoders of binary images whose codes are Gaussian, or lie on a
sphere with a von Mises-Fisher or a power spherical posterior and a uniform prior, all
with the same number of degrees of freedom.
"""

from experiments.common import cli
from experiments.vae import config, report
from experiments.vae.train import train


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    preset = cli.peek(arguments, "preset")["preset"]
    # Other names are refused with everything else that is wrong.
    default = config.preset(preset if preset in config.PRESETS else "quick")
    return cli.parse("experiments.vae", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
