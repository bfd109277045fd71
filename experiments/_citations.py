"""A generated graph of papers that cite each other."""

import numpy as np

from experiments import _graphs

# With this shape, the density of popularities falls with the third power, as that of
# the number of citations of a paper does.
_POPULARITY = 2.0


def generate(
    *,
    nodes: int = 1400,
    classes: int = 7,
    words: int = 256,
    citations: int = 2,
    homophily: float = 0.7,
    length: int = 18,
    topicality: float = 0.2,
    per_class: int = 20,
    validation: int = 300,
    seed: int = 0,
) -> _graphs.Graph:
    """Papers that cite each other, in the likeness of Cora but for its size.

    Edges are those of a degree-corrected stochastic block model, one end of which is
    not drawn: every node cites as many, most of them of its own class, popular nodes
    more often. Features say which words a paper has, a few of many; some are words of
    its topic.

    Args:
        nodes: Number of papers, as many of each class.
        classes: Number of classes.
        words: Number of words that there are.
        citations: Number of papers that one cites.
        homophily: Probability that a paper cited is of the same class.
        length: Words in a paper, repetitions included.
        topicality: Probability that a word is drawn from the topic, and not from those
            of all classes.
        per_class: Nodes of each class whose labels are known.
        validation: Nodes to choose settings by; what is left is the test.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(nodes, dtype=np.int32) % classes)
    cited = _cited(rng, np.repeat(labels, citations), labels, homophily)
    pairs = np.stack([np.repeat(np.arange(nodes), citations), cited], axis=1)
    features = _bags_of_words(rng, labels, classes, words, length, topicality)
    parts = _parts(rng, labels, classes, per_class, validation)
    edges = _graphs.undirected(pairs)
    return _graphs.Graph(features, labels, edges, *parts, classes)


def _cited(rng, citing, labels, homophily):
    """A node for each label of ``citing``, of that class with a given probability."""
    order = np.argsort(labels, kind="stable")
    popularity = rng.pareto(_POPULARITY, len(labels)) + 1.0
    ends = np.cumsum(popularity)
    bounds = np.concatenate([[0.0], ends[np.cumsum(np.bincount(labels)) - 1]])
    start, end = bounds[citing], bounds[citing + 1]
    own = end - start
    # A place on the line of all nodes, each as long as it is popular: within the
    # stretch of the class, or anywhere but there.
    inside = start + rng.uniform(size=len(citing)) * own
    outside = rng.uniform(size=len(citing)) * (ends[-1] - own)
    outside += np.where(outside >= start, own, 0.0)
    place = np.where(rng.uniform(size=len(citing)) < homophily, inside, outside)
    return order[np.searchsorted(ends[:-1], place, side="right")]


def _bags_of_words(rng, labels, classes, words, length, topicality):
    """Ones where a paper has a word; frequencies are those of Zipf, in any topic."""
    frequencies = 1.0 / np.arange(1, words + 1)
    frequencies /= frequencies.sum()
    common = rng.permutation(frequencies)
    topics = np.stack([rng.permutation(frequencies) for _ in range(classes)])
    ends = np.cumsum((1.0 - topicality) * common + topicality * topics, axis=1)
    drawn = [
        np.searchsorted(ends[label, :-1], rng.uniform(size=length), side="right")
        for label in labels
    ]
    pairs = np.stack([np.repeat(np.arange(len(labels)), length), np.ravel(drawn)], 1)
    rows, columns = np.unique(pairs, axis=0).T
    return _graphs.sparse(np.ones(len(rows)), rows, columns, (len(labels), words))


def _parts(rng, labels, classes, per_class, validation):
    """Nodes to train on, to choose settings by, and to test."""
    order = rng.permutation(len(labels))
    known = [order[labels[order] == label][:per_class] for label in range(classes)]
    train = np.sort(np.concatenate(known))
    rest = order[~np.isin(order, train)]
    if min(map(len, known)) < per_class or len(rest) <= validation:
        raise ValueError(
            f"nodes must be enough for {per_class} of each of {classes} classes,"
            f" validation = {validation} others and a test, got {len(labels)}."
        )
    return train, np.sort(rest[:validation]), np.sort(rest[validation:])
