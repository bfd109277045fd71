"""Verification and identification of classes never seen in training (open set)."""
