"""Weights files: tensors come in, code doesn't."""

import io
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.errors import UnsafeWeightsError
from generators.weights.state_dicts import file_sha256, load_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half()}


class Dangerous:
    """A pickle of this leaves a file behind when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def same(loaded):
    return set(loaded) == set(STATE) and all(torch.equal(loaded[k], STATE[k]) for k in STATE)


def test_both_formats_and_a_nested_state_dict(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    torch.save(STATE, tmp_path / "w.pt")
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": STATE, "step": 3}, tmp_path / "nested.pt")
    for name in ("w.safetensors", "w.pt", "old.pt", "nested.pt"):
        assert same(load_state_dict(tmp_path / name)), name


def test_a_safetensors_header_that_starts_like_a_pickle(tmp_path):
    """The header's length comes first: 0x80 in its lowest byte is a pickle's first byte."""
    path = tmp_path / "w.safetensors"
    for padding in range(256):
        save_file(STATE, path, metadata={"padding": "x" * padding})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert same(load_state_dict(path))


@pytest.mark.parametrize("new_format", [True, False])
def test_pickles_with_code_are_refused_and_not_run(tmp_path, new_format):
    trace = tmp_path / "trace"
    torch.save(
        {"a": Dangerous(trace)}, tmp_path / "w.pt", _use_new_zipfile_serialization=new_format
    )
    with pytest.raises(UnsafeWeightsError, match="could run code") as error:
        load_state_dict(tmp_path / "w.pt")
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_pickled_modules_and_bare_pickles_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Dangerous(tmp_path / "trace")))
    for name in ("module.pt", "bare.pkl"):
        with pytest.raises(WeightsError) as error:
            load_state_dict(tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "trace").exists()


def test_hashes_are_compared(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    digest = file_sha256(path)
    assert same(load_state_dict(path, sha256=digest))
    assert same(load_state_dict(path, sha256=digest[:8].upper()))
    for wrong in ("0" * 64, ""):
        with pytest.raises(WeightsError, match="Delete it and fetch it again"):
            load_state_dict(path, sha256=wrong)


def test_files_that_hold_no_weights(tmp_path):
    with pytest.raises(MissingWeightsError, match="No weights file at"):
        load_state_dict(tmp_path / "none.pt")
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    contents = {
        "empty": (b"", "is an empty file"),
        "text": (b"<html>not found</html>", "web page"),
        "cut.pt": (buffer.getvalue()[:200], "damaged"),
    }
    for name, (content, complaint) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=complaint):
            load_state_dict(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="no state dict"):
        load_state_dict(tmp_path / "list.pt")
