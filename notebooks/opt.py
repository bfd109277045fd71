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
# Random neurons are spread evenly over all directions: in many dimensions, their
# hyperspherical energy is close to the minimum. Ordinary training moves each neuron
# separately, and crowds them. **Orthogonal over-parameterized training** (OPT) fixes
# the random neurons $V$ of a layer, and learns a rotation of all of them:
#
# $$ W = R\, V, \qquad R^\top R = I . $$
#
# The rotation $R$ does not change the angles between the neurons. So the energy stays
# equal to that of $V$, for any number of steps and any optimizer.
#
# This notebook adds OPT to an ordinary training script by ten changed lines, compares
# energies and angles, and finally merges the rotations into the kernels.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/opt.ipynb`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.common.images import load

# %matplotlib inline
plt.style.use("sphax.plots.paper")
BLUE, RED = "C0", "C2"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. An ordinary training script
#
# It trains a perceptron with two hidden layers on scikit-learn's handwritten digits,
# with Adam.


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


digits = load("digits")
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
    """Energies of both hidden layers."""
    kernels = params["first"]["kernel"], params["second"]["kernel"]
    return [sx.energy.hyperspherical_energy(kernel[...].T) for kernel in kernels]


def loss_of(params, rows):
    """The loss, and the energies for the figure."""
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
# `orthogonal` returns functions that convert between the params and the arrays trained
# in their place. Here `init` keeps the neurons of the network (`neuron_init="given"`)
# as `frozen`. In `free`, each kernel of a hidden layer is replaced by a square array,
# which the Cayley map turns into a rotation; all other leaves are unchanged, including
# the last layer, which is better trained as usual. `apply` computes the params from
# both. It is differentiable and comes before the loss; the rest of the script stays the
# same.

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
runs = (plain_curves, "ordinary", RED), (opt_curves, "OPT", BLUE)
for (losses, energies), label, color in runs:
    for ax, energy in zip(axes[:2], energies, strict=True):
        ax.plot(energy, color=color, label=label)
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid")
    axes[2].semilogy(smooth, color=color, label=label)
for ax, d in zip(axes[:2], (64, 128), strict=True):
    level = sx.energy.expected_energy(d)
    ax.axhline(level, color="0.6", ls="--", lw=1.0, label="random")
    ax.set(title=f"$E_1$, 128 neurons in {d} dimensions", xlabel="step")
axes[2].set(title="loss", xlabel="step")
axes[0].legend()
plt.show()
change = max(np.ptp(energy) for energy in opt_curves[1])
print("largest change of an energy under OPT:", change)

# %% [markdown]
# Ordinary training raises the energies above the level of random neurons. With OPT they
# are constant up to float32 rounding. OPT has less freedom: its loss decreases more
# slowly. The effect on the error needs more than one run.
#
# ## 3. No angle changes
#
# OPT keeps not only the energy, but every angle. The following figure shows the cosine
# of every pair of neurons of the second layer, before and after training.

# %%
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, sharey=True)
pairs = np.triu_indices(128, k=1)


def cosines_of(params):
    rows = params["second"]["kernel"][...].T
    return np.asarray(sx.sphere.cosine_similarity(rows, rows))[pairs]


before = cosines_of(params)
for ax, trained, label, color in (
    (axes[0], plain, "ordinary training", RED),
    (axes[1], merged, "OPT", BLUE),
):
    ax.plot([-0.4, 0.4], [-0.4, 0.4], color="0.6", lw=0.8)
    ax.scatter(before, cosines_of(trained), s=1, color=color, lw=0)
    ax.set(title=label, xlabel="cosine before", aspect="equal")
axes[0].set_ylabel("cosine after")
plt.show()
kernel, new = (tree["second"]["kernel"][...] for tree in (params, merged))
moves = jnp.linalg.norm(new - kernel, axis=0) / jnp.linalg.norm(kernel, axis=0)
print(f"every neuron moved by {moves.min():.2f} to {moves.max():.2f} of its length")

# %% [markdown]
# ## 4. Other methods
#
# OPT trains a $d \times d$ array for a rotation in $d$ dimensions. Its descendants
# train fewer entries, with the same functions:

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
    sizes = jax.tree.map(lambda x, is_counted: is_counted * x.size, shapes, is_rotation)
    print(f"{name:6}{sum(jax.tree.leaves(sizes)):6} entries for rotations")

# %% [markdown]
# S-OPT and POET rotate a few random coordinates at a time. At intervals, two more lines
# merge the rotations into the neurons, resample the coordinates, and reset the
# optimizer's moments of the new rotations; the params do not change:
#
# ```python
# free, frozen, was_reset = training.advance(key, free, frozen)
# state = sx.reparam.reset_moments(adam, state, was_reset)
# ```
#
# POET also multiplies by a rotation on the other side of the kernel, which mixes
# neurons: it preserves the singular values of the kernel, and energies only
# approximately.
#
# ## 5. The merged network
#
# `merge` multiplies the rotations into the kernels. The result is a plain `Perceptron`
# to be saved, served or trained further:

# %%
network = nnx.merge(graphdef, merged)
for label, model in (("ordinary", nnx.merge(graphdef, plain)), ("OPT", network)):
    errors = np.argmax(model(test[0]), axis=-1) != test[1]
    print(f"{label:10}test error {100.0 * errors.mean():.2f} %")
assert jax.tree.structure(merged) == jax.tree.structure(params)

# %% [markdown]
# ## In short
#
# - OPT is `init`, `apply` before the loss, and `merge` at the end, for any network, any
#   loss and any optimizer.
# - Energies, angles and lengths of the neurons do not change.
# - `python -m experiments.opt` compares eleven ways to rotate, over seeds, on a
#   perceptron, convolutions, a graph and point clouds.
