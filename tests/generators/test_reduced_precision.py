"""bfloat16: first and last layers and guidance stay float32, which halves the error of eps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from generators.base import Request
from generators.catalog import load_generator
from generators.diffusion.guidance import classifier_free
from generators.nn.precision import is_kept_in_float32
from generators.numerics import Numerics

T = 900
"""A noisy timestep, where an error of eps is divided by a small sqrt(alpha_bar)."""


def glide(network: Any) -> torch.Tensor:
    from generators.glide.pipeline import encode_captions
    from generators.tokenizer import tiny_tokenizer

    captions = encode_captions(network, tiny_tokenizer(), ["a red circle", "a blue square"])
    return network(noisy(network.config.image_size), steps(), text=captions.text)


def ddpm(network: Any) -> torch.Tensor:
    return network(noisy(network.config.image_size), steps())


def noisy(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def steps() -> torch.Tensor:
    return torch.full((2,), T)


NETWORKS: dict[str, tuple[Callable[[Any], nn.Module], Callable[[Any], torch.Tensor]]] = {
    "ddpm:tiny": (lambda generator: generator.network, ddpm),
    "glide:tiny": (lambda generator: generator.base.network, glide),
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


@pytest.mark.parametrize("name", ["ddpm:tiny", "glide:tiny", "imagen:tiny", "unclip:tiny"])
def test_images_are_close_to_those_of_float32(name: str) -> None:
    """Not so dalle:tiny and unclip:tiny-ar: a code drawn otherwise changes all codes after it."""
    prompts = [None, None] if name == "ddpm:tiny" else ["a red circle", "a blue square"]
    requests = [Request(prompt=prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    made = []
    for bf16 in (False, True):
        generator = load_generator(name, bf16=bf16)
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
