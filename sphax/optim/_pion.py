"""Rotation of matrices from both sides, which keeps their singular values (Pion)."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sphax import orthogonal
from sphax._checks import check_choice, check_count, check_flag, check_number
from sphax._linalg import entries, factor_within, identity_like, invert, product
from sphax._numerics import divide, widen
from sphax.neurons import Neurons
from sphax.optim._neurons import Mask, as_rows, as_update, check_not_zero
from sphax.optim._whole import whole_optimizer
from sphax.sphere import length

_SIDES = {
    "both": ("in", "out"),
    "in": ("in",),
    "out": ("out",),
    "alternate": ("in", "out"),
}


class PionState(NamedTuple):
    """State of :func:`pion`.

    Attributes:
        count: Number of steps taken.
        mu: First moments of each leaf found, by path, in float32 at least. With
            ``moments="lie"``, a dict of those of the generators, ``"in"`` of shape
            ``[sets, d, d]`` and ``"out"`` of shape ``[sets, n, n]``; with
            ``"ambient"``, that of the gradient, in the shape of the leaf.
        nu: Second moments, in the same form; empty with ``second_moment=False``.
        others: State of the optimizer of all other leaves.

    Example:
        >>> state = sx.optim.pion(0.01).init({"kernel": jnp.ones((3, 2))})
        >>> jax.tree.map(jnp.shape, state.mu)
        {'kernel': {'in': (1, 3, 3), 'out': (1, 2, 2)}}
    """

    count: jax.Array
    mu: dict[str, Any]
    nu: dict[str, Any]
    others: optax.OptState


def pion(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.95,
    eps: jax.typing.ArrayLike = 1e-8,
    rms: jax.typing.ArrayLike = 0.2,
    rotation: Literal["cayley", "exponential", "series"] = "cayley",
    degree: int = 2,
    sides: Literal["both", "in", "out", "alternate"] = "both",
    moments: Literal["lie", "ambient"] = "lie",
    second_moment: bool = True,
    neurons: Neurons = None,
    mask: Mask | None = None,
    others: optax.GradientTransformation | None = None,
    allow_empty: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies matrices by rotations from both sides, by Adam on their generators.

    For a matrix :math:`W`, neurons as rows, with gradient :math:`g` (Pion),

    .. math::
        G_{in} = W^\top g - g^\top W, \quad G_{out} = g W^\top - W g^\top, \quad
        A = -\frac{m}{\sqrt v + \epsilon}

    with moments :math:`m \leftarrow \beta_1 m + (1 - \beta_1) G` and
    :math:`v \leftarrow \beta_2 v + (1 - \beta_2) G^2` of the entries of each generator,
    and

    .. math::
        \alpha = \frac{\eta\, c\, \sqrt{n d}}{\|A_{out} W + W A_{in}\|_F}, \qquad
        W \leftarrow Q(\alpha A_{out})\, W\, Q(\alpha A_{in})

    where :math:`Q` maps skew-symmetric matrices to rotations. So all singular values of
    :math:`W` stay the same, and with them its norms, its rank and its condition number;
    orthonormal neurons stay orthonormal. To first order, entries change by
    :math:`\eta c` in the root mean square. A layer whose scale has to change needs a
    gain beside :math:`W`. Weight decay is for ``others`` only. The authors train
    language models at 1e-3, lowered by a cosine to 1e-5, with alternate sides, and with
    queries, keys and values of each head as matrices of their own.

    It is a whole optimizer of all params: leaves that it does not find are updated by
    another optimizer, ``others``. Updates are differences to the new matrices: put
    nothing behind it in a chain.

    Args:
        learning_rate: :math:`\eta`, not negative, a scalar or a schedule: a function of
            the step.
        b1: :math:`\beta_1`, decay of the first moment.
        b2: :math:`\beta_2`, decay of the second moment.
        eps: :math:`\epsilon`, added to the square root.
        rms: :math:`c`.
        rotation: :math:`Q(A)`: ``"cayley"`` for
            :math:`(I - \tfrac12 A)^{-1} (I + \tfrac12 A)` and ``"exponential"`` for
            :math:`\exp(A)`, both orthogonal to rounding, or ``"series"`` for the first
            terms of the exponential, as in the authors' code. In degree 2,
            :math:`Q^\top Q = I + \tfrac14 A^\top A A^\top A`: singular values grow.
        degree: Degree of ``"series"``, 1 or more.
        sides: ``"both"``, or one side only, ``"in"`` or ``"out"``, or ``"alternate"``
            for ``"in"`` in the first, third, ... step and ``"out"`` in the others.
        moments: ``"lie"`` for moments of the generators, as above, or ``"ambient"``:
            :math:`m` is that of the gradient, :math:`v` that of :math:`m^2`, and
            generators are made of :math:`m / (\sqrt v + \epsilon)` in the place of
            :math:`g`; :math:`m` is then rotated like :math:`W`. The state has
            :math:`2 (n^2 + d^2)` entries with ``"lie"``, and :math:`2 n d` with
            ``"ambient"``, as Adam's.
        second_moment: Whether there is a :math:`v`; otherwise :math:`A = -m`.
        neurons: Axes of the leaves; see :func:`sphax.neurons.find`. Each index of their
            batch axes is a matrix of its own, such as a head of attention.
        mask: Leaves to rotate, a pytree of booleans or a callable that makes it of
            params, as in :func:`optax.masked`; all others go to ``others``.
        others: Optimizer of all other leaves; by default :func:`optax.adam` with the
            same learning rate, ``b1=0.9`` and ``b2=0.95``.
        allow_empty: Whether there may be no matrices at all, as in a group of
            :func:`optax.partition` that has biases only.

    Returns:
        The transform, with a :class:`PionState`; ``update`` needs ``params``. Updates
        keep their dtype; the computation is in float32 at least. Where both generators
        are zero, as before the first gradient, nothing moves. Params in bfloat16 are
        rounded in every step, and their singular values drift: keep them in float32. In
        :func:`optax.inject_hyperparams`, ``rotation``, ``degree``, ``sides``,
        ``moments``, ``second_moment`` and callables ``neurons`` and ``mask`` belong in
        ``static_args``.

    Raises:
        TypeError: If an argument is of another kind, such as text for a number; from
            ``init``, if ``neurons`` is not made of ``NeuronDimensions``.
        ValueError: If an option is unknown, or ``learning_rate``, given as a number,
            negative; from ``init``, if there are no matrices or declared axes do not
            fit, or for a zero matrix, which no rotation would move; from ``update``,
            without ``params``.

    Example:
        >>> import optax
        >>> params = {"kernel": jnp.eye(2)}
        >>> tx = sx.optim.pion(1.0, rms=0.5**0.5, sides="in")
        >>> grads = {"kernel": jnp.array([[0.0, 0.0], [-5.0, 0.0]])}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"]
        Array([[ 0.6, -0.8],
               [ 0.8,  0.6]], dtype=float32)

    References:
        Shi et al., `Pion: A Spectrum-Preserving Optimizer via Orthogonal Equivalence
        Transformation <https://arxiv.org/abs/2605.12492>`_, 2026, and the authors'
        code.
    """
    for name, value in {"b1": b1, "b2": b2, "eps": eps, "rms": rms}.items():
        check_number(name, value)
    check_choice("rotation", rotation, ("cayley", "exponential", "series"))
    check_count("degree", degree)
    check_choice("sides", sides, tuple(_SIDES))
    check_choice("moments", moments, ("lie", "ambient"))
    check_flag("second_moment", second_moment)
    return whole_optimizer(
        PionState,
        _start,
        _step,
        learning_rate=learning_rate,
        options=(rotation, degree, sides, moments, second_moment),
        hyperparams=(b1, b2, eps, rms),
        check=partial(check_not_zero, per="matrix"),
        others=others,
        neurons=neurons,
        mask=mask,
        allow_empty=allow_empty,
    )


