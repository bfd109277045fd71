"""Calls of ``sphax.metrics``."""

import numpy as np

import sphax as sx
from tests.calls._call import Call, normal

X, W, LABELS = normal(0, 8, 4), normal(1, 8, 4), np.arange(8, dtype=np.int32) % 4
ROWS, CLASSES = ("batch", "features"), ("classes", "features")
SCORES, SAME = normal(2, 16), np.arange(16) % 3 == 0
# Numbers of subjects so that the pairs of SAME, and no others, have one.
SIDES = np.stack([np.arange(16) % 5, np.where(SAME, 0, 1) + np.arange(16)], 1) % 5
PROBES, GALLERY = np.arange(8) % 6, np.arange(4)
RECTANGLE = normal(3, 8, 4)
TRIAL = sx.data.BLUFRTrial(*map(np.array, ([], range(8), [0, 1], range(2, 8))))


def values(result):
    """What a record holds, without its words."""
    return [np.asarray(x) for x in result if not isinstance(x, str)]


def host(name, function, *arguments):
    """A call of host code."""
    return Call(f"metrics.{name}", function, arguments, is_host=True)


def counted(scores, same):
    """A ROC of counts."""
    counts = sx.metrics.ScoreCounts(spacing=2.0**-4, limit=8.0)
    counts.add(scores, same)
    return sx.metrics.roc_auc(counts)


def of_retrieval(name):
    """A measure of retrieval, in two blocks."""
    function = getattr(sx.metrics, name)
    return host(name, lambda x, y: values(function(x, y, block_size=6)), X, LABELS)


CALLS = [
    Call(
        "metrics.angular_visual_hardness",
        sx.metrics.angular_visual_hardness,
        (X, W, LABELS),
        (ROWS, CLASSES, ("batch",)),
        (0, 1),
    ),
    Call(
        "metrics.angular_fisher_score",
        lambda x, y, where: sx.metrics.angular_fisher_score(
            x, y, num_classes=4, where=where
        ),
        (X, LABELS, np.linspace(0.0, 1.0, 8, dtype=np.float32)),
        (ROWS, ("batch",), ("batch",)),
    ),
    Call(
        "metrics.class_angles",
        lambda x, y: sx.metrics.class_angles(x, y, num_classes=4),
        (X, LABELS),
        (ROWS, ("batch",)),
    ),
    Call(
        "metrics.certified_radius",
        lambda x, y, w: sx.metrics.certified_radius(x, y, prototypes=w),
        (normal(4, 8, 8), np.argmax(normal(4, 8, 8), axis=1), W),
        (("batch", "classes"), ("batch",), CLASSES),
        (0, 2),
    ),
    Call(
        "metrics.pool_templates",
        lambda x: sx.metrics.pool_templates(x, LABELS, LABELS // 2).embeddings,
        (X,),
        (ROWS,),
    ),
    host("roc", lambda *a: values(sx.metrics.roc(*a)), SCORES, SAME),
    host("roc_auc", sx.metrics.roc_auc, SCORES, SAME),
    host("equal_error_rate", sx.metrics.equal_error_rate, SCORES, SAME),
    host(
        "tar_at_far",
        lambda *a: values(sx.metrics.tar_at_far(*a, far=[0.0, 0.5])),
        SCORES,
        SAME,
    ),
    host(
        "partial_auc",
        lambda *a: sx.metrics.partial_auc(*a[:2], max_far=0.5, weights=a[2]),
        SCORES,
        SAME,
        np.arange(16) % 4,
    ),
    host("det", lambda *a: values(sx.metrics.det(*a)), SCORES, SAME),
    host(
        "val_at_far",
        lambda *a: values(sx.metrics.val_at_far(*a, far=0.5)),
        SCORES,
        SAME,
        np.arange(16) // 8,
    ),
    host(
        "threshold_at_far",
        lambda *a: values(sx.metrics.threshold_at_far(*a, far=0.5)),
        SCORES,
        SAME,
    ),
    host("cllr", sx.metrics.cllr, SCORES, SAME),
    host("min_cllr", sx.metrics.min_cllr, SCORES, SAME),
    host("calibrate", lambda *a: sx.metrics.calibrate(*a)(a[0]), SCORES, SAME),
    host("subject_weights", sx.metrics.subject_weights, SIDES, np.arange(5)),
    host(
        "bootstrap",
        lambda *a: values(sx.metrics.bootstrap(sx.metrics.roc_auc, *a, resamples=3)),
        SCORES,
        SAME,
        SIDES,
    ),
    host(
        "bootstrap_probes",
        lambda *a: values(sx.metrics.bootstrap_probes(np.mean, *a, resamples=3)),
        SCORES,
        SIDES[:, 0],
    ),
    host("ScoreCounts", counted, SCORES, SAME),
    host(
        "pair_scores",
        lambda x, y: list(sx.metrics.pair_scores(x, y, block_size=6)),
        X,
        LABELS,
    ),
    host(
        "verification_accuracy",
        lambda *a: values(sx.metrics.verification_accuracy(*a)),
        SCORES,
        SAME,
        np.arange(16) // 8,
    ),
    host(
        "cmc",
        lambda *a: values(sx.metrics.cmc(*a)),
        RECTANGLE,
        PROBES % 4,
        GALLERY,
    ),
    host(
        "dir_at_far",
        lambda *a: values(sx.metrics.dir_at_far(*a, far=0.5)),
        RECTANGLE,
        PROBES,
        GALLERY,
    ),
    host(
        "tpir_at_fpir",
        lambda *a: sx.metrics.tpir_at_fpir(*a, fpir=0.5).tpir,
        RECTANGLE,
        PROBES,
        GALLERY,
    ),
    host(
        "blufr",
        lambda x, y: values(
            sx.metrics.blufr(x, y, [TRIAL, TRIAL], vr_far=0.5, dir_far=1.0)
        ),
        X,
        LABELS,
    ),
    host(
        "find_mates",
        lambda *a: values(sx.metrics.find_mates(*a, block_size=6)),
        X,
        PROBES,
        W[:4],
        GALLERY,
    ),
    host("nearest", lambda x, w: sx.metrics.nearest(x, w, 2, block_size=6), X, W),
    *map(
        of_retrieval,
        (
            "recall_at_k",
            "r_precision",
            "mean_average_precision_at_r",
            "mean_average_precision",
            "mean_reciprocal_rank",
            "ndcg",
        ),
    ),
]
EXEMPT: dict[str, str] = {}
