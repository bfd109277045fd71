"""Orthogonal maps of sphax and those of PyTorch, geotorch and PEFT."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sphax as sx
from experiments.benchmarks._peer_case import Case, import_peer

# Rows that pass through an adapted layer.
_BATCH = 256
_OFT_BLOCK, _BOFT_BLOCK = 32, 4


def cases(n: int) -> list[Case]:
    """All maps of ``n x n`` matrices, and adapters of a layer of that size."""
    random = np.random.default_rng(n)
    # Angles of about a radian.
    a, cotangent = random.normal(size=(2, n, n)) / n**0.5
    square = partial(_map_case, a, cotangent)
    return [
        square(
            "cayley", "SO, cayley", "geotorch", sx.orthogonal.cayley, _geotorch_cayley
        ),
        square(
            "exponential",
            "SO, expm",
            "geotorch",
            sx.orthogonal.exponential,
            _geotorch_exp,
        ),
        square("gram_schmidt", "linalg.qr", "torch", sx.orthogonal.gram_schmidt, _qr),
        square(
            "householder",
            "linalg.householder_product",
            "torch",
            _unit_householder,
            _householder_product,
        ),
        square("lowdin", "linalg.svd", "torch", sx.orthogonal.lowdin, _polar),
        _oft(random, n),
        _boft(random, n),
    ]


def _map_case(
    a: np.ndarray,
    cotangent: np.ndarray,
    name: str,
    peer: str,
    package: str,
    ours: Callable[[jax.Array], jax.Array],
    make: Callable[[Any, Any], Callable[[Any], Any]],
) -> Case:
    def theirs(torch, variables, constants):
        to_matrix = make(torch, variables[0])
        return lambda: (constants[0] * to_matrix(variables[0])).sum(), variables

    def of_matrix(a, cotangent):
        return jnp.sum(cotangent * ours(a))

    return Case(name, peer, package, (a,), (cotangent,), of_matrix, theirs)


def _geotorch_cayley(torch, a):
    # Its map has half the skew-symmetric matrix.
    rotate = _so(torch, a, "cayley")
    return lambda a: rotate(2.0 * a)


def _geotorch_exp(torch, a):
    return _so(torch, a, "expm")


def _so(torch, a, name):
    rotate = import_peer("geotorch").SO(a.shape, triv=name, lower=False).to(a.dtype)
    rotate.base.copy_(torch.eye(len(a), dtype=a.dtype))
    return rotate


def _qr(torch, a):
    del a

    def map_(a):
        q, r = torch.linalg.qr(a)
        return q * r.diagonal().sign()

    return map_


def _unit_householder(a):
    """Reflections along the rows of an upper triangle with ones on its diagonal."""
    return sx.orthogonal.householder(jnp.triu(a, 1) + jnp.eye(len(a), dtype=a.dtype))


def _householder_product(torch, a):
    del a

    def map_(a):
        v = a.triu(1).mT
        tau = 2.0 / (1.0 + (v * v).sum(dim=0))
        return torch.linalg.householder_product(v, tau)

    return map_


def _polar(torch, a):
    del a

    def map_(a):
        u, _, vh = torch.linalg.svd(a)
        return u @ vh

    return map_


def _oft(random: np.random.Generator, n: int) -> Case:
    rows, columns = np.triu_indices(_OFT_BLOCK, 1)
    blocks = n // _OFT_BLOCK
    start = random.normal(size=(blocks, len(rows))) / (8.0 * _OFT_BLOCK**0.5)
    series = partial(sx.orthogonal.cayley_neumann, terms=4, halve_last_term=True)
    tuning = sx.reparam.oft(block_size=_OFT_BLOCK, method=series, scale=1.0)

    def ours(raw, x, kernel, cotangent):
        blocks = jnp.zeros((1, 1, len(raw), _OFT_BLOCK, _OFT_BLOCK), raw.dtype)
        left = blocks.at[..., rows, columns].set(raw)
        free = {"kernel": sx.reparam.Rotations(left)}
        frozen = {"kernel": sx.reparam.FrozenNeurons(kernel, None, None)}
        return jnp.sum(cotangent * (x @ tuning.apply(free, frozen)["kernel"]))

    def theirs(torch, variables, constants):
        oft = import_peer("peft", "tuners.oft.layer").tuners.oft
        config = oft.OFTConfig(oft_block_size=_OFT_BLOCK)
        layer = oft.layer.Linear(_linear(torch, constants[1]), "default", config, r=0)
        raw = layer.oft_R["default"].weight
        raw.data = variables[0].detach()
        return lambda: (constants[2] * layer(constants[0])).sum(), [raw]

    name = f"oft, blocks of {_OFT_BLOCK}"
    return Case(name, "OFT", "peft", (start,), _layer(random, n), ours, theirs)


def _boft(random: np.random.Generator, n: int) -> Case:
    start = random.normal(size=(1, n // _BOFT_BLOCK, _BOFT_BLOCK, _BOFT_BLOCK))
    tuning = sx.reparam.boft(block_size=_BOFT_BLOCK, factors=1, scale=1.0)

    def ours(raw, x, kernel, cotangent):
        # Its map is Cayley's of minus the skew-symmetric part.
        left = 0.5 * (raw.mT - raw)[None]
        scale = jnp.ones((1, kernel.shape[1]), raw.dtype)
        free = {"kernel": sx.reparam.Rotations(left, None, scale)}
        frozen = {"kernel": sx.reparam.FrozenNeurons(kernel, None, None)}
        return jnp.sum(cotangent * (x @ tuning.apply(free, frozen)["kernel"]))

    def theirs(torch, variables, constants):
        boft = import_peer("peft", "tuners.boft.layer").tuners.boft
        config = boft.BOFTConfig(boft_block_size=_BOFT_BLOCK, boft_n_butterfly_factor=1)
        layer = boft.layer.Linear(_linear(torch, constants[1]), "default", config)
        layer = layer.to(variables[0].dtype)
        raw = layer.boft_R["default"]
        raw.data = variables[0].detach()
        return lambda: (constants[2] * layer(constants[0])).sum(), [raw]

    name = f"boft, blocks of {_BOFT_BLOCK}, one factor"
    return Case(name, "BOFT", "peft", (start,), _layer(random, n), ours, theirs)


def _layer(random: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Inputs, kernel and cotangent of a dense layer."""
    x, cotangent = random.normal(size=(2, _BATCH, n))
    return x, random.normal(size=(n, n)) / n**0.5, cotangent


def _linear(torch: Any, kernel: Any) -> Any:
    linear = torch.nn.Linear(*kernel.shape, bias=False, dtype=kernel.dtype)
    linear.weight.data = kernel.mT.contiguous()
    return linear