def _start(fixed, leaf):
    """The moments of a leaf, zero."""
    axes, _, _, sides, moments, second_moment = fixed
    wide = widen(leaf)
    if moments == "ambient":
        mu = jnp.zeros_like(wide)
    else:
        count, n, d = axes.rows(wide).shape
        sizes = {"in": d, "out": n}
        mu = {
            side: jnp.zeros((count, sizes[side], sizes[side]), wide.dtype)
            for side in _SIDES[sides]
        }
    return mu, jax.tree.map(jnp.zeros_like, mu) if second_moment else {}


def _step(fixed, entry, rate, count, hyperparams):
    """The update of a leaf, and its moments."""
    axes, rotation, degree, sides, moments, second_moment = fixed
    gradient, leaf, old_mu, old_nu = entry
    slopes, points = as_rows(axes, gradient, leaf)
    b1, b2, eps, rms = (jnp.asarray(x, points.dtype) for x in hyperparams)
    size = jnp.asarray(rate, points.dtype) * rms * entries(points).shape[-1] ** 0.5
    is_lie = moments == "lie"
    if is_lie:
        new, mu, nu = _generators(points, slopes, _SIDES[sides]), old_mu, old_nu
    else:
        new, mu, nu = slopes, *jax.tree.map(axes.rows, (old_mu, old_nu))
    mu, nu = jax.tree.map(lambda x: x.astype(points.dtype), (mu, nu))
    mu = jax.tree.map(lambda m, x: b1 * m + (1.0 - b1) * x, mu, new)
    if is_lie:
        # Rounding must not add a symmetric part.
        mu = {side: (m - m.mT) / 2.0 for side, m in mu.items()}
    ahead = mu
    if second_moment:
        squared = new if is_lie else mu
        nu = jax.tree.map(lambda v, x: b2 * v + (1.0 - b2) * x * x, nu, squared)
        ahead = jax.tree.map(lambda m, v: divide(m, jnp.sqrt(v) + eps), mu, nu)

    def move(sides) -> tuple[jax.Array, Any]:
        """The change of the matrix by rotations of these sides, and new ``mu``."""
        if is_lie:
            skew = {side: ahead[side] for side in sides}
        else:
            skew = _generators(points, ahead, sides)
        slopes = (_times(points, side, x) for side, x in skew.items())
        slope = sum(slopes, start=jnp.zeros_like(points))
        norm = length(entries(slope))[..., None, None]
        change: jax.Array = jnp.zeros_like(points)
        moment: Any = mu
        for side, x in skew.items():
            turn = _turn(-size * divide(x, norm), rotation, degree)
            change = change + _times(points + change, side, turn)
            moment = moment if is_lie else moment + _times(moment, side, turn)
        return change, moment

    if sides == "alternate":
        is_odd = count % 2 == 1
        change, mu = jax.lax.cond(is_odd, lambda: move(("in",)), lambda: move(("out",)))
    else:
        change, mu = move(_SIDES[sides])

    def as_before(x, old):
        return x.astype(old.dtype) if is_lie else as_update(axes, x, old)

    mu, nu = jax.tree.map(as_before, (mu, nu), (old_mu, old_nu))
    return as_update(axes, change, gradient), mu, nu


