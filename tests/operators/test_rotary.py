"""The rotary embedding: a rotation by the position, and what follows from that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax.operators import rotary

PAIRINGS = ["halves", "adjacent"]


def by_complex_numbers(x, positions, base, pairing):
    """Each pair is a complex number, and is multiplied by a phase."""
    d = x.shape[-1]
    phase = np.exp(1j * positions[..., None] * base ** (-2.0 * np.arange(d // 2) / d))
    places = np.arange(d)
    first = places[: d // 2] if pairing == "halves" else places[::2]
    second = places[d // 2 :] if pairing == "halves" else places[1::2]
    turned = (x[..., first] + 1j * x[..., second]) * phase
    out = np.empty_like(x)
    out[..., first], out[..., second] = turned.real, turned.imag
    return out


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.usefixtures("x64")
def test_it_multiplies_complex_numbers_by_a_phase(pairing):
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 8))
    positions = np.arange(5)[:, None] * 700
    found = rotary(jnp.asarray(x), jnp.asarray(positions), base=500.0, pairing=pairing)
    expected = by_complex_numbers(x, positions, 500.0, pairing)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    # Positions of each vector, of each sequence, and of all.
    for some in (positions[None] + 1 + np.arange(2)[:, None, None], np.array(3.5)):
        found = rotary(jnp.asarray(x), jnp.asarray(some), pairing=pairing)
        some = np.broadcast_to(some, x.shape[:-1])
        expected = by_complex_numbers(x, some, 1e4, pairing)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.usefixtures("x64")
def test_it_is_a_rotation_by_the_difference_of_positions(pairing, dtype):
    draw = np.random.default_rng(1).normal
    q, k = (jnp.asarray(draw(size=(64, 16)), dtype) for _ in range(2))
    positions = jnp.arange(64)
    tolerance = 8 * float(jnp.finfo(dtype).eps)

    @jax.jit
    def products(shift):
        turned = (rotary(x, positions + shift, pairing=pairing) for x in (q, k[::-1]))
        return [x.astype(jnp.float64) for x in turned]

    at_zero, moved = products(0), products(4096)
    for x, y, z in zip((q, k[::-1]), at_zero, moved, strict=True):
        expected = np.linalg.norm(x.astype(jnp.float64), axis=-1)
        for turned in (y, z):
            lengths = np.linalg.norm(turned, axis=-1)
            np.testing.assert_allclose(lengths, expected, rtol=tolerance)
    # Angles of float32 are off by 1e-7 of a position, up to 4160.
    slack = 4160 * 2e-7 if dtype == jnp.float32 else tolerance * 64
    (a, b), (c, d) = at_zero, moved
    scale = np.linalg.norm(a, axis=-1)[:, None] * np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose((a @ b.T) / scale, (c @ d.T) / scale, atol=slack)
    back = rotary(rotary(q, positions, pairing=pairing), -positions, pairing=pairing)
    assert back.dtype == dtype
    np.testing.assert_allclose(
        back.astype(jnp.float64), q.astype(jnp.float64), atol=4 * tolerance
    )
    np.testing.assert_array_equal(rotary(q, 0, pairing=pairing), q)


@pytest.mark.parametrize(
    ("error", "x", "positions", "options", "message"),
    [
        (TypeError, jnp.arange(4), 0, {}, "x must be floating"),
        (ValueError, jnp.ones((2, 3)), 0, {}, r"even number.* got shape \(2, 3\)"),
        (ValueError, jnp.ones(()), 0, {}, "even number"),
        (TypeError, jnp.ones(4), jnp.array(True), {}, "positions must be numbers"),
        (ValueError, jnp.ones((5, 2, 4)), jnp.arange(5), {}, r"\(5, 2\), got \(5,\)"),
        (ValueError, jnp.ones(4), jnp.arange(5), {}, r"\(\), got \(5,\)"),
        (ValueError, jnp.ones(4), 0, dict(base=0.0), "base must be positive"),
        (ValueError, jnp.ones(4), 0, dict(pairing="both"), "pairing must be one of"),
    ],
)
def test_errors_teach(error, x, positions, options, message):
    with pytest.raises(error, match=message):
        rotary(x, positions, **options)
