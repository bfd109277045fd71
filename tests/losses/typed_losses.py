"""What a type checker has to see in the losses; nothing runs here, pyright reads it."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from typing import assert_type

import jax

import sphax as sx


def margin_softmax(x: jax.Array, labels: jax.Array):
    margin = sx.margins.ArcFace()
    assert_type(sx.losses.margin_softmax(x, x, labels, margin), jax.Array)
    _, aux = sx.losses.margin_softmax(x, x, labels, margin, scale=8.0, has_aux=True)
    assert_type(aux.correct, jax.Array)
    _ = aux.corect  # pyright: ignore[reportAttributeAccessIssue]
    _, aux = sx.losses.margin_softmax_per_example(x, x, labels, margin, has_aux=True)
    assert_type(aux, sx.losses.MarginAux)
    sx.losses.margin_softmax(x, x, labels, margin, temperature=0.1)  # pyright: ignore[reportCallIssue]


def margin_head(head: sx.layers.MarginHead, x: jax.Array, labels: jax.Array):
    assert_type(head.loss(x, labels), jax.Array)
    _, aux = head.loss(x, labels, has_aux=True)
    _ = aux.corect  # pyright: ignore[reportAttributeAccessIssue]
