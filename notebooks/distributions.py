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
# # Distributions on the sphere
#
# Normalized features are points on a sphere, and a distribution over them needs a
# density there. The **von Mises-Fisher** distribution is the normal distribution of the
# sphere, and the **power spherical** distribution is a close relative that is easier to
# sample:
#
# $$ p(x) \propto e^{\kappa\, \mu^\top x}, \qquad
# p(x) \propto (1 + \mu^\top x)^\kappa . $$
#
# Both have a mean direction $\mu$ and a concentration $\kappa$; $\kappa = 0$ is the
# uniform distribution. This notebook looks at densities and samples, passes gradients
# through samples, and estimates single distributions and mixtures from points.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/distributions.ipynb`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sphax as sx
from experiments.common.images import load
from sphax.distributions import (
    PowerSpherical,
    SphericalUniform,
    VonMisesFisher,
    fit,
    fit_mixture,
    kl_divergence,
    spherical_kmeans,
)

# %matplotlib inline
plt.style.use("sphax.plots.paper")
BLUE, ORANGE, RED, PURPLE = "C0", "C1", "C2", "C3"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. Densities and samples
#
# A distribution is a pytree with two arrays. Leading axes are batches: one mean
# direction and three concentrations are three distributions. The sphere is seen from
# the front, the shade is the density, and the dots are samples on the visible half.

# %%
mean = jnp.array([0.5, 0.4, 0.8])
concentrations = jnp.array([2.0, 10.0, 100.0])
families = {
    "von Mises-Fisher": VonMisesFisher(mean, concentrations),
    "power spherical": PowerSpherical(mean, concentrations),
}

grid = np.linspace(-1.0, 1.0, 201)
across, up = np.meshgrid(grid, grid)
is_inside = across**2 + up**2 <= 1.0
front = np.stack([across, up, np.sqrt(np.maximum(0.0, 1.0 - across**2 - up**2))], -1)

fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 4.9))
for row, (name, distribution) in zip(axes, families.items(), strict=True):
    density = np.exp(
        distribution.log_prob(jnp.asarray(front, jnp.float32)[..., None, :])
    )
    samples = np.asarray(distribution.sample(jax.random.key(0), (200,)))
    for number, ax in enumerate(row):
        shown = np.where(is_inside, density[..., number], np.nan)
        ax.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), cmap="Blues", vmin=0.0)
        x, y, z = samples[:, number].T
        ax.scatter(x[z > 0], y[z > 0], s=4, color=RED, lw=0)
        ax.add_patch(plt.Circle((0, 0), 1.0, fill=False, color="0.7", lw=0.8))
        ax.set(title=rf"{name}, $\kappa = {concentrations[number]:.0f}$")
        ax.set_axis_off()
plt.show()

# %% [markdown]
# These are the halves of the spheres that face us. `sx.plots.sphere` draws the whole
# sphere, here with samples of the three von Mises-Fisher distributions. With
# `%matplotlib widget` in place of `%matplotlib inline` it turns with the mouse.

# %%
samples = families["von Mises-Fisher"].sample(jax.random.key(0), (200,))
fig, ax = plt.subplots(figsize=(0.6 * WIDTH, 3.0), subplot_kw={"projection": "3d"})
sx.plots.sphere(
    samples.reshape(-1, 3),
    np.tile(np.arange(3), len(samples)),
    names=[rf"$\kappa = {k:.0f}$" for k in concentrations],
    axes=ax,
)
ax.view_init(elev=25, azim=0)
fig.legend(loc="outside right center", markerscale=2)
plt.show()

# %% [markdown]
# For the same $\kappa$ the power spherical distribution is wider. With twice the
# concentration its density is nearly the same around the mean direction, and lower far
# from it. In many dimensions a uniform point is
# almost orthogonal to any given direction, so that a concentration has to be compared
# with the dimension: the mean cosine is about $\kappa / d$ while that is small.

# %%
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
angles = np.linspace(0.0, np.pi, 300)
points = jnp.asarray(np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1), "f4")
north = jnp.array([1.0, 0.0, 0.0])
for k, color in ((1.0, PURPLE), (5.0, BLUE), (25.0, ORANGE)):
    vmf, power = VonMisesFisher(north, k), PowerSpherical(north, 2.0 * k)
    label = rf"$\kappa = {k:.0f}$"
    axes[0].plot(angles, vmf.log_prob(points), color=color, label=label)
    axes[0].plot(angles, power.log_prob(points), color=color, ls="--", lw=1.0)
