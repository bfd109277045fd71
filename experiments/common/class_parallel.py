"""Training of a network and of the prototypes of very many classes, on many devices.

Images are split over the devices, and so are the classes: each device computes the
embeddings of its images, all devices gather them, and each compares them with its own
prototypes. In several processes, each gives the images of its own devices.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import sphax as sx
from experiments.common import costs
from experiments.common.class_recipes import Recipe

AXIS = "devices"
_SPLIT, _WHOLE = PartitionSpec(AXIS), PartitionSpec()


class Model(nnx.Module):
    """A network from images to embeddings, and the prototypes of the classes."""

    def __init__(self, recipe: Recipe, classes: int, mesh: Mesh, *, rngs: nnx.Rngs):
        self.network = recipe.make_network(rngs)
        self.head = sx.layers.MarginHead(
            self.network.features,
            classes,
            **recipe.head,
            # As in Partial FC: short prototypes, which the first steps turn fast.
            prototype_init=nnx.initializers.normal(0.01),
            mesh=mesh,
            class_axis=AXIS,
            batch_axis=AXIS,
            rngs=rngs,
        )


class Setting(NamedTuple):
    """What a step is compiled for.

    Attributes:
        recipe: Of the training.
        classes: Number of classes.
        steps: Number of steps, which the learning rate depends on.
        features: Dimension of the embeddings.
        mesh: All devices, in the order of the processes.
        graph: Structure of the :class:`Model`.
    """

    recipe: Recipe
    classes: int
    steps: int
    features: int
    mesh: Mesh
    graph: Any


class State(NamedTuple):
    """All that changes from step to step.

    Attributes:
        network: Parameters of the network.
        head: Prototypes, split over the devices.
        rest: Statistics, keys of the network, and the margin with its running state.
        optimizers: States of the optimizers of network and prototypes.
        key: Numbers of the key that the keys of all steps come from.
        step: Number of steps done.
    """

    network: Any
    head: Any
    rest: Any
    optimizers: Any
    key: jax.Array
    step: jax.Array


def begin(recipe: Recipe, classes: int, steps: int) -> tuple[Setting, Any]:
    """The setting of a training, and ``initial(seed)``, its first state.

    Raises:
        ValueError: If the batch cannot be split.
    """
    mesh = Mesh(np.array(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))
    if recipe.batch % (mesh.size * recipe.accumulate):
        raise ValueError(
            "--batch must be a multiple of the number of devices times --accumulate,"
            f" {mesh.size} times {recipe.accumulate}, got {recipe.batch}."
        )
    kinds = nnx.All(nnx.Param, nnx.PathContains("network")), nnx.Param, ...
    optimizers = recipe.optimizers(steps)

    def model(seed):
        return Model(recipe, classes, mesh, rngs=nnx.Rngs(jax.random.key(seed)))

    def make(seed):
        _, network, head, rest = nnx.split(model(seed), *kinds)
        states = optimizers[0].init(network), optimizers[1].init(head)
        key = jax.random.key_data(jax.random.key(seed))
        return State(network, head, rest, states, key, jnp.zeros((), jnp.int32))

    shapes = jax.eval_shape(make, 0)
    whole, split = (NamedSharding(mesh, x) for x in (_WHOLE, _SPLIT))
    rows = _rows(shapes.head)

    def by_class(tree):
        return jax.tree.map(lambda x: split if x.shape[:1] == (rows,) else whole, tree)

    places = jax.tree.map(lambda _: whole, shapes)
    places = places._replace(
        head=by_class(shapes.head),
        optimizers=(places.optimizers[0], by_class(shapes.optimizers[1])),
    )
    abstract = nnx.eval_shape(lambda: model(0))
    graph = nnx.graphdef(abstract)
    setting = Setting(recipe, classes, steps, abstract.network.features, mesh, graph)
    return setting, jax.jit(make, out_shardings=places)


def share(setting: Setting, rows: np.ndarray) -> jax.Array:
    """An array split over all devices, of which each process gives its part."""
    place = NamedSharding(setting.mesh, _SPLIT)
    return jax.make_array_from_process_local_data(place, rows)


def costs_of(recipe: Recipe, classes: int, devices: int) -> tuple[Any, costs.Costs]:
    """The network, of shapes alone, and the costs of a part of a batch on each device.

    Operations are counted in the network as it is traced, and the bytes kept for its
    backward pass are those of all its residuals. The compiler, which fuses operations,
    may keep fewer.
    """
    network = nnx.eval_shape(lambda: recipe.make_network(nnx.Rngs(0)))
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    side = recipe.image_size

    def forward(params, rest, images):
        return nnx.merge(graph, params, rest, copy=True)(images)

    def residuals(params, rest, images):
        return jax.vjp(lambda params: forward(params, rest, images), params)[1]

    def images(number):
        return jax.ShapeDtypeStruct((number, side, side, 3), jnp.float32)

    two, one = (
        sum(
            leaf.size * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(
                jax.eval_shape(residuals, params, rest, images(number))
            )
            if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        )
        for number in (2, 1)
    )
    analysis: Any = jax.jit(forward).lower(params, rest, images(1)).cost_analysis()
    slots = 2 if recipe.optimizer == "adamw" else 1
    part = recipe.batch // recipe.accumulate
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    of_network = costs.backbone_costs(
        analysis["flops"] / 2, numbers, two - one, part, devices, slots=slots
    )
    of_head = costs.head_costs(
        classes,
        devices,
        part,
        network.features,
        block_size=recipe.block_size,
        rate=recipe.sample_rate,
        untouched=recipe.untouched,
        itemsize=jnp.dtype(recipe.precision).itemsize,
        slots=slots,
        subcenters=recipe.subcenters,
    )
    return network, of_network + of_head


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def step(
    setting: Setting, state: State, images: jax.Array, labels: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """One step: the next state, and the metrics of the batch.

    Statistics of batch normalization are over the images of a part on all devices.

    Args:
        setting: Of the training.
        state: Is donated.
        images: uint8, ``[batch, height, width, 3]``, split over the devices.
        labels: int32, ``[batch]``, split as well.
    """
    recipe = setting.recipe
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    rows, targets, prototypes = None, labels, state.head
    if recipe.sample_rate < 1.0:
        rows, targets, prototypes = _sample(setting, state.head, labels, key)

    def loss_of(params, rest, images, labels, key):
        network, prototypes = params
        head = prototypes if rows is None else state.head
        model = nnx.merge(setting.graph, network, head, rest, copy=True)
        embeddings = model.network(_normalized(images))
        if rows is None:
            loss, aux = model.head.loss(embeddings, labels, key=key, has_aux=True)
        else:
            loss, aux = _sampled_loss(
                setting, model.head, embeddings, prototypes, labels, key
            )
        metrics = {
            "loss": loss,
            "correct": jnp.mean(aux.correct, dtype=jnp.float32),
            "angle": jnp.degrees(jnp.mean(aux.angle)),
            "norm": jnp.mean(aux.norm),
        }
        return loss, (nnx.split(model, nnx.Param, ...)[2], metrics)

    params, parts = (state.network, prototypes), recipe.accumulate

    def add_part(carry, part):
        rest, total = carry
        find = jax.grad(loss_of, has_aux=True)
        grads, (rest, metrics) = find(params, rest, *part)
        return (rest, jax.tree.map(jnp.add, total, grads)), metrics

    carry = state.rest, jax.tree.map(jnp.zeros_like, params)
    keys = jax.random.split(key, parts)
    if parts == 1:
        (rest, grads), metrics = add_part(carry, (images, targets, keys[0]))
    else:
        # A part has some images of each device, so that none of them travels.
        place = NamedSharding(setting.mesh, PartitionSpec(None, AXIS))
        given = [
            jax.lax.with_sharding_constraint(
                x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), place
            )
            for x in (images, targets)
        ]
        (rest, grads), metrics = jax.lax.scan(add_part, carry, (*given, keys))
    grads = jax.tree.map(lambda x: x / parts, grads)

    first, second = recipe.optimizers(setting.steps)
    updates, of_network = first.update(grads[0], state.optimizers[0], state.network)
    network = optax.apply_updates(state.network, updates)
    if rows is None:
        updates, of_head = second.update(grads[1], state.optimizers[1], state.head)
        head = optax.apply_updates(state.head, updates)
    else:
        head, of_head = _update_rows(setting, second, grads[1], state, rows)
    optimizers, count = (of_network, of_head), state.step + 1
    metrics = {name: jnp.mean(values) for name, values in metrics.items()} | {
        "gradient": optax.tree.norm(grads[0]),
        "learning_rate": recipe.rate(setting.steps)(state.step),
        # Images whose class found no place in the sample, which makes the loss NaN.
        "lost": jnp.sum(targets < 0),
    }
    return State(network, head, rest, optimizers, state.key, count), metrics


def embed(
    setting: Setting, state: State, number: int, get: Callable[[int], np.ndarray]
) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """Embeds images and their mirror images, in batches.

    Args:
        setting: Of the training.
        state: Has the network.
        number: How many images there are.
        get: The image of a number, uint8, ``[height, width, 3]``.

    Yields:
        Numbers of the images of a batch, the last of them repeated to fill it, and
        embeddings of each and of its mirror image, ``[batch, 2, features]``, the same
        on all devices.
    """
    batch = setting.recipe.batch
    size = batch // jax.process_count()
    for start in range(0, number, batch):
        numbers = np.minimum(np.arange(start, start + batch), number - 1)
        own = numbers[jax.process_index() * size :][:size]
        images = share(setting, np.stack([get(int(i)) for i in own]))
        yield numbers, _embed(setting, state, images)


@partial(jax.jit, static_argnums=0)
def _embed(setting: Setting, state: State, images: jax.Array) -> jax.Array:
    parts = state.network, state.head, state.rest
    model = nnx.merge(setting.graph, *parts, copy=True)
    x = _normalized(images)
    both = jnp.stack([x, x[:, :, ::-1]], axis=1)
    return _everywhere(setting, model.network(both, use_running_average=True))


@partial(jax.jit, static_argnums=0)
def cosines_to_centers(
    setting: Setting, state: State, embeddings: jax.Array, labels: jax.Array
) -> jax.Array:
    """Cosines to each center of an example's own class, ``[batch, centers]``."""
    centers = jax.tree.leaves(state.head)[0][labels]
    directions = sx.sphere.normalize(embeddings)[:, None], sx.sphere.normalize(centers)
    return _everywhere(setting, jnp.sum(directions[0] * directions[1], axis=-1))


