"""Imagen behind the Generator interface: frozen text encoder, base, two upsamplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.cascade import NetworkT, Stage, captioned_samples, prompts_of
from generators.diffusion.noise import image_rngs
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.schedules import REFERENCE_STEPS
from generators.diffusion.stage_sampling import StageSampling
from generators.diffusion.thresholding import THRESHOLDS
from generators.finite import BatchFaults
from generators.imagen.model import ImagenBase, ImagenUpsampler
from generators.imagen.pipeline import sample_base, sample_upsampler
from generators.imagen.presets import T5_XXL
from generators.imagen.text import T5_NAME, FrozenT5
from generators.numerics import Numerics
from generators.recipes.recipe import load_recipe
from generators.settings import OptionValue
from generators.weights.parts import UNTRAINED_SEED, Part, Parts, check_overrides, never_released

BASE = "base"
NETWORK_PARTS = {BASE: "imagen-tiny-base", "sr1": "imagen-tiny-sr1", "sr2": "imagen-tiny-sr2"}


class ImagenGenerator:
    """The whole cascade.

    Args:
        spec: What it is and can do.
        text: The frozen encoder.
        base: The network that decides the content.
        upsamplers: By their names, in the order in which they run.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        text: FrozenT5,
        base: Stage[ImagenBase],
        upsamplers: Mapping[str, Stage[ImagenUpsampler]],
    ) -> None:
        self.spec = spec
        self.text = text
        self.base = base
        self.upsamplers = upsamplers
        self.numerics = Numerics()

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`; the text encoder's stay."""
        self.numerics = numerics
        upsamplers = [stage.network for stage in self.upsamplers.values()]
        numerics.apply(self.base.network, *upsamplers)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        read = self.text.read(prompts_of(self.spec, requests))
        seeds = [request.seed for request in requests]
        faults = BatchFaults(len(requests))
        sampling = StageSampling.chosen(self.base.process, settings[BASE], faults.at(BASE))
        noise = image_rngs(seeds, BASE)
        device = self.text.device
        with self.numerics.autocast(device):
            with self.numerics.running(self.base.network, device):
                images = sample_base(self.base.network, read.states, noise, sampling)
            for name, stage in self.upsamplers.items():
                with self.numerics.running(stage.network, device):
                    images = sample_upsampler(
                        stage.network,
                        images,
                        read.states,
                        image_rngs(seeds, name),
                        StageSampling.chosen(stage.process, settings[name], faults.at(name)),
                        aug_level=float(settings[name].options["aug_level"]),
                        residual_scale=stage.residual_scale,
                    )
        return captioned_samples(images, read.truncated, faults)


def _spec_of_stage(
    name: str,
    *,
    guidance: float,
    steps: int,
    sampler: str,
    threshold: str = "dynamic",
    aug_level: float | None = None,
) -> StageSpec:
    options: dict[str, OptionValue] = {"threshold": threshold, "percentile": 0.995}
    if aug_level is not None:
        options["aug_level"] = aug_level
    return StageSpec(
        name=name,
        defaults=StageSettings(steps=steps, sampler=sampler, guidance=guidance, options=options),
        samplers=SAMPLER_NAMES,
        max_steps=REFERENCE_STEPS,
        choices={"threshold": THRESHOLDS},
        ranges={"percentile": (0, 1), "aug_level": (0, 1)},
    )


TINY_STAGES = (
    _spec_of_stage(BASE, guidance=1.5, steps=25, sampler="ancestral", threshold="static"),
    _spec_of_stage("sr1", guidance=1.0, steps=2, sampler="ddim", aug_level=0.0),
    _spec_of_stage("sr2", guidance=1.0, steps=2, sampler="ddim", aug_level=0.0),
)


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> ImagenGenerator:
    """Load `imagen:tiny`, or the same networks with random weights (`imagen:tiny-untrained`).

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` that replace the shipped ones.
    """
    check_overrides(name, weights, (T5_NAME, *NETWORK_PARTS.values()))
    parts = Parts(name, weights)
    text = _text_encoder(parts).to(device)
    frozen = {text.name: text.sha256}
    base = parts.load(ImagenBase, NETWORK_PARTS[BASE], frozen)
    upsamplers = {
        stage: parts.load(ImagenUpsampler, part, frozen)
        for stage, part in NETWORK_PARTS.items()
        if stage != BASE
    }
    spec = GeneratorSpec(
        name=name,
        display_name="Imagen (tiny)" if parts.trained else "Imagen (tiny, untrained)",
        conditioning="text",
        stages=TINY_STAGES,
        size_px=upsamplers["sr2"].network.config.image_size,
        training_data=("shapes",) if parts.trained else (),
        weights=parts.provenance(),
        weights_sha256=parts.joint_hash([base, *upsamplers.values()], [text.sha256]),
    )
    return ImagenGenerator(
        spec,
        text=text,
        base=_stage(base, device),
        upsamplers={name: _stage(part, device) for name, part in upsamplers.items()},
    )


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> ImagenGenerator:
    """Refuse `imagen:paper`, an architecture without weights.

    Raises:
        MissingWeightsError: Always.
    """
    raise never_released(name, f"imagen:tiny (only its text encoder, {T5_XXL}, is public)")


def _stage(part: Part[NetworkT], device: str) -> Stage[NetworkT]:
    """Build a stage with fixed variance: Imagen's networks do not predict it."""
    return Stage.from_objective(
        part.network, part.recipe.objective, device=device, variance="fixed_small"
    )


def _text_encoder(parts: Parts) -> FrozenT5:
    if not parts.trained:
        return FrozenT5.untrained(load_recipe(T5_NAME).model, UNTRAINED_SEED)
    return FrozenT5.from_zoo(parts.file(T5_NAME))
