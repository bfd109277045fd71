"""Adapters: a few trained numbers that rotate what enters a frozen kernel."""

import dataclasses
import functools
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sphax._checks import (
    as_floating,
    check_choice,
    check_count,
    check_flag,
    check_key,
    check_number,
    shown,
)
from sphax._compiled import compiled
from sphax._hyperparameters import register, static
from sphax._linalg import identity_like, invert_triangular, product
from sphax._numerics import widen
from sphax.orthogonal import cayley, cayley_neumann
from sphax.reparam._blocks import Butterfly, Contiguous
from sphax.reparam._maps import OrthogonalMap
from sphax.sphere import direction

CayleyMethod = Literal["cayley", "cayley_neumann"]


@register
class BlockRotation:
    r"""Block-diagonal rotation of inputs (OFT, COFT).

    .. math::
        R = \operatorname{diag}(R_1, \dots, R_r), \qquad
        R_i = (I + Q_i) (I - Q_i)^{-1}

    where :math:`Q_i` is the skew-symmetric matrix that has a row of ``raw`` above its
    diagonal, row by row. Zeros give the identity. With ``"cayley_neumann"``,
    :math:`R_i` is the series that PEFT uses by default, which is nearly orthogonal for
    small :math:`Q_i` and diverges from :math:`\|Q_i\|_2 = 1` on:

    ======  ================================================================
    terms   :math:`R_i`
    ======  ================================================================
    1       :math:`I`
    2       :math:`I + 2 Q_i`
    3, 4    :math:`I + 2 Q_i + 2 Q_i^2 + Q_i^3`
    5, ...  :math:`I + 2 Q_i + \dots + 2 Q_i^{\text{terms} - 2} +
            Q_i^{\text{terms} - 1}`
    ======  ================================================================

    Args:
        raw: Entries of :math:`Q_i`, floating, ``[r, b * (b - 1) / 2]``; with a single
            row, all blocks are the same.
        dimension: Size of the inputs, :math:`d`, a multiple of :math:`b`.
        method: ``"cayley"``, or ``"cayley_neumann"`` for the series.
        terms: Number of terms of the series, counted as PEFT does.
        bound: Largest Frobenius norm of :math:`Q_i`, to which a longer one is scaled
            down (COFT), or ``None``.

    Raises:
        TypeError: If ``raw`` is not floating.
        ValueError: If no block has such entries, blocks do not fill the dimension, or
            an option is out of range.

    Example:
        >>> turn = sx.reparam.BlockRotation(jnp.array([[1.0]]), dimension=2)
        >>> sx.reparam.rotate(jnp.array([3.0, 4.0]), turn)
        Array([-4., 3.], dtype=float32)

    References:
        Qiu et al., `Controlling Text-to-Image Diffusion by Orthogonal Finetuning
        <https://arxiv.org/abs/2306.07280>`_, NeurIPS 2023; Qiu et al., `Orthogonal
        Finetuning Made Scalable <https://arxiv.org/abs/2506.19847>`_, EMNLP 2025.
    """

    raw: jax.Array
    _: dataclasses.KW_ONLY
    dimension: int = static(default=dataclasses.MISSING)
    method: CayleyMethod = static(default="cayley")
    terms: int = static(default=5)
    bound: float | None = static(default=None)

    def __post_init__(self):
        raw = _store(self, "raw", 2)
        size = size_of_packed("BlockRotation", raw)
        check_count("BlockRotation: dimension", self.dimension, 2)
        if self.dimension % size or raw.shape[0] not in (1, self.dimension // size):
            raise ValueError(
                f"BlockRotation: raw of shape {raw.shape} has blocks of size {size}:"
                f" for dimension {self.dimension} there must be"
                f" {self.dimension / size:g} rows, or one for blocks that are the same."
            )
        _check_cayley(self)

    @classmethod
    def init(
        cls,
        kernel: ArrayLike,
        *,
        block_size: int = 32,
        share_blocks: bool = False,
        method: CayleyMethod = "cayley",
        terms: int = 5,
        bound: float | None = None,
    ) -> "BlockRotation":
        """The identity, for inputs of a kernel ``[..., in, out]``.

        Blocks have the largest size up to ``block_size`` that divides ``in``; with
        ``share_blocks``, all are the same.
        """
        kernel = as_kernel(kernel)
        check_flag("share_blocks", share_blocks)
        d = kernel.shape[-2]
        shape = Contiguous(block_size, share_blocks).shape(d)
        if shape is None:
            raise ValueError(
                f"block_size, or a smaller one of 2 or more, must divide the inputs of"
                f" the kernel, got block_size={block_size} for a kernel of shape"
                f" {kernel.shape}; leave this kernel out."
            )
        _, blocks, size = shape
        raw = jnp.zeros((blocks, size * (size - 1) // 2), _dtype_of(kernel))
        return cls(raw, dimension=d, method=method, terms=terms, bound=bound)

    def rotated(self, inputs: jax.Array, *, inverse: bool = False) -> jax.Array:
        """``inputs @ R``, or with the transpose of each block."""
        blocks = _cayley_of_packed(self.raw, self.method, self.terms, self.bound)
        blocks = blocks.mT if inverse else blocks
        size = blocks.shape[-1]
        count = self.dimension // size
        taken = inputs.reshape(*inputs.shape[:-1], count, size)
        return _times_blocks(taken, blocks).reshape(inputs.shape)


@register
class ButterflyRotation:
    r"""Product of sparse rotations of inputs, and a factor for each neuron (BOFT).

    .. math::
        R = B_m \cdots B_1, \qquad B_i = P_i \operatorname{diag}(D_{i1}, D_{i2}, \dots)
        P_i^\top, \qquad D_{ij} = (I - S_{ij}) (I + S_{ij})^{-1}

    where :math:`S_{ij}` is the skew-symmetric part of a matrix of ``raw``. Zeros give
    the identity. Coordinates are cut into chunks of :math:`b / 2` neighbors; a block of
    :math:`B_i` acts on the chunks :math:`c` and :math:`c + 2^{i-1}`, as in
    :func:`boft`. Inputs are rearranged by transpositions of axes: no permutation matrix
    is formed. The sign is that of the authors, so that their arrays fit.

    Args:
        raw: Floating, ``[m, d / b, b, b]``, where :math:`2^{m-1} b` divides :math:`d`,
            and :math:`b` is even if :math:`m > 1`.
        scale: Factor of each output, floating, ``[out]``, or ``None``.

    Raises:
        TypeError: If an array is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> raw = jnp.zeros((2, 4, 2, 2)).at[1, 0].set(jnp.array([[0.0, -1], [1, 0]]))
        >>> turn = sx.reparam.ButterflyRotation(raw)
        >>> sx.reparam.rotate(jnp.arange(8.0), turn)
        Array([-2., 1., 0., 3., 4., 5., 6., 7.], dtype=float32)

    References:
        Liu et al., `Parameter-Efficient Orthogonal Finetuning via Butterfly
        Factorization <https://arxiv.org/abs/2311.06243>`_, ICLR 2024.
    """

    raw: jax.Array
    _: dataclasses.KW_ONLY
    scale: jax.Array | None = None

    def __post_init__(self):
        raw = _store(self, "raw", 4)
        factors, blocks, size, _ = raw.shape
        groups = 2 ** max(factors - 1, 0)
        is_odd = factors > 1 and size % 2
        if 0 in raw.shape or size != raw.shape[3] or blocks % groups or is_odd:
            raise ValueError(
                "ButterflyRotation: raw must be [m, d / b, b, b], where 2**(m - 1)"
                " divides the number of blocks, d / b, and b is even if m > 1, got"
                f" shape {raw.shape}."
            )
        _store_scale(self)

    @classmethod
    def init(
        cls,
        kernel: ArrayLike,
        *,
        block_size: int = 4,
        factors: int = 2,
        rescale: bool = True,
    ) -> "ButterflyRotation":
        """The identity, for inputs of a kernel ``[..., in, out]``.

        Blocks have the largest size up to ``block_size`` for which ``factors`` fit;
        ``rescale`` is whether to learn a factor for each output.
        """
        kernel = as_kernel(kernel)
        check_flag("rescale", rescale)
        *_, d, features = kernel.shape
        shape = Butterfly(block_size, factors).shape(d)
        if shape is None:
            raise ValueError(
                f"block_size, or a smaller one of 2 or more, times 2**(factors - 1)"
                f" must divide the inputs of the kernel, got block_size={block_size}"
                f" and factors={factors} for a kernel of shape {kernel.shape}; leave"
                " this kernel out."
            )
        dtype = _dtype_of(kernel)
        scale = jnp.ones(features, dtype) if rescale else None
        return cls(jnp.zeros((*shape, shape[-1]), dtype), scale=scale)

    @property
    def dimension(self) -> int:
        """Size of the inputs."""
        return self.raw.shape[1] * self.raw.shape[2]

    def rotated(self, inputs: jax.Array, *, inverse: bool = False) -> jax.Array:
        """``inputs @ R``, or its transpose."""
        raw = widen(self.raw)
        blocks = OrthogonalMap("cayley", 1.0)((raw.mT - raw) / 2.0)
        blocks = blocks.mT if inverse else blocks
        factors, count, size, _ = raw.shape
        order = range(factors) if inverse else reversed(range(factors))
        batch = inputs.shape[:-1]
        for i in order:
            if i == 0:
                taken = inputs.reshape(*batch, count, size)
                inputs = _times_blocks(taken, blocks[i]).reshape(inputs.shape)
                continue
            pairs = (count // 2**i, 2, 2**i, size // 2)
            taken = inputs.reshape(*batch, *pairs).swapaxes(-2, -3)
            taken = taken.reshape(*batch, count, size)
            chunks = _times_blocks(taken, blocks[i])
            chunks = chunks.reshape(*batch, count // 2**i, 2**i, 2, size // 2)
            inputs = chunks.swapaxes(-2, -3).reshape(inputs.shape)
        return inputs


@register
class Reflections:
    r"""Product of a few reflections of inputs (HRA, and one side of HOFT).

    .. math::
        R = H_{r-1} \cdots H_0 = I - 2\, \hat U^\top T^{-1} \hat U, \qquad
        H_i = I - 2\, \hat u_i \hat u_i^\top, \qquad
        T = I + 2 \operatorname{tril}(\hat U \hat U^\top, -1)

    with the directions :math:`\hat u_i` of the vectors as the rows of :math:`\hat U`
    (compact WY form). For each input it takes two products with :math:`r` vectors. Two
    equal reflections cancel: pairs of equal vectors give the identity, up to rounding,
    and training moves them apart.

    Args:
        vectors: Normals of the mirrors, floating, ``[r, d]``; lengths do not matter. A
            zero vector reflects nothing, and has zero gradient.
        scale: Factor of each output, floating, ``[out]``, or ``None``.

    Raises:
        TypeError: If an array is not floating.
        ValueError: If shapes do not fit.

    Example:
        >>> mirror = sx.reparam.Reflections(jnp.array([[0.0, 5.0]]))
        >>> sx.reparam.rotate(jnp.array([3.0, 4.0]), mirror)
        Array([ 3., -4.], dtype=float32)

    References:
        Yuan et al., `Bridging The Gap between Low-rank and Orthogonal Adaptation via
        Householder Reflection Adaptation <https://arxiv.org/abs/2405.17484>`_, NeurIPS
        2024; Moreno Arcas et al., `HOFT: Householder Orthogonal Fine-tuning
        <https://arxiv.org/abs/2505.16531>`_, 2025.
    """

    vectors: jax.Array
    _: dataclasses.KW_ONLY
    scale: jax.Array | None = None

    def __post_init__(self):
        vectors = _store(self, "vectors", 2)
        if 0 in vectors.shape:
            raise ValueError(
                "Reflections: vectors must be [r, d] of one vector and one dimension or"
                f" more, got shape {vectors.shape}."
            )
        _store_scale(self)

    @classmethod
    def init(
        cls,
        key: jax.Array,
        kernel: ArrayLike,
        *,
        count: int = 8,
        rescale: bool = False,
        side: Literal["inputs", "outputs"] = "inputs",
    ) -> "Reflections":
        """The identity: ``count / 2`` random reflections, each twice.

        For the inputs of a kernel ``[..., in, out]``, or for its outputs. Vectors are
        normal, of the variance that HRA starts with. ``rescale`` is whether to learn a
        factor for each output.
        """
        check_key(key)
        kernel = as_kernel(kernel)
        check_count("count", count, 2)
        check_flag("rescale", rescale)
        check_choice("side", side, ("inputs", "outputs"))
        if count % 2:
            raise ValueError(
                "count must be even, since an odd number of reflections is never the"
                f" identity, got {count}."
            )
        d = kernel.shape[-2 if side == "inputs" else -1]
        dtype = _dtype_of(kernel)
        vectors = _twin_vectors(key, shape=(count // 2, d), dtype=dtype)
        scale = jnp.ones(kernel.shape[-1], dtype) if rescale else None
        return cls(vectors, scale=scale)

    @property
    def dimension(self) -> int:
        """Size of the inputs."""
        return self.vectors.shape[1]

    def rotated(self, inputs: jax.Array, *, inverse: bool = False) -> jax.Array:
        """``inputs @ R``, or its transpose."""
        rows = direction(widen(self.vectors))
        triangle = jnp.triu(2.0 * product(rows, rows.mT), 1)
        solution = invert_triangular(identity_like(triangle) + triangle)
        solution = product(solution if inverse else solution.mT, rows)
        change = 2.0 * _times(_times(inputs, rows.mT), solution)
        return (inputs - change).astype(inputs.dtype)


@register
class SubspaceRotation:
    r"""Rotation of inputs in a subspace of few dimensions (PSOFT).

    .. math::
        R = I + V (M - I)^\top V^\top, \qquad
        M = \operatorname{diag}(\ell)\, (I + Q) (I - Q)^{-1} \operatorname{diag}(\rho)

    where :math:`V` is an orthonormal basis, the principal directions of the kernel in
    the space of its inputs, and :math:`Q` is the skew-symmetric matrix that has ``raw``
    above its diagonal, row by row. All directions orthogonal to the subspace stay as
    they are. Zeros, with factors of 1, give the identity. Factors other than 1 change
    lengths in the subspace.

    Args:
        raw: Entries of :math:`Q`, floating, ``[r * (r - 1) / 2]``.
        basis: :math:`V`, floating, ``[d, r]``, with orthonormal columns. It is not
            trained: its gradient is zero. Leave it out of weight decay.
        left_scale: :math:`\ell`, floating, ``[r]``, or ``None``.
        right_scale: :math:`\rho`, floating, ``[r]``, or ``None``.
        method: ``"cayley"``, or ``"cayley_neumann"`` for the series of
            :class:`BlockRotation`.
        terms: Number of terms of the series.
        bound: Largest Frobenius norm of :math:`Q`, to which a longer one is scaled
            down, or ``None``.

    Raises:
        TypeError: If an array is not floating.
        ValueError: If shapes do not fit, or an option is out of range.

    Example:
        >>> turn = sx.reparam.SubspaceRotation(jnp.array([1.0]), jnp.eye(3, 2))
        >>> sx.reparam.rotate(jnp.array([3.0, 4.0, 5.0]), turn)
        Array([ 4., -3., 5.], dtype=float32)

    References:
        Wu et al., `Efficient Orthogonal Fine-Tuning with Principal Subspace Adaptation
        <https://arxiv.org/abs/2505.11235>`_, ICLR 2026.
    """

    raw: jax.Array
    basis: jax.Array
    _: dataclasses.KW_ONLY
    left_scale: jax.Array | None = None
    right_scale: jax.Array | None = None
    method: CayleyMethod = static(default="cayley")
    terms: int = static(default=5)
    bound: float | None = static(default=None)

    def __post_init__(self):
        raw, basis = _store(self, "raw", 1), _store(self, "basis", 2)
        rank = size_of_packed("SubspaceRotation", raw)
        if basis.shape[1] != rank or basis.shape[0] < rank:
            raise ValueError(
                f"SubspaceRotation: basis must be [d, {rank}], with d of {rank} or"
                f" more, for raw of shape {raw.shape}, got shape {basis.shape}."
            )
        _store_scale(self, "left_scale", rank)
        _store_scale(self, "right_scale", rank)
        _check_cayley(self)

    @classmethod
    def init(
        cls,
        kernel: ArrayLike,
        *,
        rank: int = 32,
        rescale: bool = True,
        method: CayleyMethod = "cayley",
        terms: int = 5,
        bound: float | None = None,
    ) -> "SubspaceRotation":
        """The identity in the principal subspace of a kernel ``[..., in, out]``.

        The kernel is floating: scale one of integers first. ``rescale`` is whether to
        learn factors on both sides.
        """
        kernel = as_kernel(as_floating("kernel", kernel))
        check_count("rank", rank)
        check_flag("rescale", rescale)
        *window, d, features = kernel.shape
        most = min(d, math.prod(window) * features)
        if rank > most:
            raise ValueError(
                f"rank must be {most} or less for a kernel of shape {kernel.shape}, got"
                f" {rank}."
            )
        basis = _principal_directions(kernel, rank=int(rank))
        ones = jnp.ones(rank, basis.dtype) if rescale else None
        raw = jnp.zeros(rank * (rank - 1) // 2, basis.dtype)
        return cls(
            raw,
            basis,
            left_scale=ones,
            right_scale=ones,
            method=method,
            terms=terms,
            bound=bound,
        )

    @property
    def dimension(self) -> int:
        """Size of the inputs."""
        return self.basis.shape[0]

    def rotated(self, inputs: jax.Array, *, inverse: bool = False) -> jax.Array:
        """``inputs @ R``, or its transpose."""
        basis = jax.lax.stop_gradient(widen(self.basis))
        matrix = _cayley_of_packed(self.raw, self.method, self.terms, self.bound)
        if self.left_scale is not None:
            matrix = widen(self.left_scale)[:, None] * matrix
        if self.right_scale is not None:
            matrix = matrix * widen(self.right_scale)[None, :]
        change = matrix - identity_like(matrix)
        change = product(basis, change if inverse else change.mT)
        change = _times(_times(inputs, change), basis.mT)
        return (inputs + change).astype(inputs.dtype)


Adapter = BlockRotation | ButterflyRotation | Reflections | SubspaceRotation


def check_adapter(name: str, adapter: object) -> None:
    """Raises unless it is one of the adapters."""
    kinds = get_args(Adapter)
    if not isinstance(adapter, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"{name} must be an adapter of sphax.reparam ({names}), got"
            f" {shown(adapter)}."
        )


def scale_of(adapter: Adapter) -> jax.Array | None:
    """The factors of the outputs."""
    return getattr(adapter, "scale", None)


def as_kernel(kernel: ArrayLike) -> jax.Array:
    """``kernel`` as an array; raises unless it is ``[..., in, out]``, both not 0."""
    kernel = jnp.asarray(kernel)
    if kernel.ndim < 2 or 0 in kernel.shape:
        raise ValueError(
            f"kernel must be [..., in, out], without axes of 0, got shape"
            f" {kernel.shape}."
        )
    return kernel


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """``x @ matrix``, the matrix in the dtype of x, summed in float32 at least."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(
        x, matrix.astype(x.dtype), precision="highest", preferred_element_type=wide
    )


def _times_blocks(taken: jax.Array, blocks: jax.Array) -> jax.Array:
    """Rows ``[..., r, b]`` times one matrix for each, ``[r, b, b]``, or one for all."""
    if blocks.shape[0] == 1:
        return _times(taken, blocks[0]).astype(taken.dtype)
    rotated = jnp.einsum(
        "...ri,rij->...rj",
        taken,
        blocks.astype(taken.dtype),
        precision="highest",
        preferred_element_type=jnp.promote_types(taken.dtype, jnp.float32),
    )
    return rotated.astype(taken.dtype)


def _cayley_of_packed(raw, method, terms, bound):
    """Rotations of the packed entries above the diagonal, in float32 at least."""
    size = _size(raw.shape[-1])
    rows, columns = np.triu_indices(size, 1)
    upper = jnp.zeros((*raw.shape[:-1], size, size), raw.dtype)
    upper = upper.at[..., rows, columns].set(raw)
    to_matrix = cayley if method == "cayley" else _series(terms)
    return OrthogonalMap(to_matrix, scale=1.0, bound=bound)(upper)


def _series(terms):
    """PEFT's series, whose last term counts once from the third power on."""
    if terms == 1:
        return identity_like
    if terms == 2:
        return functools.partial(cayley_neumann, terms=1)
    last = max(terms - 1, 3)
    return functools.partial(cayley_neumann, terms=last, halve_last_term=True)


def _size(width: int) -> int:
    """Size of the matrix that has so many entries above its diagonal."""
    return (1 + math.isqrt(1 + 8 * width)) // 2


def size_of_packed(owner: str, raw: jax.Array) -> int:
    """Size of the matrices that packed arrays ``[..., b * (b - 1) / 2]`` are of."""
    width = raw.shape[-1]
    size = _size(width)
    if size * (size - 1) // 2 != width or 0 in raw.shape[:-1]:
        raise ValueError(
            f"{owner}: raw must have b * (b - 1) / 2 entries on its last axis, those"
            f" above the diagonal of a matrix b x b, got shape {raw.shape}."
        )
    return size


def _store(adapter: object, name: str, ndim: int) -> jax.Array:
    """Converts a field to a floating array of that rank, and returns it."""
    label = f"{type(adapter).__name__}: {name}"
    array = as_floating(label, getattr(adapter, name))
    if array.ndim != ndim:
        raise ValueError(f"{label} must have {ndim} axes, got shape {array.shape}.")
    object.__setattr__(adapter, name, array)
    return array


def _store_scale(adapter: object, name: str = "scale", size: int | None = None) -> None:
    """Converts a field of factors, of which there may be none."""
    if getattr(adapter, name) is None:
        return
    scale = _store(adapter, name, 1)
    if size not in (None, len(scale)):
        raise ValueError(
            f"{type(adapter).__name__}: {name} must be [{size}], as the basis has"
            f" {size} columns, got shape {scale.shape}."
        )


def _check_cayley(adapter: BlockRotation | SubspaceRotation) -> None:
    owner = type(adapter).__name__
    check_choice(f"{owner}: method", adapter.method, get_args(CayleyMethod))
    check_count(f"{owner}: terms", adapter.terms)
    if adapter.bound is not None:
        check_number(f"{owner}: bound", adapter.bound)
        if not adapter.bound > 0:
            raise ValueError(f"{owner}: bound must be positive, got {adapter.bound}.")


def _dtype_of(kernel: jax.Array):
    """Dtype of what is trained for a kernel."""
    is_double = kernel.dtype == jnp.float64
    return kernel.dtype if is_double else jnp.dtype(jnp.float32)


@compiled("shape", "dtype")
def _twin_vectors(key, *, shape, dtype):
    # The variance of PyTorch's uniform initialization of [d, count / 2].
    size = (3.0 * shape[0]) ** -0.5
    return jnp.repeat(size * jax.random.normal(key, shape, dtype), 2, axis=0)


@compiled("rank")
def _principal_directions(kernel, *, rank):
    wide = jnp.moveaxis(widen(kernel), -2, 0).reshape(kernel.shape[-2], -1)
    return jnp.linalg.svd(wide, full_matrices=False)[0][:, :rank]
