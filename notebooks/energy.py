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
# # Hyperspherical energy
#
# The directions of its neurons determine which features a layer detects. Nearly
# parallel neurons are redundant. **Hyperspherical energy** measures how far directions
# are from being spread evenly: they repel each other like charges,
#
# $$ E_s = \frac{1}{n (n - 1)} \sum_{i \ne j} \|\hat w_i - \hat w_j\|^{-s},
# \qquad E_0 = -\frac{1}{n (n - 1)} \sum_{i \ne j} \log \|\hat w_i - \hat w_j\| . $$
#
# This notebook spreads points over a sphere, finds the arrangements of lowest energy,
# compares random directions with the minimum in many dimensions, and adds the energy to
# the training of a network.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/energy.ipynb`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import sphax as sx
from experiments.common.images import load
from experiments.thomson.config import lowest_known
from experiments.thomson.report import hull_edges

# %matplotlib inline
plt.style.use("sphax.plots.paper")
BLUE, ORANGE, RED, PURPLE = "C0", "C1", "C2", "C3"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. Points that repel each other
#
# Twenty-four points start in a small cap and follow the negative gradient.
# `energy_and_grad` returns the energy and its gradient, which is orthogonal to every
# point. A step along it leaves the sphere only to second order, and normalization
# brings the points back. The steps use the gradient of $\log E$, whose size does not
# depend on how close the points are.


# %%
@jax.jit
def spread(points):
    def step(points, _):
        energy, gradient = sx.energy.energy_and_grad(points)
        moved = points - 0.05 * len(points) * gradient / energy
        return sx.sphere.normalize(moved), (points, energy)

    return jax.lax.scan(step, points, length=401)[1]


rng = np.random.default_rng(0)
cap = np.array([0.0, 0.0, 1.0]) + 0.3 * rng.normal(size=(24, 3))
paths, energies = spread(sx.sphere.normalize(jnp.asarray(cap, jnp.float32)))

# %%
around = np.linspace(0.0, 2.0 * np.pi, 200)


def draw(ax, points, title, edges=()):
    """View from the side and slightly from above; the back is paler."""
    tilt = np.radians(25.0)
    rotation = np.array(
        [[1, 0, 0], [0, np.sin(tilt), np.cos(tilt)], [0, -np.cos(tilt), np.sin(tilt)]]
    )
    x, y, z = rotation @ np.asarray(points).T
    ax.fill(np.cos(around), np.sin(around), color="0.96", zorder=0)
    ax.plot(np.cos(around), np.sin(around), color="0.8", lw=0.6)
    for i, j in edges:
        is_front = z[i] + z[j] > 0
        color = "0.45" if is_front else "0.85"
        ax.plot(x[[i, j]], y[[i, j]], color=color, lw=0.8, zorder=1 + is_front)
    ax.scatter(x, y, s=14, c=np.where(z > 0, BLUE, "#A8CCE3"), zorder=3, lw=0)
    ax.set(title=title, aspect="equal")
    ax.set_axis_off()


fig, axes = plt.subplots(1, 5, figsize=(WIDTH, 1.8))
for ax, step in zip(axes, (0, 5, 20, 60, 400), strict=True):
    draw(ax, paths[step], f"step {step}\n$E_1 = {energies[step]:.4f}$")
plt.show()

# %% [markdown]
# ## 2. The lowest energy
#
# How low can the energy be? For three dimensions and $s = 1$ this is Thomson's problem,
# the equilibrium of charges on a sphere. `minimize_energy` searches for the minimum in
# any dimension, for any $s$, for points and for lines, from many random starts at once.

# %%
known = lowest_known()
numbers = (6, 12, 24)
found = {}
with jax.enable_x64(True):
    for n in numbers:
        found[n] = sx.energy.minimize_energy(jax.random.key(n), n, 3, restarts=8)

print("  n  sum of energies  lowest known  starts that ended there")
for n, best in found.items():
    ends = n * (n - 1) / 2 * np.asarray(best.energies)
    ended = np.sum(ends < known[n] * (1.0 + 1e-9))
    print(f"{n:3}  {ends.min():15.9f}  {known[n]:.9f}  {ended} of {len(ends)}")

fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
titles = ("octahedron, $n = 6$", "icosahedron, $n = 12$", "$n = 24$")
for ax, best, title in zip(axes, found.values(), titles, strict=True):
    draw(ax, best.points, title, hull_edges(np.asarray(best.points)))
plt.show()

# %% [markdown]
# ## 3. The random level
#
# The expected energy of random directions does not depend on their number
# (`expected_energy`), and the *minimum* approaches it as the number grows: the
# difference is large for few directions, and small for many. `energy_lower_bound` is a
# lower bound for all arrangements.

