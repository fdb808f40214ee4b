"""Half precision: first and last layers and guidance stay float32, which halves the error of eps;
and the other ways to run: which exclude each other, and offloading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from evalkit.cli import app
from evalkit.core.errors import ConfigError
from generators.base import Request
from generators.catalog import load_generator
from generators.diffusion.guidance import classifier_free
from generators.nn.precision import is_kept_in_float32
from generators.numerics import Numerics

NUM_STAGES = {"ddpm:tiny": 1, "dalle:tiny": 1, "glide:tiny": 3, "imagen:tiny": 3, "unclip:tiny": 4}
T = 900
"""A noisy timestep, where an error of eps is divided by a small sqrt(alpha_bar)."""


def glide(network: Any) -> torch.Tensor:
    from generators.glide.pipeline import encode_captions
    from generators.tokenizer import tiny_tokenizer

    captions = encode_captions(network, tiny_tokenizer(), ["a red circle", "a blue square"])
    return network(noisy(network.config.image_size), steps(), text=captions.text)


def ddpm(network: Any) -> torch.Tensor:
    return network(noisy(network.config.image_size), steps())


def imagen(network: Any) -> torch.Tensor:
    from generators.imagen.text import FrozenT5

    states = FrozenT5.from_zoo().read(["a red circle", "a blue square"]).states
    return network(noisy(network.config.image_size), steps(), network.read_text(states))


def unclip(network: Any) -> torch.Tensor:
    from generators.tokenizer import tiny_tokenizer
    from generators.unclip.decoder import decoder_captions

    embedding = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    prompts = ["a red circle", "a blue square"]
    captions = decoder_captions(network, tiny_tokenizer(), prompts, embedding)
    return network(noisy(network.config.image_size), steps(), text=captions.text)


def noisy(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def steps() -> torch.Tensor:
    return torch.full((2,), T)


NETWORKS: dict[str, tuple[Callable[[Any], nn.Module], Callable[[Any], torch.Tensor]]] = {
    "ddpm:tiny": (lambda generator: generator.network, ddpm),
    "glide:tiny": (lambda generator: generator.base.network, glide),
    "imagen:tiny": (lambda generator: generator.base.network, imagen),
    "unclip:tiny": (lambda generator: generator.decoder.network, unclip),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_error_of_eps_is_at_most_half_that_of_autocast_alone(name: str) -> None:
    choose, evaluate = NETWORKS[name]
    exact = evaluate(choose(load_generator(name)))
    everywhere = choose(load_generator(name))
    for module in everywhere.modules():
        if is_kept_in_float32(module):
            module.train()  # as in training, where all layers follow autocast
    numerics = Numerics(bf16=True)
    with numerics.autocast("cpu"):
        before = evaluate(everywhere)
        now = evaluate(choose(load_generator(name, bf16=True)))
    assert before.dtype == torch.bfloat16
    assert now.dtype == torch.float32
    errors = [float((one - exact)[:, :3].square().mean().sqrt()) for one in (before, now)]
    assert 0 < errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("reduced", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["ddpm:tiny", "glide:tiny", "imagen:tiny", "unclip:tiny"])
def test_images_are_close_to_those_of_float32(name: str, reduced: str) -> None:
    """Not so dalle:tiny and unclip:tiny-ar: a code drawn otherwise changes all codes after it."""
    prompts = [None, None] if name == "ddpm:tiny" else ["a red circle", "a blue square"]
    requests = [Request(prompt=prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    made = []
    for options in ({}, {reduced: True}):
        generator = load_generator(name, **options)
        settings = generator.spec.default_settings()
        samples = generator.generate(requests, settings)
        made.append(np.stack([sample.image for sample in samples if sample.image is not None]))
    difference = np.abs(made[0].astype(int) - made[1])
    assert 0 < difference.mean() < 3


def test_dalle_reads_captions_in_bfloat16_and_gives_logits_in_float32() -> None:
    exact, rounded = (load_generator("dalle:tiny", bf16=bf16) for bf16 in (False, True))
    ids = torch.zeros(2, exact.transformer.config.text_length, dtype=torch.long)  # type: ignore[attr-defined]
    with torch.no_grad():
        expected, _ = exact.transformer.begin(ids)  # type: ignore[attr-defined]
        with Numerics(bf16=True).autocast("cpu"):
            found, _ = rounded.transformer.begin(ids)  # type: ignore[attr-defined]
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.3


@pytest.mark.parametrize("name", ["ddpm:tiny", "glide:tiny", "imagen:tiny", "unclip:tiny"])
def test_weights_are_rounded_once_and_those_of_the_last_layers_never(name: str) -> None:
    generator: Any = load_generator(name, bf16=True)
    stage = getattr(generator, "base", None) or getattr(generator, "decoder", None)
    network = generator.network if stage is None else stage.network
    kept = {
        id(part) for module in network.modules() if is_kept_in_float32(module)
        for part in module.modules()
    }  # fmt: skip
    types = {True: set(), False: set()}  # type: ignore[var-annotated]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            types[id(module) in kept].add(module.weight.dtype)
    assert types == {True: {torch.float32}, False: {torch.bfloat16}}


def test_guidance_is_added_up_in_float32() -> None:
    def network(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        del t
        return torch.tensor([1.0, 0.99609375]).view(2, 1, 1, 1).expand(2, 3, 1, 1).bfloat16()

    guided = classifier_free(network, 3.001)
    found = guided(torch.zeros(1, 3, 1, 1), torch.zeros(1))
    assert found.dtype == torch.float32
    assert found[0, 0, 0, 0] == pytest.approx(0.99609375 + 3.001 * 0.00390625, abs=1e-6)


def test_clip_guidance_is_not_rounded() -> None:
    """Captions and gradient both: bfloat16 would round each, and is slow backwards on a CPU."""
    clip = load_generator("glide:tiny", bf16=True).clip  # type: ignore[attr-defined]
    x_t, t = noisy(clip.network.config.image_size), steps()
    captions = ["a red circle", "a blue square"]
    plain = clip.gradient(captions, 12.0, "cpu")(x_t, t)
    with torch.autocast("cpu", torch.bfloat16):
        found = clip.gradient(captions, 12.0, "cpu")(x_t, t)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bf16": True, "fp16": True}, "--bf16 and --fp16 exclude each other"),
        ({"compiled": True, "offload": True}, "--compile-model records where the weights are"),
    ],
)
def test_options_that_contradict_each_other_are_an_error(given: dict[str, bool], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_generator("glide:tiny", **given)


def test_offloading_on_a_cpu_is_an_error_of_the_command() -> None:
    words = ["generate", "--model", "glide:tiny", "--prompt", "x", "--offload", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ConfigError)
    assert "--offload moves networks between a GPU and the CPU" in str(result.exception)


@pytest.mark.parametrize(("name", "num_stages"), NUM_STAGES.items())
def test_offloaded_networks_are_on_the_device_one_after_the_other(
    name: str, num_stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is the CPU as well; what is recorded is where each network was sent, and when."""
    prompt = None if name == "ddpm:tiny" else "a red circle"
    requests = [Request(prompt=prompt, seed=1)]
    plain = load_generator(name)
    settings = plain.spec.default_settings()
    expected = plain.generate(requests, settings)
    offloaded = load_generator(name, offload=True)
    moves: list[tuple[int, str]] = []
    move = nn.Module.to

    def recorded(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        moves.append((id(self), str(args[0])))
        return move(self, *args, **kwargs)

    running = Numerics.running

    @contextmanager
    def marked(self: Numerics, network: nn.Module, device: Any) -> Iterator[None]:
        with running(self, network, device):
            moves.append((id(network), "runs"))
            yield

    monkeypatch.setattr(nn.Module, "to", recorded)
    monkeypatch.setattr(Numerics, "running", marked)
    found = offloaded.generate(requests, settings)
    assert np.array_equal(found[0].image, expected[0].image)  # type: ignore[arg-type]
    networks = list(dict.fromkeys(network for network, _ in moves))
    assert len(networks) == num_stages
    for network in networks:
        assert [where for n, where in moves if n == network] == ["cpu", "runs", "cpu"]
    stays = 2 if name == "glide:tiny" else 1  # the noised CLIP runs while the base does
    held: set[int] = set()
    for network, where in moves:
        held = held | {network} if where == "runs" else held - {network}
        assert len(held) <= stays
