"""Models that diffusers runs: Karlo (an unCLIP) and DeepFloyd IF (in Imagen's style).

These are other people's trainings of the two systems, the best that the public can get; their
records carry their own names. Each image has its own noise generator, as everywhere here.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from evalkit.core.errors import MissingExtraError, WeightsError
from evalkit.core.registry import require
from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.cascade import prompts_of, truncation_notes
from generators.diffusion.noise import image_rngs
from generators.finite import BatchFaults, samples_of, watching
from generators.weights.hub import folder_sha256, hub_folder
from generators.weights.parts import check_overrides

KARLO = "kakaobrain/karlo-v1-alpha"
KARLO_PARTS = {
    "prior": "PriorTransformer",
    "decoder": "UNet2DConditionModel",
    "super_res_first": "UNet2DModel",
    "super_res_last": "UNet2DModel",
    "prior_scheduler": "UnCLIPScheduler",
    "decoder_scheduler": "UnCLIPScheduler",
    "super_res_scheduler": "UnCLIPScheduler",
}
"""Folders of its repository by the class in diffusers; the text side is transformers'."""
IF_BASE = "DeepFloyd/IF-I-XL-v1.0"
IF_SR1 = "DeepFloyd/IF-II-L-v1.0"
MAX_STEPS = 1000
GUIDANCE_RANGE = (1.0, 100.0)
"""Both pipelines leave guidance out at 1 and know nothing below."""
LEVEL_SCALE = 1000
"""DeepFloyd IF calls the augmentation level 0.25 a noise level of 250."""


def _stage(name: str, steps: int, guidance: float | None, **options: float) -> StageSpec:
    return StageSpec(
        name=name,
        defaults=StageSettings(steps=steps, guidance=guidance, options=options),
        max_steps=MAX_STEPS,
        ranges={"guidance": GUIDANCE_RANGE, "aug_level": (0.0, 0.999)},
    )


KARLO_NETWORKS = {
    "prior": ("prior",),
    "base": ("decoder",),
    "sr1": ("super_res_first", "super_res_last"),
}
"""Parts of the pipeline by the stage that they run."""
KARLO_STAGES = (_stage("prior", 25, 4.0), _stage("base", 25, 8.0), _stage("sr1", 7, None))
IF_STAGES = (_stage("base", 100, 7.0), _stage("sr1", 50, 4.0, aug_level=0.25))
"""The pipelines' own defaults."""


class KarloGenerator:
    """Prior, decoder and upsampler in one pipeline."""

    def __init__(self, spec: GeneratorSpec, pipeline: Any) -> None:
        self.spec = spec
        self.pipeline = pipeline

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        prompts = prompts_of(self.spec, requests)
        faults = BatchFaults(len(requests))
        with contextlib.ExitStack() as stack:
            for stage, networks in KARLO_NETWORKS.items():
                for network in networks:
                    watch, steps = faults.at(stage), settings[stage].steps
                    stack.enter_context(watching(getattr(self.pipeline, network), watch, steps))
            made = self.pipeline(
                prompts,
                generator=image_rngs([request.seed for request in requests]),
                prior_num_inference_steps=settings["prior"].steps,
                decoder_num_inference_steps=settings["base"].steps,
                super_res_num_inference_steps=settings["sr1"].steps,
                prior_guidance_scale=settings["prior"].guidance,
                decoder_guidance_scale=settings["base"].guidance,
                output_type="np",
            ).images
        cut = _truncated(self.pipeline.tokenizer, prompts, self.pipeline.tokenizer.model_max_length)
        return samples_of(_centred(made), faults, cut)


class DeepFloydGenerator:
    """Base and first upsampler; the text encoder of the base serves both."""

    def __init__(self, spec: GeneratorSpec, base: Any, upsampler: Any) -> None:
        self.spec = spec
        self.base = base
        self.upsampler = upsampler

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        An image that the pipeline's own safety checker flags is a sample without an image.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        prompts = prompts_of(self.spec, requests)
        seeds = [request.seed for request in requests]
        text, no_text = self.base.encode_prompt(prompts, clean_caption=False)
        faults = BatchFaults(len(requests))
        with watching(self.base.unet, faults.at("base"), settings["base"].steps):
            small = self.base(
                prompt_embeds=text,
                negative_prompt_embeds=no_text,
                generator=image_rngs(seeds, "base"),
                num_inference_steps=settings["base"].steps,
                guidance_scale=settings["base"].guidance,
                output_type="pt",
            ).images
        with watching(self.upsampler.unet, faults.at("sr1"), settings["sr1"].steps):
            made = self.upsampler(
                image=faults.at("base").mend(small),
                prompt_embeds=text,
                negative_prompt_embeds=no_text,
                generator=image_rngs(seeds, "sr1"),
                num_inference_steps=settings["sr1"].steps,
                guidance_scale=settings["sr1"].guidance,
                noise_level=round(LEVEL_SCALE * float(settings["sr1"].options["aug_level"])),
                output_type="np",
            )
        flagged = made.nsfw_detected or [False] * len(prompts)
        cut = _truncated(self.base.tokenizer, prompts, TEXT_LENGTH)
        samples = samples_of(_centred(made.images), faults, cut)
        return [
            replace(sample, image=None, status="filtered", reason="flagged by its safety checker")
            if hidden and sample.status == "ok"
            else sample
            for sample, hidden in zip(samples, flagged, strict=True)
        ]


