"""Adapters beside their definitions as dense matrices in float64."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import sphax as sx
from tests.jaxprs import largest_array
from tests.reparam.draws import draw

sr: Any = sx.reparam
D, OUT = 16, 8


def skew(packed, size):
    """The matrix with these entries above its diagonal, row by row."""
    q, entries = np.zeros((size, size)), iter(packed)
    for i in range(size):
        for j in range(i + 1, size):
            q[i, j] = next(entries)
            q[j, i] = -q[i, j]
    return q


def exact(q):
    return (np.eye(len(q)) + q) @ np.linalg.inv(np.eye(len(q)) - q)


# Factors of the powers of Q, by the number of terms.
SERIES = {
    1: [1],
    2: [1, 2],
    3: [1, 2, 2, 1],
    4: [1, 2, 2, 1],
    5: [1, 2, 2, 2, 1],
    6: [1, 2, 2, 2, 2, 1],
}


def series(q, terms):
    return sum(
        factor * np.linalg.matrix_power(q, power)
        for power, factor in enumerate(SERIES[terms])
    )


def block_diagonal(blocks):
    size = blocks[0].shape[0]
    total = np.zeros((size * len(blocks),) * 2)
    for i, block in enumerate(blocks):
        total[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return total


def of_blocks(packed, size, to_matrix, dimension=D):
    blocks = [to_matrix(skew(row, size)) for row in np.asarray(packed, np.float64)]
    if len(blocks) == 1:
        blocks *= dimension // size
    return block_diagonal(blocks)


def bounded(q, bound):
    norm = np.linalg.norm(q)
    return exact(q * min(1.0, bound / norm))


def butterfly(raw):
    """``B_m ... B_1``; in each run of two to the i chunks, the even come first."""
    raw = np.asarray(raw, np.float64)
    factors, blocks, size, _ = raw.shape
    d, half, total = blocks * size, size // 2, np.eye(blocks * size)
    for i in range(factors):
        s = (raw[i] - raw[i].swapaxes(1, 2)) / 2
        diagonal = block_diagonal(
            [(np.eye(size) - x) @ np.linalg.inv(np.eye(size) + x) for x in s]
        )
        chunks = 2 ** (i + 1)
        sigma = [*range(0, chunks, 2), *range(1, chunks, 2)] if i else range(chunks)
        run = [j * half + o for j in sigma for o in range(half)]
        starts = range(0, d, len(run))
        perm = [start + at for start in starts for at in run] if i else range(d)
        p = np.zeros((d, d))
        p[np.arange(d), perm] = 1
        total = (p @ diagonal @ p.T) @ total
    return total


def reflections(vectors):
    """``H_{r-1} ... H_0``."""
    total = np.eye(vectors.shape[1])
    for u in np.asarray(vectors, np.float64):
        if u.any():
            total = (np.eye(len(u)) - 2 * np.outer(u, u) / (u @ u)) @ total
    return total


def of_subspace(raw, basis, left, right):
    size = basis.shape[1]
    m = np.diag(left) @ exact(skew(raw, size)) @ np.diag(right)
    basis = np.asarray(basis, np.float64)
    return np.eye(len(basis)) + basis @ (m - np.eye(size)).T @ basis.T


RAW, SMALL = 0.4 * draw(4, 6), 0.1 * draw(4, 6, seed=1)
FACTORS = 0.5 * draw(3, 4, 4, 4, seed=2)
VECTORS = draw(5, D, seed=3).at[2].set(0.0)
BASIS = jnp.asarray(np.linalg.qr(draw(D, 4, seed=4))[0])
GAIN, SHIFT = draw(OUT, seed=5), draw(OUT, seed=6)
LEFT, RIGHT = 1 + 0.2 * draw(4, seed=7), 1 + 0.2 * draw(4, seed=8)
SHORT = float(jnp.linalg.norm(RAW[0]))  # between |Q| of the blocks
ROTATION = partial(sr.BlockRotation, dimension=D)
TABLE = {
    "block": (ROTATION(RAW), of_blocks(RAW, 4, exact)),
    "block[shared]": (ROTATION(RAW[:1]), of_blocks(RAW[:1], 4, exact)),
    "block[bound]": (
        ROTATION(RAW, bound=SHORT),
        of_blocks(RAW, 4, partial(bounded, bound=SHORT)),
    ),
    **{
        f"block[{terms} terms]": (
            ROTATION(SMALL, method="cayley_neumann", terms=terms),
            of_blocks(SMALL, 4, partial(series, terms=terms)),
        )
        for terms in SERIES
    },
    "butterfly": (sr.ButterflyRotation(FACTORS, scale=GAIN), butterfly(FACTORS)),
    "butterfly[one, odd]": (
        sr.ButterflyRotation(draw(1, 2, 3, 3)),
        butterfly(draw(1, 2, 3, 3)),
    ),
    "reflections": (sr.Reflections(VECTORS, scale=GAIN), reflections(VECTORS)),
    "subspace": (
        sr.SubspaceRotation(RAW[0], BASIS, left_scale=LEFT, right_scale=RIGHT),
        of_subspace(RAW[0], BASIS, LEFT, RIGHT),
    ),
    "subspace[orthogonal]": (
        sr.SubspaceRotation(RAW[1], BASIS),
        of_subspace(RAW[1], BASIS, np.ones(4), np.ones(4)),
    ),
}
ADAPTERS = {name: adapter for name, (adapter, _) in TABLE.items()}
# One of each class, for kernels [D, OUT].
KINDS = {name: ADAPTERS[name] for name in ("block", "butterfly", "reflections")}
KINDS["subspace"] = ADAPTERS["subspace"]


def close(actual, desired, tolerance=1e-5):
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), desired, rtol=tolerance, atol=tolerance
    )


def test_rotations_are_the_matrices_of_their_definition():
    inputs = {name: draw(2, 3, D, seed=9) for name in KINDS}

    @jax.jit
    def run(inputs, adapters):
        rotated = {name: sr.rotate(x, adapters[name]) for name, x in inputs.items()}
        return rotated, {name: sr.rotation_matrix(a) for name, a in adapters.items()}

    rotated, matrices = run(inputs, ADAPTERS)
    for name, x in inputs.items():
        close(rotated[name], np.asarray(x, np.float64) @ TABLE[name][1])
    for name, (_, expected) in TABLE.items():
        close(matrices[name], expected)
        if "terms" not in name and name != "subspace":
            close(matrices[name] @ matrices[name].T, np.eye(len(expected)), 2e-6)


def quantized(kernel):
    """Integers and a factor for each column."""
    scale = np.abs(kernel).max(axis=0) / 127
    return np.round(kernel / scale).astype(np.int8), scale.astype(np.float32)


KERNEL = np.asarray(draw(D, OUT, seed=10))
BASES = {
    "float32": (KERNEL, None),
    "bfloat16": (jnp.asarray(KERNEL, jnp.bfloat16), None),
    "int8": quantized(KERNEL),
}


def test_inputs_are_rotated_as_if_the_kernel_were():
    """Input-centric, weight-centric and merged, for kernels of several dtypes."""
    x = draw(3, D, seed=11)

    @jax.jit
    def run(x, adapters, bases):
        found = {}
        for name, adapter in adapters.items():
            for base, (kernel, scale) in bases.items():
                y = sr.adapt(x, kernel, adapter, kernel_scale=scale, bias=SHIFT)
                plain = jnp.asarray(kernel, jnp.float32)
                plain = plain if scale is None else plain * scale[None]
                merged = sr.merge_adapter(plain, adapter)
                found[name, base] = y, x @ merged + SHIFT[None]
        return found

    # Sorted as jit gives a dict; keys of dicts under jit are of one type.
    for (name, base), (y, merged) in run(x, KINDS, BASES).items():
        kernel, scale = BASES[base]
        kernel = np.asarray(kernel, np.float64) * (1 if scale is None else scale)
        gain = np.asarray(getattr(KINDS[name], "scale", 1.0), np.float64)
        dense = TABLE[name][1] @ kernel * gain
        close(y, np.asarray(x, np.float64) @ dense + np.asarray(SHIFT))
        close(merged, y)
        assert y.dtype == jnp.float32


def test_one_input_and_none():
    def run(adapters, x):
        return [sr.adapt(x, KERNEL, adapter) for adapter in adapters.values()]

    for shape in ((), (0,), (2, 0)):
        outputs = jax.eval_shape(run, KINDS, jnp.ones((*shape, D)))
        assert {y.shape for y in outputs} == {(*shape, OUT)}
    x = draw(D)
    y = sr.adapt(x, KERNEL, KINDS["block"])
    close(y, np.asarray(x) @ TABLE["block"][1] @ KERNEL)


def test_both_sides_of_a_kernel():
    """HOFT, with a factor for each output between the rotations (SHOFT)."""
    left = sr.Reflections(VECTORS, scale=GAIN)
    right = sr.Reflections(draw(3, OUT, seed=12), scale=SHIFT)
    x = draw(3, D, seed=11)
    dense = reflections(VECTORS) @ KERNEL * np.asarray(GAIN)
    dense = dense @ reflections(right.vectors) * np.asarray(SHIFT)
    y = sr.adapt(x, KERNEL, left, bias=GAIN, output_adapter=right)
    close(y, np.asarray(x, np.float64) @ dense + np.asarray(GAIN))
    close(sr.merge_adapter(KERNEL, left, output_adapter=right), dense)


def test_rotated_channels_commute_with_a_convolution():
    kernel, images = draw(3, 3, D, 4, seed=13), draw(1, 5, 5, D, seed=14)
    adapter = ADAPTERS["block"]

    def conv(images, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=names
        )

    merged = sr.merge_adapter(kernel, adapter)
    close(conv(sr.rotate(images, adapter), kernel), conv(images, merged), 1e-4)


@pytest.mark.parametrize("shape", [(D, OUT), (3, 3, D, OUT)])
def test_adapters_start_as_the_identity(shape, key):
    kernel = draw(*shape)
    made = {
        "block": sr.BlockRotation.init(kernel, block_size=6),
        "shared": sr.BlockRotation.init(kernel, block_size=4, share_blocks=True),
        "butterfly": sr.ButterflyRotation.init(kernel, block_size=6, factors=3),
        "reflections": sr.Reflections.init(key, kernel, count=4, rescale=True),
        "outputs": sr.Reflections.init(key, kernel, count=4, side="outputs"),
        "subspace": sr.SubspaceRotation.init(kernel, rank=4),
    }
    for adapter in made.values():
        matrix = sr.rotation_matrix(adapter)
        np.testing.assert_allclose(matrix, np.eye(len(matrix)), atol=1e-6)
    shapes = {name: jax.tree.map(jnp.shape, adapter) for name, adapter in made.items()}
    assert shapes["block"].raw == (4, 6)
    assert shapes["shared"].raw == (1, 6)
    assert shapes["butterfly"].raw == (3, 4, 4, 4)
    assert shapes["butterfly"].scale == shapes["reflections"].scale == (OUT,)
    assert shapes["outputs"].vectors == (4, OUT)
    basis = np.asarray(made["subspace"].basis, np.float64)
    rows = np.moveaxis(np.asarray(kernel, np.float64), -2, 0).reshape(D, -1)
    own = np.linalg.svd(rows)[0][:, :4]
    close(basis @ basis.T, own @ own.T)


@pytest.mark.usefixtures("x64")
def test_gradients():
    """In raw arrays, factors and inputs: reverse, forward, and finite differences."""
    x = np.asarray(draw(2, D), np.float64)
    raws = {
        name: {k: np.asarray(v, np.float64) for k, v in vars(a).items() if np.ndim(v)}
        for name, a in KINDS.items()
    }
    raws["block"]["raw"] *= 2  # some beyond the bound, others not
    raws["reflections"]["vectors"] += raws["reflections"]["vectors"] == 0
    basis = raws["subspace"].pop("basis")
    weights = np.asarray(draw(2, OUT), np.float64)

    def function(raws, x):
        adapters = [
            sr.BlockRotation(**raws["block"], dimension=D, bound=SHORT),
            sr.ButterflyRotation(**raws["butterfly"]),
            sr.Reflections(**raws["reflections"]),
            sr.SubspaceRotation(basis=jnp.asarray(basis), **raws["subspace"]),
        ]
        outputs = [sr.adapt(x, KERNEL, adapter) for adapter in adapters]
        return jnp.sum(sum(outputs) * weights)

    at = raws, x
    along = jax.tree.map(lambda x: np.asarray(draw(*x.shape, seed=20), x.dtype), at)

    @jax.jit
    def run(at, along):
        return jax.grad(function, argnums=(0, 1))(*at), jax.jvp(function, at, along)

    gradient, (_, slope) = run(at, along)
    before, after = (
        run(jax.tree.map(lambda x, d, e=e: x + e * d, at, along), along)[1][0]
        for e in (-1e-5, 1e-5)
    )
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, along)
    np.testing.assert_allclose(slope, (after - before) / 2e-5, rtol=1e-7)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-10)


def test_gradients_at_twins_and_at_zero_vectors():
    """Twins cancel, and what one gains by a small step the other loses."""
    x, cotangent = draw(3, D, seed=15), draw(3, D, seed=16)

    def loss(vectors):
        return jnp.sum(cotangent * sr.rotate(x, sr.Reflections(vectors)))

    twins = jnp.repeat(draw(2, D), 2, axis=0).at[3].multiply(3.0)
    with_zeros = twins.at[1].set(0.0)
    slopes = jax.jit(jax.vmap(jax.grad(loss)))(jnp.stack([twins, with_zeros]))
    assert np.all(np.isfinite(slopes))
    # The first pair is outermost, so that the second is the identity to it.
    close(slopes[0, 0], -np.asarray(slopes[0, 1]))
    close(slopes[0, 2], -3 * np.asarray(slopes[0, 3]))
    assert not np.any(slopes[1, 1])
    assert np.abs(slopes[0]).max() > 0.1


def test_the_kernel_is_not_rebuilt_and_has_no_gradient():
    """No array of its size is made, forward or backward, nor kept in a loop."""
    d, out = 64, 128
    kernel, scale = quantized(np.asarray(draw(d, out)))
    adapters = {
        "block": sr.BlockRotation.init(draw(d, out), block_size=8),
        "butterfly": sr.ButterflyRotation.init(draw(d, out), block_size=8),
        "reflections": sr.Reflections(draw(4, d)),
        "subspace": sr.SubspaceRotation(RAW[0], jnp.eye(d, 4)),
    }

    def loss(adapters, x, kernels, scale):
        def layers(x, kernel):
            for adapter in adapters.values():
                x = sr.adapt(x, kernel, adapter, kernel_scale=scale)[:, :d]
            return x / 10, None

        return jnp.sum(jax.lax.scan(layers, x, kernels)[0] ** 2)

    x, gradient = draw(2, d, seed=17), jax.grad(loss, argnums=(0, 1, 3))
    for dtype in (jnp.int8, jnp.bfloat16):
        kernels = jnp.asarray(np.stack([kernel, kernel[::-1]]), dtype)
        jaxpr = jax.make_jaxpr(gradient)(adapters, x, kernels, scale).jaxpr
        assert largest_array(jaxpr) < kernel.size / 4
    of_all = jax.jit(jax.grad(loss, argnums=(0, 2, 3)))
    slopes, of_kernels, of_scale = of_all(adapters, x, kernels, scale)
    assert not np.any(of_kernels)
    assert not np.any(of_scale)
    assert not np.any(slopes["subspace"].basis)
    assert np.any(slopes["subspace"].raw)


@pytest.mark.parametrize("axes", [("model", None), (None, "model")])
def test_kernels_that_are_sharded_stay_where_they_are(axes):
    """Along inputs or outputs, on explicit axes; the outputs lie as the kernel does."""
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    spec = PartitionSpec(*axes)
    kernel = jax.device_put(KERNEL, NamedSharding(mesh, spec))
    rows = NamedSharding(mesh, PartitionSpec("data", axes[0]))
    x = jax.device_put(draw(2, D, seed=18), rows)

    def loss(adapter, x, kernel):
        y = sr.adapt(x, kernel, adapter)
        return jnp.sum(y**2), y

    step = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    program: Any = step.lower(KINDS["block"], x, kernel).compile().as_text()
    (_, slope), y = step(KINDS["block"], x, kernel)
    close(y, np.asarray(draw(2, D, seed=18)) @ TABLE["block"][1] @ KERNEL, 1e-4)
    wanted = NamedSharding(mesh, PartitionSpec("data", axes[1]))
    assert y.sharding.is_equivalent_to(wanted, 2)
    assert slope.sharding.is_equivalent_to(rows, 2)
    for line in program.splitlines():
        if "all-gather(" in line:
            shape = line.split("[")[1].split("]")[0]
            assert shape != f"{D},{OUT}"


def test_outputs_have_the_dtype_of_the_inputs():
    adapter = sr.BlockRotation(RAW, dimension=D)
    dtypes = (jnp.float16, jnp.bfloat16, jnp.float32)

    @jax.jit
    def run(inputs):
        return [(sr.rotate(x, adapter), layer(x)) for x in inputs]

    def layer(x):
        return sr.adapt(x, KERNEL, adapter, bias=SHIFT)

    inputs = [draw(3, D, dtype=dtype) for dtype in dtypes]
    for x, (rotated, y) in zip(inputs, run(inputs), strict=True):
        assert rotated.dtype == y.dtype == x.dtype
        dense = np.asarray(x, np.float64) @ TABLE["block"][1] @ KERNEL
        close(y, dense + np.asarray(SHIFT), {2: 0.05, 4: 1e-5}[x.dtype.itemsize])
    half = sr.BlockRotation(RAW.astype(jnp.bfloat16), dimension=D)
    assert sr.rotation_matrix(half).dtype == jnp.float32
    # Rotations are made in float32 from raw arrays of any dtype.
    matrix = sr.rotation_matrix(half)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(D), atol=1e-6)
    assert sr.merge_adapter(jnp.asarray(KERNEL, jnp.bfloat16), half).dtype == (
        jnp.bfloat16
    )


def test_a_bound_limits_the_angles():
    """No vector turns by more than twice the arc tangent of bound / sqrt(2)."""
    adapter = sr.BlockRotation(100 * RAW, dimension=D, bound=0.2)
    x = np.asarray(draw(50, D), np.float64)
    y = np.asarray(sr.rotate(jnp.asarray(x, jnp.float32), adapter), np.float64)
    for i in range(0, D, 4):
        a, b = x[:, i : i + 4], y[:, i : i + 4]
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        angles = np.arccos(np.sum(a * b, axis=1) / lengths)
        assert angles.max() < 2 * np.arctan(0.2 / 2**0.5) + 1e-5
        assert angles.max() > 0.1


def test_adapters_of_a_whole_model(key):
    params = {
        "conv": {"kernel": draw(3, 3, 4, 8), "bias": draw(8)},
        "up": {"kernel": draw(8, 12)},
        "down": {"kernel": draw(12, 8)},
    }
    make = partial(sr.BlockRotation.init, block_size=4)
    found = sr.adapters(params, make)
    assert {name: a.raw.shape for name, a in found.items()} == {
        "conv/kernel": (1, 6),
        "down/kernel": (3, 6),
        "up/kernel": (2, 6),
    }
    chosen = sr.adapters(
        params,
        partial(sr.Reflections.init, count=2),
        key=key,
        where=lambda path, leaf: leaf.ndim == 2,
    )
    assert list(chosen) == ["down/kernel", "up/kernel"]
    first, second = (np.asarray(a.vectors) for a in chosen.values())
    assert not np.allclose(first[0, :8], second[0])
    merged = sx.neurons.replace(
        params,
        {
            name: sr.merge_adapter(kernel, found[name])
            for name, kernel in sx.neurons.select(params, found).items()
        },
    )
    jax.tree.map(partial(close), merged, params)
    stack = {"up": {"kernel": draw(2, 8, 12)}}
    neurons = {"up/kernel": sx.neurons.NeuronDimensions(batch_axis=0)}
    with pytest.raises(
        ValueError, match=r"adapters must .* got up/kernel \(2, 8, 12\)"
    ):
        sr.adapters(stack, make, neurons=neurons)
    with pytest.raises(TypeError, match=r"what make returns must be an adapter .*None"):
        sr.adapters(params, lambda kernel: None)
    with pytest.raises(TypeError, match="make must be a function of a kernel"):
        sr.adapters(params, "oft")


X = draw(3, D)
WRONG = [
    (lambda: sr.BlockRotation(draw(4, 5), dimension=D), r"raw must have b \* \(b"),
    (lambda: sr.BlockRotation(draw(3, 6), dimension=D), r"there must be 4 rows, or o"),
    (lambda: sr.BlockRotation(draw(1, 6), dimension=18), "blocks of size 4"),
    (lambda: sr.BlockRotation(RAW[0], dimension=D), "raw must have 2 axes"),
    (lambda: sr.BlockRotation(RAW, dimension=D, method="qr"), "method must be one of"),
    (lambda: sr.BlockRotation(RAW, dimension=D, terms=0), "terms must be 1 or more"),
    (lambda: sr.BlockRotation(RAW, dimension=D, bound=0.0), "bound must be positive"),
    (lambda: sr.BlockRotation(jnp.ones((4, 6), int), dimension=D), "must be floating"),
    (lambda: sr.ButterflyRotation(draw(3, 2, 4, 4)), r"2\*\*\(m - 1\) divides"),
    (lambda: sr.ButterflyRotation(draw(2, 2, 3, 3)), "b is even if m > 1"),
    (lambda: sr.Reflections(draw(0, 4)), "one vector and one dimension or more"),
    (lambda: sr.SubspaceRotation(RAW[0], draw(D, 3)), r"basis must be \[d, 4\]"),
    (
        lambda: sr.SubspaceRotation(RAW[0], BASIS, left_scale=GAIN),
        r"left_scale must be \[4\]",
    ),
    (lambda: sr.BlockRotation.init(draw(7, 3), block_size=4), "leave this kernel out"),
    (
        lambda: sr.ButterflyRotation.init(draw(6, 3)),
        r"2\*\*\(factors - 1\) must divide",
    ),
    (lambda: sr.Reflections.init(jax.random.key(0), KERNEL, count=3), "must be even"),
    (lambda: sr.SubspaceRotation.init(KERNEL, rank=9), "rank must be 8 or less"),
    (lambda: sr.SubspaceRotation.init(BASES["int8"][0]), "kernel must be floating"),
    (lambda: sr.rotate(X[:, :8], KINDS["block"]), r"inputs must be \[\.\.\., 16\]"),
    (lambda: sr.rotate(X, RAW), "adapter must be an adapter of sphax.reparam"),
    (lambda: sr.adapt(X, KERNEL.T, KINDS["block"]), "dimension of axis -2 of kernel"),
    (lambda: sr.adapt(X, KERNEL[None], KINDS["block"]), r"kernel must be \[in, out\]"),
    (lambda: sr.adapt(X, BASES["int8"][0], KINDS["block"]), "kernel_scale must be g"),
    (lambda: sr.adapt(X, KERNEL, KINDS["block"], bias=SHIFT[:3]), "bias must have one"),
    (
        lambda: sr.adapt(X, KERNEL[:, :5], KINDS["butterfly"]),
        "adapter: scale must have one entry for each output",
    ),
    (
        lambda: sr.adapt(X, KERNEL, KINDS["block"], output_adapter=KINDS["block"]),
        "output_adapter must have the dimension of axis -1",
    ),
    (lambda: sr.merge_adapter(BASES["int8"][0], KINDS["block"]), "must be floating"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=lambda x: str(x)[:20])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
