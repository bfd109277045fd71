"""Adapters in the files of PEFT: names of arrays, their signs, and the configuration.

``python -m experiments.benchmarks.peers`` compares outputs with those of PEFT itself.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sphax._checks import check_choice, shown
from sphax._paths import listed
from sphax.reparam._adapters import (
    Adapter,
    BlockRotation,
    ButterflyRotation,
    Reflections,
    SubspaceRotation,
    check_adapter,
    scale_of,
    size_of_packed,
)

_PREFIX = "base_model.model."
# The version whose conventions these are. The series was another one before 0.18.
_VERSION, _SERIES_SINCE = "0.21.2", (0, 18)
# Entries of PSOFT's basis, and of its products, are rounded in float32.
_TOLERANCE = 1e-3

Tensors = Mapping[str, ArrayLike]
Config = Mapping[str, Any]


def from_peft(
    tensors: Tensors,
    config: Config,
    kernels: Mapping[str, ArrayLike] | None = None,
    *,
    bases: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Adapter]:
    """Adapters of dense layers that PEFT has trained: OFT, BOFT, HRA or PSOFT.

    ======  ==========================  ==============================================
    PEFT    adapter                     differences
    ======  ==========================  ==============================================
    OFT     :class:`BlockRotation`      ``raw`` is negated if PEFT had the exact map,
                                        which is the transpose there; COFT's ``eps``
                                        becomes a bound for each block
    BOFT    :class:`ButterflyRotation`  the number of factors is that of the array,
                                        which may differ from the configuration
    HRA     :class:`Reflections`        vectors are rows; with ``apply_GS`` they are
                                        made orthogonal here
    PSOFT   :class:`SubspaceRotation`   the basis is not in the file
    ======  ==========================  ==============================================

    Args:
        tensors: Arrays by name, from ``adapter_model.safetensors``;
            :func:`sphax.convert.read_adapters` reads it and the configuration.
        config: Content of ``adapter_config.json``.
        kernels: The kernels ``[in, out]`` by module, such as
            ``{"model.layers.0.mlp.up_proj": kernel}``. OFT needs them if all blocks are
            the same, to know how many there are; dimensions are compared if given.
        bases: For PSOFT, the basis ``[in, r]`` by module: the transpose of PEFT's
            ``layer._psoft_A_cache[name]``. PEFT computes it anew from the weights
            whenever a file is loaded, and its signs, on which the outputs depend,
            differ between linear algebra libraries and devices.

    Returns:
        The adapters by module, for inference and further training. Dropout is not part
        of them.

    Raises:
        ValueError: If the configuration is of another method, of OFT with the series
            before PEFT 0.18, which was another one, or of a variant that is no rotation
            of inputs (PSOFT with ``pissa_init`` or without ``psoft_orth``); if an array
            is of no adapter, such as a bias, or missing; or if shapes do not fit.

    Example:
        >>> tensors = {"base_model.model.up.oft_R.weight": np.full((1, 1), -1.0)}
        >>> config = {"peft_type": "OFT", "use_cayley_neumann": False}
        >>> sx.reparam.rotation_matrix(sx.reparam.from_peft(tensors, config)["up"])
        Array([[ 0.,  1.],
               [-1.,  0.]], dtype=float32)
    """
    given = config.get("peft_type")
    kind: Any = getattr(given, "value", given)
    check_choice("config['peft_type']", kind, tuple(_FORMATS))
    form, read = _FORMATS[kind], {}
    found, kernels, bases = _by_module(tensors, form), kernels or {}, bases or {}
    if others := (kernels.keys() | bases.keys()) - found.keys():
        raise ValueError(
            f"kernels and bases must be those of modules in the file, {listed(found)},"
            f" got {listed(others)}."
        )
    for module, arrays in found.items():
        if missing := [name for name in form.required if name not in arrays]:
            raise ValueError(
                f"tensors must have {listed(missing)} of {module}, got"
                f" {listed(arrays)}."
            )
        kernel = kernels.get(module)
        adapter = form.read(arrays, config, module, kernel, bases.get(module))
        if kernel is not None and adapter.dimension != jnp.shape(kernel)[0]:
            raise ValueError(
                f"kernels must be [in, out] with as many inputs as the adapters have,"
                f" got {jnp.shape(kernel)} for {module}, whose adapter has"
                f" {adapter.dimension}."
            )
        read[module] = adapter
    return read


def to_peft(
    adapters: Mapping[str, Adapter],
    *,
    bases: Mapping[str, ArrayLike] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Adapters in PEFT's layout, for ``adapter_model.safetensors``.

    :func:`sphax.convert.write_adapters` saves both into a folder, with which PEFT has
    the same outputs. For BOFT of several factors, it must be able to build its CUDA
    extension: otherwise it reads the first factor alone.

    Args:
        adapters: Adapters by module of the PyTorch model, all of one kind and with the
            same options, since a file has one configuration.
        bases: For PSOFT, the basis ``[in, r]`` by module that PEFT computes where the
            file will be read, as in :func:`from_peft`. Columns may differ in sign from
            those of the adapters, whose arrays are changed accordingly.

    Returns:
        Arrays by name, and the configuration.

    Raises:
        TypeError: If these are not adapters of one kind.
        ValueError: If options differ, or PEFT has no place for something: factors of
            reflections, none for BOFT, zero vectors, or another basis.

    Example:
        >>> adapter = sx.reparam.BlockRotation(jnp.ones((2, 3)), dimension=6)
        >>> tensors, config = sx.reparam.to_peft({"layers.0.up": adapter})
        >>> {name: array.shape for name, array in tensors.items()}
        {'base_model.model.layers.0.up.oft_R.weight': (2, 3)}
        >>> config["oft_block_size"], config["use_cayley_neumann"]
        (3, False)
    """
    if not adapters:
        raise ValueError("adapters must have one adapter or more, got none.")
    for adapter in adapters.values():
        check_adapter("each of adapters", adapter)
    kinds = {type(adapter) for adapter in adapters.values()}
    if len(kinds) > 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise TypeError(
            f"adapters must be of one kind, since a file of PEFT has one method, got"
            f" {', '.join(names)}."
        )
    kind, form = next(
        (kind, form) for kind, form in _FORMATS.items() if form.made in kinds
    )
    tensors, configs = {}, {}
    for module, adapter in adapters.items():
        arrays, configs[module] = form.write(adapter, module, (bases or {}).get(module))
        for name, array in arrays.items():
            tensors[f"{_PREFIX}{module}.{name}"] = np.ascontiguousarray(array)
    first, *others = configs.items()
    for module, options in others:
        for name, value in options.items():
            if not _is_same(value, first[1][name]):
                raise ValueError(
                    "adapters must have the same options, since a file of PEFT has one"
                    f" configuration, got {name} {shown(first[1][name])} for {first[0]}"
                    f" and {shown(value)} for {module}; write them into two files."
                )
    common = {"peft_type": kind, "peft_version": _VERSION}
    return tensors, common | {"target_modules": sorted(adapters)} | first[1]


