"""Regularizers that keep neurons apart: what they do to energies, and to the error."""
