"""The last layer of a classifier that is trained with a margin."""

from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from sphax import losses, sharding
from sphax._checks import (
    as_classes,
    as_labels,
    check_choice,
    check_sizes,
)
from sphax._compiled import compiled
from sphax._foreign_names import OF_LOSSES, explain_names
from sphax.layers._common import ROWS_INIT, check_features, promote
from sphax.losses import MarginAux, check_margin_softmax
from sphax.margins import Margin, Psi
from sphax.neurons import NeuronDimensions

Gradient = Literal["exact", "detached"]
Normalize = Literal["both", "prototypes", "none"]


class MarginState(nnx.Variable[Margin]):
    """The variable that holds a head's margin: state that no optimizer trains.

    As a variable, a margin may change without a new compilation, leaves a compiled
    step, is saved and restored with the model, and passes the bridge to Linen.

    Example:
        >>> head = sx.layers.MarginHead(
        ...     2, 3, margin=sx.margins.CosFace(), rngs=nnx.Rngs(0)
        ... )
        >>> params, margin = nnx.state(head, nnx.Param, sx.layers.MarginState)
        >>> list(params), list(margin)
        (['prototypes'], ['margin_state'])
    """


class MarginHead(nnx.Module):
    r"""Prototypes of the classes, and the softmax with a margin over them.

    A call gives the logits that predict, without the margin: :math:`s\cos\theta_j`,
    :math:`\|x\|\cos\theta_j` or :math:`x \cdot w_j`, as ``normalize`` is ``"both"``,
    ``"prototypes"`` or ``"none"``. :meth:`loss` gives the loss that trains.

    ``head.margin`` may be assigned at any time, inside a compiled step too. Its
    hyperparameters are arrays of state (:class:`MarginState`): new values of the same
    kind of margin need no new compilation, ``nnx.Param`` does not select them, and they
    have no gradient unless asked for. They are scalars, or, with ``per_class_margin``,
    arrays with one entry per class. A running state and its rate are scalars; a state
    given per class stands still. A hyperparameter with one entry per example belongs
    to its batch: give such a margin to :func:`sphax.losses.margin_softmax` with
    ``head.prototypes[...]``. A running state that the margin keeps moves with every
    :meth:`loss`, but stands still after ``model.eval()``.

    As a Linen module, made by ``nnx.bridge.to_linen``, the head is called for its loss
    by ``apply(variables, embeddings, labels, nnx_method="loss")``. By default Linen
    silently drops what a module writes: a margin that keeps a running state needs
    ``mutable=["MarginState"]``, and the collection that comes back.

    With ``mesh`` and ``class_axis``, the prototypes lie on the devices of a mesh, some
    classes on each, and no device ever holds all: ``prototypes`` is then
    ``[rows, ...]``, with the classes first and then zeros, up to a multiple of 128 (and
    of the number of devices, if this does not divide 128). The same key gives the same
    prototypes on every mesh, and a checkpoint of one mesh fits the others; without a
    mesh, there is a row for each class. Logits and loss are those of one device.

    Args:
        in_features: Size of the embeddings.
        num_classes: Number of classes.
        margin: One of :mod:`sphax.margins`.
        per_class_margin: Whether hyperparameters of the margin may be arrays
            ``[num_classes]``; an example then takes the entry of its label.
        scale: :math:`s`, for ``normalize="both"`` alone: a positive number, 64 if not
            given; or an ``nnx.Param`` of one, to learn it from that value on.
        normalize: ``"both"``, ``"prototypes"`` or ``"none"``; which vectors count by
            their direction only, as in :func:`sphax.losses.margin_softmax`.
        subcenters: Prototypes for each class, of which the nearest counts; with more
            than one, ``prototypes`` is ``[num_classes, subcenters, in_features]``.
        block_size: Number of classes whose logits are formed at a time, to save memory.
        gradient: ``"exact"``, or ``"detached"`` for that of the plain cosine.
        label_smoothing: Weight spread evenly over all classes, in ``[0, 1)``.
        precision: Of the matrix products, as in :func:`jax.lax.dot_general`.
        prototype_init: Initializer of the prototypes, one row for each of them.
            By default Gaussian of variance 1 / in_features: directions are uniform,
            lengths about 1.
        dtype: Of the computation; by default that of embeddings and prototypes
            together.
        param_dtype: Of the prototypes.
        mesh: Mesh on whose devices the prototypes lie; None for one device.
        class_axis: With a mesh, the axis along which the classes are split, or a tuple;
            this and the next as in :func:`sphax.sharding.margin_softmax`.
        batch_axis: With a mesh, the axis along which the examples are split, or a
            tuple; None if each device has all of them.
        rngs: Key stream; uses ``params``.

    Raises:
        TypeError: If ``margin`` is not a :class:`sphax.margins.Margin`; from a call, if
            the embeddings are not floating.
        ValueError: If a size or an option is out of range, a hyperparameter of the
            margin is not a scalar (nor ``[num_classes]`` with ``per_class_margin``), or
            ``scale`` is given where it has no effect; from a call, if shapes do not
            fit.

    Example:
        >>> margin = sx.margins.ArcFace(margin=0.5)
        >>> head = sx.layers.MarginHead(
        ...     2, 3, margin=margin, scale=8.0, rngs=nnx.Rngs(0)
        ... )
        >>> head.prototypes[...] = jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> embeddings, labels = jnp.array([[3.0, 4.0]]), jnp.array([1])
        >>> print(head(embeddings))
        [[ 4.8  6.4 -4.8]]
        >>> print(head.loss(embeddings, labels))
        1.689
        >>> head = sx.layers.MarginHead(
        ...     2,
        ...     3,
        ...     margin=sx.margins.CosFace(margin=jnp.array([0.1, 0.2, 0.4])),
        ...     per_class_margin=True,
        ...     rngs=nnx.Rngs(0),
        ... )

    References:
        Liu et al., `SphereFace <https://arxiv.org/abs/1704.08063>`_, CVPR 2017; Deng et
        al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019.
    """

    @explain_names(OF_LOSSES)
    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        margin: Margin,
        per_class_margin: bool = False,
        scale: float | nnx.Variable[jax.Array] | None = None,
        normalize: Normalize = "both",
        subcenters: int = 1,
        block_size: int | None = None,
        gradient: Gradient = "exact",
        label_smoothing: float = 0.0,
        precision: jax.lax.PrecisionLike = None,
        prototype_init: nnx.Initializer = ROWS_INIT,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        mesh: jax.sharding.Mesh | None = None,
        class_axis: str | tuple[str, ...] | None = None,
        batch_axis: str | tuple[str, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(
            "MarginHead",
            in_features=in_features,
            num_classes=num_classes,
            subcenters=subcenters,
        )
        check_choice("per_class_margin", per_class_margin, (True, False))
        if (mesh is None) != (class_axis is None) or (mesh is None and batch_axis):
            raise ValueError(
                "MarginHead: mesh and class_axis must be given together, and batch_axis"
                f" with them only; got mesh={mesh}, class_axis={class_axis!r},"
                f" batch_axis={batch_axis!r}."
            )
        check_margin_softmax(
            margin,
            scale=_value(scale),
            normalize=normalize,
            subcenters=subcenters,
            block_size=block_size,
            gradient=gradient,
            label_smoothing=label_smoothing,
        )
        self.in_features, self.subcenters = in_features, subcenters
        self.num_classes = num_classes
        self.per_class_margin = per_class_margin
        self.normalize: Normalize = normalize
        self.block_size = block_size
        self.gradient: Gradient = gradient
        self.label_smoothing = float(label_smoothing)
        self.precision = precision
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_running_average = False  # what model.eval() sets
        self.mesh, self.class_axis, self.batch_axis = mesh, class_axis, batch_axis
        rows = num_classes
        if mesh is not None and class_axis is not None:
            rows = sharding.padded_rows(num_classes, mesh, class_axis)

        def prototypes(key):
            init = prototype_init(key, (rows * subcenters, in_features), param_dtype)
            is_class = jnp.arange(len(init)) < num_classes * subcenters
            shape = (rows, *((subcenters,) if subcenters > 1 else ()), in_features)
            return jnp.where(is_class[:, None], init, 0).reshape(shape)

        if mesh is None:
            self.prototypes = nnx.Param(prototypes(rngs.params()))
        else:
            placed = NamedSharding(mesh, PartitionSpec(class_axis))
            make = jax.jit(prototypes, out_shardings=placed)
            self.prototypes = nnx.Param(make(rngs.params()))
        if isinstance(scale, nnx.Variable):
            # A copy: the given variable may be shared or created outside this trace.
            self.scale = scale.copy(jnp.asarray(scale.get_value(), self._real))
        else:
            self.scale = 64.0 if scale is None and normalize == "both" else scale
        self.margin_state = MarginState(self._with_arrays(margin))

    def neuron_dimensions(self) -> dict[str, NeuronDimensions]:
        """Which leaves hold neurons: the prototypes, see :func:`sphax.neurons.of`."""
        index = -2 if self.subcenters == 1 else (-3, -2)
        count = None if self.mesh is None else self.num_classes * self.subcenters
        return {
            "prototypes": NeuronDimensions(
                index_axis=index, vector_axis=-1, count=count
            )
        }

    @property
    def margin(self) -> Margin:
        """The margin, with arrays for hyperparameters; may be assigned."""
        return self.margin_state.get_value()

    @margin.setter
    def margin(self, margin: Margin) -> None:
        self.margin_state.set_value(self._with_arrays(margin))

    def __setattr__(self, name: str, value: Any) -> None:
        # Flax 0.12.8 would take an assigned margin for a new attribute, past the
        # property; 0.12.12 looks for properties first, and needs nothing of this.
        if name == "margin":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def _on_mesh(self) -> dict[str, Any]:
        """Where classes and examples lie, as :mod:`sphax.sharding` takes it."""
        if self.mesh is None:
            return {}
        return {
            "mesh": self.mesh,
            "class_axis": self.class_axis,
            "batch_axis": self.batch_axis,
            "num_classes": self.num_classes,
        }

    @property
    def _real(self) -> jax.typing.DTypeLike:
        """The dtype of all hyperparameters, so that a new value compiles nothing."""
        return jnp.promote_types(self.param_dtype, jnp.float32)

    def _with_arrays(self, margin: Margin) -> Margin:
        """The margin with arrays for its leaves, whose shapes are checked."""
        check_margin_softmax(margin)
        for leaf in jax.tree.leaves(margin, is_leaf=_is_psi):
            # Only Psi's function knows the shapes of its leaves.
            if _is_psi(leaf) or jnp.ndim(leaf) == 0:
                continue
            if self.per_class_margin and jnp.shape(leaf) == (self.num_classes,):
                continue
            raise ValueError(
                "MarginHead: hyperparameters of the margin must be scalars, or"
                f" [num_classes], here ({self.num_classes},), if per_class_margin=True;"
                f" got shape {jnp.shape(leaf)}. A margin for each example belongs to"
                " its batch: give it to losses.margin_softmax, with"
                " head.prototypes[...]."
            )

        def as_array(leaf: Any) -> jax.Array:
            array = jnp.asarray(leaf)
            is_real = jnp.issubdtype(array.dtype, jnp.floating)
            return array.astype(self._real) if is_real else array

        return jax.tree.map(as_array, margin)

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """Logits without the margin, for prediction.

        Args:
            embeddings: Floating, ``[..., in_features]``.

        Returns:
            Logits, ``[..., num_classes]``, in the dtype of the computation, having
            been formed in float32 at least. A zero embedding or prototype has cosine 0.
        """
        check_features("embeddings", embeddings, self.in_features)
        x, w = promote("embeddings", embeddings, self.prototypes[...], self.dtype)
        package = losses if self.mesh is None else sharding
        logits = package.class_logits(
            x,
            w,
            scale=_value(self.scale) if self.normalize == "both" else None,
            normalize=self.normalize,
            precision=self.precision,
            **self._on_mesh,
        )
        return logits.astype(x.dtype)

    @overload
    def loss(
        self,
        embeddings: jax.Array,
        labels: jax.Array,
        *,
        where: jax.Array | None = None,
        key: jax.Array | None = None,
        has_aux: Literal[False] = False,
    ) -> jax.Array: ...

    @overload
    def loss(
        self,
        embeddings: jax.Array,
        labels: jax.Array,
        *,
        where: jax.Array | None = None,
        key: jax.Array | None = None,
        has_aux: Literal[True],
    ) -> tuple[jax.Array, MarginAux]: ...

    @explain_names(OF_LOSSES)
    def loss(
        self,
        embeddings: jax.Array,
        labels: jax.Array,
        *,
        where: jax.Array | None = None,
        key: jax.Array | None = None,
        has_aux: bool = False,
    ) -> jax.Array | tuple[jax.Array, MarginAux]:
        """Mean loss with the margin: :func:`sphax.losses.margin_softmax`.

        Updates the running state of the margin, if it keeps one.

        Args:
            embeddings: Floating, ``[..., in_features]``.
            labels: Integer, ``[...]``, in ``[0, num_classes)``.
            where: Boolean mask or weights, of the shape of ``labels``.
            key: For a margin that draws, another one in every step.
            has_aux: Whether to return ``(loss, aux)``, with quantities to log.

        Returns:
            The loss, a scalar in float32 at least; ``(loss, aux)`` if ``has_aux``.
        """
        check_features("embeddings", embeddings, self.in_features)
        x, w = promote("embeddings", embeddings, self.prototypes[...], self.dtype)
        labels = as_labels(labels, x.shape[:-1], "embeddings")

        def of_labels(leaf: Any) -> Any:
            if _is_psi(leaf) or not leaf.ndim:
                return leaf
            classes, _ = as_classes(labels, self.num_classes)
            return _take(classes, leaf)

        package = losses if self.mesh is None else sharding
        loss, aux = package.margin_softmax(
            x,
            w,
            labels,
            jax.tree.map(of_labels, self.margin, is_leaf=_is_psi),
            where=where,
            key=key,
            has_aux=True,
            scale=_value(self.scale),
            normalize=self.normalize,
            block_size=self.block_size,
            gradient=self.gradient,
            label_smoothing=self.label_smoothing,
            precision=self.precision,
            **self._on_mesh,
        )
        if self.margin.keeps_state and not self.use_running_average:
            self.margin = jax.tree.map(_moved, self.margin, aux.margin)
        return (loss, aux) if has_aux else loss


@compiled()
def _take(classes: jax.Array, values: jax.Array) -> jax.Array:
    return values[classes]


def _moved(old: jax.Array, new: jax.Array) -> jax.Array:
    """A running state, which is a scalar; arrays of the classes keep their values."""
    if old.ndim < new.ndim:
        raise ValueError(
            "MarginHead: the rate of a running state must be a scalar, with"
            f" per_class_margin too: the state would become one of shape {new.shape}."
        )
    return old if old.ndim else new


def _is_psi(x: Any) -> bool:
    return isinstance(x, Psi)


def _value(scale: float | nnx.Variable[jax.Array] | None) -> Any:
    return scale.get_value() if isinstance(scale, nnx.Variable) else scale
