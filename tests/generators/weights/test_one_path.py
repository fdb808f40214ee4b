"""What a generator runs is what the parity tests load: one function builds and fills networks."""

from __future__ import annotations

import dataclasses
import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evalkit.core.errors import WeightsError
from evalkit.core.registry import load
from generators.catalog import MODELS, load_generator
from generators.clip import tiny
from generators.dalle import released as dalle_released
from generators.ddpm import generator as ddpm
from generators.ddpm.presets import PRESETS
from generators.glide import loaders as glide
from generators.glide.model import GlideConfig
from generators.glide.presets import RELEASED
from generators.nn.unet import UNetConfig
from generators.released import load_released
from generators.weights import networks
from generators.weights.networks import NETWORKS, architecture_settings, build_network
from generators.weights.zoo import ZOO, zoo_weights

PARITY = 1e-4  # as in test_networks.py
CALL = ("x", "t", "y", "tokens", "mask", "low_res")
SMALL_DDPM = {"image_size": 8, "model_channels": 32, "channel_mult": [1, 2]}
TRAINED = sorted(name for name, row in MODELS.items() if row.weights == "embedded")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, nn.Module]:
    """The networks that `load_released` returns, by the names it is called with."""
    returned: dict[str, nn.Module] = {}

    def spy(name: str, *args: Any, **options: Any) -> nn.Module:
        returned[f"{name} {len(returned)}"] = network = load_released(name, *args, **options)
        return network

    monkeypatch.setattr(networks, "load_released", spy)
    return returned


def modules_of(part: object, depth: int = 0) -> Iterator[nn.Module]:
    """Every network that a generator holds, however deep."""
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from modules_of(value, depth + 1)
    elif depth < 4 and type(part).__module__.startswith("generators"):
        for value in vars(part).values():
            yield from modules_of(value, depth + 1)


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_of_a_tiny_model_comes_through_load_released(
    name: str, loaded: dict[str, nn.Module]
) -> None:
    held = list(modules_of(load_generator(name)))
    assert held
    known = {id(module) for network in loaded.values() for module in network.modules()}
    assert [type(module) for module in held if id(module) not in known] == []


def test_the_lazy_clip_of_glide_and_the_scoring_clips_do_too(loaded: dict[str, nn.Module]) -> None:
    assert load_generator("glide:tiny").clip.network in loaded.values()  # type: ignore[attr-defined]
    for name in tiny.RECIPES:
        assert tiny.load(name)._network in loaded.values()


@pytest.fixture
def vocabulary_files(tmp_path: Path) -> dict[str, Path]:
    """A byte-pair vocabulary without merges."""
    files = {"gpt2-encoder": tmp_path / "encoder.json", "gpt2-merges": tmp_path / "vocab.bpe"}
    files["gpt2-encoder"].write_text(json.dumps({"<|endoftext|>": 0}))
    files["gpt2-merges"].write_text("#version: 0.2\n")
    return files


def same(network: nn.Module, name: str, reference: Any) -> bool:
    """Whether a network has the class and the state dict of the one that parity tests load."""
    expected = load_released(name, reference.weights, reference.config)
    ours, theirs = network.state_dict(), expected.state_dict()
    return (
        type(network) is type(expected)
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    )


