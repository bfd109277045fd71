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
# # Margins
#
# A softmax classifier is trained only until the right class wins. A **margin** requires
# more: during training the target's cosine is replaced by a smaller value,
#
# $$
# L = -\log \frac{e^{r_y \psi(\theta_y)}}
#                {e^{r_y \psi(\theta_y)} + \sum_{j \ne y} e^{r_j \cos\theta_j}},
# \qquad \psi(\theta) < \cos\theta ,
# $$
#
# where $\theta_j$ is the angle between the embedding $x$ and the prototype $w_j$, and
# $r_j$ is $\|x\|\|w_j\|$ (L-Softmax), $\|x\|$ (SphereFace) or a constant $s$ (CosFace,
# ArcFace and most others). These methods differ only in one function of one angle. This
# notebook shows that function in four ways: as a curve, as a decision region, as a
# force, and by its effect on features.
#
# To open it: `pip install -e '.[notebooks]'` in a clone of the repository, then
# `jupyter lab notebooks/margins.ipynb`.

# %%
# %matplotlib inline
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.patches import Patch

import sphax as sx

plt.style.use("sphax.plots.paper")
BLUE, ORANGE, RED, PURPLE = "C0", "C1", "C2", "C3"  # of the style
WIDTH = 7.2  # inches, of every figure

# %% [markdown]
# ## 1. The curves
#
# **Multiplicative.** L-Softmax and SphereFace use $\cos m\theta$ in place of
# $\cos\theta$. Beyond $\theta = \pi/m$ this cosine would increase again, so it is
# continued by monotone pieces,
#
# $$
# \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \qquad
# \theta \in \big[\tfrac{k\pi}{m}, \tfrac{(k+1)\pi}{m}\big],
# \qquad\text{that is}\qquad
# \psi(\theta) = 1 - \int_0^\theta m\,|\sin mt|\,dt .
# $$
#
# (The paper's condition on the continuation, $D(\pi/m) = \cos(\pi/m)$, is a typo:
# continuity needs $D(\pi/m) = \cos\pi = -1$.) Such a margin is steep. Training
# therefore starts with a mixture, $(\lambda\cos\theta + \psi(\theta)) / (1 + \lambda)$,
# and reduces the weight $\lambda$ of the plain cosine. SphereFace-R has no such pieces:
# it is constant beyond $\pi/m$.
#
# **Additive.** CosFace lowers the curve, $\cos\theta - m$; ArcFace shifts it,
# $\cos(\theta + m)$; Li-ArcFace shifts a straight line, $1 - 2(\theta + m)/\pi$, and
# uses a straight line for the other classes as well.
#
# **Custom** margins are functions of the angle. The one below has $\psi(0) = 1$ and a
# nonzero slope there, $-m/2$:

# %%
custom = sx.margins.Psi(lambda angle, m: jnp.cos(angle) - m * jnp.sin(angle / 2), 0.5)

plain = sx.margins.NoMargin()
spherefaces = {f"$m = {m}$": sx.margins.SphereFace(m=m) for m in (1, 2, 3, 4)}
annealed = {
    rf"$\lambda = {weight}$": sx.margins.SphereFace(m=4, annealing=weight)
    for weight in (20, 5, 1, 0)
}
additive = {
    "CosFace, $m = 0.35$": sx.margins.CosFace(margin=0.35),
    "ArcFace, $m = 0.5$": sx.margins.ArcFace(margin=0.5),
    "combined (1, 0.3, 0.2)": sx.margins.Combined(m1=1.0, m2=0.3, m3=0.2),
    "Li-ArcFace, $m = 0.45$": sx.margins.LiArcFace(margin=0.45),
    "custom, $m = 0.5$": custom,
}
arcfaces = {
    mode: sx.margins.ArcFace(margin=0.5, beyond=mode)
    for mode in ("continuous", "pure", "fallback", "clamp", "easy")
}

