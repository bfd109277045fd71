"""The progress bar of an experiment."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

Report = Callable[[int, dict[str, np.ndarray]], None]


def steps_on(bar: tqdm, runs: int = 1) -> Report:
    """What training tells its steps and metrics to, of ``runs`` runs side by side."""

    def report(steps: int, metrics: dict[str, np.ndarray]) -> None:
        if metrics:
            means = {key: f"{np.mean(values):.3f}" for key, values in metrics.items()}
            bar.set_postfix(means, refresh=False)
        bar.update(steps * runs)

    return report
