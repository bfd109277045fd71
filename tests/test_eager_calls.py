"""What a second call of a public function costs, outside of ``jit``: no compilation."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.calls import CALLS, EXEMPT
from tests.test_architecture import PUBLIC


@pytest.fixture(scope="module")
def compilations():
    """Names of the compilations so far; a listener appends to it."""
    found = []

    def listen(event, duration_secs, **kwargs):
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(kwargs.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def gradients(call):
    """Function of the arguments: gradients in the differentiable ones, and results."""

    def weighted(*arguments):
        results = call.function(*arguments)
        floating = [
            x for x in jax.tree.leaves(results) if jnp.issubdtype(x.dtype, jnp.floating)
        ]
        weights = [np.cos(np.arange(x.size)).reshape(x.shape) for x in floating]
        terms = [
            jnp.sum(x * w.astype(x.dtype))
            for x, w in zip(floating, weights, strict=True)
        ]
        return sum(terms), results

    return jax.grad(weighted, argnums=call.differentiable, has_aux=True)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing_and_keeps_nothing(name, compilations):
    call = CALLS[name]
    arguments = call.arguments
    if not call.is_host:
        arguments = jax.tree.map(jnp.asarray, arguments)
    functions = [call.function]
    if call.differentiable and not call.is_host:
        functions.append(gradients(call))
    for function in functions:
        function(*arguments)
        compilations.clear()
        # Only what the second call makes is searched for circles, in little time.
        gc.freeze()
        alive = len(jax.live_arrays())
        function(*arguments)
        gc.collect()
        assert compilations == []
        assert len(jax.live_arrays()) <= alive
        gc.unfreeze()


def test_every_public_function_has_a_row():
    called = {name.partition("[")[0] for name in CALLS}
    # Records, which hold what a function returns, are made by these functions.
    demanded = {
        name
        for name, member in PUBLIC.items()
        if callable(member) and not hasattr(member, "_fields")
    }
    assert demanded - called - EXEMPT.keys() == set()
    assert not called & EXEMPT.keys()
    assert called | EXEMPT.keys() <= PUBLIC.keys()
