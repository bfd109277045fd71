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
# A convolution compares every patch $x$ of its input with every filter $w$, by the
# inner product $\|w\|\|x\|\cos\theta$. This says two things in one number: how much of
# anything there is, and how alike the two are. A **decoupled** operator says them by
# two functions of its own choice,
#
# $$ f(w, x) = h(\|w\|, \|x\|)\; g(\theta) , $$
#
# a magnitude $h$ and an angular function $g$. The plain convolution is one of many.
# This notebook looks at the two functions, at what a patch feels of them, at how much
# of an image is in the angles alone, and at what an attacker makes of it all.

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
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE, BLACK, GREY = "#D55E00", "#CC79A7", "#000000", "#999999"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. The two functions
#
# **Angular functions** fall from 1 to -1 and are 0 at a right angle. The cosine is flat
# where a filter fits its patch; the line is equally steep everywhere; the sigmoid is
# steep where the two have nothing to do with each other, the square of the cosine is
# flat there.
#
# **Magnitudes** grow with the length of the patch, or not at all. *Bounded* ones
# (sphere, ball, tanh) limit what any patch can say. *Unbounded* ones keep more of what
# lengths have to say. Some have a radius $\rho$, in units of which they see a length.

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
for (name, g), colour in zip(angular.items(), COLOURS, strict=False):
    axes[0].plot(np.degrees(theta), g(theta), color=colour, label=name)
for i, ((name, h), colour) in enumerate(zip(magnitudes.items(), COLOURS, strict=True)):
    style = "-" if i < 3 else "--"
    axes[1].plot(length, h(length), style, color=colour, label=name)
axes[0].set(xlabel=r"angle $\theta$ (degrees)", ylabel=r"$g(\theta)$")
axes[0].set(xticks=range(0, 181, 45))
axes[0].legend(loc="lower left")
axes[1].set(xlabel=r"length of the patch $\|x\|$", ylabel=r"$h(\|x\|)$", ylim=(0, 3.1))
axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
plt.show()

# %% [markdown]
# (Solid: bounded.) The filter's length counts only in *weighted* forms: as a factor,
# $\|w\| h(\|x\|)$ (`weighted="linear"`), or within, $h(\|w\|\|x\|)$ (`"nonlinear"`).
# Left out, all filters are equally important. The plain convolution is the linear
# magnitude weighted, with the cosine:

# %%
rng = np.random.default_rng(0)
images = jnp.asarray(rng.normal(size=(2, 9, 9, 3)), jnp.float32)
kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32)
taken_apart = partial(
    so.decoupled_conv,
    images,
    kernel,
    magnitude=so.Linear(weighted="linear"),
    angular=so.Cosine(),
)
plain = jax.lax.conv_general_dilated(
    images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
)
product = taken_apart(emit="magnitude") * taken_apart(emit="angle")
for name, outputs in (("the operator", taken_apart()), ("its two factors", product)):
    print(f"{name:16}differs from the convolution by {abs(outputs - plain).max():.0e}")

# %% [markdown]
# ## 2. Surfaces
#
# Every operator is a surface over the half plane of patches: here at the distance
# $\|x\|$ from the origin and the angle $\theta$ from the filter, which points to the
# right. What is drawn comes from `decoupled_dense` on these very vectors.

# %%
shown = {
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
for ax, (title, functions) in zip(axes.flat, shown.items(), strict=True):
    values = surface(*functions)
    drawn = ax.contourf(*np.moveaxis(patches, -1, 0), values, levels, cmap="RdBu_r")
    ax.contour(
        *np.moveaxis(patches, -1, 0), values, levels, colors=BLACK, linewidths=0.3
    )
    ax.annotate(
        "", (1.0, 0.0), (0.0, 0.0), arrowprops={"arrowstyle": "-|>", "shrinkA": 0}
    )
    ax.set(title=title, aspect="equal", xticks=[-2, 0, 2], yticks=[0, 2])
fig.colorbar(drawn, ax=axes, label="$f(w, x)$", ticks=[-2, -1, 0, 1, 2])
plt.show()

# %% [markdown]
# The inner product is a plane: its contours are straight, and a step away from the
# origin counts the same everywhere. A sphere has rays for contours. All of them meet at
# the origin, where the smallest step can go from any value to any other. Ball and tanh
# are a plane, or something like it, near the origin, and a sphere far from it.
#
# ## 3. What a patch feels
#
# How far can a change of the patch move the output? By the longest gradient at its
# length,
#
# $$
# \Big\|\frac{\partial f}{\partial x}\Big\|^2
# = \big(h'(r)\, g(\theta)\big)^2 + \Big(\frac{h(r)}{r}\, g'(\theta)\Big)^2 .
# $$


# %%
def steepest(magnitude, angular):
    """Length of the gradient for each length of a patch, the largest over angles."""

    def response(patch):
        found = so.decoupled_dense(patch, filters, magnitude=magnitude, angular=angular)
        return found[0]

    gradients = jax.vmap(jax.vmap(jax.grad(response)))(patches)
    return jnp.max(jnp.linalg.norm(gradients, axis=-1), axis=0)


fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6), sharey=True)
for (name, h), colour in zip(magnitudes.items(), COLOURS, strict=True):
    axes[0].plot(grid[0][0], steepest(h, so.Cosine()), color=colour, label=name)
