"""Ways to train hidden layers by the names of the command line."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

import sphax as sx
from experiments._opt_problems import is_hidden
from sphax.reparam import Reparameterization

MethodName = Literal[
    "plain",
    "gs",
    "hr",
    "ls",
    "cp",
    "ogd",
    "relaxed",
    "s-opt",
    "oft",
    "boft",
    "poet",
]
_BLOCK = 32
_RADIX, _FACTORS = 4, 2


class Method(NamedTuple):
    """What is trained in the place of kernels.

    Attributes:
        title: Its name in tables.
        training: Makes the reparameterisation; called with ``where`` and options.
        released: Options with which it is that of its authors' code.
        is_descent: Whether rotations are params themselves, and have an optimiser of
            their own.
        is_redrawn: Whether rotations are absorbed, and begin anew, every so many steps.
        divisor: Of the dimensions of all neurons that it can rotate.
    """

    title: str
    training: Callable[..., Reparameterization]
    released: Mapping[str, Any] = MappingProxyType({})
    is_descent: bool = False
    is_redrawn: bool = False
    divisor: int = 1

    def reparameterization(self, *, as_released: bool) -> Reparameterization:
        """For the kernels of hidden layers, of dimensions that it can rotate."""

        def where(path: str, kernel: jax.Array) -> bool:
            dimensions = kernel.size // kernel.shape[-1]
            return is_hidden(path) and dimensions % self.divisor == 0

        released = self.released if as_released else {}
        return self.training(where=where, allow_large=True, **released)


def _plain(*, where: Any, allow_large: bool) -> Reparameterization:
    """Params as they are: what all others are compared with."""
    del where, allow_large
    return Reparameterization(
        init=lambda key, params: (params, {}),
        apply=lambda free, frozen: free,
        advance=lambda key, free, frozen: (
            free,
            frozen,
            jax.tree.map(lambda _: False, free),
        ),
        penalty=lambda free: jnp.zeros([]),
    )


def _opt(title: str, method: Any, **options: Any) -> Method:
    """OPT by a map onto the orthogonal matrices, from the network's own neurons on."""
    return Method(
        f"OPT, {title}",
        partial(sx.reparam.orthogonal, method=method, neuron_init="given"),
        {"scale": 1.0, "rotation_init": "normal"},
        **options,
    )


_UNSCALED = {"scale": 1.0}
# All start from the neurons of the network, as it is initialised.
METHODS: dict[MethodName, Method] = {
    "plain": Method("plain", _plain),
    "gs": _opt("Gram-Schmidt", "gram_schmidt"),
    "hr": _opt("Householder", "householder"),
    "ls": _opt("Löwdin", "lowdin"),
    "cp": _opt("Cayley", "cayley"),
    "ogd": Method(
        "OPT, orthogonal descent",
        partial(sx.reparam.orthogonal, method="identity", neuron_init="given"),
        is_descent=True,
    ),
    "relaxed": Method(
        "relaxed OPT", partial(sx.reparam.relaxed_orthogonal, neuron_init="given")
    ),
    "s-opt": Method(
        "S-OPT",
        partial(sx.reparam.stochastic_orthogonal, neuron_init="given"),
        _UNSCALED,
        is_redrawn=True,
    ),
    "oft": Method("OFT", partial(sx.reparam.oft, block_size=_BLOCK), _UNSCALED),
    "boft": Method(
        "BOFT",
        partial(sx.reparam.boft, block_size=_RADIX, factors=_FACTORS, pattern="digits"),
        _UNSCALED,
        divisor=_RADIX**_FACTORS,
    ),
    "poet": Method(
        "POET",
        partial(
            sx.reparam.poet, block_size=_BLOCK, method="cayley", neuron_init="given"
        ),
        _UNSCALED,
        is_redrawn=True,
    ),
}