axes[0].set(xlabel="angle to the mean direction", ylabel="log density", ylim=(-14, 2))
axes[0].set_title(r"solid: vMF($\kappa$), dashed: PS($2\kappa$)")
axes[0].legend()
bins = np.linspace(0.0, np.pi, 120)
for d, color in ((3, PURPLE), (30, BLUE), (300, ORANGE)):
    samples = VonMisesFisher(jnp.eye(d)[0], 30.0).sample(jax.random.key(1), (4000,))
    drawn = np.arccos(np.clip(np.asarray(samples[:, 0]), -1.0, 1.0))
    axes[1].hist(drawn, bins, density=True, color=color, alpha=0.7, label=f"$d = {d}$")
axes[1].set(xlabel="angle to the mean direction", title=r"samples, vMF, $\kappa = 30$")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 2. Gradients through samples
#
# `sample` is differentiable in both parameters, as the reparameterized normal
# distribution is. The gradient of an average is an unbiased estimate of the gradient of
# the expectation, also for the von Mises-Fisher distribution, which is sampled by
# rejection. Here is the slope of the mean cosine, whose exact value is known:

# %%
batch = jax.random.split(jax.random.key(2), 200)


def mean_cosine(family, k, key):
    return family(north, k).sample(key, (100,))[:, 0].mean()


print("                    exact   from 20,000 samples")
for family, name in ((VonMisesFisher, "vMF"), (PowerSpherical, "power spherical")):
    exact = jax.grad(lambda k, f=family: f(north, k).mean_resultant_length())(4.0)
    slopes = jax.vmap(jax.grad(mean_cosine, 1), (None, None, 0))
    found = jax.jit(slopes, static_argnums=0)(family, 4.0, batch)
    error = jnp.std(found) / np.sqrt(len(batch))
    print(f"{name:18}{exact:.5f}   {found.mean():.5f} +- {error:.5f}")

# %% [markdown]
# So a distribution can be fitted to a density that is only known up to a constant: the
# gradient of $E_q[\log q(x) - \log p(x)]$ needs samples from $q$, and the value and
# gradient of $\log p$. The target prefers a ring around the vertical axis, on the side
# that is seen:


# %%
def log_target(x):
    return -20.0 * (x[..., 1] - 0.5) ** 2 + 4.0 * x[..., 2]


def loss(parameters, key):
    q = PowerSpherical(parameters["mean"], jnp.exp(parameters["log_concentration"]))
    return -q.entropy() - log_target(q.sample(key, (64,))).mean()


@jax.jit
def descend(parameters):
    def step(parameters, key):
        value, gradient = jax.value_and_grad(loss)(parameters, key)
        moved = jax.tree.map(lambda p, g: p - 0.03 * g, parameters, gradient)
        moved["mean"] = sx.sphere.normalize(moved["mean"])
        return moved, (value, parameters)

    return jax.lax.scan(step, parameters, jax.random.split(jax.random.key(3), 300))[1]


start = {"mean": jnp.array([-0.7, -0.6, 0.4]), "log_concentration": jnp.array(0.0)}
losses, path = descend(start)

fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
shown = np.where(is_inside, np.exp(log_target(front)), np.nan)
axes[0].imshow(shown, origin="lower", extent=(-1, 1, -1, 1), cmap="Blues", vmin=0.0)
axes[0].add_patch(plt.Circle((0, 0), 1.0, fill=False, color="0.7", lw=0.8))
axes[0].plot(*np.asarray(path["mean"])[:, :2].T, color=RED)
axes[0].set(title="target, path of the mean")
axes[0].set_axis_off()
axes[1].plot(np.exp(path["log_concentration"]), color=BLUE)
axes[1].set(title="concentration", xlabel="step")
axes[2].plot(losses, color=BLUE, lw=0.8)
axes[2].set(title="loss", xlabel="step")
plt.show()

# %% [markdown]
# `entropy` and `kl_divergence` are closed forms that lose no digits, from two to 2048
# dimensions. The divergence from the uniform distribution is the regularizer of a
# hyperspherical variational autoencoder:

# %%
print("     d  concentration  vMF from uniform  PS from uniform")
for d, k in ((3, 1.0), (64, 100.0), (2048, 1e-3), (2048, 1e5)):
    uniform, axis = SphericalUniform(d), jnp.eye(1, d)[0]
    values = [
        float(kl_divergence(family(axis, k), uniform))
        for family in (VonMisesFisher, PowerSpherical)
    ]
    print(f"{d:6}  {k:13g}  {values[0]:16.6g}  {values[1]:15.6g}")

# %% [markdown]
# ## 3. Estimation
#
# `fit` returns the distribution of the largest likelihood. With few points in many
# dimensions the concentration is overestimated: the mean of points that are uniform is
# not zero. `correct_bias` takes most of this out, by the unbiased square of the mean's
# length.