TEXT_LENGTH = 77
"""Tokens that DeepFloyd IF's pipeline reads of a caption."""


def load_karlo(name: str, device: str, weights: Mapping[str, Path]) -> KarloGenerator:
    """Load `unclip:karlo`.

    Args:
        name: The catalog name.
        device: A torch device.
        weights: `karlo`, a folder to use instead of the download.

    Raises:
        MissingWeightsError: Neither given, cached nor reachable.
    """
    check_overrides(name, weights, ("karlo",))
    folder = hub_folder("karlo", KARLO, weights.get("karlo"), instead="unclip:tiny-untrained")
    pipeline = _karlo_pipeline(folder, device)
    spec = GeneratorSpec(
        name=name,
        display_name="Karlo (unCLIP-style)",
        conditioning="text",
        stages=KARLO_STAGES,
        size_px=int(pipeline.super_res_first.config.sample_size),
        training_data=("coyo", "cc3m", "cc12m"),
        weights="given: karlo" if weights else KARLO,
        weights_sha256=folder_sha256(folder),
        main_stage="base",
    )
    return KarloGenerator(spec, pipeline)


def load_if(name: str, device: str, weights: Mapping[str, Path]) -> DeepFloydGenerator:
    """Load the first two stages of `imagen:if-xl`.

    Args:
        name: The catalog name.
        device: A torch device.
        weights: `if-base` and `if-sr1`, folders to use instead of downloads.

    Raises:
        MissingWeightsError: Neither given, cached nor reachable.
    """
    check_overrides(name, weights, ("if-base", "if-sr1"))
    folders = [
        hub_folder(part, repository, weights.get(part), instead="imagen:tiny-untrained")
        for part, repository in (("if-base", IF_BASE), ("if-sr1", IF_SR1))
    ]
    base = _pipeline("IFPipeline", folders[0], device)
    upsampler = _pipeline("IFSuperResolutionPipeline", folders[1], device, text_encoder=None)
    spec = GeneratorSpec(
        name=name,
        display_name="DeepFloyd IF (Imagen-style)",
        conditioning="text",
        stages=IF_STAGES,
        size_px=int(upsampler.unet.config.sample_size),
        training_data=("laion-a",),
        weights="given: " + ", ".join(weights) if weights else f"{IF_BASE}, {IF_SR1}",
        weights_sha256="+".join(folder_sha256(folder) for folder in folders),
    )
    return DeepFloydGenerator(spec, base, upsampler)


def _karlo_pipeline(folder: Path, device: str) -> Any:
    """Load Karlo part by part: its index names a module that diffusers has moved since."""
    diffusers = require("diffusers", extra="diffusers", what="Karlo through diffusers")
    transformers = require("transformers", extra="diffusers", what="Karlo through diffusers")
    kinds = {name: getattr(diffusers, kind) for name, kind in KARLO_PARTS.items()}
    kinds["text_encoder"] = transformers.CLIPTextModelWithProjection
    kinds["tokenizer"] = transformers.CLIPTokenizer
    kinds["text_proj"] = _text_projection()
    parts = {name: _load(kind, folder / name) for name, kind in kinds.items()}
    return _ready(diffusers.UnCLIPPipeline(**parts), device)


def _text_projection() -> Any:
    for place in ("deprecated.unclip", "unclip"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(f"diffusers.pipelines.{place}.text_proj")
            return module.UnCLIPTextProjModel
    raise MissingExtraError("Karlo, which this version of diffusers no longer runs,", "diffusers")


def _pipeline(kind: str, folder: Path, device: str, **parts: Any) -> Any:
    diffusers = require("diffusers", extra="diffusers", what=f"{kind} through diffusers")
    return _ready(_load(getattr(diffusers, kind), folder, **parts), device)


def _load(kind: Any, folder: Path, **parts: Any) -> Any:
    """Load a part from a folder in the hub's format."""
    if "Scheduler" not in kind.__name__ and "Tokenizer" not in kind.__name__:  # these hold none
        parts = {"use_safetensors": True, **parts}
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, **parts)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{folder} holds no {kind.__name__}: {reason.rstrip('.')}.") from error


def _ready(pipeline: Any, device: str) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _centred(images: np.ndarray) -> Tensor:
    """Convert floats in [0, 1], batch x height x width x 3, to [-1, 1], channels first."""
    pixels: Tensor = torch.from_numpy(np.ascontiguousarray(images)).float().permute(0, 3, 1, 2)
    return 2 * pixels - 1


def _truncated(tokenizer: Any, prompts: Sequence[str], length: int) -> list[tuple[str, ...]]:
    counts = [len(tokenizer(prompt).input_ids) for prompt in prompts]
    return truncation_notes([count > length for count in counts])
