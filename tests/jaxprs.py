"""Properties of a function that its jaxpr shows."""

import math

from jax.extend.core import jaxprs_in_params


def largest_array(jaxpr):
    """Elements of the largest array that a jaxpr makes, at any depth."""
    largest = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "stop_gradient":  # the same array
            continue
        for variable in equation.outvars:
            largest = max(largest, math.prod(getattr(variable.aval, "shape", ())))
        for inner in jaxprs_in_params(equation.params):
            largest = max(largest, largest_array(inner))
    return largest
