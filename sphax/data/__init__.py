"""Data for training and evaluation: batches, episodes, and files of protocols.

Host code in NumPy: batches are arrays of row numbers, and readers return names, numbers
and encoded images. Nothing here decodes an image.
"""

from sphax import _discovery
from sphax.data._batches import Batches as Batches
from sphax.data._batches import Epoch as Epoch
from sphax.data._bin import ImagePairs as ImagePairs
from sphax.data._bin import read_bin as read_bin
from sphax.data._blufr import BLUFR as BLUFR
from sphax.data._blufr import BLUFRTrial as BLUFRTrial
from sphax.data._blufr import read_blufr as read_blufr
from sphax.data._class_balanced import class_balanced_batches as class_balanced_batches
from sphax.data._episodes import Episode as Episode
from sphax.data._episodes import Episodes as Episodes
from sphax.data._episodes import episodes as episodes
from sphax.data._hierarchical import hierarchical_batches as hierarchical_batches
from sphax.data._ijb import IJBImages as IJBImages
from sphax.data._ijb import IJBTemplates as IJBTemplates
from sphax.data._ijb import read_ijb_images as read_ijb_images
from sphax.data._ijb import read_ijb_pairs as read_ijb_pairs
from sphax.data._ijb import read_ijb_templates as read_ijb_templates
from sphax.data._lfw import LFWPairs as LFWPairs
from sphax.data._lfw import read_lfw_pairs as read_lfw_pairs
from sphax.data._market import MarketNames as MarketNames
from sphax.data._market import parse_market_names as parse_market_names
from sphax.data._text import read_integers as read_integers

__dir__ = _discovery.dir_of(__name__)
