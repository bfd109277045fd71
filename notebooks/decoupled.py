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
# # Decoupled operators
#
# A convolution compares every patch $x$ of its input with every filter $w$ by the inner
# product $\|w\|\|x\|\cos\theta$. This number combines how strong the patch is and how
# similar the two are. A **decoupled** operator replaces it by a product of two
# functions,
#
# $$ f(w, x) = h(\|w\|, \|x\|)\; g(\theta) , $$
#
# a magnitude $h$ and an angular function $g$. The plain convolution is a special case.
# This notebook shows the two functions, the gradients with respect to a patch, how much
# of an image is in the angles alone, and how bounded operators respond to attacks.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/decoupled.ipynb`.

# %%
import pathlib
import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import sphax as sx
from experiments.autoencoder.config import SOURCES, Config
from experiments.autoencoder.train import decoded, fit, measure, pixels
from experiments.common.images import load
from experiments.common.operators import operator
from experiments.common.runs import Work
from experiments.robustness.attacks import fgsm, noise, pgd

# %matplotlib inline
plt.style.use("sphax.plots.paper")
BLUE, RED = "C0", "C2"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. The two functions
#
# **Angular functions** decrease from 1 to -1 and are 0 at a right angle. The cosine is
# flat where a filter matches its patch; the line has the same slope everywhere; the
# sigmoid is steep near a right angle, where the squared cosine is flat.
#
# **Magnitudes** increase with the length of the patch, or are constant. *Bounded* ones
# (sphere, ball, tanh) limit the response to any patch. *Unbounded* ones keep more
# information about the length. Some have a radius $\rho$ as their unit of length.

# %%
so = sx.operators
angular = {
    "LinearAngle": so.LinearAngle(),
    "Cosine": so.Cosine(),
    "Sigmoid, $k = 0.3$": so.Sigmoid(k=0.3),
    "SquareCosine": so.SquareCosine(),
}
magnitudes = {
    "Sphere": so.Sphere(),
    "Ball": so.Ball(rho=1.0),
    "Tanh": so.Tanh(rho=1.0),
    "Linear": so.Linear(),
    "Segmented": so.Segmented(rho=1.0, beta=0.3),
    "Log": so.Log(),
    "Mix": so.Mix(beta=0.5),
    "Power, $t = 1/2$": so.Power(exponent=0.5),
}
theta, length = jnp.linspace(0.0, jnp.pi, 361), jnp.linspace(0.0, 3.0, 301)

fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8))
for name, g in angular.items():
    axes[0].plot(np.degrees(theta), g(theta), label=name)
for i, (name, h) in enumerate(magnitudes.items()):
    style = "-" if i < 3 else "--"
    axes[1].plot(length, h(length), style, label=name)
axes[0].set(xlabel=r"angle $\theta$ (degrees)", ylabel=r"$g(\theta)$")
axes[0].set(xticks=range(0, 181, 45))
axes[0].legend(loc="lower left")
axes[1].set(xlabel=r"length of the patch $\|x\|$", ylabel=r"$h(\|x\|)$", ylim=(0, 3.1))
axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
plt.show()

# %% [markdown]
# (Solid: bounded.) The filter's length counts only in *weighted* forms: as a factor,
# $\|w\| h(\|x\|)$ (`weighted="linear"`), or inside, $h(\|w\|\|x\|)$ (`"nonlinear"`).
# Without it, all filters are equally important. The plain convolution is the weighted
# linear magnitude with the cosine:

# %%
rng = np.random.default_rng(0)
images = jnp.asarray(rng.normal(size=(2, 9, 9, 3)), jnp.float32)
kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32)
decoupled = partial(
    so.decoupled_conv,
    images,
    kernel,
    magnitude=so.Linear(weighted="linear"),
    angular=so.Cosine(),
)
plain = jax.lax.conv_general_dilated(
    images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
)
product = decoupled(part="magnitude") * decoupled(part="angle")
for name, outputs in (("the operator", decoupled()), ("its two factors", product)):
    print(f"{name:16}differs from the convolution by {abs(outputs - plain).max():.0e}")

# %% [markdown]
# ## 2. Surfaces
#
# Every operator is a surface over the half plane of patches, at the distance $\|x\|$
# from the origin and the angle $\theta$ from the filter, which points to the right. The
# values are computed by `decoupled_dense` for these vectors.

