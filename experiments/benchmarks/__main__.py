"""Lists the benchmarks.

python -m experiments.benchmarks
"""

import pathlib

from experiments.__main__ import list_commands


def main() -> None:
    """Runs from the command line."""
    list_commands("experiments.benchmarks", pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
