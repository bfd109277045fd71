"""The doctor: each check fails where what it checks is broken.

That all of them pass is tested of an installed copy, in ``test_packaging``.
"""

import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sphax import doctor, energy, losses, orthogonal, sharding, sphere

CHECKS = {check.name: check for check in (doctor.DEVICES, *doctor.CHECKS)}


def rounded(bits):
    """A product in float32 of matrices that keep so many bits behind the point."""

    def product(a, b, precision=None):
        del precision
        step = np.uint32(1 << (23 - bits))
        kept = [(x.view(np.uint32) + step // 2) & ~(step - 1) for x in (a, b)]
        a, b = (np.asarray(x, np.uint32).view(np.float32) for x in kept)
        return a @ b

    return product


def no_device(*args):
    raise RuntimeError("Unable to initialize backend 'cuda'\nsecond line")


def plain_energy(x, *, power):
    differences = x[:, None] - x[None, :]
    off_diagonal = 1.0 - jnp.eye(len(x))
    return jnp.sum(off_diagonal / jnp.linalg.norm(differences, axis=-1) ** power)


def twice(*arguments, mesh, class_axis, batch_axis, **options):
    return 2.0 * losses.margin_softmax(*arguments, **options)


@pytest.mark.parametrize(
    ("name", "place", "attribute", "broken", "said"),
    [
        (
            "devices compute",
            jnp,
            "arange",
            no_device,
            "RuntimeError Unable to initialize",
        ),
        ("devices compute", jnp, "arange", jnp.ones, "is not 6"),
        ("accelerator", pathlib.Path, "exists", lambda path: True, "NVIDIA"),
        ("highest precision", jnp, "matmul", rounded(10), "TF32"),
        ("broadcast", sphere, "project_to_tangent", lambda p, v: v, "[11000, 3]"),
        (
            "float16",
            losses,
            "margin_softmax",
            lambda x, *_, **options: jnp.sum(x),
            "in float32 is off",
        ),
        (
            "singular points",
            energy,
            "hyperspherical_energy",
            plain_energy,
            "not finite: energy.hyperspherical_energy",
        ),
        ("orthogonal", orthogonal, "cayley", lambda a: a, "orthogonal.cayley"),
        (
            "icosahedron",
            energy,
            "minimize_energy",
            lambda *_, **options: types.SimpleNamespace(energy=0.75),
            "49.500000",
        ),
        ("over the devices", sharding, "margin_softmax", twice, "8 devices differ"),
    ],
)
def test_a_check_fails_where_its_object_is_broken(
    name, place, attribute, broken, said, monkeypatch, capsys
):
    (check,) = (check for full, check in CHECKS.items() if name in full)
    monkeypatch.setattr(place, attribute, broken)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not doctor.passes(check)
    line, remedy = capsys.readouterr().out.splitlines()
    assert line.startswith(f"failed  {check.name}: ")
    assert said in line
    assert remedy.strip() == check.remedy


def test_the_output_and_its_exit_code(monkeypatch, capsys):
    checks = [
        doctor.Check("one", lambda: "broken", "Mend it."),
        doctor.Check("two", lambda: "", ""),
    ]
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert doctor.main([]) == 1
    versions, *lines = capsys.readouterr().out.splitlines()
    assert f", jax {jax.__version__}, " in versions
    products = lines.pop(3)
    assert products.startswith("products of float32: computed in float32, with a rel")
    assert lines == [
        "ok      devices compute",
        "devices: 8 x cpu (cpu)",
        "default dtypes: float32 and int32 (x64 is off)",
        "failed  one: broken",
        "        Mend it.",
        "ok      two",
    ]
    monkeypatch.setattr(doctor, "CHECKS", checks[1:])
    assert doctor.main([]) == 0


def test_without_devices_nothing_else_runs(monkeypatch, capsys):
    monkeypatch.setattr(jnp, "arange", no_device)
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "failed  devices compute" in out
    assert "ok  " not in out


@pytest.mark.parametrize(
    ("bits", "name"), [(23, "float32"), (10, "TF32"), (7, "bfloat16")]
)
def test_the_precision_of_products_is_measured(bits, name, monkeypatch):
    monkeypatch.setattr(jnp, "matmul", rounded(bits))
    assert doctor.precision_of(doctor.product_error(None)) == name


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--fast", 2)])
def test_the_command_line_explains_itself(argument, code, capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main([argument])
    assert stop.value.code == code
    assert "python -m sphax.doctor" in "".join(capsys.readouterr())
