"""Files of PEFT: what it computes, as formulas in NumPy, and the way there and back.

That PEFT itself has these outputs is measured by ``experiments.benchmarks.peers``.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sphax as sx
from tests.reparam.test_adapters import block_diagonal, exact, series, skew

sr: Any = sx.reparam
IN, OUT = 12, 6
MODULE = "model.layers.0.mlp.up_proj"


def draw(*shape, seed=0, size=1.0):
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


KERNEL = draw(IN, OUT, seed=1)
BASIS = np.linalg.svd(np.asarray(KERNEL, np.float64))[0][:, :4].astype(np.float32)


def oft(tensors, config):
    """The rotation is the inverse of Cayley's, unless it is the series."""
    raw = tensors["oft_R.weight"]
    size = config["oft_block_size"]
    blocks = []
    for row in np.asarray(raw, np.float64):
        q = skew(row, size)
        if config["coft"]:
            limit = config["eps"] / len(raw) ** 0.5
            q *= min(1.0, limit / np.linalg.norm(q))
        if config["use_cayley_neumann"]:
            blocks.append(series(q, config["num_cayley_neumann_terms"]))
        else:
            blocks.append(exact(-q))
    blocks *= IN // size if config["block_share"] else 1
    return block_diagonal(blocks) @ KERNEL


