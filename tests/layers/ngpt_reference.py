"""nGPT in NumPy: token by token, head by head, from the formulas of the paper."""

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def value(scale, at_first, stored_at_first):
    """A scalar parameter of the paper, from what is stored."""
    return scale["stored"] * at_first / stored_at_first


def turned(x, position, base):
    """Entries i and i + d/2 as a complex number times a phase."""
    half = len(x) // 2
    phase = np.exp(1j * position * base ** (-np.arange(half) / half))
    z = (x[:half] + 1j * x[half:]) * phase
    return np.concatenate([z.real, z.imag])


def attention(h, layer, base):
    """One sequence ``[length, d]``."""
    length, d = h.shape
    heads, size = layer["out"].shape[:2]
    s = value(layer["scale"], 1.0, d**-0.5)
    y = np.zeros_like(h)
    for head in range(heads):
        q, k = (
            np.stack(
                [
                    s[head] * unit(turned(h[t] @ layer[name][:, head], t, base))
                    for t in range(length)
                ]
            )
            for name in ("query", "key")
        )
        v = h @ layer["value"][:, head]
        for t in range(length):
            weights = np.exp(np.sqrt(size) * k[: t + 1] @ q[t])
            y[t] += weights @ v[: t + 1] / weights.sum() @ layer["out"][head]
    return y


def mlp(h, layer):
    root = np.sqrt(h.shape[-1])
    u = h @ layer["up"] * layer["up_scale"]["stored"] * root
    v = h @ layer["gate"] * layer["gate_scale"]["stored"] * root
    return (u * v / (1.0 + np.exp(-v))) @ layer["out"]


def moved(h, proposal, rate, step):
    a, p = np.abs(rate), unit(proposal)
    if step == "linear":
        return unit(h + a * (p - h))
    theta = np.arccos(np.sum(h * p, -1, keepdims=True))
    keep, go = (np.sin(x * theta) / np.sin(theta) for x in (1.0 - a, a))
    return unit(keep * h + go * p)


def block(x, values, step="linear", base=1e4, rate=0.05):
    """A batch ``[n, length, d]``."""
    d = x.shape[-1]
    h = unit(x)
    rates = (
        value(values[name], rate, d**-0.5) for name in ("attention_rate", "mlp_rate")
    )
    proposed = np.stack([attention(one, values["attention"], base) for one in h])
    h = moved(h, proposed, next(rates), step)
    return moved(h, mlp(h, values["mlp"]), next(rates), step)
