"""Magnitude functions h: the factor of a decoupled operator that depends on lengths."""

import abc
from typing import Literal

import jax

from sphax import _checks
from sphax._hyperparameters import (
    POSITIVE,
    leaf_names,
    register,
    static,
    store_real,
)

Weighted = Literal["none", "linear", "nonlinear"]


@register
class Magnitude(abc.ABC):
    r"""Base of the magnitude functions :math:`h(\|x\|)` of a patch's length.

    ``weighted`` says how the length of the filter counts:

    - ``"none"``: not at all, :math:`h(\|x\|)`; all filters are equally important;
    - ``"linear"``: :math:`\|w\| h(\|x\|)`;
    - ``"nonlinear"``: :math:`h(\|w\| \|x\|)`.

    A subclass is a frozen dataclass, registered as a pytree. Its hyperparameters are
    leaves: scalars, or arrays with one entry per filter. (jaxlib 0.10 confuses two
    classes that ``jax.tree_util.register_dataclass`` has registered with equally many
    leaves: ``jit`` may run the wrong one. ``register_pytree_node`` and
    ``register_pytree_with_keys`` keep them distinct.)

    *Bounded* functions (:class:`Sphere`, :class:`Ball`, :class:`Tanh`) limit how far
    any input can move the output: they train without much tuning and dampen
    perturbations, but discard differences between large lengths. *Unbounded* functions
    (:class:`Linear`, :class:`Segmented`, :class:`Log`, :class:`Mix`) keep these
    differences, and need batch normalization after them like the plain convolution. A
    ``weighted`` function is bounded only as long as the filters are.

    Example:
        >>> ball = sx.operators.Ball(rho=2.0)
        >>> ball(jnp.array([1.0, 2.0, 3.0]))
        Array([0.5, 1. , 1. ], dtype=float32)
    """

    weighted: Weighted = static(default="none", kw_only=True)

    def __post_init__(self):
        name = f"{type(self).__name__}: weighted"
        _checks.check_choice(name, self.weighted, ("none", "linear", "nonlinear"))
        for name in leaf_names(self):
            # Radii divide; the other hyperparameters multiply.
            store_real(self, name, POSITIVE if name == "rho" else 0.0)

    @abc.abstractmethod
    def __call__(self, length: jax.Array) -> jax.Array:
        """Evaluates h at lengths, which are not negative, elementwise."""

    def weigh(self, norm: jax.Array, filter_norm: jax.Array) -> jax.Array:
        """Evaluates h at lengths of patches and filters, as ``weighted`` says."""
        if self.weighted == "nonlinear":
            return self(norm * filter_norm)
        return filter_norm * self(norm) if self.weighted == "linear" else self(norm)
