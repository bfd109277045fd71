r"""Costs of a training step: operations, memory, traffic and time for each device.

:func:`head_costs` is a model of a class-parallel margin softmax, and
:func:`backbone_costs` of the network before it, which is data-parallel. Add them up;
:meth:`Costs.seconds` gives the time on a machine of :data:`MACHINES`, which is a lower
bound: it takes the peaks of the data sheets, and counts what only the largest arrays
cost. ``python -m experiments.benchmarks.scale`` compares the model with compiled
programs.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import jax

import sphax as sx


class Machine(NamedTuple):
    """What one device can do at most, by its vendor's data sheet.

    Attributes:
        flops: Operations of bfloat16 products in a second.
        bandwidth: Bytes that its memory reads or writes in a second.
        memory: Bytes of its memory.
        interconnect: Bytes that it sends to a neighbor in a second, while it receives
            as many.
        cache: Bytes beside the processor, where a block of logits may stay.
        launch: Seconds that one block of classes costs beside its work.
    """

    flops: float
    bandwidth: float
    memory: float
    interconnect: float
    cache: float
    launch: float


MACHINES = {
    "TPU v5e": Machine(197e12, 819e9, 16e9, 100e9, 50e6, 1.5e-6),
    "TPU v5p": Machine(459e12, 2765e9, 95e9, 200e9, 50e6, 1.5e-6),
    "H100": Machine(989e12, 3350e9, 80e9, 450e9, 50e6, 45e-6),
}


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of one step on one device.

    Attributes:
        flops: Operations of matrix products.
        held: Bytes of params, their gradients and the state of the optimizer.
        temporaries: Bytes beside these that must be there at the same time.
        moved: Bytes to and from memory, without those of logits.
        moved_logits: Bytes of logits to and from memory, unless they stay in the cache.
        block: Bytes of the logits that are there at the same time, in float32.
        sent: Bytes sent to other devices, and as many received.
        blocks: Number of blocks of classes, forward and backward.
    """

    flops: float
    held: float
    temporaries: float
    moved: float
    moved_logits: float = 0.0
    block: float = 0.0
    sent: float = 0.0
    blocks: int = 0

    def __add__(self, other: "Costs") -> "Costs":
        """Costs of both, with what both hold and keep there at the same time."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        added = Costs(*(a + b for a, b in pairs))
        return dataclasses.replace(added, block=max(self.block, other.block))

    @property
    def peak(self) -> float:
        """Bytes of memory at the same time."""
        return self.held + self.temporaries

    def seconds(self, machine: Machine) -> float:
        r"""Time of the step on a machine, a lower bound.

        .. math::
            T = \max(\text{flops} / F, \text{moved} / W) + \text{blocks}\, \tau
            + \text{sent} / N,

        with the :class:`Machine`'s ``flops``, ``bandwidth``, ``launch`` and
        ``interconnect``. Nothing is sent while something is computed.
        """
        stays = self.block <= machine.cache
        moved = self.moved + (0.0 if stays else self.moved_logits)
        return (
            max(self.flops / machine.flops, moved / machine.bandwidth)
            + self.blocks * machine.launch
            + self.sent / machine.interconnect
        )


def head_costs(
    classes: int,
    devices: int,
    batch: int,
    features: int,
    *,
    block_size: int | None = None,
    rate: float = 1.0,
    untouched: Literal["frozen", "dense"] = "frozen",
    itemsize: int = 2,
    slots: int = 1,
    subcenters: int = 1,
    gathered: bool = True,
    batch_devices: int = 1,
) -> Costs:
    r"""Costs of value, gradients and update of a class-parallel margin softmax.

    With :math:`n` devices, each has :math:`c = C_\text{pad} / n` rows of prototypes and
    takes :math:`r` of them into account: all, or those that are sampled. For a batch of
    :math:`B` embeddings of :math:`D` features, in a dtype of :math:`e` bytes, and an
    optimizer with :math:`m` arrays of the params' size:

    ==================  ============================  ==================================
    \                   all classes at once           blocks of :math:`b` classes
    ==================  ============================  ==================================
    operations          :math:`6 B r D`               :math:`8 B r D`: logits are formed
                                                      once more for the gradients
    temporaries         :math:`4 B r`                 :math:`8 B b`
    logits' traffic     :math:`20 B r`                :math:`26 B r`
    blocks              0                             :math:`2 \lceil r / b \rceil`
    ==================  ============================  ==================================

    Beside them:

    - Held are :math:`4 (2 + m) c D` bytes of float32 params, gradients and state; with
      sampled classes :math:`4 (1 + m) c D` and the gradient :math:`4 r D` of the rows,
      and the whole gradient only if untouched rows are ``"dense"``. Temporary are
      :math:`12 B D` of embeddings and their gradient, and lengths, :math:`8 r`; if the
      dtype is not float32, copies of the rows, :math:`e r D`, and of the logits,
      :math:`e B r`; and if classes are sampled, their rows, :math:`4 r D`, and random
      numbers, :math:`12 c`.
    - Moved are :math:`(8 + 2 e) r D` bytes for lengths, copy, products and gradient;
      :math:`4 (3 + 2 m) c D` for the update, or :math:`4 (4 + 2 m) r D` if untouched
      rows are ``"frozen"``; and to sample, 33 passes over :math:`c` random numbers.
    - Sent are, once, :math:`\frac{n - 1}{n}` times :math:`e B D` of embeddings,
      gathered, and :math:`4 B D` of their gradient, scattered; if the embeddings are
      equal on all devices already, :math:`2 \frac{n - 1}{n} 4 B D` of their gradient.
      The numbers of the examples (a maximum, a sum, two of the target, and labels if
      gathered) are :math:`\frac{n - 1}{n} 36 B`, and :math:`\frac{n - 1}{n} 12 B` more
      if classes are sampled. No logits and no prototypes are sent,
      unless examples stay split over :math:`n_b` further devices: then
      :math:`2 \frac{n_b - 1}{n_b} 4 r D` of the prototypes' gradient, and each device
      has :math:`B / n_b` of the examples.

    Args:
        classes: Number of classes.
        devices: :math:`n`, devices over which the classes are split.
        batch: :math:`B`, examples of a step, on all devices together.
        features: :math:`D`.
        block_size: :math:`b`, or ``None`` for all classes at once.
        rate: Share of the classes that is sampled in a step; all if 1.
        untouched: What happens to rows that were not sampled: nothing, or an update
            with gradient zero.
        itemsize: :math:`e`, bytes of a number in the products.
        slots: :math:`m`: 1 for momentum, 2 for Adam.
        subcenters: Rows of each class.
        gathered: Whether embeddings arrive split over the ``devices``.
        batch_devices: :math:`n_b`, devices with other examples and the same classes.
    """
    mesh = jax.sharding.AbstractMesh((devices,), ("class",))
    rows = sx.sharding.padded_rows(classes, mesh, "class") // devices * subcenters
    used = rows if rate == 1.0 else math.ceil(rate * rows)
    examples = batch / batch_devices
    block = used if block_size is None else min(block_size * subcenters, used)
    logits, at_once, is_blocked = examples * used, examples * block, block < used
    params, touched = 4.0 * rows * features, 4.0 * used * features

    held = (2 + slots) * params
    update = (3 + 2 * slots) * params
    temporaries = (8.0 if is_blocked else 4.0) * at_once
    temporaries += 12.0 * examples * features + 8.0 * used
    moved = (8.0 + 2 * itemsize) / 4 * touched
    share = (devices - 1) / devices
    sent = share * 32 * examples
    if gathered:
        sent += share * (4 + (itemsize + 4) * features) * examples
    else:
        sent += share * 2 * 4 * examples * features
    sent += 2 * (batch_devices - 1) / batch_devices * touched

    if itemsize < 4:
        temporaries += itemsize / 4 * touched + itemsize * at_once
    if rate < 1.0:
        temporaries += touched + 12.0 * rows
        moved += 33 * 4.0 * rows
        sent += share * 12 * examples
        if untouched == "frozen":
            held = (1 + slots) * params + touched
            update = (4 + 2 * slots) * touched
        else:
            held += touched

    return Costs(
        flops=(8.0 if is_blocked else 6.0) * logits * features,
        held=held,
        temporaries=temporaries,
        moved=moved + update,
        moved_logits=(26.0 if is_blocked else 20.0) * logits,
        block=4.0 * at_once,
        sent=sent,
        blocks=2 * math.ceil(used / block) if is_blocked else 0,
    )


def backbone_costs(
    multiply_adds: float,
    params: float,
    activations: float,
    batch: int,
    devices: int,
    *,
    slots: int = 1,
) -> Costs:
    """Costs of a network of which each device has a copy, for its share of the images.

    Args:
        multiply_adds: Multiplications of one image in the forward pass; the backward
            pass has twice as many.
        params: Number of params.
        activations: Bytes of one image that are kept for the backward pass; each is
            written once, and read twice.
        batch: Images of a step, on all devices together.
        devices: Number of devices.
        slots: Arrays of the params' size that the optimizer keeps.
    """
    images, size = batch / devices, 4.0 * params
    return Costs(
        flops=6.0 * multiply_adds * images,
        held=(2 + slots) * size,
        temporaries=activations * images,
        moved=3.0 * activations * images + (3 + 2 * slots) * size,
        sent=2 * (devices - 1) / devices * size,
    )