def _is_same(x: Any, y: Any) -> bool:
    # A bound was divided by a root, and is multiplied by it again.
    return math.isclose(x, y, rel_tol=1e-6) if isinstance(x, float) else x == y


def _by_module(tensors: Tensors, form: "_Format") -> dict[str, dict[str, ArrayLike]]:
    found: dict[str, dict[str, ArrayLike]] = {}
    others = []
    for name, tensor in tensors.items():
        path = name.removeprefix(_PREFIX)
        known = (*form.required, *form.optional)
        end = next((end for end in known if path.endswith(f".{end}")), None)
        if end is None:
            others.append(name)
        else:
            found.setdefault(path[: -len(end) - 1], {})[end] = tensor
    if others or not found:
        raise ValueError(
            "tensors must be arrays of dense layers' adapters, whose names end in"
            f" {listed(form.required)}, got {listed(others)}."
        )
    return found


def _read_oft(arrays, config, module, kernel, basis):
    del basis
    raw = jnp.asarray(arrays["oft_R.weight"])
    rows, size = len(raw), size_of_packed("oft_R.weight", raw)
    if not config.get("block_share"):
        dimension = rows * size
    elif kernel is not None:
        dimension = jnp.shape(kernel)[0]
    elif config.get("r"):
        dimension = config["r"] * size
    else:
        raise ValueError(
            "kernels must be given if all blocks are the same (block_share), since the"
            f" file does not say how many there are, got none for {module}."
        )
    bound = config.get("eps", 6e-5) / math.sqrt(rows) if config.get("coft") else None
    if not config.get("use_cayley_neumann", True):
        return BlockRotation(-raw, dimension=dimension, bound=bound)
    version = str(config.get("peft_version", "0.0"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _SERIES_SINCE:
        raise ValueError(
            "config must be of PEFT 0.18 or later if it has use_cayley_neumann, since"
            " the series was another one before, got peft_version"
            f" {config.get('peft_version')}; merge the adapters there."
        )
    terms = config.get("num_cayley_neumann_terms", 5)
    return BlockRotation(
        raw, dimension=dimension, method="cayley_neumann", terms=terms, bound=bound
    )


def _write_oft(adapter: BlockRotation, module, basis):
    del module, basis
    rows, size = len(adapter.raw), size_of_packed("raw", adapter.raw)
    is_series = adapter.method == "cayley_neumann"
    options: dict[str, Any] = {
        "oft_block_size": size,
        "r": 0,
        "block_share": rows < adapter.dimension // size,
        "use_cayley_neumann": is_series,
        "coft": adapter.bound is not None,
    }
    if is_series:
        options["num_cayley_neumann_terms"] = adapter.terms
    if adapter.bound is not None:
        options["eps"] = adapter.bound * math.sqrt(rows)
    raw = adapter.raw if is_series else -adapter.raw
    return {"oft_R.weight": np.asarray(raw)}, options


def _read_boft(arrays, config, module, kernel, basis):
    del config, module, kernel, basis
    scale = jnp.asarray(arrays["boft_s"])
    return ButterflyRotation(jnp.asarray(arrays["boft_R"]), scale=scale.reshape(-1))


def _write_boft(adapter: ButterflyRotation, module, basis):
    del basis
    if adapter.scale is None:
        raise ValueError(
            f"adapters must have a scale for BOFT, such as jnp.ones(out), got none for"
            f" {module}."
        )
    factors, _, size, _ = adapter.raw.shape
    options = {
        "boft_block_size": size,
        "boft_block_num": 0,
        "boft_n_butterfly_factor": factors,
    }
    scale = np.asarray(adapter.scale)[:, None]
    return {"boft_R": np.asarray(adapter.raw), "boft_s": scale}, options


def _read_hra(arrays, config, module, kernel, basis):
    del kernel, basis
    columns = jnp.asarray(arrays["hra_u"])
    if not config.get("apply_GS"):
        return Reflections(columns.T)
    # Orthogonal reflections commute, and signs do not matter.
    wide = np.asarray(columns, np.float64)
    orthonormal, triangle = np.linalg.qr(wide / np.linalg.norm(wide, axis=0))
    if not np.abs(np.diagonal(triangle)).min() > _TOLERANCE:
        raise ValueError(
            f"tensors must have independent vectors in hra_u of {module} to be made"
            " orthogonal (apply_GS)."
        )
    return Reflections(jnp.asarray(orthonormal.T, columns.dtype))


def _write_hra(adapter: Reflections, module, basis):
    del basis
    if scale_of(adapter) is not None:
        raise ValueError(
            f"adapters must have no scale for HRA, got one for {module}; multiply the"
            " kernel by it."
        )
    vectors = np.asarray(adapter.vectors)
    if not np.all(np.any(vectors != 0, axis=1)):
        raise ValueError(
            f"adapters must have no zero vector for HRA, which divides by the length,"
            f" got one for {module}; leave it out."
        )
    return {"hra_u": vectors.T}, {"r": len(vectors), "apply_GS": False}


def _read_psoft(arrays, config, module, kernel, basis):
    del kernel
    kind = config.get("ab_svd_init", "psoft_init")
    if kind != "psoft_init" or not config.get("psoft_orth", True):
        raise ValueError(
            "config must have ab_svd_init 'psoft_init' and psoft_orth for a rotation of"
            f" inputs, got {kind!r} and {config.get('psoft_orth', True)}."
        )
    options: dict[str, Any] = {}
    if config.get("use_cayley_neumann"):
        terms = config.get("num_cayley_neumann_terms", 5)
        bound = config.get("cayley_neumann_eps")
        options = dict(method="cayley_neumann", terms=terms, bound=bound)
    scales = {
        name: jnp.asarray(arrays[f"psoft_R.{key}"])
        for name, key in (("left_scale", "vector_b"), ("right_scale", "vector_a"))
        if f"psoft_R.{key}" in arrays
    }
    raw = jnp.asarray(arrays["psoft_R.weight"])
    return SubspaceRotation(raw, _given_basis(basis, module), **scales, **options)


def _write_psoft(adapter: SubspaceRotation, module, basis):
    given = np.asarray(_given_basis(basis, module), np.float64)
    own = np.asarray(adapter.basis, np.float64)
    if given.shape != own.shape:
        raise ValueError(
            f"bases must be [in, r] as in the adapters, {own.shape}, got {given.shape}"
            f" for {module}."
        )
    signs = np.sign(np.sum(given * own, axis=0))
    if not np.allclose(given * signs, own, atol=_TOLERANCE):
        raise ValueError(
            "bases must have the columns of the adapters, up to their signs: the"
            f" singular vectors of the same kernel, got others for {module}."
        )
    rank = own.shape[1]
    rows, columns = np.triu_indices(rank, 1)
    raw = np.asarray(adapter.raw)
    raw = raw * (signs[rows] * signs[columns]).astype(raw.dtype)
    arrays = {"psoft_R.weight": raw}
    for key, scale in (
        ("vector_b", adapter.left_scale),
        ("vector_a", adapter.right_scale),
    ):
        if scale is not None:
            arrays[f"psoft_R.{key}"] = np.asarray(scale)
    options: dict[str, Any] = {
        "r": rank,
        "psoft_alpha": rank,
        "ab_svd_init": "psoft_init",
        "psoft_orth": True,
        "psoft_mag_b": adapter.left_scale is not None,
        "psoft_mag_a": adapter.right_scale is not None,
        "use_cayley_neumann": adapter.method == "cayley_neumann",
    }
    if adapter.method == "cayley_neumann":
        options["num_cayley_neumann_terms"] = adapter.terms
        options["cayley_neumann_eps"] = adapter.bound
    elif adapter.bound is not None:
        raise ValueError(
            "adapters must have no bound for PSOFT with the exact map, which has none"
            f" in PEFT, got {adapter.bound} for {module}."
        )
    return arrays, options


def _given_basis(basis: ArrayLike | None, module: str) -> jnp.ndarray:
    if basis is None:
        raise ValueError(
            "bases must be given for PSOFT, whose files do not have them: the transpose"
            f" of PEFT's layer._psoft_A_cache[name], [in, r], got none for {module}."
        )
    basis = jnp.asarray(basis)
    error = jnp.abs(basis.T @ basis - jnp.eye(basis.shape[-1], dtype=basis.dtype)).max()
    if not error < _TOLERANCE:
        raise ValueError(
            f"bases must have orthonormal columns, [in, r], got shape {basis.shape} for"
            f" {module}, whose products differ from those by {error:.1g}."
        )
    return basis


class _Format(NamedTuple):
    """Arrays of a method by the ends of their names, and functions for one module."""

    made: type
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[..., Adapter]
    write: Callable[..., tuple[dict[str, np.ndarray], dict[str, Any]]]


_FORMATS = {
    "OFT": _Format(BlockRotation, ("oft_R.weight",), (), _read_oft, _write_oft),
    "BOFT": _Format(
        # Older files have the permutation matrices too.
        ButterflyRotation,
        ("boft_R", "boft_s"),
        ("boft_P",),
        _read_boft,
        _write_boft,
    ),
    "HRA": _Format(Reflections, ("hra_u",), (), _read_hra, _write_hra),
    "PSOFT": _Format(
        SubspaceRotation,
        ("psoft_R.weight",),
        ("psoft_R.vector_a", "psoft_R.vector_b"),
        _read_psoft,
        _write_psoft,
    ),
}