# %%
panels = {
    "L-Softmax, SphereFace": spherefaces,
    "$m = 4$, annealed and without pieces": annealed
    | {"SphereFace-R": sx.margins.SphereFaceR(m=4.0)},
    "Additive margins": additive,
    r"ArcFace beyond $\pi - m$": arcfaces,
}
fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.0))
for ax, (title, margins) in zip(axes.flat, panels.items(), strict=True):
    sx.plots.psi(margins, axes=ax)
    ax.set(title=title, xlabel="")
    ax.legend(loc="lower left")
for ax in axes[:, 1]:
    ax.set_ylabel("")
# All five agree up to pi - m, except for "easy".
axes[1, 1].set(xlim=(80.0, 180.0), ylim=(-1.35, 0.3))
axes[1, 1].vlines(np.degrees(np.pi - 0.5), -1.35, -0.6, color="0.87", lw=1, zorder=0)
axes[1, 1].text(150.0, -1.3, r"$\theta = \pi - m$", color="0.4", ha="right")
axes[1, 1].legend(loc="upper right")
fig.supxlabel(r"angle $\theta$ to the target's prototype, degrees", fontsize=10)
plt.show()

# %% [markdown]
# The dotted line is $\cos\theta$. A good margin has two properties: $\psi$ lies
# **below** the value of another class at the same angle (otherwise there is no margin),
# and it **decreases** (otherwise the target repels its embedding). On $(0, \pi]$:

# %%
everything = {
    "no margin": plain,
    **{f"SphereFace, {name}": margin for name, margin in spherefaces.items()},
    "SphereFace-R v1, $m = 1.5$": sx.margins.SphereFaceR(m=1.5, version=1),
    "SphereFace-R v2, $m = 1.5$": sx.margins.SphereFaceR(m=1.5, version=2),
    **additive,
    **{f"ArcFace, {mode}": margin for mode, margin in arcfaces.items()},
}
grid = jnp.radians(jnp.arange(0.5, 180.25, 0.5))
print(f"{'':30}below   decreasing")
for name, margin in everything.items():
    psi, others = margin(grid), margin.negatives(jnp.cos(grid), grid)
    below, decreasing = jnp.all(psi < others), jnp.all(jnp.diff(psi) < 0)
    answers = ["yes" if answer else "no" for answer in (below, decreasing)]
    print(f"{name.replace('$', ''):30}{answers[0]:8}{answers[1]}")

# %% [markdown]
# SphereFace-R v2 keeps $\psi = \cos$ and raises the other classes instead. "Pure"
# ArcFace increases beyond $\pi - m$, as does the combined margin as published. "Easy"
# has no margin for $\theta > \pi/2$. SphereFace-R v1 and "clamp" end with a constant
# $\psi = -1$, where the gradient is zero. The default of `sx.margins.ArcFace`
# ("continuous") and the authors' "fallback" pass both tests; only the default has no
# jump.
#
# ## 2. Decision regions
#
# Consider two classes in the plane. Softmax assigns $x$ to class 1 if
# $\|w_1\|\cos\theta_1 > \|w_2\|\cos\theta_2$. L-Softmax accepts a sample of class 1
# only if
#
# $$ \|w_1\|\,\psi(\theta_1) > \|w_2\|\cos\theta_2 , $$
#
# and a sample of class 2 only if the same holds with 1 and 2 exchanged. The boundary
# splits into two, and between them is a **decision margin** that no training sample
# should enter.


# %%
@jax.jit
def surplus(x, target, other, margin):
    """Logit of the target at ``x``, with its margin, minus the logit of the other."""
    lengths = jnp.linalg.norm(target), jnp.linalg.norm(other)
    to_target, to_other = sx.sphere.angle(x, target), sx.sphere.angle(x, other)
    return lengths[0] * margin(to_target) - lengths[1] * jnp.cos(to_other)


def at(direction, radius=1.0):
    """The vector in a direction, given in radians."""
    return radius * jnp.stack([jnp.cos(direction), jnp.sin(direction)], axis=-1)


def boundaries(directions, values):
    """Directions of the sign changes, interpolated."""
    before = np.flatnonzero((values[1:] > 0) != (values[:-1] > 0))
    left, right = values[before], values[before + 1]
    fraction = left / (left - right)
    return directions[before] + fraction * (directions[before + 1] - directions[before])


