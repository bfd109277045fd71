"""Metrics of embeddings: verification, identification, retrieval, diagnostics.

All metrics of scores run on the host: they take concrete arrays, compare scores in
NumPy, reject scores that are not finite, return NumPy values together with the rule in
words, and do not run under ``jit``. Scores are similarities: a larger score means more
alike. Functions of embeddings compute cosines tile by tile on the device, and never
hold those of all pairs. The diagnostics :func:`angular_visual_hardness`,
:func:`angular_fisher_score` and :func:`class_angles` are pure functions of JAX arrays.
"""

from sphax import _discovery
from sphax.metrics._blufr import Blufr as Blufr
from sphax.metrics._blufr import blufr as blufr
from sphax.metrics._bootstrap import Interval as Interval
from sphax.metrics._bootstrap import bootstrap as bootstrap
from sphax.metrics._bootstrap import bootstrap_probes as bootstrap_probes
from sphax.metrics._bootstrap import subject_weights as subject_weights
from sphax.metrics._calibration import LogisticCalibration as LogisticCalibration
from sphax.metrics._calibration import PavCalibration as PavCalibration
from sphax.metrics._calibration import calibrate as calibrate
from sphax.metrics._calibration import cllr as cllr
from sphax.metrics._calibration import min_cllr as min_cllr
from sphax.metrics._certified_radius import certified_radius as certified_radius
from sphax.metrics._identification import Cmc as Cmc
from sphax.metrics._identification import DirAtFar as DirAtFar
from sphax.metrics._identification import TpirAtFpir as TpirAtFpir
from sphax.metrics._identification import cmc as cmc
from sphax.metrics._identification import dir_at_far as dir_at_far
from sphax.metrics._identification import tpir_at_fpir as tpir_at_fpir
from sphax.metrics._jax_diagnostics import ClassAngles as ClassAngles
from sphax.metrics._jax_diagnostics import angular_fisher_score as angular_fisher_score
from sphax.metrics._jax_diagnostics import (
    angular_visual_hardness as angular_visual_hardness,
)
from sphax.metrics._jax_diagnostics import class_angles as class_angles
from sphax.metrics._mates import Mates as Mates
from sphax.metrics._mates import find_mates as find_mates
from sphax.metrics._nearest import nearest as nearest
from sphax.metrics._pair_scores import pair_scores as pair_scores
from sphax.metrics._retrieval import RecallAtK as RecallAtK
from sphax.metrics._retrieval import RetrievalPrecision as RetrievalPrecision
from sphax.metrics._retrieval import RetrievalValue as RetrievalValue
from sphax.metrics._retrieval import mean_average_precision as mean_average_precision
from sphax.metrics._retrieval import (
    mean_average_precision_at_r as mean_average_precision_at_r,
)
from sphax.metrics._retrieval import mean_reciprocal_rank as mean_reciprocal_rank
from sphax.metrics._retrieval import ndcg as ndcg
from sphax.metrics._retrieval import r_precision as r_precision
from sphax.metrics._retrieval import recall_at_k as recall_at_k
from sphax.metrics._roc import Det as Det
from sphax.metrics._roc import Roc as Roc
from sphax.metrics._roc import TarAtFar as TarAtFar
from sphax.metrics._roc import det as det
from sphax.metrics._roc import equal_error_rate as equal_error_rate
from sphax.metrics._roc import partial_auc as partial_auc
from sphax.metrics._roc import roc as roc
from sphax.metrics._roc import roc_auc as roc_auc
from sphax.metrics._roc import tar_at_far as tar_at_far
from sphax.metrics._score_counts import ScoreCounts as ScoreCounts
from sphax.metrics._templates import Templates as Templates
from sphax.metrics._templates import pool_templates as pool_templates
from sphax.metrics._threshold_at_far import ThresholdAtFar as ThresholdAtFar
from sphax.metrics._threshold_at_far import threshold_at_far as threshold_at_far
from sphax.metrics._val_at_far import ValAtFar as ValAtFar
from sphax.metrics._val_at_far import val_at_far as val_at_far
from sphax.metrics._verification_accuracy import (
    VerificationAccuracy as VerificationAccuracy,
)
from sphax.metrics._verification_accuracy import (
    verification_accuracy as verification_accuracy,
)

__dir__ = _discovery.dir_of(__name__)
