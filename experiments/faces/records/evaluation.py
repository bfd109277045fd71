"""Embeddings of verification sets and of IJB, scored by a rule that is named."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import sphax as sx
from experiments.faces.records.verification import FOLDS

_BLOCK = 2**16  # pairs of templates that are scored at once
FAR = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FPIR = (1e-2, 1e-1)


def verification(
    embeddings: np.ndarray, mirrored: np.ndarray, is_same: np.ndarray
) -> sx.metrics.VerificationAccuracy:
    """Accuracy of a verification set over ten folds, by insightface's rule.

    Embeddings of an image and of its mirror image are added and normalized. Pairs are
    the same below a squared distance, which is chosen on nine folds for the tenth.

    Args:
        embeddings: Of the images, pair p being 2p and 2p + 1, ``[2 pairs, features]``.
        mirrored: Of the mirrored images.
        is_same: ``[pairs]``.

    Returns:
        :class:`sphax.metrics.VerificationAccuracy`, with the rule in words.

    Raises:
        ValueError: If the numbers of images and pairs do not fit, or a fold lacks pairs
            of either kind.
    """
    if not len(embeddings) == len(mirrored) == 2 * len(is_same):
        raise ValueError(
            "embeddings and mirrored must have two rows for each pair, got"
            f" {len(embeddings)} and {len(mirrored)} for {len(is_same)} pairs."
        )
    unit = _directions(np.asarray(embeddings) + np.asarray(mirrored))
    cosines = np.einsum("pf,pf->p", unit[0::2], unit[1::2])
    # In the order of the file; the first folds have one pair more if ten do not divide.
    sizes = [len(part) for part in np.array_split(is_same, FOLDS)]
    folds = np.repeat(np.arange(FOLDS), sizes)
    found = sx.metrics.verification_accuracy(
        cosines, np.asarray(is_same), folds, rule="insightface"
    )
    rule = "image + mirror image, normalized; ten folds in the file's order"
    return found._replace(rule=f"{rule}; {found.rule}")


def _directions(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    return x / np.where(length > 0.0, length, 1.0)


def pool(
    images: sx.data.IJBImages,
    embeddings: np.ndarray,
    mirrored: np.ndarray,
    *,
    use_scores: bool = True,
    use_directions: bool = False,
) -> sx.metrics.Templates:
    """One direction for each template of IJB.

    Args:
        images: As :func:`sphax.data.read_ijb_images` gives them.
        embeddings: ``[images, features]``.
        mirrored: Of the mirrored images; added.
        use_scores: Whether sums are multiplied by the detector's scores.
        use_directions: Whether they are normalized first; otherwise long ones count
            more.
    """
    return sx.metrics.pool_templates(
        np.asarray(embeddings) + np.asarray(mirrored),
        images.templates,
        images.media,
        weights=images.scores if use_scores else None,
        use_directions=use_directions,
    )


class TemplateVerification(NamedTuple):
    """Verification of pairs of templates; see :func:`verify_templates`.

    Attributes:
        tar: True accept rates at false accept rates.
        pairs: Number of pairs that were scored.
        pairs_without_template: Number of pairs left out, since one of their templates
            has no image.
        templates_without_pair: Number of templates that are in no pair.
        rule: What was done, in words.
    """

    tar: sx.metrics.TarAtFar
    pairs: int
    pairs_without_template: int
    templates_without_pair: int
    rule: str


def verify_templates(
    pooled: sx.metrics.Templates, pairs: np.ndarray, far: Sequence[float] = FAR
) -> TemplateVerification:
    """True accept rates of IJB's 1:1 protocol, by cosines, in a fixed memory.

    Args:
        pooled: Directions of the templates.
        pairs: As :func:`sphax.data.read_ijb_pairs` gives them, ``[pairs, 3]``.
        far: False accept rates.

    Raises:
        ValueError: If no pair has both templates.
    """
    directions, numbers = np.asarray(pooled.embeddings), pooled.templates
    counts = sx.metrics.ScoreCounts()
    seen, left_out = np.zeros(len(numbers), bool), 0
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        places = np.searchsorted(numbers, block[:, :2]).clip(max=len(numbers) - 1)
        is_known = (numbers[places] == block[:, :2]).all(1)
        left_out += int(np.count_nonzero(~is_known))
        first, second = places[is_known].T
        seen[first] = seen[second] = True
        if len(first):
            scores = np.einsum("pf,pf->p", directions[first], directions[second])
            counts.add(scores, block[is_known, 2] == 1)
    if left_out == len(pairs):
        raise ValueError(
            f"pairs must be of the {len(numbers)} templates, got {len(pairs)} pairs of"
            " others."
        )
    found = sx.metrics.tar_at_far(counts, far=far)
    alone = int(np.count_nonzero(~seen))
    return TemplateVerification(
        found,
        len(pairs) - left_out,
        left_out,
        alone,
        f"{pooled.rule}; cosine; {found.rule}; {left_out} pairs without template left"
        f" out, {alone} templates without pair",
    )


class TemplateIdentification(NamedTuple):
    """Identification of probes; see :func:`identify_templates`.

    Attributes:
        tpir: True positive identification rates at false ones, the mean over galleries.
        cmc: Closed-set ranks in both galleries together.
        templates_without_image: Number of probes and gallery templates left out.
        rule: What was done, in words.
    """

    tpir: sx.metrics.TpirAtFpir
    cmc: sx.metrics.Cmc
    templates_without_image: int
    rule: str


def identify_templates(
    pooled: sx.metrics.Templates,
    probes: sx.data.IJBTemplates,
    galleries: Sequence[sx.data.IJBTemplates],
    fpir: Sequence[float] = FPIR,
    max_rank: int = 20,
) -> TemplateIdentification:
    """Identification rates of IJB's 1:N protocol, by cosines.

    Args:
        pooled: Directions of the templates.
        probes: As :func:`sphax.data.read_ijb_templates` gives them.
        galleries: The two galleries.
        fpir: False positive identification rates.
        max_rank: Ranks of the closed set, where the galleries are one.

    Raises:
        ValueError: If probes or a gallery have no template with images, or all probes,
            or none of them, have their person in a gallery.
    """
    directions, numbers = np.asarray(pooled.embeddings), pooled.templates
    sides, left_out = [], 0
    for side in (probes, *galleries):
        is_known = np.isin(side.templates, numbers)
        left_out += int(np.count_nonzero(~is_known))
        if not is_known.any():
            raise ValueError(
                "probes and each gallery must have templates with images, got"
                f" {len(side.templates)} templates without."
            )
        places = np.searchsorted(numbers, side.templates[is_known])
        sides.append((directions[places], side.subjects[is_known]))
    (probe, subjects), *inside = sides
    scores = [probe @ gallery.T for gallery, _ in inside]
    people = [each for _, each in inside]
    open_set = sx.metrics.tpir_at_fpir(scores, subjects, people, fpir)
    everybody = np.concatenate(people)
    has_mate = np.isin(subjects, everybody)
    closed_set = sx.metrics.cmc(
        np.concatenate(scores, axis=1)[has_mate],
        subjects[has_mate],
        everybody,
        max_rank=min(max_rank, len(np.unique(everybody))),
    )
    return TemplateIdentification(
        open_set,
        closed_set,
        left_out,
        f"{pooled.rule}; cosine; {open_set.rule}; {left_out} templates without image"
        " left out",
    )