# %%
counts = np.array([8, 16, 32, 64, 128, 256])
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6), sharey=True)
for ax, k in zip(axes, (0.0, 20.0), strict=True):
    draws = VonMisesFisher(jnp.eye(1, 64)[0], k).sample(jax.random.key(4), (40, 256))
    for correct_bias, color in ((False, RED), (True, BLUE)):
        # The first n points of each row, without compiling for each n.
        found = [
            fit(
                draws,
                where=jnp.broadcast_to(jnp.arange(256) < n, draws.shape[:2]),
                correct_bias=correct_bias,
            ).concentration.mean()
            for n in counts
        ]
        label = "corrected" if correct_bias else "maximum likelihood"
        ax.plot(counts, found, "o-", ms=3, color=color, label=label)
    ax.axhline(k, color="black", ls="--", lw=1.0, label="truth")
    ax.set(title=rf"$\kappa = {k:.0f}$, 64 dimensions", xlabel="points", xscale="log")
axes[0].set_ylabel("mean estimate of 40")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 4. Mixtures
#
# `fit_mixture` estimates a mixture of von Mises-Fisher distributions by EM, and
# `spherical_kmeans` is its limit for one large concentration. Both go through the
# points in blocks. Scikit-learn's digits, centered and normalized, are points on a
# sphere in 64 dimensions. Ten clusters are found without the labels, which only measure
# the result: the share of images whose label is the most frequent one of their cluster.

# %%
digits = load("digits")
images = digits.train.images.reshape(len(digits.train.labels), -1) / 255.0
labels = np.asarray(digits.train.labels)
x = sx.sphere.normalize(jnp.asarray(images - images.mean(0), jnp.float32))


def purity(clusters):
    found = zip(np.asarray(clusters), labels, strict=True)
    table = np.zeros((10, 10), int)
    np.add.at(table, tuple(np.array(list(found)).T), 1)
    return table.max(1).sum() / len(labels)


best = max(
    (fit_mixture(x, 10, key=jax.random.key(seed)) for seed in range(5)),
    key=lambda each: float(each.log_likelihood),
)
nearest = spherical_kmeans(x, 10, key=jax.random.key(0), restarts=5)
print(f"mixture           purity {100 * purity(best.labels):.1f} %")
print(f"spherical k-means purity {100 * purity(nearest.labels):.1f} %")

# %%
mixture = best.mixture
order = np.argsort(-np.asarray(mixture.log_weights))
fig, axes = plt.subplots(2, 5, figsize=(WIDTH, 3.4))
for ax, j in zip(axes.flat, order, strict=True):
    image = np.asarray(mixture.components.mean_direction[j]).reshape(8, 8)
    ax.imshow(image, cmap="RdBu_r", vmin=-0.4, vmax=0.4)
    weight = 100.0 * np.exp(mixture.log_weights[j])
    ax.set_title(
        rf"{weight:.0f} %, $\kappa = {mixture.components.concentration[j]:.0f}$"
    )
    ax.set_axis_off()
plt.show()

# %% [markdown]
# Every component has its own concentration: narrow ones are digits that are written in
# one way. A mixture is a distribution like the others, with `log_prob`, `sample` and
# `responsibilities`. Test images that it finds least probable are unusual:

# %%
test = digits.test.images.reshape(len(digits.test.labels), -1) / 255.0
log_prob = mixture.log_prob(jnp.asarray(test - images.mean(0), jnp.float32))
usual = mixture.sample(jax.random.key(5), (len(test),))
print(
    f"log density of test images   {log_prob.mean():.1f}, lowest {log_prob.min():.1f}"
)
print(f"of the mixture's own samples {mixture.log_prob(usual).mean():.1f}")

fig, axes = plt.subplots(2, 8, figsize=(WIDTH, 2.2))
ranks = np.argsort(log_prob)
for row, chosen, title in zip(
    axes, (ranks[:8], ranks[-8:]), ("lowest", "highest"), strict=True
):
    for ax, i in zip(row, chosen, strict=True):
        ax.imshow(test[i].reshape(8, 8), cmap="Greys")
        ax.set_axis_off()
    row[0].set_title(f"{title} log density", loc="left")
plt.show()

# %% [markdown]
# ## In short
#
# - The von Mises-Fisher and the power spherical distribution have a mean direction and
#   a concentration; compare the latter with the dimension.
# - Samples are differentiable in both, without bias.
# - Entropies and divergences are exact in every dimension; estimates from few points
#   need the correction.
# - Mixtures and spherical k-means go through large sets of points in blocks.
