# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A transformer on the sphere, and optimizers that stay on one
#
# In **nGPT** every vector has unit length: embeddings, the vectors of all matrices, and
# the tokens on their way through the network. Each block proposes points of the sphere,
# and a token moves towards them. This notebook takes a block apart, trains a small
# model on bytes, samples from it token by token, and then looks at optimizers that keep
# matrices of any network at a constant norm, at constant singular values, or
# orthogonal.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/ngpt.ipynb`.

# %%
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common.texts import read

# %matplotlib inline
plt.style.use("sphax.plots.paper")
BLUE, RED, PURPLE = "C0", "C2", "C3"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. A block, step by step
#
# Attention compares a query and a key at two positions. The **rotary embedding** turns
# each pair of their entries by an angle that grows with the position. It is a rotation,
# so that lengths stay as they are, and inner products depend on the distance of the
# positions alone: they are constant along the diagonals on the right. Without it (left)
# the same query and the same key have one inner product at all positions.

# %%
query, key = sx.sphere.sample_uniform(jax.random.key(0), (2, 32))
positions = jnp.arange(24)
queries, keys = (jnp.tile(x, (24, 1)) for x in (query, key))
turned = [sx.operators.rotary(x, positions) for x in (queries, keys)]
fig, axes = plt.subplots(1, 2, figsize=(0.8 * WIDTH, 2.6), sharey=True)
for ax, (q, k), title in (
    (axes[0], (queries, keys), "one query, one key"),
    (axes[1], turned, "rotated to their positions"),
):
    image = ax.imshow(q @ k.T, vmin=-0.5, vmax=0.5, cmap="PuOr")
    ax.set(title=title, xlabel="position of the key")
axes[0].set_ylabel("position of the query")
fig.colorbar(image, ax=axes, shrink=0.8)
plt.show()
lengths = sx.sphere.length(turned[0])
print("lengths after the rotation:", float(lengths.min()), "to", float(lengths.max()))

# %% [markdown]
# Attention and the dense layers each end in a proposal, whose direction $p$ is a point
# of the sphere. The token $h$ moves towards it by a share $\alpha$, which is learned
# for each feature. The way is the chord, normalized at its end, or the great circle.
# Both are close for small shares and angles, and differ most for wide angles: half of
# the way along the chord is half of the angle, but other shares are not.

# %%
shares = np.linspace(0.0, 1.0, 21)
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
circle = np.linspace(0.0, np.pi, 200)
axes[0].plot(np.cos(circle), np.sin(circle), color="0.6", lw=0.8)


def way(step, angle, share):
    """The angle that a block moves a token whose proposal is at the given angle."""
    block: Any = sx.layers.NormalizedBlock(
        2, 1, step=step, rate=share, rngs=nnx.Rngs(0)
    )
    start = jnp.array([[1.0, 0.0]])
    target = jnp.array([[jnp.cos(angle), jnp.sin(angle)]])
    block.attention = lambda tokens: target
    block.mlp = lambda tokens: tokens
    return float(sx.sphere.angle(start, block(start))[0])


def point(angle):
    return np.array([np.cos(angle), np.sin(angle)])


start, end, share = point(0.0), point(2.4), 0.25
axes[0].plot(*np.stack([start, end], 1), color="0.6", lw=0.8, ls="--")
for name, place, color, corner in (
    ("$h$", 0.0, "black", (6, 4)),
    ("$p$", 2.4, "black", (-12, 4)),
    ("chord", way("linear", 2.4, share), RED, (7, 2)),
    ("great circle", way("geodesic", 2.4, share), BLUE, (7, 2)),
):
    axes[0].plot(*point(place), "o", color=color)
    axes[0].annotate(
        name, point(place), xytext=corner, textcoords="offset points", color=color
    )
axes[0].set(title=rf"a quarter of the way, $\alpha$ = {share}", aspect="equal")
axes[0].set(xlim=(-1.3, 1.9), ylim=(-0.1, 1.3))
axes[0].axis("off")
for angle, style in ((1.0, ":"), (2.0, "--"), (2.8, "-")):
    for step, color in (("linear", RED), ("geodesic", BLUE)):
        moved = [way(step, angle, share) / angle for share in shares]
        axes[1].plot(shares, moved, style, color=color)
axes[1].plot([], [], color=RED, label="chord")
axes[1].plot([], [], color=BLUE, label="great circle")
for angle, style in ((1.0, ":"), (2.0, "--"), (2.8, "-")):
    axes[1].plot([], [], style, color="0.6", label=f"angle {angle:g}")