def boft(tensors, config):
    """With the permutation matrices of the authors' code."""
    raw = np.asarray(tensors["boft_R"], np.float64)
    factors, blocks, size, _ = raw.shape
    total = np.eye(IN)
    for i in range(factors):
        s = (raw[i] - raw[i].swapaxes(1, 2)) / 2
        diagonal = block_diagonal([exact(-x) for x in s])
        run = np.arange(size * 2**i).reshape(-1, size // 2)
        if i:
            run = np.concatenate([run[0::2], run[1::2]])
        runs = IN // run.size
        perm = np.concatenate([run.ravel() + j * run.size for j in range(runs)])
        p = np.eye(IN)[perm]
        total = p @ diagonal @ p.T @ total
    return total @ KERNEL * tensors["boft_s"][:, 0]


def hra(tensors, config):
    """The weights ``[out, in]``, times the reflections in order."""
    u = np.asarray(tensors["hra_u"], np.float64)
    weights = np.asarray(KERNEL.T, np.float64)
    if config["apply_GS"]:
        unit: list[np.ndarray] = []
        for column in u.T:
            for other in unit:
                column = column - (other @ column) * other
            unit.append(column / np.linalg.norm(column))
        weights = weights @ (np.eye(IN) - 2 * sum(np.outer(x, x) for x in unit))
    else:
        for column in u.T:
            mirror = np.eye(IN) - 2 * np.outer(column, column) / (column @ column)
            weights = weights @ mirror
    return weights.T


def psoft(tensors, config):
    """The weights, plus low-rank factors of them around the change of a rotation."""
    q = skew(tensors["psoft_R.weight"], 4)
    if config["use_cayley_neumann"]:
        norm = np.linalg.norm(q)
        q *= min(1.0, config["cayley_neumann_eps"] / norm)
        rotation = series(q, config["num_cayley_neumann_terms"])
    else:
        rotation = exact(q)
    rotation = rotation * tensors.get("psoft_R.vector_b", np.ones(4))[:, None]
    rotation = rotation * tensors.get("psoft_R.vector_a", np.ones(4))
    a = np.asarray(BASIS.T, np.float64)
    b = np.asarray(KERNEL.T, np.float64) @ a.T
    return (KERNEL.T + b @ (rotation - np.eye(4)) @ a).T


OFT = {"peft_type": "OFT", "oft_block_size": 4, "r": 0, "block_share": False}
OFT |= {
    "peft_version": "0.18.0",
    "coft": False,
    "use_cayley_neumann": True,
    "num_cayley_neumann_terms": 5,
}
PSOFT = {"peft_type": "PSOFT", "r": 4, "psoft_alpha": 32, "psoft_orth": True}
PSOFT |= {"ab_svd_init": "psoft_init", "use_cayley_neumann": False}
SERIES = {"use_cayley_neumann": True, "num_cayley_neumann_terms": 4}
RAW, Q = draw(3, 6, seed=2, size=0.2), draw(6, seed=3, size=0.3)
U = draw(IN, 3, seed=4)
# Arrays without the module, the configuration, and the kernel by a formula.
FILES = {
    "oft": ({"oft_R.weight": RAW}, OFT, oft),
    "oft[6 terms]": (
        {"oft_R.weight": RAW},
        OFT | {"num_cayley_neumann_terms": 6},
        oft,
    ),
    "oft[exact]": ({"oft_R.weight": RAW}, OFT | {"use_cayley_neumann": False}, oft),
    "oft[shared]": ({"oft_R.weight": RAW[:1]}, OFT | {"block_share": True}, oft),
    "oft[bound]": ({"oft_R.weight": RAW}, OFT | {"coft": True, "eps": 0.5}, oft),
    "boft": (
        {"boft_R": draw(2, 6, 2, 2, seed=5), "boft_s": draw(OUT, 1, seed=6)},
        # The configuration may say more factors than there are.
        {"peft_type": "BOFT", "boft_block_size": 2, "boft_n_butterfly_factor": 3},
        boft,
    ),
    "boft[blocks of 4]": (
        {"boft_R": draw(1, 3, 4, 4, seed=5), "boft_s": draw(OUT, 1, seed=6)},
        {"peft_type": "BOFT", "boft_block_size": 4, "boft_n_butterfly_factor": 1},
        boft,
    ),
    "hra": ({"hra_u": U}, {"peft_type": "HRA", "r": 3, "apply_GS": False}, hra),
    "hra[orthogonal]": (
        {"hra_u": U},
        {"peft_type": "HRA", "r": 3, "apply_GS": True},
        hra,
    ),
    "psoft": (
        {
            "psoft_R.weight": Q,
            "psoft_R.vector_a": 1 + draw(4, seed=7, size=0.2),
            "psoft_R.vector_b": 1 + draw(4, seed=8, size=0.2),
        },
        PSOFT,
        psoft,
    ),
    "psoft[series]": (
        {"psoft_R.weight": Q},
        PSOFT | SERIES | {"cayley_neumann_eps": 0.6},
        psoft,
    ),
}


def named(arrays, module=MODULE):
    return {f"base_model.model.{module}.{name}": x for name, x in arrays.items()}


def read(arrays, config, **options):
    found = sr.from_peft(
        named(arrays), config, {MODULE: KERNEL}, bases={MODULE: BASIS}, **options
    )
    assert list(found) == [MODULE]
    return found[MODULE]


@pytest.mark.parametrize("name", FILES)
def test_read_and_written_again(name):
    arrays, config, formula = FILES[name]
    adapter = read(arrays, config)
    expected = formula(arrays, config)
    merged = sr.merge_adapter(jnp.asarray(KERNEL), adapter)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-5)

    tensors, written = sr.to_peft({MODULE: adapter}, bases={MODULE: BASIS})
    assert json.loads(json.dumps(written)) == written
    assert written["target_modules"] == [MODULE]
    assert all(type(x) is np.ndarray and x.flags.c_contiguous for x in tensors.values())
    again = sr.from_peft(tensors, written, {MODULE: KERNEL}, bases={MODULE: BASIS})
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), again[MODULE], adapter
    )
    if name == "hra[orthogonal]":
        return  # written as the reflections that they are
    assert {key: x.shape for key, x in tensors.items()} == {
        key: x.shape for key, x in named(arrays).items()
    }
    for key, x in named(arrays).items():
        np.testing.assert_allclose(tensors[key], x, rtol=1e-6)
    # The number of factors was wrong, and PSOFT's factor cancels.
    others = {"boft_n_butterfly_factor", "psoft_alpha", "peft_version"}
    for option in config.keys() & written.keys() - others:
        assert written[option] == pytest.approx(config[option]), option


def test_a_file_has_many_modules():
    tensors = named({"hra_u": U}, "up") | named({"hra_u": 2 * draw(7, 3)}, "down")
    found = sr.from_peft(tensors, {"peft_type": "HRA"})
    assert {name: a.dimension for name, a in found.items()} == {"up": IN, "down": 7}
    written, config = sr.to_peft(found)
    assert config["target_modules"] == ["down", "up"]
    assert written.keys() == tensors.keys()


