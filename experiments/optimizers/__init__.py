"""Optimizers on spheres and orthogonal matrices, beside Adam, Muon and SGD."""