for (name, g), colour in zip(angular.items(), COLOURS, strict=False):
    axes[1].plot(grid[0][0], steepest(so.Ball(), g), color=colour, label=name)
axes[0].set(title="Cosine", ylabel=r"$\max_\theta \|\partial f / \partial x\|$")
axes[1].set(title="Ball")
for ax in axes:
    ax.set(xlabel=r"length of the patch $\|x\|$", ylim=(0, 4))
    ax.legend(ncols=2, columnspacing=1.0)
plt.show()

# %% [markdown]
# The inner product feels all patches alike. A bounded magnitude feels long patches
# less and less, like $1/\|x\|$; the price is at the other end, where the sphere feels
# the shortest patches without bound, and so does the power. There the noise of an empty
# corner is as loud as any edge. A radius is the remedy. In a network it is measured: in
# units of the mean norm of the patches, and learned from there on
# (`DecoupledConv(radius="learned")`). On the right, the price of a steeper $g$: the
# sigmoid is the most sensitive of all, at its right angle.
#
# ## 4. Angles alone
#
# An autoencoder is trained as usual, on inner products. Then the last convolution of
# its encoder is asked for one factor alone (`emit="magnitude"` or `"angle"`), and the
# decoder has to make do with it; or all convolutions of the encoder are. Nothing is
# trained for that. (`python -m experiments.autoencoder` does it at length.)

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
alike = measure(autoencoder, digits)
titles = {name: source.title for name, source in SOURCES.items()}
titles |= {"mean": "the mean image", "another": "another image"}
print(f"{'':24}correlation with the image")
for name, title in titles.items():
    values = alike[name]["correlation"]
    print(f"{title:24}{np.mean(values):.2f} ± {np.std(values):.2f}")

# %% [markdown]
# (Every decoded image is drawn with the mean and the contrast of its original: the
# network has no biases, so that codes in another unit come out with another contrast.
# Mean ± standard deviation over the test images.) The angles bring the image back. What
# the magnitudes bring is nearly the same for every image, and less like it than the
# mean image, or than any other one. Even if every convolution of the encoder forgets
# all lengths, the digit can be read.
#
# ## 5. Under attack
#
# A bounded operator limits how far a perturbation goes through it. Does it make a
# network robust? Two small networks that differ in their convolutions alone:

# %%
STEPS, BATCH = 200, 64
train_images, train_labels = pixels(digits.train.images), digits.train.labels
test_images, test_labels = pixels(digits.test.images[:400]), digits.test.labels[:400]
names = {"plain": BLUE, "tanh-cosine": VERMILION}


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
    network = sx.networks.ConvNet(
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
# PGD takes ten, from a random start within $\varepsilon$, and keeps the best. Noise
# within $\varepsilon$ is there to compare.


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
under = {}
for name, (graph, state) in trained.items():
    loss = jax.tree_util.Partial(losses, graph, state, test_labels)
    for attack, run in attacks.items():
        under[name, attack] = [
            float(accuracy(graph, state, run(loss, eps))) for eps in radii
        ]

fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5), sharey=True)
for ax, attack in zip(axes, attacks, strict=True):
    for name, colour in names.items():
        ax.plot(radii, under[name, attack], color=colour, marker="o", ms=3, label=name)
    ax.set(title=attack, xlabel=r"radius $\varepsilon$", ylim=(-0.02, 1.02))
axes[0].set_ylabel("accuracy")
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# It does not. Noise hurts neither network, one step breaks both, ten leave nothing. A
# bound on every layer is none on the network: what a layer squeezes, the batch
# normalisation after it stretches again. And a network that did look robust here could
# as well be one that hides its gradients; then FGSM would stay far behind PGD, or PGD
# behind images made for another network. `python -m experiments.robustness` asks these
# questions of more operators, more seeds, and of networks trained under attack.
#
# ## In short
#
# - Length and angle of a patch are two things; an operator chooses a function of each.
# - What an image shows is in the angles. The lengths are contrast, and little else.
# - Bounded magnitudes feel long patches less, and short ones more: give them a radius.
# - A bounded operator is no defence.
