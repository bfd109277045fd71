"""Lists the commands of the package.

python -m experiments
"""

import pathlib

from experiments.common import cli


def main() -> None:
    """Runs from the command line."""
    cli.list_commands("experiments", pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