def test_signs_of_another_basis():
    """Where singular vectors have other signs, the arrays are changed with them."""
    arrays, config, _ = FILES["psoft"]
    adapter = read(arrays, config)
    signs = np.array([1, -1, -1, 1], np.float32)
    tensors, written = sr.to_peft({MODULE: adapter}, bases={MODULE: BASIS * signs})
    found = sr.from_peft(tensors, written, bases={MODULE: BASIS * signs})[MODULE]
    assert not np.allclose(found.raw, adapter.raw)
    ours, theirs = map(sr.rotation_matrix, (adapter, found))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_blocks_that_are_the_same_need_the_number_of_them():
    arrays, config, _ = FILES["oft[shared]"]
    with pytest.raises(ValueError, match="kernels must be given if all blocks are th"):
        sr.from_peft(named(arrays), config)
    counted = config | {"r": 3, "oft_block_size": 0}
    assert sr.from_peft(named(arrays), counted)[MODULE].dimension == IN


ROTATION = sr.BlockRotation(jnp.asarray(RAW), dimension=IN)
TURN = sr.SubspaceRotation(jnp.asarray(Q), jnp.asarray(BASIS))
WRONG_FILES = [
    ({}, {"peft_type": "LORA"}, r"config\['peft_type'\] must be one of"),
    ({"oft_R.weight": RAW}, OFT | {"peft_version": "0.17.1"}, "PEFT 0.18 or later"),
    ({"oft_R.weight": RAW}, {"peft_type": "OFT"}, "got peft_version None; merge"),
    ({}, OFT, "tensors must be arrays of dense layers' adapters"),
    ({"oft_R.weight": RAW, "bias": RAW}, OFT, "got base_model.model.*up_proj.bias"),
    ({"oft_R.weight": RAW[:, :5]}, OFT, r"must have b \* \(b - 1\) / 2"),
    ({"oft_R.weight": RAW[:2]}, OFT, "as many inputs as the adapters have"),
    ({"boft_R": draw(1, 3, 4, 4)}, {"peft_type": "BOFT"}, "tensors must have boft_s"),
    ({"hra_u": U[:, [0, 0]]}, {"peft_type": "HRA", "apply_GS": True}, "independent"),
    ({"psoft_R.weight": Q}, PSOFT | {"ab_svd_init": "pissa_init"}, "'pissa_init'"),
    ({"psoft_R.weight": Q}, PSOFT | {"psoft_orth": False}, "psoft_orth for a rotation"),
]


@pytest.mark.parametrize(("arrays", "config", "message"), WRONG_FILES)
def test_files_that_are_not_read(arrays, config, message):
    with pytest.raises(ValueError, match=message):
        read(arrays, config)


def test_kernels_of_other_modules():
    arrays, config, _ = FILES["hra"]
    with pytest.raises(ValueError, match=r"modules in the file, model.*, got up_proj"):
        sr.from_peft(named(arrays), config, {"up_proj": KERNEL})


def test_bases_are_needed_and_orthonormal():
    arrays, config, _ = FILES["psoft"]
    with pytest.raises(ValueError, match="bases must be given for PSOFT"):
        sr.from_peft(named(arrays), config, {MODULE: KERNEL})
    with pytest.raises(ValueError, match="bases must have orthonormal columns"):
        sr.from_peft(named(arrays), config, bases={MODULE: 2 * BASIS})


WRONG_ADAPTERS = [
    ({}, "one adapter or more"),
    ({"a": RAW}, "each of adapters must be an adapter"),
    ({"a": ROTATION, "b": TURN}, "of one kind.*BlockRotation, SubspaceRotation"),
    (
        {"a": ROTATION, "b": sr.BlockRotation(jnp.ones((2, 1)), dimension=4)},
        "the same options.*oft_block_size 4 for a and 2 for b",
    ),
    ({"a": sr.ButterflyRotation(jnp.ones((1, 2, 2, 2)))}, "must have a scale for BOFT"),
    ({"a": sr.Reflections(jnp.zeros((2, 4)))}, "no zero vector for HRA"),
    (
        {"a": sr.Reflections(jnp.ones((2, 4)), scale=jnp.ones(3))},
        "no scale for HRA, got one for a; multiply",
    ),
    ({"a": TURN}, "bases must be given for PSOFT"),
    (
        {MODULE: sr.SubspaceRotation(jnp.asarray(Q), BASIS, bound=0.5)},
        "no bound for PSOFT with the exact map",
    ),
    (
        {MODULE: sr.SubspaceRotation(jnp.asarray(Q), jnp.eye(IN, 4))},
        "the columns of the adapters, up to their signs",
    ),
]


@pytest.mark.parametrize(("adapters", "message"), WRONG_ADAPTERS)
def test_adapters_that_are_not_written(adapters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sr.to_peft(adapters, bases={MODULE: BASIS})
