"""Calls of every public function, for the batteries that all of them join by a row."""

from tests.calls import (
    convert,
    data,
    distributions,
    energy,
    layers,
    losses,
    margins,
    metrics,
    networks,
    neurons,
    operators,
    optim,
    orthogonal,
    plots,
    reparam,
    sharding,
    sphere,
)
from tests.calls._call import Call as Call

_PACKAGES = (
    sphere,
    neurons,
    margins,
    losses,
    metrics,
    data,
    distributions,
    operators,
    energy,
    orthogonal,
    optim,
    reparam,
    sharding,
    layers,
    networks,
    plots,
    convert,
)
CALLS = {call.name: call for package in _PACKAGES for call in package.CALLS}

# Public names that no row has to call, and why.
EXEMPT = {
    name: reason for package in _PACKAGES for name, reason in package.EXEMPT.items()
}
