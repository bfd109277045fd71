"""Calls of ``sphax.energy``."""

from functools import partial

import jax
import numpy as np

import sphax as sx
from tests.calls._call import Call, normal

se = sx.energy
POINTS, OTHERS, SETS = normal(0, 8, 16), normal(1, 16, 16), normal(2, 8, 8, 16)
POLES, WEIGHTS = normal(3, 8, 16), np.abs(normal(4, 8))
LABELS = np.array([3, 0, 7, 3, 1, 5, 2, 6], np.int32)
SIMILARITIES = normal(8, 8, 8)
PROJECTION = normal(5, 8, 4, 16)
PARAMS = {"a": {"kernel": normal(6, 16, 8)}, "b": {"kernel": normal(7, 3, 3, 8, 8)}}
KEY = jax.random.key(0)

ROWS, OTHER_ROWS = ("points", "features"), ("others", "features")


def of_points(name, function, row="", **options):
    """A call with points alone."""
    name = f"energy.{name}[{row}]" if row else f"energy.{name}"
    return Call(name, partial(function, **options), (POINTS,), (ROWS,))


def at_poles(name, function, row, **options):
    return Call(
        f"energy.{name}[{row}]",
        partial(function, steps=2, **options),
        (POINTS, POLES),
        (ROWS, ("poles", "features")),
    )


def of_classes(name, function, row, **options):
    return Call(
        f"energy.{name}[{row}]",
        partial(function, **options),
        (POINTS, LABELS),
        (("classes", "features"), ("batch",)),
    )


def with_others(points, others, self_index):
    return se.hyperspherical_energy(
        points, others=others, self_index=self_index, power=2.0, block_size=4
    )


CALLS = [
    of_points(
        "hyperspherical_energy",
        se.hyperspherical_energy,
        "blocks",
        block_size=3,
        half_space=True,
        distance="geodesic",
        power=3.5,
    ),
    Call(
        "energy.hyperspherical_energy[traced]",
        lambda x, power, where: se.hyperspherical_energy(x, power=power, where=where),
        (POINTS, np.float32(1.5), WEIGHTS),
        (ROWS, (), ("points",)),
        (0, 1, 2),
    ),
    Call(
        "energy.hyperspherical_energy[others]",
        with_others,
        (POINTS, OTHERS, LABELS),
        (ROWS, OTHER_ROWS, ("points",)),
        (0, 1),
    ),
    Call(
        "energy.hyperspherical_energy[sets]",
        se.hyperspherical_energy,
        (SETS,),
        (("sets", "points", "features"),),
    ),
    Call(
        "energy.energy_and_grad",
        se.energy_and_grad,
        (POINTS,),
        (ROWS,),
        (),
    ),
    of_classes("class_energy", se.class_energy, "all", power=2.0),
    of_classes(
        "class_energy",
        partial(se.class_energy, frequencies=WEIGHTS + 0.1),
        "present",
        against="present",
    ),
    of_classes(
        "inter_class_energy", se.inter_class_energy, "pairwise", kind="pairwise"
    ),
    Call(
        "energy.compressive_energy",
        se.compressive_energy,
        (POINTS, PROJECTION),
        (ROWS, ("count", None, "features")),
        (0, 1),
    ),
    Call(
        "energy.compressive_energy[groups]",
        partial(se.compressive_energy, reduce="max"),
        (POINTS, np.arange(16, dtype=np.int32).reshape(2, 8)),
        (ROWS, (None, None)),
    ),
    Call(
        "energy.angle_preserving_projection",
        partial(se.angle_preserving_projection, steps=2),
        (POINTS, PROJECTION[:1]),
        (ROWS, (None, None, "features")),
    ),
    Call(
        "energy.adversarial_projection",
        partial(se.adversarial_projection, steps=2, learning_rate=0.01),
        (POINTS, PROJECTION[:1]),
        (ROWS, (None, None, "features")),
    ),
    Call(
        "energy.random_projections",
        lambda key: se.random_projections(key, 8, 4, count=2),
        (KEY,),
        ((),),
        (),
    ),
    Call(
        "energy.group_projections",
        lambda key: se.group_projections(8, 2, key=key),
        (KEY,),
        ((),),
        (),
    ),
    at_poles("covering", se.covering, "smooth", half_space=True),
    at_poles("polarization", se.polarization, "square"),
    of_points("max_gram_determinant", se.max_gram_determinant, "half", half_space=True),
    of_points("resultant_length", se.resultant_length),
    of_points("separation", se.separation),
    of_points("uniformity", se.uniformity),
    Call(
        "energy.alignment",
        se.alignment,
        (POINTS, POLES),
        (ROWS, ROWS),
        (0, 1),
    ),
    Call(
        "energy.energy_of_params",
        partial(se.energy_of_params, power=2.0),
        (PARAMS,),
        (
            {
                "a": {"kernel": ("features", "neurons")},
                "b": {"kernel": (None, None, "features", "neurons")},
            },
        ),
    ),
    of_points("energy_penalty", se.energy_penalty(power=2.0), key=None),
    Call(
        "energy.minimize_energy",
        lambda key: se.minimize_energy(key, 4, 3, restarts=2, steps=8),
        (KEY,),
        ((),),
        (),
    ),
    Call(
        "energy.minimize_energy[initial]",
        lambda x: se.minimize_energy(None, 8, 16, initial=x, steps=2).energy,
        (POINTS,),
        (ROWS,),
        (),
    ),
    Call(
        "energy.separated_prototypes",
        lambda key, similarities: (
            se.separated_prototypes(
                key, 8, 3, similarities=similarities, restarts=2, steps=2
            ).max_cosines
        ),
        (KEY, SIMILARITIES),
        ((), ("points", "features")),
        (),
    ),
    Call(
        "energy.semantic_ranking",
        lambda x, y, where: se.semantic_ranking(x, y, where=where),
        (POINTS, SIMILARITIES, WEIGHTS),
        (ROWS, ("points", None), ("points",)),
        (0, 2),
    ),
    Call(
        "energy.energy_report",
        lambda params: se.energy_report(params, power=2.0).kernels["a/kernel"].energy,
        (PARAMS,),
        is_host=True,
    ),
    Call("energy.expected_energy", partial(se.expected_energy, 3), (), is_host=True),
    Call(
        "energy.energy_lower_bound",
        partial(se.energy_lower_bound, 4, 3),
        (),
        is_host=True,
    ),
    Call(
        "energy.closest_angle_bound",
        partial(se.closest_angle_bound, 4, 3),
        (),
        is_host=True,
    ),
]
EXEMPT: dict[str, str] = {
    "energy.EnergyReport": "what energy_report returns",
    "energy.KernelReport": "what energy_report returns",
}
