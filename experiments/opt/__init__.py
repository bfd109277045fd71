"""Orthogonal training and its descendants: energies, losses and errors."""
