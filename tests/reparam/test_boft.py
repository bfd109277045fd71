"""BOFT: blocks and coordinates of the factors."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests.reparam.draws import draw, perturbed, rotation

sr: Any = sx.reparam


@pytest.mark.parametrize(("factors", "is_dense"), [(2, False), (3, True)])
def test_butterflies_connect_all_coordinates(factors, is_dense, key):
    free, frozen = sr.boft(block_size=2, factors=factors).init(
        key, {"kernel": jnp.eye(8)}
    )
    raw = np.ones(free["kernel"].left.shape)
    assert raw.shape == (1, factors, 4, 2, 2)
    matrix = rotation(raw, frozen["kernel"].left, 8)
    assert np.all(np.abs(matrix) > 1e-6) == is_dense


def butterfly(raw, d):
    """R_m ... R_1 of the paper, in float64: an FFT butterfly on chunks of b / 2."""
    total, size = np.eye(d), raw.shape[-1]
    half = size // 2
    for i, blocks in enumerate(np.asarray(raw, np.float64)[0]):
        factor, seen, number = np.zeros((d, d)), set(), 0
        for chunk in range(d // half):
            partner = chunk ^ 2**i
            if chunk in seen:
                continue
            seen |= {chunk, partner}
            at = [c * half + k for c in (chunk, partner) for k in range(half)]
            s = np.triu(blocks[number], 1) / size**0.5
            s, eye, number = s - s.T, np.eye(size), number + 1
            factor[np.ix_(at, at)] = np.linalg.inv(eye - s) @ (eye + s)
        total = factor @ total
    return total


@pytest.mark.parametrize(("size", "factors", "d"), [(4, 3, 16), (2, 2, 12), (6, 2, 12)])
def test_butterflies_are_those_of_the_paper(size, factors, d, key):
    tuning = sr.boft(block_size=size, factors=factors)
    free, frozen = tuning.init(key, {"kernel": draw(d, 5)})
    free = perturbed(free, 1)
    own, v = free["kernel"], np.asarray(draw(d, 5), np.float64)
    assert own.left.shape == (1, factors, d // size, size, size)
    expected = butterfly(own.left, d) @ v * np.asarray(own.scale)
    np.testing.assert_allclose(
        tuning.apply(free, frozen)["kernel"], expected, atol=1e-5
    )


def released_permutation(d, blocks, half):
    """Where the release puts each coordinate: in runs, even chunks, then the odd."""
    run = d // blocks
    order = np.arange(run).reshape(-1, half)
    order = np.concatenate([order[0::2], order[1::2]]).ravel()
    return np.concatenate([order + start for start in range(0, d, run)])


def test_butterflies_have_the_blocks_of_the_release(key):
    """So that its checkpoints fit: row x of a factor is row perm[x] of its blocks."""
    d, size, factors = 32, 4, 3
    tuning = sr.boft(block_size=size, factors=factors)
    _, frozen = tuning.init(key, {"kernel": draw(d, 5)})
    order = np.asarray(frozen["kernel"].left)
    for i in range(factors):
        perm = released_permutation(d, d // size // 2**i, size // 2)
        places = np.argsort(perm).reshape(-1, size)
        np.testing.assert_array_equal(order[i], places)
    assert order[1, 0].tolist() == [0, 1, 4, 5]


def test_digits_connect_all_coordinates(key):
    """A block has the coordinates that differ in one digit to the base of its size."""
    d, size, factors = 27, 3, 3
    tuning = sr.boft(block_size=size, factors=factors, pattern="digits")
    free, frozen = tuning.init(key, {"kernel": jnp.eye(d)})
    order = np.asarray(frozen["kernel"].left)
    digits = [order // size**i % size for i in range(factors)]
    for i in range(factors):
        for j in range(factors):
            changes = np.ptp(digits[j][i], axis=1)
            np.testing.assert_array_equal(changes, 2 if i == j else 0)
    raw = np.ones(free["kernel"].left.shape)
    assert raw.shape == (1, factors, d // size, size, size)
    assert np.all(np.abs(rotation(raw, order, d)) > 1e-6)
