"""How large rotations may be, and what `describe` says of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx

PARAMS = {"a": {"kernel": np.ones((32, 2), np.float32), "bias": np.ones(2)}}
# With options that make rotations of more than four times 64 entries, and how many.
LARGE = {
    "orthogonal": (sx.reparam.orthogonal, 1024),
    "orthogonal, both sides": (partial(sx.reparam.orthogonal, side="both"), 1028),
    "orthogonal, tied": (partial(sx.reparam.orthogonal, tie=True), 1024),
    "orthogonal, householder": (
        partial(sx.reparam.orthogonal, method="householder"),
        1024,
    ),
    "stochastic_orthogonal": (
        partial(sx.reparam.stochastic_orthogonal, fraction=0.75),
        576,
    ),
    "relaxed_orthogonal": (sx.reparam.relaxed_orthogonal, 1024),
    "oft": (sx.reparam.oft, 1024),
    "boft": (partial(sx.reparam.boft, block_size=2, factors=5), 320),
    "poet": (sx.reparam.poet, 1028),
}


def entries(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", LARGE)
def test_large_rotations_are_refused_unless_told_so(name, key):
    make, size = LARGE[name]
    match = (
        rf"rotations of a/kernel of shape \(32, 2\) would have {size} entries \(left"
        rf" .*\), {size / 64:.1f} times .*: make blocks smaller by block_size"
    )
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(make().init, key, PARAMS)
    free, frozen = jax.eval_shape(make(allow_large=True).init, key, PARAMS)
    described = sx.reparam.describe(free, frozen)
    assert described.trained == entries(free) == entries(free["a"]["kernel"]) + 2
    assert described.frozen == 64
    rotations, leaf = free["a"]["kernel"], described.leaves["a/kernel"]
    assert entries(rotations._replace(scale=None)) == size
    assert (leaf.left, leaf.shape) == (rotations.left.shape, (32, 2))


def test_the_limit_is_four_times_the_kernel(key):
    init = sx.reparam.orthogonal().init
    jax.eval_shape(init, key, {"kernel": jnp.ones((8, 2))})
    with pytest.raises(ValueError, match=r"4.5 times those of the kernel"):
        jax.eval_shape(init, key, {"kernel": jnp.ones((9, 2))})


def test_all_that_are_large_are_named(key):
    params = {name: {"kernel": jnp.ones((3, 3, 4, 4))} for name in "abc"}
    params["d"] = {"kernel": jnp.ones((8, 8))}
    match = "The same holds for b/kernel, c/kernel[.]"
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(sx.reparam.orthogonal().init, key, params)
    where = lambda path, leaf: path.startswith("d")  # noqa: E731
    jax.eval_shape(sx.reparam.orthogonal(where=where).init, key, params)


def test_a_description_in_a_table(key):
    params = {
        "a": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)},
        "b": {"kernel": jnp.ones((8, 3)), "embedding": jnp.ones((5, 8))},
        "norm": {"scale": jnp.ones(4), "offset": jnp.ones(4)},
    }
    training = sx.reparam.orthogonal(block_size=4, side="both", tie=True)
    free, frozen = jax.eval_shape(training.init, key, params)
    table = """
leaf         shape   trained  frozen  rotations
a/bias       (4,)          4       0  none: a bias
a/kernel     (8, 4)       48      32  left: 2 blocks of 4 x 4; right: 4 x 4
b/embedding  (5, 8)       40       0  none: not chosen
b/kernel     (8, 3)        9      24  right: 3 x 3
norm/offset  (4,)          4       0  none: a vector, or a number
norm/scale   (4,)          4       0  none: a scale
all                      109      56"""
    assert str(sx.reparam.describe(free, frozen)) == table.strip()
    assert entries(free) == 109
    scaled = sx.reparam.oft(block_size=4, rescale=True)
    described = sx.reparam.describe(*jax.eval_shape(scaled.init, key, params))
    note = "left: 2 blocks of 4 x 4; a factor for each neuron"
    assert described.leaves["a/kernel"].note == note
    tied = sx.reparam.orthogonal(block_size=4, tie=True)
    described = sx.reparam.describe(*jax.eval_shape(tied.init, key, params))
    assert described.leaves["b/kernel"].note == "those of another kernel (tied)"
