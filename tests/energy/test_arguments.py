"""Wrong arguments of energies, and of orthogonal maps: errors teach."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import sphax as sx

se: Any = sx.energy
so: Any = sx.orthogonal
X = np.ones((4, 3), np.float32)
POLES = np.ones((2, 3), np.float32)
KEY = jax.random.key(0)
TINY = X.astype(ml_dtypes.float8_e4m3fn)
PARAMS: Any = {"kernel": X}


def traced(function):
    """Calls a function of an option under ``jit``, where the option is an array."""
    return lambda: jax.jit(function)(2)


ROWS = [
    # What a power, a scale or a rate is.
    (
        lambda: se.hyperspherical_energy(X, power="log"),
        TypeError,
        "power must be a num",
    ),
    (lambda: se.hyperspherical_energy(X, power=None), TypeError, "power must be a num"),
    (lambda: se.hyperspherical_energy(X, power=True), TypeError, "power must be a num"),
    (lambda: se.hyperspherical_energy(X, power=-1), ValueError, "0 or more, got -1"),
    (lambda: se.hyperspherical_energy(X, power=np.nan), ValueError, "power must be 0"),
    (lambda: se.energy_and_grad(X, power="log"), TypeError, "power must be a number"),
    (lambda: se.energy_of_params(PARAMS, power="log"), TypeError, "power must be a nu"),
    (lambda: se.energy_report(PARAMS, power="log"), TypeError, "power must be a numbe"),
    (lambda: se.class_energy(X, [0], power="log"), TypeError, "power must be a number"),
    (
        lambda: se.compressive_energy(X, X[None], power="2"),
        TypeError,
        "power must be a",
    ),
    (lambda: se.polarization(X, POLES, power="log"), TypeError, "power must be a numb"),
    (lambda: se.alignment(X, X, power="2"), TypeError, "power must be a number"),
    (lambda: se.expected_energy(3, power="log"), TypeError, "power must be a number"),
    (lambda: se.energy_lower_bound(4, 3, power=[1.0]), TypeError, "power must be a nu"),
    (lambda: se.uniformity(X, scale="2"), TypeError, "scale must be a number"),
    (lambda: se.separation(X, sharpness="hard"), TypeError, "sharpness must be a numb"),
    (lambda: se.covering(X, POLES, sharpness="no"), TypeError, "sharpness must be a n"),
    (lambda: se.covering(X, POLES, momentum=None), TypeError, "momentum must be a num"),
    (lambda: se.max_gram_determinant(X, epsilon="0"), TypeError, "epsilon must be a n"),
    (
        lambda: se.adversarial_projection(X, X[None], learning_rate="fast"),
        TypeError,
        "learning_rate must be a number",
    ),
    (
        lambda: se.minimize_energy(KEY, 4, 3, tolerance="low"),
        TypeError,
        "tolerance must be a number",
    ),
    # Numbers that shapes and loops depend on.
    (
        traced(lambda b: se.hyperspherical_energy(X, block_size=b)),
        TypeError,
        "block_size must be a Python integer.*static_argnames='block_size'",
    ),
    (
        lambda: se.energy_and_grad(X, block_size=0),
        ValueError,
        "block_size must be 1 or",
    ),
    (lambda: se.class_energy(X, [0], block_size=2.5), TypeError, "an integer, got 2.5"),
    (
        lambda: se.energy_of_params(PARAMS, block_size=True),
        TypeError,
        "block_size must be an integer, got True",
    ),
    (lambda: se.polarization(X, POLES, steps=2.0), TypeError, "an integer, got 2.0"),
    (lambda: se.minimize_energy(KEY, 4.0, 3), TypeError, "n must be an integer"),
    (
        traced(lambda n: se.minimize_energy(KEY, n, 3)),
        TypeError,
        "n must be a Python integer",
    ),
    (lambda: se.minimize_energy(KEY, 4, 3, history=0), ValueError, "history must be 1"),
    (
        lambda: se.minimize_energy(KEY, 4, 3, restarts="2"),
        TypeError,
        "restarts must be",
    ),
    (lambda: se.expected_energy(2.5), TypeError, "d must be an integer, got 2.5"),
    (lambda: se.closest_angle_bound(1, 3), ValueError, "n must be 2 or more, got 1"),
    (lambda: se.energy_lower_bound(1, 3), ValueError, "n must be 2 or more, got 1"),
    (lambda: se.closest_angle_bound(3, 1), ValueError, "d must be 2 or more, got 1"),
    (lambda: se.expected_energy(1), ValueError, "d must be 2 or more, got 1"),
    (lambda: se.expected_energy(3, power=-1), ValueError, "0 or more, got -1"),
    (
        lambda: se.energy_lower_bound(3, 3, distance="chord"),
        ValueError,
        "distance must be one of .*'chord'",
    ),
    # Penalties, and what is in params.
    (lambda: se.energy_penalty(power="log"), TypeError, "power must be a number"),
    (lambda: se.energy_penalty(power=-1.0), ValueError, "power must be 0 or more"),
    (lambda: se.energy_penalty()(X[0]), ValueError, r"rows must be \[..., n, d\]"),
    (
        lambda: se.energy_report({"a": {"kernel": np.full((2, 2), np.nan)}}),
        ValueError,
        "params must be finite, got NaN or infinity in a/kernel",
    ),
    (lambda: se.energy_report({"a": X[0]}), ValueError, "params must have neurons"),
    (lambda: se.random_projections(KEY, 8, 4.0), TypeError, "p must be an integer"),
    (lambda: se.group_projections(8, "2"), TypeError, "groups must be an integer"),
    (
        lambda: so.orthogonality_penalty(X, kind="spectral", iterations=1.5, key=KEY),
        TypeError,
        "iterations must be an integer, got 1.5",
    ),
    (
        traced(lambda k: so.newton_schulz(X, iterations=k)),
        TypeError,
        "iterations must be a Python integer.*static_argnames='iterations'",
    ),
    (lambda: so.newton_schulz(X, iterations=2.0), TypeError, "an integer, got 2.0"),
    (
        lambda: so.cayley_neumann(jnp.eye(2), terms="4"),
        TypeError,
        "an integer, got '4'",
    ),
    # Options that are true or false.
    (
        lambda: se.hyperspherical_energy(X, half_space="yes"),
        TypeError,
        "half_space must be True or False, got 'yes'",
    ),
    (lambda: se.separation(X, half_space=1), TypeError, "half_space must be True or F"),
    (lambda: se.uniformity(X, half_space="no"), TypeError, "half_space must be True"),
    (lambda: se.covering(X, POLES, half_space=0), TypeError, "half_space must be True"),
    (
        lambda: se.polarization(X, POLES, half_space=0),
        TypeError,
        "half_space must be T",
    ),
    (lambda: se.max_gram_determinant(X, half_space=0), TypeError, "half_space must be"),
    (
        lambda: se.closest_angle_bound(4, 3, half_space="y"),
        TypeError,
        "half_space must",
    ),
    (
        traced(lambda flag: se.hyperspherical_energy(X, half_space=flag)),
        TypeError,
        "half_space must be True or False, known when.*static_argnames='half_space'",
    ),
    (
        lambda: so.orthogonality_penalty(X, normalize="l2"),
        TypeError,
        "normalize must be",
    ),
    (
        lambda: so.cayley_neumann(jnp.eye(2), halve_last_term=2),
        TypeError,
        "halve_last_term must be True or False, got 2",
    ),
    (
        lambda: so.random_orthogonal(KEY, (2, 2), special="yes"),
        TypeError,
        "special must be True or False",
    ),
    # Keys.
    (
        lambda: se.random_projections(0, 8),
        TypeError,
        "key must be a random key, such as",
    ),
    (lambda: se.group_projections(8, 2, key=0), TypeError, "key must be a random key"),
    (lambda: se.minimize_energy(0, 4, 3), TypeError, "key must be a random key"),
    (lambda: se.minimize_energy(None, 4, 3), TypeError, "key must be a random key"),
    (
        lambda: so.orthogonality_penalty(X, kind="spectral", key=0),
        TypeError,
        "key must be a random key",
    ),
    (lambda: so.random_orthogonal(0, (2, 2)), TypeError, "key must be a random key"),
    # Points and matrices, and reports.
    (lambda: sx.plots.energy_report(PARAMS), TypeError, "must be an EnergyReport"),
    (lambda: se.hyperspherical_energy(TINY), TypeError, "points must be.*float8"),
    (lambda: se.class_energy(TINY, [0]), TypeError, "prototypes must be.*float8"),
    (lambda: se.uniformity(TINY), TypeError, "points must be.*float8"),
    (
        lambda: so.orthogonality_penalty(TINY),
        TypeError,
        "points must be.*float8",
    ),
    (lambda: so.gram_schmidt(TINY), TypeError, "a must be.*float8"),
    (lambda: so.householder(TINY), TypeError, "v must be.*float8"),
    (lambda: se.hyperspherical_energy("points"), TypeError, "points"),
    (
        lambda: so.random_orthogonal(KEY, (2, 2), jnp.int32),
        TypeError,
        "dtype must be floating",
    ),
    (lambda: so.random_orthogonal(KEY, (2, 3)), ValueError, "m >= n"),
    (lambda: so.random_orthogonal(KEY, 3), TypeError, r"shape must be \(..., m, n\)"),
]


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_errors_teach(row):
    call, error, message = ROWS[row]
    with pytest.raises(error, match=message):
        call()
