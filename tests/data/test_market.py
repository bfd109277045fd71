"""Names of the images of Market-1501."""

import pathlib

import numpy as np
import pytest

from sphax.data import parse_market_names


def test_names_have_five_numbers():
    names = ["a/b/0002_c1s1_000451_03.jpg", "-1_c6s4_012345_00.jpg"]
    found = parse_market_names([*names, pathlib.Path("0000_c2s3_000001_12.jpg")])
    expected = [[2, 1, 1, 451, 3], [-1, 6, 4, 12345, 0], [0, 2, 3, 1, 12]]
    np.testing.assert_array_equal(np.stack(found, 1), expected)
    assert parse_market_names([]).labels.shape == (0,)
    for name in ("Thumbs.db", "002_c1s1_000451_03.jpg", "0002_c1s1_000451_03.png"):
        with pytest.raises(ValueError, match=f"0002_c1.*got {name!r} at number 2"):
            parse_market_names([*names, name])
