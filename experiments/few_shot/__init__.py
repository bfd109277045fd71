"""Classes from one or five examples: prototypical networks and cosine classifiers."""
