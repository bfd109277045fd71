"""Matplotlib figures; matplotlib is imported only when a figure is drawn.

Every function takes ``axes``, draws there and returns them. Without ``axes`` it draws
into a new figure, with a legend or a color bar; on given axes these are the caller's:
``axes.legend()``, ``axes.figure.colorbar(axes.images[0])``.

New figures do not belong to a window, and pyplot does not know them:
``axes.figure.savefig(path)`` saves one, and a notebook shows ``axes.figure`` as the
value of a cell. For a window, or for a figure that turns with the mouse in a notebook
(``%matplotlib widget`` of ipympl), pass axes of pyplot: ``plt.subplots()[1]``.

No settings of matplotlib are changed. The colors are `Petroff's ten
<https://arxiv.org/abs/2107.02270>`_, chosen to be distinct under every kind of color
vision. ``plt.style.use("sphax.plots.paper")`` gives figures of one's own the same
colors, and the style of the notebooks.
"""

from sphax import _discovery
from sphax.plots._angles import angles as angles
from sphax.plots._confusion import confusion as confusion
from sphax.plots._embeddings import circle as circle
from sphax.plots._embeddings import sphere as sphere
from sphax.plots._energy_report import energy_report as energy_report
from sphax.plots._gram import gram as gram
from sphax.plots._orthogonality import orthogonality as orthogonality
from sphax.plots._psi import psi as psi
from sphax.plots._rates import cmc as cmc
from sphax.plots._rates import det as det
from sphax.plots._rates import roc as roc

__dir__ = _discovery.dir_of(__name__)
