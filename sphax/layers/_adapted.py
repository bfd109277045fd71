"""Dense layer with a frozen kernel whose inputs an adapter rotates (OFTv2, QOFT)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, serialization
from jax.typing import ArrayLike

from sphax._checks import as_floating, shown
from sphax._hyperparameters import leaf_names, static_names
from sphax.layers._common import check_features
from sphax.layers._over_parameterized import Frozen
from sphax.reparam import (
    BlockRotation,
    ButterflyRotation,
    Reflections,
    SubspaceRotation,
    adapt,
    merge_adapter,
)

_Adapter = BlockRotation | ButterflyRotation | Reflections | SubspaceRotation
_CONSTANT = ("basis",)


class AdaptedLinear(nnx.Module):
    """Dense layer of which only an adapter is trained.

    Its outputs are those of :func:`sphax.reparam.adapt`. Kernel and bias of the layer
    given become :class:`Frozen`; they are not copied. The arrays of the adapter are
    parameters, such as ``layer.adapter.raw``: ``nnx.state(model, nnx.Param)`` of a
    model with such layers has just what finetuning trains and saves.
    ``layer.adapter()`` is the adapter with their present values, for
    :func:`sphax.reparam.to_peft`, and ``layer.merge()`` the plain layer.

    Args:
        base: The layer to adapt. Its kernel may be sharded, or of any dtype; if it is
            of integers, ``kernel_scale`` is needed.
        adapter: Adapter of its inputs.
        kernel_scale: Factor of each output, ``[out]``, for a kernel of integers.
        output_adapter: Adapter of its outputs before the bias, or ``None``.

    Raises:
        TypeError: If ``base`` is not an :class:`flax.nnx.Linear`; from a call, if the
            inputs are not floating.
        ValueError: From a call, if sizes do not fit, or a kernel of integers has no
            scale.

    Example:
        >>> class MLP(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.up = nnx.Linear(8, 16, rngs=rngs)
        ...         self.down = nnx.Linear(16, 8, rngs=rngs)
        >>> model = MLP(nnx.Rngs(0))
        >>> for name in ("up", "down"):
        ...     base = getattr(model, name)
        ...     adapter = sx.reparam.BlockRotation.init(base.kernel[...], block_size=4)
        ...     setattr(model, name, sx.layers.AdaptedLinear(base, adapter))
        >>> trained = nnx.state(model, nnx.Param)
        >>> jax.tree.map(jnp.shape, nnx.to_pure_dict(trained))
        {'down': {'adapter': {'raw': (4, 6)}}, 'up': {'adapter': {'raw': (2, 6)}}}

    References:
        Qiu et al., `Orthogonal Finetuning Made Scalable
        <https://arxiv.org/abs/2506.19847>`_, EMNLP 2025.
    """

    def __init__(
        self,
        base: nnx.Linear,
        adapter: _Adapter,
        *,
        kernel_scale: ArrayLike | None = None,
        output_adapter: _Adapter | None = None,
    ):
        # Subclasses may compute something else, as LoRALinear does.
        if type(base) is not nnx.Linear:
            raise TypeError(
                f"AdaptedLinear: base must be an nnx.Linear, got {shown(base)}; other"
                " layers call sphax.reparam.adapt, or rotate before a convolution."
            )
        self.kernel = _frozen(base.kernel)
        self.bias = nnx.data(None if base.bias is None else _frozen(base.bias))
        self.kernel_scale = nnx.data(
            None if kernel_scale is None else Frozen(jnp.asarray(kernel_scale))
        )
        self.adapter = _Held(adapter)
        self.output_adapter = nnx.data(
            None if output_adapter is None else _Held(output_adapter)
        )
        self.dtype, self.precision = base.dtype, base.precision

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[..., in]`` to ``[..., out]``, in Flax's common dtype."""
        kernel = self.kernel[...]
        inputs = as_floating("inputs", inputs)
        check_features("inputs", inputs, kernel.shape[0])
        dtype = self.dtype
        if dtype is None and jnp.issubdtype(kernel.dtype, jnp.floating):
            dtype = jnp.promote_types(inputs.dtype, kernel.dtype)
        return adapt(
            inputs if dtype is None else inputs.astype(dtype),
            kernel,
            self.adapter(),
            kernel_scale=None if self.kernel_scale is None else self.kernel_scale[...],
            bias=None if self.bias is None else self.bias[...],
            output_adapter=self._of_outputs(),
            precision=self.precision,
        )

    def merge(self) -> nnx.Linear:
        """The Flax layer with the same outputs; only of a floating kernel."""
        kernel = merge_adapter(
            self.kernel[...], self.adapter(), output_adapter=self._of_outputs()
        )
        bias = self.bias
        return nnx.Linear(
            *kernel.shape,
            use_bias=bias is not None,
            dtype=self.dtype,
            param_dtype=kernel.dtype,
            precision=self.precision,
            kernel_init=lambda *_: kernel,
            bias_init=lambda *_: None if bias is None else bias[...],
            rngs=nnx.Rngs(0),
        )

    def _of_outputs(self) -> Any:
        return None if self.output_adapter is None else self.output_adapter()


def _frozen(variable: Any) -> Frozen:
    """The same array with its metadata, such as the axes that it is sharded over."""
    return Frozen(variable[...], **variable.get_metadata())


class _Held(nnx.Module):
    """An adapter as variables, of which those that are trained are parameters."""

    def __init__(self, adapter: Any):
        self.kind = type(adapter)
        self.options = tuple(
            (name, getattr(adapter, name)) for name in static_names(adapter)
        )
        self.names = tuple(
            name for name in leaf_names(adapter) if getattr(adapter, name) is not None
        )
        for name in self.names:
            variable = Frozen if name in _CONSTANT else nnx.Param
            setattr(self, name, variable(getattr(adapter, name)))

    def __call__(self) -> Any:
        """The adapter."""
        arrays = {name: getattr(self, name)[...] for name in self.names}
        return self.kind(**arrays, **dict(self.options))

    def neuron_dimensions(self) -> dict[str, str]:
        """Why no leaf holds neurons, see :func:`sphax.neurons.of`."""
        return dict.fromkeys(self.names, "an adapter, under which neurons are frozen")


def _to_state(adapter: Any) -> dict[str, Any]:
    return {
        name: serialization.to_state_dict(getattr(adapter, name))
        for name in leaf_names(adapter)
    }


def _from_state(adapter: Any, state: dict[str, Any]) -> Any:
    # Past the constructor: a state may hold anything in place of arrays.
    arrays = {
        name: serialization.from_state_dict(getattr(adapter, name), state[name])
        for name in leaf_names(adapter)
    }
    structure = jax.tree.structure(adapter)
    return structure.unflatten([x for x in arrays.values() if x is not None])


# Here, since reparam does without Flax.
for _kind in (BlockRotation, ButterflyRotation, Reflections, SubspaceRotation):
    serialization.register_serialization_state(_kind, _to_state, _from_state)
