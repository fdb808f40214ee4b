"""Loaders of GLIDE's catalog rows: the tiny one, the released ones, the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from evalkit.core.errors import WeightsError
from generators.base import GeneratorSpec, StageSettings, StageSpec
from generators.cascade import Stage
from generators.clip.noised import NoisedClip
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.thresholding import THRESHOLDS
from generators.glide.generator import GlideGenerator
from generators.glide.model import SuperResText2ImUNet, Text2ImUNet
from generators.glide.presets import PAPER, RELEASED, GlidePreset, NetworkPreset
from generators.tokenizer import (
    BytePairTokenizer,
    gpt2_tokenizer,
    tiny_tokenizer,
    tokenizer_of,
)
from generators.weights import networks
from generators.weights.parts import UNTRAINED_SEED, check_overrides
from generators.weights.published import MODEL_FILES, locate
from generators.weights.state_dicts import (
    file_sha256,
    joint_hash,
    load_state_dict,
    read_metadata,
)
from generators.weights.zoo import ZOO, ZooWeights, zoo_weights

TINY_NETWORKS = ("glide-tiny-base", "glide-tiny-upsampler")
TINY_CLIP = "clip-tiny-noised"
MAX_CLIP_GUIDANCE = 1_000.0
TINY_CLIP_GUIDANCE = 12.0
"""Of a base that was trained on shapes, as the noised CLIP was; 0 for any other base. From about 20
on, it enlarges what rounding differs between batch sizes to more than one level of 255."""


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


def _tiny_stages(*, clip_guidance: float) -> tuple[StageSpec, StageSpec]:
    return _stages(
        base=StageSettings(
            steps=25,
            sampler="ancestral",
            guidance=3.0,
            options={"threshold": "static", "clip_guidance": clip_guidance},
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
    """Load `glide:tiny`, or the same networks with random weights (`glide:tiny-untrained`).

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` that replace the shipped ones.
    """
    check_overrides(name, weights, [*TINY_NETWORKS, TINY_CLIP])
    parts = {part: zoo_weights(part, weights.get(part)) for part in TINY_NETWORKS}
    trained = name == "glide:tiny"
    base, upsampler = _trained(parts) if trained else _untrained(parts)
    objectives = [parts[part].recipe.objective for part in TINY_NETWORKS]
    of_shapes = trained and parts[TINY_NETWORKS[0]].recipe.data.is_shapes
    clip_file = weights.get(TINY_CLIP, ZOO / f"{TINY_CLIP}.safetensors")
    hashes = [parts[part].sha256 for part in TINY_NETWORKS]
    spec = GeneratorSpec(
        name=name,
        display_name="GLIDE (tiny)" if trained else "GLIDE (tiny, untrained)",
        conditioning="text",
        stages=_tiny_stages(clip_guidance=TINY_CLIP_GUIDANCE if of_shapes else 0.0),
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
        base=Stage.from_objective(base, objectives[0]),
        upsampler=Stage.from_objective(upsampler, objectives[1]),
        tokenizer=tokenizer_of(parts[TINY_NETWORKS[0]]) if trained else tiny_tokenizer(),
        device=device,
        load_clip=partial(_tiny_clip, weights.get(TINY_CLIP)),
    )


def load_released(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """Load `glide:released`, OpenAI's filtered networks of December 2021.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    return _load_published(
        name, device, weights, RELEASED,
        display_name="GLIDE (released, filtered)",
    )  # fmt: skip


def load_released_inpaint(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """Load `glide:released-inpaint`, the networks that see pixels to keep.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    return _load_published(
        name, device, weights, RELEASED,
        display_name="GLIDE (released, inpainting)",
        inpaints=True,
    )  # fmt: skip


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """Load `glide:paper`, networks of the paper's size, from given weights.

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
    weights_of_networks = parts[:2]
    check_overrides(name, weights, parts)
    files = {part: locate(part, weights.get(part), instead="glide:tiny") for part in parts}
    suffix = "-inpaint" if inpaints else ""
    tokenizer = gpt2_tokenizer(files["gpt2-encoder"], files["gpt2-merges"])
    base, upsampler = (
        _published_stage(f"glide-{stage}{suffix}", files[part], chosen, tokenizer)
        for part, stage, chosen in zip(
            weights_of_networks, ("base", "upsampler"), (preset.base, preset.upsampler), strict=True
        )
    )
    spec = GeneratorSpec(
        name=name,
        display_name=display_name,
        conditioning="text",
        stages=RELEASED_STAGES,
        size_px=upsampler.network.config.image_size,
        training_data=("openai-filtered",) if preset is RELEASED else (),
        weights="given" if set(weights_of_networks) & set(weights) else "released in December 2021",
        weights_sha256=joint_hash(file_sha256(files[part]) for part in weights_of_networks),
    )
    return GlideGenerator(
        spec,
        base=base,
        upsampler=upsampler,
        tokenizer=tokenizer,
        device=device,
        inpaints=inpaints,
    )


def _published_stage(
    network: str, file: Path, preset: NetworkPreset, tokenizer: BytePairTokenizer
) -> Stage[Text2ImUNet]:
    """Load a published network, or what `evalkit train` made of it, which states its recipe.

    Raises:
        WeightsError: It doesn't fit, or was fine-tuned on other tokens than the rest reads.
    """
    if "recipe" not in read_metadata(file):
        loaded = networks.load_released(
            network, load_state_dict(file), preset.network.flat(), source=file.name
        )
        return Stage(networks.checked(Text2ImUNet, file.name, loaded), preset.process())
    weights = zoo_weights(network, file)
    tuned = weights.network(Text2ImUNet, file.name)
    if tuned.text is not None and weights.vocabulary != tokenizer.stated:
        raise WeightsError(
            f"{file} was trained on another vocabulary than GPT-2's, which the published networks "
            "read captions with. Train it with --vocabulary gpt2."
        )
    return Stage.from_objective(tuned, weights.recipe.objective)


def _trained(parts: Mapping[str, ZooWeights]) -> tuple[Text2ImUNet, SuperResText2ImUNet]:
    base, upsampler = TINY_NETWORKS
    return (
        parts[base].network(Text2ImUNet, base),
        parts[upsampler].network(SuperResText2ImUNet, upsampler),
    )


def _untrained(parts: Mapping[str, ZooWeights]) -> tuple[Text2ImUNet, SuperResText2ImUNet]:
    """Build both networks one after the other from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(UNTRAINED_SEED)
        base, upsampler = (
            networks.build_network(parts[part].recipe.network, parts[part].recipe.model)
            for part in TINY_NETWORKS
        )
    return (
        networks.checked(Text2ImUNet, TINY_NETWORKS[0], base),
        networks.checked(SuperResText2ImUNet, TINY_NETWORKS[1], upsampler),
    )


def _tiny_clip(file: Path | None) -> NoisedClip:
    return NoisedClip.of(zoo_weights(TINY_CLIP, file), TINY_CLIP)


def _provenance(trained: bool, own: Mapping[str, Path] | Sequence[str]) -> str:
    if not trained:
        return f"random, seed {UNTRAINED_SEED}"
    return "given: " + ", ".join(own) if own else "generators/zoo"
