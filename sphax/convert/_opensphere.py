"""Networks and heads of opensphere."""

from typing import overload

import numpy as np

from sphax.convert._files import FilePath, Tensors, arrays_of
from sphax.convert._heads import read_head, write_rows
from sphax.convert._iresnet import INSIGHTFACE
from sphax.convert._modules import check_module, only
from sphax.convert._networks import read_network, write_network
from sphax.convert._sfnet import EARLY, SFNET
from sphax.layers import MarginHead
from sphax.networks import Backbone, FaceEmbedding, SphereFaceUnit


@overload
def from_opensphere(
    tensors: FilePath | Tensors, module: Backbone | None = None
) -> Backbone: ...


@overload
def from_opensphere(tensors: FilePath | Tensors, module: MarginHead) -> MarginHead: ...


def from_opensphere(
    tensors: FilePath | Tensors, module: Backbone | MarginHead | None = None
) -> Backbone | MarginHead:
    """A network (IResNet, SFNet) or head with the arrays of opensphere.

    The network takes faces of 112 x 112, in RGB, channels last, with values in
    [-1, 1]: ``images / 127.5 - 1``. opensphere tests with the mean of the embeddings of
    an image and its mirror image. SFNet is read with and without batch normalization,
    and in its earlier form (``sfnet20_deprecated``), of which SphereFace2's networks
    are.

    Args:
        tensors: A file, as in :func:`read`, or arrays by name, such as a
            ``state_dict``. The names may start with ``module.``, and in a file of both
            parts with ``backbone.`` and ``head.``.
        module: For a network, none: the file says which it is. Or a network of the same
            kind and size, whose dropout, dtypes and mesh are kept. For the head, a
            :class:`sphax.layers.MarginHead` of its size: the margin is not in a file.
            A column of ``w`` is a class, or a row in the later releases; opensphere
            makes them unit in each step, so that only their directions count.

    Returns:
        The network, in training mode as all are made; or a copy of ``module``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head, or an array is not
            floating.
        ValueError: If arrays are missing, not known, or of another shape; if ``module``
            is of another size or kind; if a head has as many features as classes, so
            that its orientation is not known, or a bias, which a head here has not.

    Example:
        >>> arrays = {"w": np.array([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]])}
        >>> margin = sx.margins.ArcFace()
        >>> head = sx.layers.MarginHead(2, 3, margin=margin, rngs=nnx.Rngs(0))
        >>> head = sx.convert.from_opensphere(arrays, head)
        >>> print(head(jnp.array([3.0, 4.0])))
        [ 38.4  51.2 -51.2]

    References:
        Liu et al., `SphereFace Revived <https://arxiv.org/abs/2109.05565>`_, TPAMI
        2022; Wen et al., `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, ICLR 2022;
        `opensphere <https://github.com/ydwen/opensphere>`_.
    """
    check_module(module, may_be_none=True)
    if isinstance(module, MarginHead):
        return _read_head(arrays_of(tensors, "head"), module)
    found = arrays_of(tensors, "backbone")
    if "prelu.weight" in found:
        return read_network(found, INSIGHTFACE, module)
    is_early = "layer1.0.conv.weight" in found
    return read_network(found, EARLY if is_early else SFNET, module)


def _read_head(tensors: dict[str, np.ndarray], head: MarginHead) -> MarginHead:
    if "b" in tensors:
        raise ValueError(
            "tensors must have w alone for a MarginHead, which has no bias, got b too."
            " For SphereFace2, give both to the loss: sx.losses.sphereface2(embeddings,"
            ' tensors["w"].T, labels, tensors["b"][0]).'
        )
    matrix = only(tensors, "w")
    if head.num_classes == head.in_features:
        raise ValueError(
            "tensors must have w of as many classes as features, whose orientation is"
            " not known; set it: head.prototypes[...] = w.T, or w where a class is a"
            " row, as in the later releases."
        )
    is_late = matrix.shape == (head.num_classes, head.in_features)
    return read_head(head, "w", matrix if is_late else matrix.T)


def to_opensphere(module: Backbone | MarginHead) -> dict[str, np.ndarray]:
    """The arrays of a network or head under the names of opensphere.

    Args:
        module: An IResNet, or an SFNet as :func:`from_opensphere` makes them; or a
            head, whose classes become columns, as in the first releases.

    Returns:
        Arrays by name, for :func:`write` and then for ``load_state_dict``.

    Raises:
        TypeError: If ``module`` is neither a network nor a head.
        ValueError: If it is of another kind, or has more than one prototype per class.

    Example:
        >>> margin = sx.margins.ArcFace()
        >>> head = sx.layers.MarginHead(2, 3, margin=margin, rngs=nnx.Rngs(0))
        >>> sx.convert.to_opensphere(head)["w"].shape
        (2, 3)
    """
    check_module(module)
    if isinstance(module, MarginHead):
        return {"w": write_rows(module).T}
    if type(module.embedding) is FaceEmbedding:
        return write_network(module, INSIGHTFACE)
    units = [unit for stage in module.stages for unit in stage.units]
    is_early = any(type(unit) is SphereFaceUnit for unit in units)
    return write_network(module, EARLY if is_early else SFNET)
