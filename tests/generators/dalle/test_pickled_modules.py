"""The published pickles: their tensors come in, their code doesn't."""

import os
import pickle
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.dalle import released
from generators.dalle.dvae import DVAE, DVAEConfig
from generators.dalle.pickled_modules import read_pickled_module
from generators.errors import UnsafeWeightsError

SMALL = DVAEConfig(n_hid=8, group_count=4, n_blk_per_group=1, vocab_size=12, n_init=8)


class Stranger(nn.Module):
    """A class that is on nobody's list."""


class Dangerous:
    """A pickle of this leaves a file behind when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def authors_classes(monkeypatch):
    """Modules named as the authors' are, which exist while the files are written and no longer."""
    made = {}
    package = ModuleType("dall_e")
    for part, names in {
        "encoder": ("Encoder", "EncoderBlock"),
        "decoder": ("Decoder", "DecoderBlock"),
        "utils": ("Conv2d",),
    }.items():
        module = ModuleType(f"dall_e.{part}")
        for name in names:
            made[name] = type(name, (nn.Module,), {"__module__": module.__name__})
            setattr(module, name, made[name])
        monkeypatch.setitem(sys.modules, module.__name__, module)
        setattr(package, part, module)
    monkeypatch.setitem(sys.modules, "dall_e", package)
    return made


def as_published(network, classes, half):
    """The same network in the authors' classes, with the attributes that theirs carry."""

    def convert(module):
        kind = type(module).__name__
        if kind in ("ReLU", "MaxPool2d", "Identity", "Upsample"):
            return module
        names = {
            "Conv2d": "Conv2d",
            "Block": f"{half.title()}Block",
            f"DVAE{half.title()}": half.title(),
        }
        copy = nn.Sequential() if kind == "Sequential" else classes[names[kind]]()
        for name, parameter in module.named_parameters(recurse=False):
            copy.register_parameter(name, parameter)
        for name, child in module.named_children():
            copy.add_module(name, convert(child))
        copy.device = torch.device("cpu")
        copy.n_layers = 4
        return copy

    return convert(network)


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # the classes have no file
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_both_formats_give_every_tensor(tmp_path, authors_classes, half, new_format):
    network = getattr(DVAE(SMALL), half)
    path = tmp_path / f"{half}.pkl"
    torch.save(
        as_published(network, authors_classes, half),
        path,
        _use_new_zipfile_serialization=new_format,
    )
    for name in [name for name in sys.modules if name.startswith("dall_e")]:
        del sys.modules[name]
    found = read_pickled_module(path)
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_published_pair_is_loaded_from_pickles(tmp_path, authors_classes, monkeypatch):
    monkeypatch.setattr(released, "PAPER_DVAE", SMALL)
    network = DVAE(SMALL).eval()
    files = {}
    for half in ("encoder", "decoder"):
        files[f"dalle-dvae-{half}"] = tmp_path / f"{half}.pkl"
        torch.save(
            as_published(getattr(network, half), authors_classes, half),
            files[f"dalle-dvae-{half}"],
        )
    loaded = released.load_released_dvae(files)
    x = torch.rand(1, 3, 16, 16)
    codes = network.encoder.codes(x)
    assert torch.equal(loaded.encoder.codes(x), codes)
    assert torch.equal(loaded.decoder.reconstruction(codes), network.decoder.reconstruction(codes))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_wants_anything_else_is_refused_and_not_run(
    tmp_path, authors_classes, new_format
):
    trace = tmp_path / "trace"
    module = nn.Sequential(nn.ReLU())
    module.surprise = Dangerous(trace)
    path = tmp_path / "encoder.pkl"
    torch.save(module, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UnsafeWeightsError, match=r"names posix\.mkdir\. Only the tensors") as error:
        read_pickled_module(path)
    assert "\n" not in str(error.value)
    assert not trace.exists()
    torch.save(nn.Sequential(Stranger()), path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UnsafeWeightsError, match="Stranger"):
        read_pickled_module(path)


def test_what_a_file_does_to_a_class_does_not_outlive_it(tmp_path, authors_classes):
    """BUILD with slots sets attributes even on a class: the next file must not see them."""
    module = nn.Sequential(nn.ReLU())
    path = tmp_path / "encoder.pkl"
    evil = (
        b"\x80\x02ctorch.nn.modules.activation\nReLU\n"
        b"(N}X\x0c\x00\x00\x00__setstate__c__builtin__\nset\nstb."
    )
    legacy = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001,
                      {"little_endian": True}))  # fmt: skip
    path.write_bytes(legacy + evil)
    with pytest.raises(WeightsError):
        read_pickled_module(path)
    torch.save(module, path)
    assert read_pickled_module(path) == {}


def test_files_that_hold_no_module(tmp_path, authors_classes):
    with pytest.raises(MissingWeightsError, match="No weights file at"):
        read_pickled_module(tmp_path / "none.pkl")
    torch.save(as_published(DVAE(SMALL).encoder, authors_classes, "encoder"), tmp_path / "e.pkl")
    whole = (tmp_path / "e.pkl").read_bytes()
    old = tmp_path / "old.pkl"
    torch.save(nn.Sequential(nn.ReLU()), old, _use_new_zipfile_serialization=False)
    contents = {
        "empty": b"",
        "text": b"<html>not found</html>",
        "cut.pkl": whole[:-500],
        "cut-old.pkl": old.read_bytes()[:60],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError) as error:
            read_pickled_module(tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    torch.save({"a": torch.ones(1)}, tmp_path / "dict.pkl")
    with pytest.raises(WeightsError, match=r"dict\.pkl"):
        read_pickled_module(tmp_path / "dict.pkl")
