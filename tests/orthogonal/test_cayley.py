"""Cayley map: the truncated series."""

import numpy as np
import pytest

import sphax as sx
from tests.orthogonal.definitions import cayley, draw, skew

so = sx.orthogonal


@pytest.mark.usefixtures("x64")
def test_the_neumann_series_errs_as_stated():
    a = draw(9, 6, 6)
    a *= 0.2 / np.linalg.norm(skew(a), 2)
    exact, sigma = cayley(a), 0.2
    for k in range(1, 6):
        whole = np.asarray(so.cayley_neumann(a, terms=k))
        half = np.asarray(so.cayley_neumann(a, terms=k, halve_last_term=True))
        bounds = (
            (whole, 2 * sigma ** (k + 1), 4 * sigma ** (k + 1 + (k % 2 == 0))),
            (half, sigma**k, sigma ** (2 * k) if k % 2 else 2 * sigma**k),
        )
        for q, error, drift in bounds:
            gap = np.linalg.norm(q - exact, 2) / error
            off = np.linalg.norm(q.T @ q - np.eye(6), 2) / drift
            assert 0.9 < gap < 1.0 + 1e-9
            assert 0.9 < off < 1.05