axes[1].set(xlabel=r"share $\alpha$", title="share of the angle that was moved")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 2. The recipe: normalize after each step
#
# The call of the network does not normalize its matrices. Instead the optimizer brings
# their vectors back to the sphere after every step; `sx.neurons.of(model)` says which
# axis of which matrix the embedding is on. There is no weight decay, and no warm-up.
# We train on the topics of Python's own help, byte by byte.

# %%
CONTEXT, BATCH, STEPS = 32, 16, 200
text = np.frombuffer(read(None), np.uint8)
rng = np.random.default_rng(0)
places = rng.integers(len(text) - CONTEXT, size=(STEPS, BATCH, 1))
batches = jnp.asarray(text[places + np.arange(CONTEXT + 1)], jnp.int32)

model = sx.networks.NGPT(256, 32, depth=2, num_heads=2, rngs=nnx.Rngs(0))
neurons = sx.neurons.of(model)
print(neurons)
graph, params = nnx.split(model, nnx.Param)


def loss_of(params, sequences):
    logits = nnx.merge(graph, params)(sequences[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, sequences[:, 1:]
    ).mean()


def shortest_and_longest(params):
    """Over the vectors of all matrices."""
    axes = sx.neurons.find(params, neurons)
    leaves = sx.neurons.select(params, axes)
    lengths = [
        sx.sphere.length(axes[path].rows(leaf)).ravel() for path, leaf in leaves.items()
    ]
    lengths = jnp.concatenate(lengths)
    return lengths.min(), lengths.max()


def train(optimizer, params):
    """Losses and lengths at every step."""

    def step(carry, sequences):
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_of)(params, sequences)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (loss, *shortest_and_longest(params))

    first = params, optimizer.init(params)
    (params, _), curves = jax.jit(lambda x: jax.lax.scan(step, x, batches))(first)
    return params, curves


adam = optax.adam(optax.cosine_decay_schedule(0.03, STEPS), b1=0.9, b2=0.95)
recipe = optax.chain(adam, sx.optim.keep_params_on_sphere(neurons=neurons))
trained, (losses, shortest, longest) = train(recipe, params)
_, (free_losses, free_shortest, free_longest) = train(adam, params)

# %%
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
steps = np.arange(1, STEPS + 1)
axes[0].plot(steps, free_losses, color=RED, lw=1.0, label="Adam alone")
axes[0].plot(steps, losses, color=BLUE, lw=1.0, label="normalized after each step")
axes[0].set(title="training loss, nats per byte", xlabel="step")
axes[0].legend()
axes[1].fill_between(steps, free_shortest, free_longest, color=RED, alpha=0.4)
axes[1].fill_between(steps, shortest, longest, color=BLUE, lw=1.6)
axes[1].set(title="shortest to longest vector of a matrix", xlabel="step")
plt.show()
error = max(abs(float(shortest.min()) - 1.0), abs(float(longest.max()) - 1.0))
print("largest error of a length with the recipe:", error)

# %% [markdown]
# With the recipe all lengths are 1 to the rounding of float32, at every step. Now
# follow the bytes of a sentence through the trained model. Every block moves each token
# by an angle; the learned shares $|\alpha|$ (the eigen learning rates of the paper) are
# different for each feature.

# %%
model = nnx.merge(graph, trained)
sentence = b"The value of an expression is "
tokens = jnp.array([list(sentence)])
hidden = [model.embedding[...][tokens[0]]]
for block in model.blocks:
    hidden.append(block(hidden[-1]))
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8), width_ratios=(2, 1))
for i, (before, after) in enumerate(zip(hidden, hidden[1:], strict=False)):
    angles = np.degrees(sx.sphere.angle(before, after))
    color = (PURPLE, BLUE)[i]
    axes[0].plot(angles, "o-", ms=3, color=color, label=f"block {i + 1}")
axes[0].set_xticks(range(len(sentence)), sentence.decode())
axes[0].set(title="angle that a byte moves, degrees", ylim=(0, None))
axes[0].legend()
shares = [
    np.abs(rate())
    for block in model.blocks
    for rate in (block.attention_rate, block.mlp_rate)
]
names = ["attention 1", "dense 1", "attention 2", "dense 2"]
axes[1].boxplot(shares, tick_labels=names, sym=".")
axes[1].tick_params(axis="x", rotation=30)
axes[1].set(title=r"shares $|\alpha|$ of 32 features", ylim=(0, None))
plt.show()
print("lengths:", [float(sx.sphere.length(h).max().round(6)) for h in hidden])