# %%
margin = sx.margins.SphereFace(m=2)
half = np.radians(40.0)
circle = np.linspace(-np.pi, np.pi, 7201)
scenarios = {
    r"$\|w_1\| = \|w_2\|$": (0.8, 0.8),
    r"$\|w_1\| > \|w_2\|$": (0.9, 0.7),
    r"$\|w_1\| < \|w_2\|$": (0.7, 0.9),
}

fig, axes = plt.subplots(
    1, 3, figsize=(WIDTH, 2.85), subplot_kw={"projection": "polar"}
)
for ax, (title, (long1, long2)) in zip(axes, scenarios.items(), strict=True):
    w1, w2 = at(half, long1), at(-half, long2)
    ax.fill_between(circle, 0.0, 1.0, color="0.87", lw=0)
    for target, other, color in ((w1, w2, BLUE), (w2, w1, RED)):
        values = np.array(surplus(at(circle), target, other, margin))
        ax.fill_between(circle, 0.0, 1.0, where=values > 0, color="white", lw=0)
        ax.fill_between(
            circle, 0.0, 1.0, where=values > 0, color=color, alpha=0.3, lw=0
        )
        for edge in boundaries(circle, values):
            ax.plot([edge, edge], [0, 1], color=color, lw=1.4)
    softmax = np.array(surplus(at(circle), w1, w2, plain))
    for edge in boundaries(circle, softmax):
        ax.plot([edge, edge], [0, 1], "--", color="black", lw=1.2)
    for name, direction, radius in (("$w_1$", half, long1), ("$w_2$", -half, long2)):
        ax.annotate(
            "",
            xy=(direction, radius),
            xytext=(0, 0),
            arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0},
        )
        ax.text(direction * 1.3, 0.95 * radius, name, ha="center", va="center")
    ax.set(title=title, ylim=(0, 1), xticks=[], yticks=[])
    ax.spines["polar"].set_visible(False)
axes[0].text(0.075, 0.78, "margin", ha="center", va="center", fontsize=8.5)
fig.legend(
    handles=[
        Patch(color=BLUE, alpha=0.3, label="accepted as class 1"),
        Patch(color=RED, alpha=0.3, label="accepted as class 2"),
        Patch(color="0.87", label="accepted as neither"),
        plt.Line2D([], [], ls="--", color="black", lw=1.2, label="softmax boundary"),
    ],
    loc="outside lower center",
    ncols=4,
)
plt.show()

# %% [markdown]
# The longer prototype has the wider region, with or without a margin. Each region also
# ends on its *far* side, where $m\theta_1$ exceeds $\theta_2$ again; sketches of the
# front usually omit this.
#
# For equal norms the two boundaries are $m\theta_1 = \theta_2$ and
# $\theta_1 = m\theta_2$. Between the prototypes, $\theta_1 + \theta_2 = \theta_{1,2}$,
# so each boundary is at the angle $\theta_{1,2}/(m+1)$ from one prototype, and
#
# $$ \text{angular margin} = \frac{m - 1}{m + 1}\,\theta_{1,2} . $$

# %%
print("prototypes     m     measured    (m - 1) / (m + 1) of it")
for between in (30.0, 60.0, 120.0):
    half = np.radians(between) / 2
    inside = np.linspace(-half, half, 2001)
    w1, w2 = at(half), at(-half)
    for m in (2, 3, 4):
        margin = sx.margins.SphereFace(m=m)
        (edge1,) = boundaries(inside, np.array(surplus(at(inside), w1, w2, margin)))
        (edge2,) = boundaries(inside, np.array(surplus(at(inside), w2, w1, margin)))
        measured, expected = np.degrees(edge1 - edge2), (m - 1) / (m + 1) * between
        print(f"{between:9.0f}°{m:6}{measured:12.4f}°{expected:12.4f}°")
        assert abs(measured - expected) < 1e-3

# %% [markdown]
# Without norms, the decision depends only on the two angles, and all margins can be
# compared in one plane. The margin of SphereFace grows with the angle and vanishes at
# zero. The margin of CosFace is constant in the cosine, so in the angle it is widest
# near 0 and $\pi$. The margin of ArcFace is constant in the angle, up to $\pi - m$.
# (Dashed: softmax.)