@torch.no_grad()
def test_glide_released_gives_the_authors_numbers(
    reference: Any,
    relative_error: Any,
    vocabulary_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`load_generator` on the parity files, whose networks are GLIDE's at a small size."""
    refs = {stage: reference(f"glide_{stage}") for stage in ("base", "upsampler")}
    small = {
        stage: dataclasses.replace(
            getattr(RELEASED, stage),
            network=GlideConfig.from_flat(architecture_settings(ref.config)),
        )
        for stage, ref in refs.items()
    }
    monkeypatch.setattr(glide, "RELEASED", dataclasses.replace(RELEASED, **small))
    weights = dict(vocabulary_files)
    for stage, ref in refs.items():
        weights[f"glide-{stage}"] = tmp_path / f"{stage}.safetensors"
        save_file(ref.weights, weights[f"glide-{stage}"])
    generator = load_generator("glide:released", weights=weights)
    for stage, ref in refs.items():
        network = getattr(generator, stage).network
        assert same(network, f"glide-{stage}", ref)
        call = {key: value for key, value in ref.inputs.items() if key in CALL}
        assert relative_error(network(**call), ref.outputs["eps_and_var"]) < PARITY


@torch.no_grad()
def test_adm_gives_the_authors_numbers(
    reference: Any, relative_error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet, classifier = reference("adm_unet"), reference("adm_classifier")
    preset = dataclasses.replace(
        PRESETS["adm64"],
        network=UNetConfig.from_flat(architecture_settings(unet.config)),
        classifier=UNetConfig.from_flat(
            {k: v for k, v in classifier.config.items() if k != "pool"}
        ),
    )
    monkeypatch.setattr(ddpm, "PRESETS", {"adm64": preset})
    weights = {}
    for name, ref in (("ddpm-adm64", unet), ("ddpm-adm64-classifier", classifier)):
        weights[name] = tmp_path / f"{name}.safetensors"
        save_file(ref.weights, weights[name])
    generator: Any = load_generator("ddpm:adm64", weights=weights)
    assert same(generator.network, "adm-unet", unet)
    assert same(generator.classifier, "adm-classifier", classifier)
    for network, ref, output in (
        (generator.network, unet, "eps_and_var"),
        (generator.classifier, classifier, "logits"),
    ):
        call = {key: value for key, value in ref.inputs.items() if key in CALL}
        assert relative_error(network(**call), ref.outputs[output]) < PARITY


def test_the_discrete_vae_comes_through_load_released(
    loaded: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(dalle_released.PAPER_DVAE, n_hid=4, vocab_size=8, n_init=4)
    monkeypatch.setattr(dalle_released, "PAPER_DVAE", small)
    state = build_network("dalle-dvae", dataclasses.asdict(small)).state_dict()
    files = {}
    for half in ("encoder", "decoder"):
        files[f"dalle-dvae-{half}"] = tmp_path / f"{half}.safetensors"
        save_file(
            {k.removeprefix(f"{half}."): v for k, v in state.items() if k.startswith(half)},
            files[f"dalle-dvae-{half}"],
        )
    network = dalle_released.load_released_dvae(files)
    assert list(loaded.values()) == [network]


def test_flat_settings_are_the_configuration() -> None:
    """Presets reach `load_released` as flat settings; nothing may be lost on the way."""
    for preset in (RELEASED, glide.PAPER):
        for stage in (preset.base, preset.upsampler):
            assert GlideConfig.from_flat(stage.network.flat()) == stage.network
    without_text = dataclasses.replace(RELEASED.base.network, text=None)
    assert GlideConfig.from_flat(without_text.flat()) == without_text


def test_every_row_of_the_table_can_be_imported() -> None:
    for row in NETWORKS.values():
        assert callable(pkgutil.resolve_name(row.build))
        assert not row.rename or callable(load(row.rename))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    """A file of `evalkit train` names its network, which may be another than the model needs."""
    clip = {"dalle-tiny-dvae": ZOO / "clip-tiny.safetensors"}
    with pytest.raises(WeightsError, match=r"^The weights of dalle-tiny-dvae are of a Clip, exp"):
        load_generator("dalle:tiny", weights=clip)


def test_half_precision_weights_become_float32() -> None:
    state: dict[str, Tensor] = {
        key: value.half()
        for key, value in build_network("ddpm-unet", SMALL_DDPM).state_dict().items()
    }
    network = load_released("ddpm-unet", state, SMALL_DDPM)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(parameter.is_contiguous() for parameter in network.parameters())


def test_loading_draws_random_numbers_for_imagens_encoder_alone() -> None:
    """Its recipes load it before their network, so their initial weights depend on these draws."""

    def draws(name: str) -> bool:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            zoo_weights(name).network(nn.Module, name)
            after = torch.rand(1)
            torch.manual_seed(0)
            return bool(after != torch.rand(1))

    shipped = sorted(path.stem for path in ZOO.glob("*.safetensors"))
    assert [name for name in shipped if draws(name)] == ["imagen-tiny-t5"]
