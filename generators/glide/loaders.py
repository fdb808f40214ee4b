"""Loaders of GLIDE's catalog rows: the tiny one, the released ones, the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from generators.base import GeneratorSpec, StageSettings, StageSpec
from generators.cascade import TrainedStage
from generators.clip.model import Clip, ClipConfig
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.thresholding import THRESHOLDS
from generators.glide.generator import GlideGenerator, NoisedClip
from generators.glide.model import (
    GlideConfig,
    InpaintText2ImUNet,
    SuperResInpaintText2ImUNet,
    SuperResText2ImUNet,
    Text2ImUNet,
)
from generators.glide.presets import PAPER, RELEASED, GlidePreset
from generators.loading import fill_network, joint_hash, network_from_file
from generators.parts import UNTRAINED_SEED, check_overrides
from generators.tokenizer import BytePairTokenizer
from generators.weights import MODEL_FILES, locate
from generators.weights_io import file_sha256
from generators.zoo import ZOO, tiny_tokenizer, zoo_weights

TINY_NETWORKS = ("glide-tiny-base", "glide-tiny-upsampler")
TINY_CLIP = "clip-tiny-noised"
MAX_CLIP_GUIDANCE = 1_000.0


def _stages(
    *, base: StageSettings, upsampler: StageSettings, num_timesteps: int = 1000
) -> tuple[StageSpec, StageSpec]:
    return (
        StageSpec(
            name="base",
            defaults=base,
            samplers=SAMPLER_NAMES,
            max_steps=num_timesteps,
            choices={"threshold": THRESHOLDS},
            ranges={"clip_guidance": (0.0, MAX_CLIP_GUIDANCE)},
        ),
        StageSpec(
            name="upsampler",
            defaults=upsampler,
            samplers=SAMPLER_NAMES,
            max_steps=num_timesteps,
            ranges={"temperature": (0.0, 2.0)},
        ),
    )


TINY_STAGES = _stages(
    base=StageSettings(
        steps=25,
        sampler="ancestral",
        guidance=3.0,
        options={"threshold": "static", "clip_guidance": 0.0},
    ),
    upsampler=StageSettings(
        steps=2, sampler="ddim", options={"temperature": 1.0, "quantise": False}
    ),
)
RELEASED_STAGES = _stages(
    base=StageSettings(
        steps=100, sampler="ancestral", guidance=3.0, options={"threshold": "static"}
    ),
    upsampler=StageSettings(
        steps=27, sampler="ddim", options={"temperature": 0.997, "quantise": True}
    ),
)
"""The settings of the authors' notebook."""


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """`glide:tiny`, or the same networks with random weights (`glide:tiny-untrained`).

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` in the place of the shipped ones.
    """
    check_overrides(name, weights, [*TINY_NETWORKS, TINY_CLIP])
    parts = {part: zoo_weights(part, weights.get(part)) for part in TINY_NETWORKS}
    trained = name == "glide:tiny"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(UNTRAINED_SEED)
        base_config, upsampler_config = (
            GlideConfig.from_flat(parts[part].recipe.model) for part in TINY_NETWORKS
        )
        base, upsampler = Text2ImUNet(base_config), SuperResText2ImUNet(upsampler_config)
    if trained:
        for part, network in zip(TINY_NETWORKS, (base, upsampler), strict=True):
            fill_network(network, parts[part].state_dict, part)
    objectives = [parts[part].recipe.objective for part in TINY_NETWORKS]
    clip_file = weights.get(TINY_CLIP, ZOO / f"{TINY_CLIP}.safetensors")
    hashes = [parts[part].sha256 for part in TINY_NETWORKS]
    spec = GeneratorSpec(
        name=name,
        display_name="GLIDE (tiny)" if trained else "GLIDE (tiny, untrained)",
        conditioning="text",
        stages=TINY_STAGES,
        size_px=upsampler.config.image_size,
        training_data=("shapes",) if trained else (),
        weights=_provenance(trained, weights),
        weights_sha256=(
            joint_hash([*hashes, *([file_sha256(clip_file)] if clip_file.is_file() else [])])
            if trained
            else "random"
        ),
    )
    return GlideGenerator(
        spec,
        base=TrainedStage.from_objective(base, objectives[0]),
        upsampler=TrainedStage.from_objective(upsampler, objectives[1]),
        tokenizer=tiny_tokenizer(),
        device=device,
        load_clip=lambda: _tiny_clip(weights.get(TINY_CLIP)),
    )


def load_released(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """`glide:released`: OpenAI's filtered networks of December 2021.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    return _load_published(
        name, device, weights, RELEASED,
        display_name="GLIDE (released, filtered)",
    )  # fmt: skip


def load_released_inpaint(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """`glide:released-inpaint`: the networks that see pixels to keep.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    return _load_published(
        name, device, weights, RELEASED,
        display_name="GLIDE (released, inpainting)",
        inpaints=True,
    )  # fmt: skip


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """`glide:paper`: the paper's sizes, for whoever has weights of that size.

    Raises:
        MissingWeightsError: None are given; they were never released.
    """
    return _load_published(
        name, device, weights, PAPER,
        display_name="GLIDE (the paper's size)",
    )  # fmt: skip


def _load_published(
    name: str,
    device: str,
    weights: Mapping[str, Path],
    preset: GlidePreset,
    *,
    display_name: str,
    inpaints: bool = False,
) -> GlideGenerator:
    parts = MODEL_FILES[name]
    networks = parts[:2]
    check_overrides(name, weights, parts)
    files = {part: locate(part, weights.get(part), instead="glide:tiny") for part in parts}
    with torch.device("meta"):
        base: Text2ImUNet = (InpaintText2ImUNet if inpaints else Text2ImUNet)(preset.base.network)
        upsampler: Text2ImUNet = (SuperResInpaintText2ImUNet if inpaints else SuperResText2ImUNet)(
            preset.upsampler.network
        )
    spec = GeneratorSpec(
        name=name,
        display_name=display_name,
        conditioning="text",
        stages=RELEASED_STAGES,
        size_px=preset.upsampler.network.unet.image_size,
        training_data=("openai-filtered",) if preset is RELEASED else (),
        weights="given" if set(networks) & set(weights) else "released in December 2021",
        weights_sha256=joint_hash(file_sha256(files[part]) for part in networks),
    )
    return GlideGenerator(
        spec,
        base=TrainedStage(network_from_file(base, files[networks[0]]), preset.base.process()),
        upsampler=TrainedStage(
            network_from_file(upsampler, files[networks[1]]), preset.upsampler.process()
        ),
        tokenizer=BytePairTokenizer.from_files(files["gpt2-encoder"], files["gpt2-merges"]),
        device=device,
        inpaints=inpaints,
    )


def _tiny_clip(file: Path | None) -> NoisedClip:
    weights = zoo_weights(TINY_CLIP, file)
    config = ClipConfig(**weights.recipe.model, num_timesteps=1000)
    return NoisedClip(fill_network(Clip(config), weights.state_dict, TINY_CLIP), tiny_tokenizer())


def _provenance(trained: bool, own: Mapping[str, Path] | Sequence[str]) -> str:
    if not trained:
        return f"random, seed {UNTRAINED_SEED}"
    return "given: " + ", ".join(own) if own else "generators/zoo"
