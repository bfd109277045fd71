"""Cosines between the features of classes, for several losses (Figure 2.5)."""