def _everywhere(setting: Setting, x: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(setting.mesh, _WHOLE))


def _normalized(images: jax.Array) -> jax.Array:
    return (images.astype(jnp.float32) - 127.5) / 127.5


def _rows(head: Any) -> int:
    (prototypes,) = jax.tree.leaves(head)
    return prototypes.shape[0]


def _sample(setting: Setting, head: Any, labels: jax.Array, key: jax.Array) -> Any:
    """Numbers of the sampled rows, the labels among them, and their prototypes."""
    devices = setting.mesh.size
    rows = _rows(head) // devices
    fewest = max(setting.classes - (devices - 1) * rows, 0)
    size = max(1, int(setting.recipe.sample_rate * rows))
    if size > fewest:
        most = f"at most {fewest / rows:.3g}" if fewest else "1"
        raise ValueError(
            f"--sample-rates must be {most} for {setting.classes} identities on"
            f" {devices} devices, the last of which has only {fewest} in its {rows}"
            f" places, got {setting.recipe.sample_rate}."
        )

    def sample(head, labels, key):
        (prototypes,) = jax.tree.leaves(head)
        found = sx.sharding.sample_classes(
            jax.random.wrap_key_data(key),
            prototypes,
            labels,
            size,
            class_axis=AXIS,
            num_classes=setting.classes,
        )
        return found.rows, found.labels, jax.tree.map(lambda x: x[found.rows], head)

    sample = jax.shard_map(
        sample,
        mesh=setting.mesh,
        in_specs=(_SPLIT, _WHOLE, _WHOLE),
        out_specs=(_SPLIT, _WHOLE, _SPLIT),
    )
    return sample(head, labels, jax.random.key_data(key))