# %%
compared = {
    "Softmax": plain,
    "SphereFace, $m = 2$": sx.margins.SphereFace(m=2),
    "CosFace, $m = 0.35$": sx.margins.CosFace(margin=0.35),
    "ArcFace, $m = 0.5$": sx.margins.ArcFace(margin=0.5),
}
degrees = np.linspace(0.0, 180.0, 721)
theta1, theta2 = np.meshgrid(np.radians(degrees), np.radians(degrees))

fig, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.5), sharey=True)
for ax, (title, margin) in zip(axes, compared.items(), strict=True):
    ax.set_facecolor("0.87")
    for a, b, color in ((theta1, theta2, BLUE), (theta2, theta1, RED)):
        surplus_of_class = np.array(margin(jnp.array(a)) - jnp.cos(b))
        levels = [0.0, np.inf]
        ax.contourf(degrees, degrees, surplus_of_class, levels, colors="white")
        ax.contourf(degrees, degrees, surplus_of_class, levels, colors=color, alpha=0.3)
        ax.contour(
            degrees, degrees, surplus_of_class, [0.0], colors=color, linewidths=1.2
        )
    ax.plot([0, 180], [0, 180], "--", color="black", lw=1.0)
    ax.text(37, 150, "class 1", color=BLUE, ha="center")
    ax.text(143, 22, "class 2", color=RED, ha="center")
    ax.set(title=title, xlabel=r"$\theta_1$ (degrees)", aspect="equal")
    ax.set(xticks=range(0, 181, 60), yticks=range(0, 181, 60))
axes[0].set_ylabel(r"$\theta_2$ (degrees)")
plt.show()

# %% [markdown]
# ## 3. The pull
#
# The force on an embedding is the gradient of its target logit. With $r_y = s$ it is
# tangent to the sphere and points to the prototype. For a unit vector $x$ its length
# depends only on the angle:
#
# $$
# \|x\| \Big\|\frac{\partial \psi(\theta)}{\partial x}\Big\| = |\psi'(\theta)|,
# \qquad\text{for ArcFace } \sin(\theta + m) .
# $$
#
# It does not vanish at $\theta = 0$: ArcFace still pulls with $\sin m$ on an embedding
# next to its prototype. Usual implementations lose this gradient. They compute
# $\arccos(\hat x \cdot \hat w)$, whose derivative $-1/\sin\theta$ is infinite at the
# cosine 1, and therefore clamp the cosine to $[-1 + \varepsilon, 1 - \varepsilon]$. The
# gradient is then zero in the cone $\theta < \arccos(1 - \varepsilon)$, and inaccurate
# by rounding far outside of it. The losses of sphax use `sx.sphere.angle`, which
# computes the angle and its gradient from the vectors:

# %%
arcface = sx.margins.ArcFace(margin=0.5)


def through_vectors(x, w):
    return arcface(sx.sphere.angle(x, w))


def through_cosine(x, w, epsilon):
    cosine = jnp.dot(x / jnp.linalg.norm(x), w / jnp.linalg.norm(w))
    return arcface(jnp.arccos(jnp.clip(cosine, -1.0 + epsilon, 1.0 - epsilon)))


# Float32 vectors in general position; then their angles and pulls in float64.
rng = np.random.default_rng(0)
nominal = np.geomspace(1e-7, np.pi - 0.005, 500)
w, tangent = np.linalg.qr(rng.normal(size=(16, 2)))[0].T
x = np.outer(np.cos(nominal), w) + np.outer(np.sin(nominal), tangent)
x, w = (1.3 * x).astype("float32"), (1.7 * w).astype("float32")

norm = np.linalg.norm(x.astype("float64"), axis=1, keepdims=True)
unit = x / norm
goal = w.astype("float64") / np.linalg.norm(w.astype("float64"))
towards = goal - (unit @ goal)[:, None] * unit
sine = np.linalg.norm(towards, axis=1)
theta = np.arctan2(sine, unit @ goal)
slope = np.where(theta < np.pi - 0.5, np.sin(theta + 0.5), sine)
exact = (slope / sine)[:, None] * towards

