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
# # Orthogonal training
#
# Random neurons point in all directions evenly: in many dimensions, their
# hyperspherical energy is near the lowest there is. Training moves each where the loss
# wants it, and crowds them as it does. **Orthogonal over-parameterised training** (OPT)
# keeps the random neurons $V$ of a layer as they are, and learns in which orientation
# to hold them:
#
# $$ W = R\, V, \qquad R^\top R = I . $$
#
# A rotation $R$ of all neurons together changes no angle between them. So the energy is
# that of $V$, exactly, however long and by whatever optimiser one trains.
#
# This notebook turns an ordinary training script into OPT in ten lines, looks at the
# energies and at the angles, and folds the rotations away in the end.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments import _data

# %matplotlib inline
plt.rcParams.update(
    {
        "figure.dpi": 120,
        "figure.constrained_layout.use": True,
        "font.family": "STIXGeneral",
        "mathtext.fontset": "stix",
        "font.size": 10,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "lines.linewidth": 1.6,
    }
)
# Okabe and Ito's palette, distinct under every kind of colour vision.
GREEN, BLUE, VERMILION, GREY = "#009E73", "#0072B2", "#D55E00", "#999999"
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. An ordinary training script
#
# A perceptron with two hidden layers, scikit-learn's handwritten digits, Adam.


# %%
class Perceptron(nnx.Module):
    def __init__(self, *, rngs):
        init = nnx.initializers.he_normal()
        self.first = nnx.Linear(64, 128, kernel_init=init, rngs=rngs)
        self.second = nnx.Linear(128, 128, kernel_init=init, rngs=rngs)
        self.classifier = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.first(images))
        return self.classifier(nnx.relu(self.second(x)))


digits = _data.load("digits")
train, test = (
    (jnp.asarray(split.images.reshape(-1, 64) / 255.0, "f4"), jnp.asarray(split.labels))
    for split in (digits.train, digits.test)
)
STEPS, BATCH = 400, 64
rng = np.random.default_rng(0)
batches = jnp.asarray(rng.integers(len(train[1]), size=(STEPS, BATCH)))
graphdef, params = nnx.split(Perceptron(rngs=nnx.Rngs(0)), nnx.Param)
adam = optax.adam(0.01)


def energies_of(params):
    """Of both hidden layers."""
    kernels = params["first"]["kernel"], params["second"]["kernel"]
    return [sx.energy.hyperspherical_energy(kernel[...].T) for kernel in kernels]


def loss_of(params, rows):
    """With the energies, to be drawn."""
    logits = nnx.merge(graphdef, params)(train[0][rows])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, train[1][rows])
    return losses.mean(), energies_of(params)


# %%
@jax.jit
def ordinary(params):
    def step(carry, rows):
        params, state = carry
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        curves, gradient = value_and_grad(params, rows)
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), curves

    (params, _), curves = jax.lax.scan(step, (params, adam.init(params)), batches)
    return params, curves


plain, plain_curves = ordinary(params)

# %% [markdown]
# ## 2. Ten lines
#
# `orthogonal` gives functions between the params and what is trained in their place.
# `init` draws nothing here, but keeps the neurons that the network has
# (`neuron_init="given"`) as `frozen`. In `free`, each kernel of a hidden layer is a raw
# square array, from which Cayley's map makes a rotation, and all else is what it was;
# the last layer is better left to itself. `apply` makes params of both, and is
# differentiable: it stands before the loss, and nothing else has to know.

# %%
training = sx.reparam.orthogonal(
    neuron_init="given", where=lambda path, kernel: not path.startswith("classifier")
)
free, frozen = training.init(jax.random.key(0), params)


@jax.jit
def orthogonal(free):
    def objective(free, rows):
        return loss_of(training.apply(free, frozen), rows)

    def step(carry, rows):
        free, state = carry
        value_and_grad = jax.value_and_grad(objective, has_aux=True)
        curves, gradient = value_and_grad(free, rows)
        updates, state = adam.update(gradient, state, free)
        return (optax.apply_updates(free, updates), state), curves

    (free, _), curves = jax.lax.scan(step, (free, adam.init(free)), batches)
    return free, curves


free, opt_curves = orthogonal(free)
merged = training.merge(free, frozen)

# %%
fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
runs = (plain_curves, "ordinary", VERMILION), (opt_curves, "OPT", BLUE)
for (losses, energies), label, colour in runs:
    for ax, energy in zip(axes[:2], energies, strict=True):
        ax.plot(energy, color=colour, label=label)
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid")
    axes[2].semilogy(smooth, color=colour, label=label)
