"""Runs the study from the command line.

    python -m experiments.autoencoder
    python -m experiments.autoencoder --dataset cifar10 --data-dir DIR

A convolutional autoencoder is trained as usual, on inner products ``|w||x| cos``. Then,
without further training, the last convolution of its encoder gives the decoder one
factor alone: the magnitudes ``|w||x|``, or the cosines. The dissertation's caption can
also be read to mean all convolutions of the encoder; this is measured too.

An image is compared with the decoded one after that has been given its mean and its
contrast. The mean training image, and another test image, say what "nothing" is.
"""

from experiments.autoencoder import config, report
from experiments.autoencoder.train import train
from experiments.common import cli


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their images."""
    dataset = cli.peek(arguments, "dataset")["dataset"]
    # Other names are refused with everything else that is wrong.
    default = config.preset(dataset if dataset in config.DATASETS else "digits")
    return cli.parse("experiments.autoencoder", config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    cli.main(parse, config, train, report)


if __name__ == "__main__":
    main()