def _generators(points, vectors, sides):
    """The skew-symmetric ``W' h - h' W`` and ``h W' - W h'``, by side."""
    generators = {}
    for side in sides:
        x, y = (points.mT, vectors) if side == "in" else (vectors, points.mT)
        half = product(x, y)
        generators[side] = half - half.mT
    return generators


def _times(rows, side, square):
    return product(rows, square) if side == "in" else product(square, rows)


def _turn(skew, rotation, degree):
    """The rotation minus the identity, without which no digits of it are rounded."""
    if rotation == "series":
        # Horner's scheme: A (I + A / 2 (I + A / 3 (...))).
        turn = skew / degree
        for i in range(degree - 1, 0, -1):
            turn = (skew + product(skew, turn)) / i
        return turn
    identity = identity_like(skew)
    if rotation == "cayley":
        half = skew / 2.0
        half = half * factor_within(half, float(jnp.finfo(half.dtype).eps) ** -0.5)
        turn = 2.0 * (invert(identity - half) - identity)
    else:
        turn = orthogonal.exponential(skew) - identity
    # A Newton-Schulz step squares rounding errors, up to the root of an epsilon for the
    # largest generators. Acting on the difference, it leaves none that have a mean:
    # singular values would grow with the number of steps.
    excess = turn + turn.mT + product(turn.mT, turn)
    return turn - (excess + product(turn, excess)) / 2.0
