"""Networks and heads of insightface's ``arcface_torch``."""

from typing import overload

import numpy as np

from sphax.convert._files import FilePath, Tensors, arrays_of
from sphax.convert._heads import read_head, write_rows
from sphax.convert._iresnet import INSIGHTFACE
from sphax.convert._modules import check_module, only
from sphax.convert._networks import read_network, write_network
from sphax.layers import MarginHead
from sphax.networks import Backbone


@overload
def from_insightface(
    tensors: FilePath | Tensors, module: Backbone | None = None
) -> Backbone: ...


@overload
def from_insightface(tensors: FilePath | Tensors, module: MarginHead) -> MarginHead: ...


def from_insightface(
    tensors: FilePath | Tensors, module: Backbone | MarginHead | None = None
) -> Backbone | MarginHead:
    """A network or head with the arrays of insightface's PyTorch code (arcface_torch).

    The network takes faces of 112 x 112, in RGB, channels last, with values in
    [-1, 1]: ``images / 127.5 - 1``. Its embeddings are those of PyTorch in evaluation,
    after ``network.eval()``. In training, its running variances are means of squares,
    where PyTorch divides by one less.

    Args:
        tensors: A file, as in :func:`read`, or arrays by name, such as a
            ``state_dict``. The names may start with ``module.``, and in a file of more
            parts with ``state_dict_backbone.`` and ``state_dict_softmax_fc.``.
        module: For a network, none: the file says which it is. Or a network of the same
            size, whose dropout, dtypes and mesh are kept. For the head, a
            :class:`sphax.layers.MarginHead` of its size: the margin is not in a file.
            If every process has saved the classes of its own, concatenate their arrays
            ``weight`` before, in the order of the processes.

    Returns:
        The network, in training mode as all are made; or a copy of ``module``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head, or an array is not
            floating.
        ValueError: If arrays are missing, not known, or of another shape; if ``module``
            is of another size or kind.

    Example:
        >>> arrays = {"module.weight": np.eye(2)}
        >>> margin = sx.margins.ArcFace()
        >>> head = sx.layers.MarginHead(2, 2, margin=margin, rngs=nnx.Rngs(0))
        >>> head = sx.convert.from_insightface(arrays, head)
        >>> print(head(jnp.array([3.0, 4.0])))
        [38.4 51.2]

    References:
        Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, and
        `insightface <https://github.com/deepinsight/insightface>`_,
        ``recognition/arcface_torch``.
    """
    check_module(module, may_be_none=True)
    if isinstance(module, MarginHead):
        found = arrays_of(tensors, "state_dict_softmax_fc", "head")
        return read_head(module, "weight", only(found, "weight"))
    found = arrays_of(tensors, "state_dict_backbone", "backbone", "model")
    return read_network(found, INSIGHTFACE, module)


def to_insightface(module: Backbone | MarginHead) -> dict[str, np.ndarray]:
    """The arrays of a network or head under the names of insightface's PyTorch code.

    Args:
        module: A network of insightface's kind, such as those of
            ``sx.networks.BACKBONES``, ``"iresnet18"`` to ``"iresnet200"``; or a head.

    Returns:
        Arrays by name, for :func:`write` and then for ``load_state_dict``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head.
        ValueError: If it is of another kind, or has more than one prototype per class.

    Example:
        >>> margin = sx.margins.ArcFace()
        >>> head = sx.layers.MarginHead(2, 3, margin=margin, rngs=nnx.Rngs(0))
        >>> sx.convert.to_insightface(head)["weight"].shape
        (3, 2)
    """
    check_module(module)
    if isinstance(module, MarginHead):
        return {"weight": write_rows(module)}
    return write_network(module, INSIGHTFACE)