pulls_of_vectors = jax.jit(jax.vmap(jax.grad(through_vectors), (0, None)))
pulls_of_cosine = jax.jit(jax.vmap(jax.grad(through_cosine), (0, None, None)))
ours = norm * pulls_of_vectors(x, w)
clamped = {
    exponent: norm * pulls_of_cosine(x, w, 10.0**exponent) for exponent in (-7, -4)
}
unclamped = pulls_of_cosine(x, w, 0.0)
is_broken = ~np.all(np.isfinite(unclamped), axis=1)
print(
    f"without a clamp, {np.mean(is_broken[theta < 1e-3]):.0%} of the gradients below"
    " 1e-3 rad are not finite"
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
series = [
    (clamped[-7], r"$\arccos$, $\varepsilon = 10^{-7}$", RED, "s"),
    (clamped[-4], r"$\arccos$, $\varepsilon = 10^{-4}$", ORANGE, "^"),
    (ours, "sx.sphere.angle", BLUE, "o"),
]
for gradient, label, color, marker in series:
    style = {"ls": "", "marker": marker, "ms": 2.8, "color": color, "mew": 0}
    axes[0].plot(theta, np.linalg.norm(gradient, axis=1), label=label, **style)
    error = np.linalg.norm(gradient - exact, axis=1) / slope
    axes[1].plot(theta, error, **style)
# In two pieces, since the slope jumps where the continuation takes over.
for low, high, shift in ((8e-8, np.pi - 0.5, 0.5), (np.pi - 0.5, np.pi, 0.0)):
    piece = np.geomspace(low, high, 500)
    label = "exact" if shift else None
    axes[0].plot(piece, np.sin(piece + shift), color="black", lw=0.9, label=label)
rounding = {"ls": "--", "color": "black", "lw": 0.9, "label": r"$2^{-24}/\theta$"}
axes[1].plot(theta, 2.0**-24 / theta, **rounding)
axes[0].set(
    ylabel=r"pull $\|x\| \|\partial\psi/\partial x\|$ (per radian)", ylim=(-0.05, 1.4)
)
axes[1].set(ylabel="relative error of the gradient", yscale="log", ylim=(1e-8, 30))
for ax in axes:
    ax.set(
        xscale="log", xlim=(8e-8, 4), xlabel=r"angle to the prototype $\theta$ (rad)"
    )
axes[0].legend(loc="upper left", ncols=2, columnspacing=1.0, handletextpad=0.4)
axes[1].legend(loc="lower left")
plt.show()

# %% [markdown]
# The relative error of the arc cosine grows like $1/\theta^2$, that of the angle
# computed from the vectors like $1/\theta$, which is the error of rounding the vectors
# to float32 (dashed). The length of the pull is correct down to the smallest angle that
# the vectors resolve. The step on the far right is at $\pi - m$, where the continuation
# of ArcFace begins.
#
# ## 4. What a margin does to features
#
# A small network embeds six noisy classes from twelve dimensions in the plane. Every
# step draws new samples, so the network cannot memorize them. The hyperparameters of a
# margin are leaves of a pytree: softmax and L-Softmax with any $m$ and any annealing
# share **one** compiled step. The `print` in the step runs only during compilation.

# %%
CLASSES, INPUTS, HIDDEN, BATCH, STEPS = 6, 12, 64, 300, 1000
centers = 5.0 * sx.sphere.normalize(
    jax.random.normal(jax.random.key(7), (CLASSES, INPUTS))
)


def draw(key, count):
    labels = jnp.arange(count) % CLASSES
    return centers[labels] + jax.random.normal(key, (count, INPUTS)), labels


def init(key):
    sizes = (INPUTS, HIDDEN, HIDDEN, 2)
    *keys, last = jax.random.split(key, len(sizes))
    layers = [
        (jax.random.normal(k, (n, m)) * np.sqrt(2 / n), jnp.zeros(m))
        for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return {"layers": layers, "prototypes": jax.random.normal(last, (CLASSES, 2))}


def embed(params, inputs):
    *hidden, (kernel, bias) = params["layers"]
    for k, b in hidden:
        inputs = jax.nn.gelu(inputs @ k + b)
    return inputs @ kernel + bias


optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))


