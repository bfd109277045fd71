"""Networks and heads of AdaFace."""

import dataclasses
from typing import overload

import numpy as np

from sphax.convert._files import FilePath, Tensors, arrays_of
from sphax.convert._heads import read_head, write_rows
from sphax.convert._iresnet import ADAFACE
from sphax.convert._modules import check_module, only
from sphax.convert._networks import need, read_network, write_network
from sphax.layers import MarginHead
from sphax.margins import AdaFace
from sphax.networks import Backbone


@overload
def from_adaface(
    tensors: FilePath | Tensors, module: Backbone | None = None
) -> Backbone: ...


@overload
def from_adaface(tensors: FilePath | Tensors, module: MarginHead) -> MarginHead: ...


def from_adaface(
    tensors: FilePath | Tensors, module: Backbone | MarginHead | None = None
) -> Backbone | MarginHead:
    """A network (IR-18, 34, 50, 101) or head with the arrays of AdaFace's code.

    The network takes faces of 112 x 112, in BGR, channels last, with values in
    [-1, 1]: ``images[..., ::-1] / 127.5 - 1`` for RGB. Its embeddings are those of
    AdaFace before they are made unit: the latter are ``sx.sphere.normalize`` of them,
    and their quality is ``sx.sphere.length``. It is an IResNet whose first shortcut is
    every second position, and whose last normalization has no bias.

    Args:
        tensors: A file, as in :func:`read`, or arrays by name, such as a
            ``state_dict``. In a checkpoint of Lightning, the names start with
            ``model.`` and ``head.``.
        module: For a network, none: the file says which it is, but for the dropout of
            0.4 before the linear layer, which a network made here does not have. Or a
            network of the same kind, with ``FaceEmbedding(dropout_rate=0.4)`` for
            further training. For the head, a :class:`sphax.layers.MarginHead` of its
            size. If its margin is :class:`sphax.margins.AdaFace`, it takes over the
            running mean and deviation; m, h, the rate and the scale are not in a file.

    Returns:
        The network, in training mode as all are made; or a copy of ``module``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head, or an array is not
            floating.
        ValueError: If arrays are missing, not known, or of another shape; if ``module``
            is of another size or kind. Networks with squeeze-and-excitation or
            bottlenecks (IR-SE, IR-152, IR-200) are not known.

    Example:
        >>> arrays = {"head.kernel": np.eye(2), "head.t": np.zeros(1)}
        >>> arrays |= {"head.batch_mean": np.ones(1), "head.batch_std": np.ones(1)}
        >>> margin = sx.margins.AdaFace()
        >>> head = sx.layers.MarginHead(2, 2, margin=margin, rngs=nnx.Rngs(0))
        >>> print(sx.convert.from_adaface(arrays, head).margin.mean)
        1.0

    References:
        Kim et al., `AdaFace <https://arxiv.org/abs/2204.00964>`_, CVPR 2022, and the
        `authors' code <https://github.com/mk-minchul/AdaFace>`_.
    """
    check_module(module, may_be_none=True)
    if not isinstance(module, MarginHead):
        return read_network(arrays_of(tensors, "model"), ADAFACE, module)
    found = arrays_of(tensors, "head")
    head = read_head(
        module, "kernel", only(found, "kernel", "t", "batch_mean", "batch_std").T
    )
    if isinstance(head.margin, AdaFace):
        mean, deviation = need(found, "batch_mean"), need(found, "batch_std")
        head.margin = dataclasses.replace(
            head.margin, mean=mean.item(), deviation=deviation.item()
        )
    return head


def to_adaface(module: Backbone | MarginHead) -> dict[str, np.ndarray]:
    """The arrays of a network or head under the names of AdaFace's code.

    Args:
        module: A network as :func:`from_adaface` makes them; or a head. A head of
            another margin gets the mean and the deviation at which AdaFace starts.

    Returns:
        Arrays by name, for :func:`write` and then for ``load_state_dict``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head.
        ValueError: If it is of another kind, or has more than one prototype per class.

    Example:
        >>> margin = sx.margins.AdaFace()
        >>> head = sx.layers.MarginHead(2, 3, margin=margin, rngs=nnx.Rngs(0))
        >>> arrays = sx.convert.to_adaface(head)
        >>> arrays["kernel"].shape, arrays["batch_mean"]
        ((2, 3), array([20.], dtype=float32))
    """
    check_module(module)
    if not isinstance(module, MarginHead):
        return write_network(module, ADAFACE)
    margin = module.margin if isinstance(module.margin, AdaFace) else AdaFace()
    state = {"t": 0.0, "batch_mean": margin.mean, "batch_std": margin.deviation}
    arrays = {name: np.asarray(x, np.float32).reshape(1) for name, x in state.items()}
    return {"kernel": write_rows(module).T} | arrays
