"""Least energies of charges on the sphere (Thomson problem), against the published."""
