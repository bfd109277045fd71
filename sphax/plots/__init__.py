"""Matplotlib figures; matplotlib is imported when one is drawn, and not before.

A function returns a figure that belongs to no window: ``figure.savefig(path)`` writes
it, and a notebook with ``%matplotlib inline`` shows it.
"""

from sphax import _discovery
from sphax.plots._energy_report import energy_report as energy_report

__dir__ = _discovery.dir_of(__name__)
