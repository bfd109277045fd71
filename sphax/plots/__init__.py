"""Matplotlib figures; matplotlib is imported only when a figure is drawn.

Figures do not belong to a window: ``figure.savefig(path)`` saves one, and a notebook
with ``%matplotlib inline`` shows it.
"""

from sphax import _discovery
from sphax.plots._energy_report import energy_report as energy_report

__dir__ = _discovery.dir_of(__name__)
