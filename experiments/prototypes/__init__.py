"""Prototypes that are placed before the training, against learned ones; and poles."""
