r"""Trains on faces from the command line, in one process or in several.

    python -m experiments.faces
    python -m experiments.faces --preset ms1mv3-r100 --dry-run
    python -m experiments.faces --preset ms1mv3-r100 --data DIR/train.rec \
        --verification DIR/lfw.bin DIR/cfp_fp.bin DIR/agedb_30.bin

Ends with a table of its runs; those that are finished are not made again, and one that
was killed goes on from its last checkpoint. On several hosts, start the same command on
each of them, with --runs in a folder that all of them see.
"""

from typing import Any

import jax

from experiments.common import cli, distributed, estimates, store
from experiments.common.runs import Work
from experiments.faces import config, records, report
from experiments.faces.train import export, train, verify_templates

_NAME = "experiments.faces"


def parse(arguments: list[str] | None = None) -> config.Config:
    """The command line's settings: flags over the defaults of their preset."""
    name = cli.peek(arguments, "preset")["preset"] or "quick"
    # Another name is refused with everything else that is wrong.
    default = config.preset(name if name in config.PRESETS else "quick")
    return cli.parse(_NAME, config.Config, arguments, default)


def main() -> None:
    """Runs from the command line."""
    with cli.ending(_NAME, "the same command goes on from its last checkpoint."):
        chosen = parse()
        given: Any = jax.config.jax_num_cpu_devices  # pyright: ignore
        if chosen.devices or (given < 1 and chosen.preset in config.ON_CPU):
            jax.config.update("jax_num_cpu_devices", chosen.devices or 8)
        distributed.start()
        if chosen.dry_run:
            recipes = {run.method: run.config for run in config.planned(chosen)}
            print("\n".join(estimates.table(recipes, *config.size_of(chosen))))
            return
        # Read before the training, so that what is wrong is said before it.
        ijb = chosen.ijb and records.read_ijb_folder(chosen.ijb)
        if jax.process_index() > 0:
            _follow(chosen)
    if jax.process_index() == 0:
        cli.main(parse, config, train, report)
    with cli.ending(_NAME, "the same command goes on with what is finished."):
        first = config.planned(chosen)[0]
        if chosen.export is not None:
            export(first, chosen.export)
        if ijb:
            print("\n".join(["", *verify_templates(first, ijb)]))


def _follow(chosen: config.Config) -> None:
    """Takes part in what the first process does, and leaves the files to it."""
    for run in config.planned(chosen):
        if store.load(run, chosen.runs / chosen.study) is None:
            train([run], Work(chosen.runs, lambda steps, metrics: None))


if __name__ == "__main__":
    main()