# %%
dimensions = np.unique(np.geomspace(5, 1000, 25).astype(int))
random = [sx.energy.expected_energy(int(d), power=2.0) for d in dimensions]
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6), sharey=True)
for ax, half_space in zip(axes, (False, True), strict=True):
    ax.plot(dimensions, random, color="black", label="random, any $n$")
    for n, color in ((16, BLUE), (64, PURPLE), (256, ORANGE)):
        bounds = [
            sx.energy.energy_lower_bound(n, int(d), power=2.0, half_space=half_space)
            for d in dimensions
        ]
        ax.plot(dimensions, bounds, color=color, label=f"bound, $n = {n}$")
    ax.set(title="half space" if half_space else "full space", xscale="log")
    ax.set(xlabel="dimensions", ylim=(0.4, 0.8))
axes[0].set_ylabel("$E_2$")
axes[0].legend()
plt.show()

# %% [markdown]
# (In half space a neuron also represents its mirror image, so opposite neurons repel
# each other as equal ones do.) The filters of a convolution over 3 x 3 x 64 inputs have
# 576 dimensions. With 64 random filters, its energy is within two percent of the
# minimum. The purpose of the energy in training is to *keep* it there.
#
# ## 4. Energy in an optax chain
#
# `add_energy_gradient` adds the gradient of the energy to the gradient of the loss. It
# comes before the optimizer in the chain, and its state holds the energy of every
# layer. Ten lines:


# %%
def optimizer(weight):
    return optax.chain(
        sx.optim.add_energy_gradient(
            {"": weight, "head": 10.0 * weight},  # another weight for the last layer
            power=2.0,
            reduce="sum",
        ),
        optax.sgd(0.05, momentum=0.9),
    )


# %% [markdown]
# The network has two layers of 128 neurons and a head, and is trained on scikit-learn's
# handwritten digits. Three runs differ only in the weight of the energy:

# %%
digits = load("digits")
STEPS, BATCH = 400, 64
sizes = {"first": (64, 128), "second": (128, 128), "head": (128, 10)}
params = {
    name: {"kernel": jnp.asarray(rng.normal(size=size) * np.sqrt(2 / size[0]), "f4")}
    for name, size in sizes.items()
}
batches = jnp.asarray(rng.integers(len(digits.train.labels), size=(STEPS, BATCH)))
train, test = (
    (jnp.asarray(split.images.reshape(-1, 64) / 255.0, "f4"), jnp.asarray(split.labels))
    for split in (digits.train, digits.test)
)


def logits(params, images):
    for name in ("first", "second"):
        images = jax.nn.relu(images @ params[name]["kernel"])
    return images @ params["head"]["kernel"]


@jax.jit
@jax.vmap
def run(weight):
    chain = optimizer(weight)

    def loss_of(params, rows):
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(logits(params, train[0][rows]), train[1][rows]).mean()

    def step(carry, rows):
        params, state = carry
        updates, state = chain.update(jax.grad(loss_of)(params, rows), state, params)
        return (optax.apply_updates(params, updates), state), optax.tree.get(
            state, "values"
        )

    (trained, _), energies = jax.lax.scan(step, (params, chain.init(params)), batches)
    errors = jnp.argmax(logits(trained, test[0]), axis=-1) != test[1]
    return trained, energies, 100.0 * jnp.mean(errors)


weights = {"no energy": 0.0, "weight 0.1": 0.1, "weight 1": 1.0}
trained, energies, errors = run(jnp.array(list(weights.values())))

# %%
fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.6))
for ax, (name, (d, n)) in zip(axes, sizes.items(), strict=True):
    for curve, label, color in zip(
        energies[f"{name}/kernel"], weights, (RED, ORANGE, BLUE), strict=True
    ):
        ax.plot(curve, color=color, label=label)
    level = sx.energy.expected_energy(d, power=2.0)
    ax.axhline(level, color="black", ls="--", lw=1.0, label="random")
    least = sx.energy.energy_lower_bound(n, d, power=2.0)
    ax.axhline(least, color="0.6", ls=":", lw=1.2, label="lower bound")
    ax.set(title=f"{name}: {n} in {d} dimensions", xlabel="step")
axes[0].set_ylabel("$E_2$")
axes[0].legend(loc="center left")
plt.show()
for label, error in zip(weights, errors, strict=True):
    print(f"{label:12}test error {error:.2f} %")

# %% [markdown]
# Without the energy term, training crowds the neurons of the hidden layers: their
# energy rises above the random level. With the term it falls below this level. The loss
# alone separates the ten neurons of the head; the energy term brings them to the lower
# bound, a simplex. One run does not allow conclusions about the error;
# `python -m experiments.energy` compares errors over seeds and regularizers.
#
# `energy_report` gives the energies of any params, and the closest pair of every layer:

# %%
for i in (0, 2):
    report = sx.energy.energy_report(
        jax.tree.map(lambda leaf, i=i: leaf[i], trained), power=2.0
    )
    print(report, end="\n\n")

# %% [markdown]
# ## In short
#
# - Hyperspherical energy measures how far neurons are from being spread evenly; its
#   minimization is Thomson's problem.
# - Random neurons are the reference level; in many dimensions their energy is nearly
#   minimal.
# - As a part of an optax chain it keeps the neurons of a network apart, at the cost of
#   one more product per layer.