for ax, d in zip(axes[:2], (64, 128), strict=True):
    level = sx.energy.expected_energy(d)
    ax.axhline(level, color=GREY, ls="--", lw=1.0, label="random")
    ax.set(title=f"$E_1$, 128 neurons in {d} dimensions", xlabel="step")
axes[2].set(title="loss", xlabel="step")
axes[0].legend()
plt.show()
change = max(np.ptp(energy) for energy in opt_curves[1])
print("largest change of an energy under OPT:", change)

# %% [markdown]
# Left to itself, training raises the energies above the level of random neurons. Under
# OPT they are constant, to the rounding of 32-bit numbers. That costs freedom: the loss
# falls more slowly. What it is worth in errors is a question for more than one run.
#
# ## 3. No angle changes
#
# The energy is one number; what is kept is more. Here is the cosine of every pair of
# neurons of the second layer, before the training and after it.

# %%
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, sharey=True)
pairs = np.triu_indices(128, k=1)


def cosines_of(params):
    rows = params["second"]["kernel"][...].T
    return np.asarray(sx.sphere.cosine_similarity(rows, rows))[pairs]


before = cosines_of(params)
for ax, own, label, colour in (
    (axes[0], plain, "ordinary training", VERMILION),
    (axes[1], merged, "OPT", BLUE),
):
    ax.plot([-0.4, 0.4], [-0.4, 0.4], color=GREY, lw=0.8)
    ax.scatter(before, cosines_of(own), s=1, color=colour, lw=0)
    ax.set(title=label, xlabel="cosine before", aspect="equal")
axes[0].set_ylabel("cosine after")
plt.show()
kernel, new = (own["second"]["kernel"][...] for own in (params, merged))
ways = jnp.linalg.norm(new - kernel, axis=0) / jnp.linalg.norm(kernel, axis=0)
print(f"yet every neuron moved: by {ways.min():.2f} to {ways.max():.2f} of its length")

# %% [markdown]
# ## 4. Other first lines
#
# A rotation in $d$ dimensions is made of a $d \times d$ array. The descendants of OPT
# train less, and their functions are the same four:

# %%
hidden = {"where": lambda path, kernel: not path.startswith("classifier")}
methods = {
    "OPT": sx.reparam.orthogonal(**hidden),
    "S-OPT": sx.reparam.stochastic_orthogonal(fraction=0.25, **hidden),
    "OFT": sx.reparam.oft(block_size=16, **hidden),
    "BOFT": sx.reparam.boft(block_size=4, factors=3, **hidden),
    "POET": sx.reparam.poet(block_size=16, **hidden),
}
for name, method in methods.items():
    shapes, _ = jax.eval_shape(method.init, jax.random.key(0), params)
    is_rotation = sx.reparam.rotation_mask(shapes)
    sizes = jax.tree.map(lambda x, own: own * x.size, shapes, is_rotation)
    print(f"{name:6}{sum(jax.tree.leaves(sizes)):6} entries for rotations")

# %% [markdown]
# S-OPT and POET rotate a few coordinates at a time, drawn at random. Every so many
# steps two lines fold the rotations into the neurons, draw other coordinates, and set
# back the moments of what begins anew; params stay the same:
#
# ```python
# free, frozen, was_reset = training.advance(key, free, frozen)
# state = sx.reparam.reset_moments(adam, state, was_reset)
# ```
#
# POET mixes the neurons as well, by a rotation on their other side: it keeps the
# singular values of a kernel, and energies only nearly.
#
# ## 5. Plain again
#
# `merge` folds the rotations into the kernels. What is saved, served or trained on is
# the network of the first cell, and knows nothing of all this:

# %%
network = nnx.merge(graphdef, merged)
for label, own in (("ordinary", nnx.merge(graphdef, plain)), ("OPT", network)):
    errors = np.argmax(own(test[0]), axis=-1) != test[1]
    print(f"{label:10}test error {100.0 * errors.mean():.2f} %")
assert jax.tree.structure(merged) == jax.tree.structure(params)

# %% [markdown]
# ## In short
#
# - `init`, `apply` before the loss, `merge` in the end: that is OPT, for any network,
#   any loss and any optimiser.
# - Energies, angles and lengths of the neurons stay what they are.
# - `python -m experiments.opt` compares eleven ways to rotate, over seeds, on a
#   perceptron, convolutions, a graph and point clouds.
