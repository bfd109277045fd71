"""Files of arrays and folders of adapters."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sphax as sx

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T}
ARRAYS |= {"count": np.ones((), np.int64), "half": np.ones(2, np.float16)}
RAW = jnp.ones((2, 3))
ADAPTERS = {"up": sx.reparam.BlockRotation(RAW, dimension=6)}


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz"])
def test_what_is_written_is_read(name, tmp_path):
    sx.convert.write(tmp_path / name, ARRAYS)
    found = sx.convert.read(str(tmp_path / name))
    assert found.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


@pytest.mark.parametrize("name", ["head.safetensors", "head.npz"])
def test_a_path_is_read_where_arrays_are(name, tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    sx.convert.write(tmp_path / name, {"weight": rows})
    margin = sx.margins.ArcFace()
    head = sx.layers.MarginHead(3, 2, margin=margin, rngs=nnx.Rngs(0))
    found = sx.convert.from_insightface(tmp_path / name, head)
    np.testing.assert_array_equal(found.prototypes[...], rows)


def test_pickles_are_refused_with_the_lines_that_turn_them(tmp_path):
    for function in (sx.convert.read, sx.convert.from_insightface):
        with pytest.raises(ValueError, match="got backbone.pth, a pickle") as error:
            function("work/backbone.pth")
        assert 'safetensors.torch.save_file(state, "backbone.safetensors")' in str(
            error.value
        )
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz, got x\.txt"):
        sx.convert.write(tmp_path / "x.txt", ARRAYS)
    # An npz with a pickle inside.
    np.savez(tmp_path / "x.npz", a=np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        sx.convert.read(tmp_path / "x.npz")


def test_without_safetensors_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'sphax\[convert\]'"):
        sx.convert.write(tmp_path / "x.safetensors", ARRAYS)
    sx.convert.write(tmp_path / "x.npz", ARRAYS)


@pytest.mark.parametrize("name", ["run.1", "run.1/adapter_model.npz"])
def test_adapters_in_a_folder(name, tmp_path):
    sx.convert.write_adapters(tmp_path / name, ADAPTERS)
    config = json.loads((tmp_path / "run.1/adapter_config.json").read_text())
    assert config["peft_type"] == "OFT"
    found = [sx.convert.read_adapters(tmp_path / "run.1")]
    if name.endswith("npz"):
        found.append(sx.convert.read_adapters(tmp_path / name, {"up": np.ones((6, 2))}))
    for each in found:
        assert isinstance(each["up"], sx.reparam.BlockRotation)
        np.testing.assert_array_equal(each["up"].raw, RAW)


def test_folders_without_adapters(tmp_path):
    with pytest.raises(FileNotFoundError, match="a folder of PEFT with adapter_model"):
        sx.convert.read_adapters(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="got adapter_model.bin, a pickle"):
        sx.convert.read_adapters(tmp_path)
