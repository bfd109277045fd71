"""Checkpoints: whole or not at all, and the one before behind a damaged one."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _checkpoints


def tree(value):
    return {"a": jnp.full((2, 3), value), "b": (jnp.array(int(value)), jnp.ones(2) > 0)}


def assert_restored(folder, step, value):
    restored = _checkpoints.restore(folder, tree(0.0))
    assert restored
    found_step, found = restored
    assert found_step == step
    np.testing.assert_array_equal(found["a"], np.full((2, 3), value))
    assert int(found["b"][0]) == int(value)
    assert found["b"][1].dtype == bool


def test_the_newest_is_restored_and_two_are_kept(tmp_path):
    assert _checkpoints.restore(tmp_path, tree(0.0)) is None
    for step in (5, 10, 15):
        _checkpoints.save(tmp_path, step, tree(float(step)))
    assert_restored(tmp_path, 15, 15.0)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_behind_a_damaged_one_is_the_one_before(tmp_path, damage):
    for step in (5, 10):
        _checkpoints.save(tmp_path, step, tree(float(step)))
    newest = tmp_path / "000000010.ckpt"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
    newest.write_bytes({"truncated": content[:-7], "empty": b""}.get(damage, content))
    with pytest.warns(UserWarning, match="000000010.ckpt is damaged"):
        assert_restored(tmp_path, 5, 5.0)


def test_those_of_another_program_are_refused(tmp_path):
    _checkpoints.save(tmp_path, 5, tree(5.0))
    others = (
        tree(0.0) | {"c": jnp.zeros(2)},
        {"a": jnp.zeros((2, 3))},
        tree(0.0) | {"a": jnp.zeros((3, 2))},
        tree(0.0) | {"a": jnp.zeros((2, 3), jnp.bfloat16)},
    )
    for other in others:
        with pytest.raises(ValueError, match=r"another program: remove .*--checkpoint"):
            _checkpoints.restore(tmp_path, other)


def test_what_is_remembered_is_computed_anew_if_damaged(tmp_path):
    path = tmp_path / "outcome.json"
    path.write_text('{"error": 1')
    with pytest.warns(UserWarning, match=r"outcome.json is damaged; computing it anew"):
        assert _checkpoints.remembered(path, lambda: 2.5) == (2.5, True)
    assert _checkpoints.remembered(path, lambda: 3.5) == (2.5, False)


def test_a_write_that_was_cut_off_is_not_seen(tmp_path):
    _checkpoints.save(tmp_path, 5, tree(5.0))
    (tmp_path / "000000010.ckpt.partial").write_bytes(b"half a check")
    assert_restored(tmp_path, 5, 5.0)