# %%
surfaces = {
    "Linear, Cosine": (so.Linear(), so.Cosine()),
    "Sphere, Cosine": (so.Sphere(), so.Cosine()),
    "Sphere, LinearAngle": (so.Sphere(), so.LinearAngle()),
    "Ball, Sigmoid": (so.Ball(rho=1.0), so.Sigmoid()),
    "Tanh, Cosine": (so.Tanh(rho=1.0), so.Cosine()),
    "Log, SquareCosine": (so.Log(), so.SquareCosine()),
}
grid = np.meshgrid(np.linspace(1e-3, 2.0, 101), np.linspace(0.0, np.pi, 181))
patches = np.stack([grid[0] * np.cos(grid[1]), grid[0] * np.sin(grid[1])], axis=-1)
patches = jnp.asarray(patches, jnp.float32)
filters = jnp.array([[1.0], [0.0]])


def surface(magnitude, angular):
    outputs = so.decoupled_dense(patches, filters, magnitude=magnitude, angular=angular)
    return outputs[..., 0]


fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 3.0), sharex=True, sharey=True)
levels = np.linspace(-2.0, 2.0, 21)
for ax, (title, functions) in zip(axes.flat, surfaces.items(), strict=True):
    values = surface(*functions)
    drawn = ax.contourf(*np.moveaxis(patches, -1, 0), values, levels, cmap="RdBu_r")
    ax.contour(
        *np.moveaxis(patches, -1, 0), values, levels, colors="black", linewidths=0.3
    )
    ax.annotate(
        "", (1.0, 0.0), (0.0, 0.0), arrowprops={"arrowstyle": "-|>", "shrinkA": 0}
    )
    ax.set(title=title, aspect="equal", xticks=[-2, 0, 2], yticks=[0, 2])
fig.colorbar(drawn, ax=axes, label="$f(w, x)$", ticks=[-2, -1, 0, 1, 2])
plt.show()

# %% [markdown]
# The inner product is a plane: its contours are straight and equally spaced. The
# contours of the sphere are rays, which all meet at the origin, where an arbitrarily
# small step can change the value from any to any other. Ball and tanh are close to a
# plane near the origin, and to a sphere far from it.
#
# ## 3. Sensitivity to the patch
#
# How much can a small change of the patch change the output? The bound is the longest
# gradient at its length,
#
# $$
# \Big\|\frac{\partial f}{\partial x}\Big\|^2
# = \big(h'(r)\, g(\theta)\big)^2 + \Big(\frac{h(r)}{r}\, g'(\theta)\Big)^2 .
# $$


# %%
def steepest(magnitude, angular):
    """Largest length of the gradient over all angles, for each length of a patch."""

    def response(patch):
        found = so.decoupled_dense(patch, filters, magnitude=magnitude, angular=angular)
        return found[0]

    gradients = jax.vmap(jax.vmap(jax.grad(response)))(patches)
    return jnp.max(jnp.linalg.norm(gradients, axis=-1), axis=0)


fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6), sharey=True)
for name, h in magnitudes.items():
    axes[0].plot(grid[0][0], steepest(h, so.Cosine()), label=name)
for name, g in angular.items():
    axes[1].plot(grid[0][0], steepest(so.Ball(), g), label=name)
axes[0].set(title="Cosine", ylabel=r"$\max_\theta \|\partial f / \partial x\|$")
axes[1].set(title="Ball")
for ax in axes:
    ax.set(xlabel=r"length of the patch $\|x\|$", ylim=(0, 4))
    ax.legend(ncols=2, columnspacing=1.0)
plt.show()

# %% [markdown]
# The inner product is equally sensitive to all patches. A bounded magnitude becomes
# less sensitive to long patches, like $1/\|x\|$. At the other end, the sphere and the
# power are sensitive to short patches without bound: noise in an empty corner has as
# much effect as an edge. A radius avoids this. In a network it is measured in units of
# the mean norm of the patches, and learned from this start
# (`DecoupledConv(radius="learned")`). On the right, a steeper $g$ is more sensitive:
# the sigmoid is the most sensitive of all, at a right angle.
#
# ## 4. Angles alone
#
# An autoencoder is trained as usual, with inner products. Then the last convolution of
# its encoder, or all of them, return one factor only (`part="magnitude"` or `"angle"`),
# and the decoder reconstructs the image from it, without further training. (`python -m
# experiments.autoencoder` is the full study.)

# %%
digits = load("digits")
recipe = Config(channels=(32, 16), steps=300)
history = []


def report(steps, metrics):
    history.extend(metrics.get("loss", ()))


with tempfile.TemporaryDirectory() as folder:
    autoencoder = fit(recipe, digits, 0, Work(pathlib.Path(folder), report))
for part in np.split(np.array(history), 3):
    print(f"mean loss of {len(part)} steps: {part.mean():.4f}")

# %%
originals = pixels(digits.test.images[:12])
found = decoded(autoencoder, originals)
rows = {"image": originals}
rows |= {source.title: found[name] for name, source in SOURCES.items()}

