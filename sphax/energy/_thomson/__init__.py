"""Directions of minimum energy: the Thomson problem."""