# %% [markdown]
# ## 3. Sampling with a cache
#
# `generate` keeps keys and values of the bytes so far, so that each new byte costs one
# position. A cached key is a unit vector, rotated to its position. All shapes are
# fixed: the loop is compiled once. The logits are those of the whole sequence without a
# cache.

# %%
prompt = jnp.array(list(b"The "))
sample = sx.networks.generate(
    model, prompt, 160, temperature=0.6, key=jax.random.key(1)
)
print(bytes(np.asarray(sample, np.uint8)).decode(errors="replace"))

caches = model.init_cache((), len(sample))
one_by_one = []
for token in sample[:20]:
    logits, caches = model(token[None], caches)
    one_by_one.append(logits[0])
whole = model(sample[:20])
print()
print(
    "largest difference of logits:", float(jnp.abs(jnp.stack(one_by_one) - whole).max())
)
print("shape of the keys of a block:", caches[0].keys.shape, "used:", caches[0].count)
print("their lengths:", float(sx.sphere.length(caches[0].keys[:20]).min()))

# %% [markdown]
# ## 4. Optimizers that keep something constant
#
# `keep_params_on_sphere` is one of several. For any network and with any other
# optimizer, `project_to_norm` keeps each matrix at its first norm, and turns it by the
# same angle in every step. `pion` moves a matrix by rotations from both sides, and
# keeps all its singular values. `spectral_sphere` keeps the largest one, and
# `stiefel_muon` all of them at one.
#
# The example has no network: a 12 x 12 matrix learns to rotate random vectors, from a
# random start. Its target is orthogonal.

# %%
rng = np.random.default_rng(1)
target = np.linalg.qr(rng.normal(size=(12, 12)))[0]
inputs = jnp.asarray(rng.normal(size=(200, 12)), jnp.float32)
outputs = inputs @ jnp.asarray(target, jnp.float32)
first = {"kernel": jnp.asarray(rng.normal(size=(12, 12)) / np.sqrt(12), jnp.float32)}


def distance(params):
    return jnp.mean((inputs @ params["kernel"] - outputs) ** 2)


def descend(optimizer):
    """Losses and singular values, before each of 200 steps."""

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(distance)(params)
        updates, state = optimizer.update(gradient, state, params)
        seen = loss, jnp.linalg.svd(params["kernel"], compute_uv=False)
        return (optax.apply_updates(params, updates), state), seen

    start = first, optimizer.init(first)
    return jax.jit(lambda x: jax.lax.scan(step, x, length=200)[1])(start)


def falling(rate):
    return optax.cosine_decay_schedule(rate, 200)


optimizers = {
    "Adam": optax.adam(falling(0.03)),
    "project_to_norm": optax.chain(
        optax.adam(1.0), sx.optim.project_to_norm(falling(0.05))
    ),
    "pion": sx.optim.pion(falling(0.2)),
    "spectral_sphere": sx.optim.spectral_sphere(falling(0.1), radius="initial"),
    "stiefel_muon": sx.optim.stiefel_muon(falling(0.1)),
}
found = {name: descend(optimizer) for name, optimizer in optimizers.items()}

# %%
fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 4.2), sharex=True)
colors = ("black", PURPLE, BLUE, RED, "0.6")
for (name, (curve, values)), ax, color in zip(
    found.items(), axes.flat[1:], colors, strict=True
):
    axes[0, 0].plot(np.maximum(curve, 1e-8), color=color, lw=1.3)
    ax.plot(values, color=color, lw=0.8)
    ax.set(title=name, ylim=(0, 2.1))
axes[0, 0].set(title="loss", yscale="log")
for ax in axes[1]:
    ax.set_xlabel("step")
axes[0, 1].set_ylabel("singular values")
axes[1, 0].set_ylabel("singular values")
plt.show()
for name, (curve, values) in found.items():
    before, after = np.linalg.norm(values[0]), np.linalg.norm(values[-1])
    print(
        f"{name:16s} loss {curve[-1]:.1e}, norm {before:.2f} to {after:.2f}, singular"
        f" values in the end {values[-1].min():.2f} to {values[-1].max():.2f}"
    )

# %% [markdown]
# The colors of the loss are those of the panels. The target is orthogonal, so that
# `stiefel_muon`, whose matrices all are (from its first step on), has no more to learn
# than a rotation. `pion` cannot change the singular values that it starts with, and
# stops where the best rotation of them is. A constraint helps if it is right for the
# problem; the study [`experiments/ngpt`](../experiments/ngpt/README.md) compares these
# optimizers on a language model.