fig, axes = plt.subplots(len(rows), 12, figsize=(WIDTH, 2.9))
for row, (title, row_images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, row_images, strict=True):
        ax.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
        ax.set_axis_off()
    row[0].text(-0.2, 0.5, title, transform=row[0].transAxes, ha="right", va="center")
plt.show()

# %%
similarity = measure(autoencoder, digits)
titles = {name: source.title for name, source in SOURCES.items()}
titles |= {"mean": "the mean image", "another": "another image"}
print(f"{'':24}correlation with the image")
for name, title in titles.items():
    values = similarity[name]["correlation"]
    print(f"{title:24}{np.mean(values):.2f} ± {np.std(values):.2f}")

# %% [markdown]
# (Every decoded image has the mean and the contrast of its original: the network has no
# biases, so codes on another scale change the contrast. Mean ± standard deviation over
# the test images.) The angles reconstruct the image. The reconstruction from magnitudes
# is nearly the same for every image, less similar to the image than the mean image is,
# and no more similar than another image. The digit is readable even if every
# convolution of the encoder ignores all lengths.
#
# ## 5. Under attack
#
# A bounded operator limits the effect of a perturbation. Does it make a network robust?
# The following two small networks differ only in their convolutions:

# %%
STEPS, BATCH = 200, 64
train_images, train_labels = pixels(digits.train.images), digits.train.labels
test_images, test_labels = pixels(digits.test.images[:400]), digits.test.labels[:400]
names = {"plain": BLUE, "tanh-cosine": RED}


@nnx.jit
def step(network, optimizer, images, labels):
    def loss_of(network):
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(network(images), labels).mean()

    loss, gradient = nnx.value_and_grad(loss_of)(network)
    optimizer.update(network, gradient)
    return loss


def train(name):
    stages = [sx.networks.Stage(16), sx.networks.Stage(32)]
    network = sx.networks.Backbone(
        digits.shape, stages, 10, conv=operator(name).conv, rngs=nnx.Rngs(0)
    )
    rate = optax.cosine_decay_schedule(3e-3, STEPS)
    optimizer = nnx.Optimizer(network, optax.adam(rate), wrt=nnx.Param)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = rng.choice(len(train_labels), BATCH, replace=False)
        step(network, optimizer, train_images[rows], train_labels[rows])
    network.eval()
    return nnx.split(network)


trained = {name: train(name) for name in names}

# %% [markdown]
# FGSM takes one step of $\varepsilon$ in every pixel along the sign of the gradient;
# PGD takes ten steps from a random start within $\varepsilon$, and keeps the best
# result. Random noise within $\varepsilon$ is the baseline.


# %%
def losses(graph, state, labels, images):
    logits = nnx.merge(graph, state)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@jax.jit
def accuracy(graph, state, images):
    logits = nnx.merge(graph, state)(images)
    return jnp.mean(jnp.argmax(logits, axis=-1) == test_labels)


key = jax.random.key(1)
attacks = {
    "noise": lambda loss, eps: noise(loss, test_images, key, eps),
    "FGSM": lambda loss, eps: fgsm(loss, test_images, key, eps),
    "PGD": lambda loss, eps: pgd(loss, test_images, key, eps, steps=10),
}
radii = np.linspace(0.0, 0.24, 5)
accuracies = {}
for name, (graph, state) in trained.items():
    loss = jax.tree_util.Partial(losses, graph, state, test_labels)
    for attack, run in attacks.items():
        accuracies[name, attack] = [
            float(accuracy(graph, state, run(loss, eps))) for eps in radii
        ]

fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5), sharey=True)
for ax, attack in zip(axes, attacks, strict=True):
    for name, color in names.items():
        ax.plot(
            radii, accuracies[name, attack], color=color, marker="o", ms=3, label=name
        )
    ax.set(title=attack, xlabel=r"radius $\varepsilon$", ylim=(-0.02, 1.02))
axes[0].set_ylabel("accuracy")
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# It does not. Noise affects neither network much, one step breaks both, and ten steps
# reduce the accuracy to almost nothing. Bounding every layer does not bound the
# network: batch normalization rescales the output of each layer. Moreover, a network
# that seems robust here could have obfuscated gradients; FGSM would then be much weaker
# than PGD, or PGD weaker than images made for another network.
# `python -m experiments.robustness` studies more operators, more seeds, and
# adversarially trained networks.
#
# ## In short
#
# - An operator combines a function of the length of a patch with a function of its
#   angle.
# - The content of an image is in the angles; the lengths are mostly contrast.
# - Bounded magnitudes are less sensitive to long patches and more sensitive to short
#   ones: give them a radius.
# - A bounded operator is not a defense against attacks.
