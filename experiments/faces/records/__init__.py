"""Files of face data, and batches of them: records, verification sets, folders."""

from experiments.faces.records.augmentation import AUGMENTATIONS as AUGMENTATIONS
from experiments.faces.records.batches import BadRecords as BadRecords
from experiments.faces.records.batches import batches as batches
from experiments.faces.records.digits import write_digits as write_digits
from experiments.faces.records.folders import write_image_folder as write_image_folder
from experiments.faces.records.ijb_folder import IJBFolder as IJBFolder
from experiments.faces.records.ijb_folder import read_ijb_folder as read_ijb_folder
from experiments.faces.records.pixels import encode as encode
from experiments.faces.records.pixels import normalize as normalize
from experiments.faces.records.recordio import Record as Record
from experiments.faces.records.recordio import RecordError as RecordError
from experiments.faces.records.recordio import RecordReader as RecordReader
from experiments.faces.records.recordio import RecordWriter as RecordWriter
from experiments.faces.records.sources import ArraySource as ArraySource
from experiments.faces.records.sources import FolderSource as FolderSource
from experiments.faces.records.sources import PreparedSource as PreparedSource
from experiments.faces.records.sources import RecordSource as RecordSource
from experiments.faces.records.sources import Source as Source
from experiments.faces.records.sources import Subset as Subset
from experiments.faces.records.sources import source as source
from experiments.faces.records.verification import VerificationSet as VerificationSet
from experiments.faces.records.verification import (
    read_verification_set as read_verification_set,
)
from experiments.faces.records.verification import (
    write_verification_set as write_verification_set,
)
