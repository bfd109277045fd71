"""What a result was made with."""

import importlib.metadata
import sys
from typing import Any

import jax


def provenance() -> dict[str, Any]:
    """Device, Python and the versions of the packages that matter."""
    packages = ("sphax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
