"""Imagen behind the Generator interface: frozen text encoder, base, two upsamplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.diffusion.noise import image_generators
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.thresholding import THRESHOLDS, threshold_for
from generators.errors import UnsupportedRequestError
from generators.imagen.model import ImagenBase, ImagenConfig, ImagenUpsampler
from generators.imagen.pipeline import sample_base, sample_upsampler
from generators.imagen.presets import T5_XXL
from generators.imagen.text import T5_NAME, FrozenT5
from generators.parts import UNTRAINED_SEED, Part, Parts, check_overrides, never_released
from generators.pixels import to_uint8
from generators.recipes.recipe import Recipe, load_recipe

NUM_TIMESTEPS = 1000
NETWORK_PARTS = {"base": "imagen-tiny-base", "sr1": "imagen-tiny-sr1", "sr2": "imagen-tiny-sr2"}


@dataclass(frozen=True)
class Stage:
    """One network of the cascade and the process it was trained with."""

    network: Any
    process: DiffusionProcess
    residual_scale: float | None = None
    """Of an upsampler that makes only what the enlarged image lacks."""


class ImagenGenerator:
    """The whole cascade.

    Args:
        spec: What it is and can do.
        text: The frozen encoder.
        stages: By their names, in the order in which they run.
    """

    def __init__(self, spec: GeneratorSpec, *, text: FrozenT5, stages: Mapping[str, Stage]) -> None:
        self.spec = spec
        self.text = text
        self.stages = stages

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """One image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        if any(request.prompt is None for request in requests):
            raise UnsupportedRequestError(f"{self.spec.name} wants a prompt with every request")
        seeds = [request.seed for request in requests]
        read = self.text.read([request.prompt or "" for request in requests])
        images = None
        for name, stage in self.stages.items():
            noise = image_generators(seeds, name)
            common = _common(stage, settings[name])
            if images is None:
                images = sample_base(stage.network, read.states, noise, **common)
            else:
                level = float(settings[name].options["aug_level"])
                images = sample_upsampler(
                    stage.network,
                    images,
                    read.states,
                    noise,
                    aug_level=level,
                    residual_scale=stage.residual_scale,
                    **common,
                )
        assert images is not None
        pixels = to_uint8(images).cpu().numpy()
        notes = [("caption truncated",) if cut else () for cut in read.truncated]
        return [Sample(image=i, notes=n) for i, n in zip(pixels, notes, strict=True)]


def _common(stage: Stage, settings: StageSettings) -> dict[str, Any]:
    """What every stage's sampling is told."""
    options = settings.options
    return {
        "process": stage.process,
        "guidance_scale": settings.guidance,
        "steps": settings.steps,
        "sampler": settings.sampler,
        "threshold": threshold_for(str(options["threshold"]), float(options["percentile"])),
    }


def _spec_of_stage(
    name: str, *, guidance: float, steps: int, sampler: str, aug_level: float | None = None
) -> StageSpec:
    options: dict[str, Any] = {"threshold": "dynamic", "percentile": 0.995}
    if aug_level is not None:
        options["aug_level"] = aug_level
    return StageSpec(
        name=name,
        defaults=StageSettings(steps=steps, sampler=sampler, guidance=guidance, options=options),
        samplers=SAMPLER_NAMES,
        max_steps=NUM_TIMESTEPS,
        choices={"threshold": THRESHOLDS},
        ranges={"percentile": (0, 1), "aug_level": (0, 1)},
    )


TINY_STAGES = (
    _spec_of_stage("base", guidance=3.0, steps=25, sampler="ancestral"),
    _spec_of_stage("sr1", guidance=1.0, steps=6, sampler="ddim", aug_level=0.1),
    _spec_of_stage("sr2", guidance=1.0, steps=6, sampler="ddim", aug_level=0.1),
)


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> ImagenGenerator:
    """`imagen:tiny`, or the same networks with random weights (`imagen:tiny-untrained`).

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` in the place of the shipped ones.
    """
    check_overrides(name, weights, (T5_NAME, *NETWORK_PARTS.values()))
    parts = Parts(name, weights)
    text = _text_encoder(parts).to(device)
    frozen = {text.name: text.sha256}
    loaded: dict[str, Part[Any]] = {
        stage: parts.load(part, build_base if stage == "base" else build_upsampler, frozen)
        for stage, part in NETWORK_PARTS.items()
    }
    spec = GeneratorSpec(
        name=name,
        display_name="Imagen (tiny)" if parts.trained else "Imagen (tiny, untrained)",
        conditioning="text",
        stages=TINY_STAGES,
        size_px=loaded["sr2"].network.config.image_size,
        training_data=("shapes",) if parts.trained else (),
        weights=parts.provenance(),
        weights_sha256=parts.joint_hash(list(loaded.values()), [text.sha256]),
    )
    stages = {
        stage: Stage(
            part.network.to(device).to(memory_format=torch.channels_last).eval(),
            process_of(part.recipe),
            part.recipe.objective.get("residual_scale"),
        )
        for stage, part in loaded.items()
    }
    return ImagenGenerator(spec, text=text, stages=stages)


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> ImagenGenerator:
    """`imagen:paper`: an architecture without weights.

    Raises:
        MissingWeightsError: Always.
    """
    raise never_released(name, f"imagen:tiny (only its text encoder, {T5_XXL}, is public)")


def build_base(model: Mapping[str, Any]) -> ImagenBase:
    """The base from a recipe's `model`."""
    return ImagenBase(ImagenConfig.base_from_flat(model))


def build_upsampler(model: Mapping[str, Any]) -> ImagenUpsampler:
    """An upsampler from a recipe's `model`."""
    return ImagenUpsampler(ImagenConfig.upsampler_from_flat(model))


def process_of(recipe: Recipe) -> DiffusionProcess:
    """The process of a recipe's objective; Imagen's networks don't predict the variance."""
    return DiffusionProcess.from_schedule(
        recipe.objective["schedule"],
        NUM_TIMESTEPS,
        prediction=recipe.objective["prediction"],
        variance="fixed_small",
    )


def _text_encoder(parts: Parts) -> FrozenT5:
    if not parts.trained:
        return FrozenT5.untrained(load_recipe(T5_NAME).model, UNTRAINED_SEED)
    return FrozenT5.from_zoo(parts.file(T5_NAME))
