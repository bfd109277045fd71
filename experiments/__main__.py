"""Lists the commands of the package.

python -m experiments
"""

from experiments import _command_line


def main() -> None:
    """Runs from the command line."""
    _command_line.list_commands("experiments", __file__)


if __name__ == "__main__":
    main()