def _sampled_loss(setting, head, embeddings, prototypes, labels, key):
    """The head's loss with some of its prototypes; moves its margin's state."""
    dtype = head.dtype or embeddings.dtype
    (prototypes,) = jax.tree.leaves(prototypes)
    loss, aux = sx.sharding.margin_softmax(
        embeddings.astype(dtype),
        prototypes.astype(dtype),
        labels,
        head.margin,
        mesh=setting.mesh,
        class_axis=AXIS,
        batch_axis=AXIS,
        key=key,
        scale=head.scale,
        gradient=head.gradient,
        block_size=head.block_size,
        has_aux=True,
    )
    head.margin = aux.margin
    return loss, aux


def _update_rows(setting, optimizer, grads, state, rows):
    """The prototypes and their optimizer's state after a step with a sample of them."""
    number = _rows(state.head)
    places = jax.tree.map(
        lambda x: _SPLIT if x.shape[:1] == (number,) else _WHOLE, state.optimizers[1]
    )

    def update(grads, optimizer_state, head, rows):
        updates, new = optimizer.update(grads, optimizer_state, head, rows=rows)
        return sx.sharding.apply_rows(head, updates, rows), new

    update = jax.shard_map(
        update,
        mesh=setting.mesh,
        in_specs=(_SPLIT, places, _SPLIT, _SPLIT),
        out_specs=(_SPLIT, places),
    )
    return update(grads, state.optimizers[1], state.head, rows)