@functools.partial(jax.jit, static_argnames="normalize")
def step(params, state, key, margin, normalize):
    print(f"compiling for {type(margin).__name__}, normalize={normalize!r}")
    inputs, labels = draw(key, BATCH)

    def loss(params):
        return sx.losses.margin_softmax(
            embed(params, inputs),
            params["prototypes"],
            labels,
            margin,
            normalize=normalize,
            scale=16.0 if normalize == "both" else None,
        )

    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


def train(margin_at, normalize):
    params = init(jax.random.key(0))
    state = optimizer.init(params)
    for t, key in enumerate(jax.random.split(jax.random.key(1), STEPS)):
        params, state = step(params, state, key, margin_at(t), normalize)
    return params


# %%
annealing = sx.margins.annealing_schedule(base=100, gamma=0.02, power=2, minimum=0)
annealing = np.array(annealing(np.arange(STEPS)))


def l_softmax(m):
    return lambda t: sx.margins.SphereFace(m=m, annealing=annealing[t])


losses = {
    "Softmax": (l_softmax(1), "none"),
    "L-Softmax, $m = 2$": (l_softmax(2), "none"),
    "L-Softmax, $m = 3$": (l_softmax(3), "none"),
    "L-Softmax, $m = 4$": (l_softmax(4), "none"),
    "CosFace, $m = 0.35$": (lambda t: sx.margins.CosFace(margin=0.35), "both"),
    "ArcFace, $m = 0.5$": (lambda t: sx.margins.ArcFace(margin=0.5), "both"),
}
trained = {name: train(*setting) for name, setting in losses.items()}

# %% [markdown]
# The following evaluation uses new samples and, as at test time, no margin.

# %%
inputs, labels = draw(jax.random.key(2), 1800)


@functools.partial(jax.jit, static_argnames="normalize")
def evaluate(params, normalize):
    embeddings, prototypes = embed(params, inputs), params["prototypes"]
    if normalize == "both":
        prototypes = sx.sphere.normalize(prototypes)
    accuracy = jnp.mean(jnp.argmax(embeddings @ prototypes.T, axis=-1) == labels)
    directions = sx.sphere.normalize(embeddings)
    means = jax.nn.one_hot(labels, CLASSES).T @ directions  # up to their length
    within = jnp.mean(sx.sphere.angle(directions, means[labels]))
    between = sx.sphere.angle(means[:, None], means)
    closest = jnp.min(between, where=~np.eye(CLASSES, dtype=bool), initial=np.pi)
    return jnp.degrees(within), jnp.degrees(closest), accuracy


print("                     within-class   closest classes   accuracy")
for name, params in trained.items():
    within, closest, accuracy = evaluate(params, losses[name][1])
    print(f"{name.replace('$', ''):22}{within:10.2f}°{closest:15.2f}°{accuracy:14.1%}")

# %%
fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.0))
for ax, (name, params) in zip(axes.flat, trained.items(), strict=True):
    embeddings, on_circle = embed(params, inputs), losses[name][1] == "both"
    prototypes = params["prototypes"]
    sx.plots.circle(
        embeddings, labels, prototypes=prototypes, normalize=on_circle, axes=ax
    )
    ax.set(title=name)
    ax.locator_params(nbins=5)
    ax.tick_params(labelsize=8)
fig.supxlabel("first embedding coordinate", fontsize=10)
fig.supylabel("second embedding coordinate", fontsize=10)
plt.show()

# %% [markdown]
# Points are held-out samples, colored by class; rays are the directions of the
# prototypes. For CosFace and ArcFace, which use only directions, the points are drawn
# in a ring around the unit circle, so that they do not hide each other. With softmax,
# classes may be close in angle, since longer embeddings alone reduce the loss. With a
# margin, longer embeddings reduce the loss only after the margin is met in angle. All
# margins spread the six classes almost evenly (60° would be even), and classes are
# narrower for larger $m$.
