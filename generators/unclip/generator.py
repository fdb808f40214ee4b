"""unCLIP behind the Generator interface: prior, decoder, two upsamplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.cascade import NetworkT, Stage, captioned_samples, prompts_of
from generators.diffusion.noise import image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.diffusion.schedules import REFERENCE_STEPS
from generators.diffusion.stage_sampling import StageSampling
from generators.finite import BatchFaults, StageWatch
from generators.glide.model import SuperResText2ImUNet
from generators.glide.pipeline import Enlarging, sample_base, sample_upsampler
from generators.numerics import Numerics
from generators.settings import OptionValue
from generators.unclip.autoregressive import AutoregressivePrior, sample_codes
from generators.unclip.conditioning import CLIP_NAME, CaptionReading, FrozenClip
from generators.unclip.decoder import UnclipDecoder, decoder_captions
from generators.unclip.pipeline import best_of, prior_process, sample_prior
from generators.unclip.prior import DiffusionPrior
from generators.weights.parts import Part, Parts, check_overrides, never_released

EMBEDDINGS = ("prior", "text", "none")
"""What conditions the decoder: the prior's image embedding, CLIP's text embedding instead, or the
caption alone (the paper's comparison, section 5.1)."""


@dataclass(frozen=True)
class DiffusingPrior:
    """The diffusion prior with its process."""

    network: DiffusionPrior
    process: DiffusionProcess

    def draw(
        self,
        caption: CaptionReading,
        empty: CaptionReading,
        rngs: Sequence[torch.Generator],
        settings: StageSettings,
        watch: StageWatch | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Sample embeddings from noise, in `settings.steps` steps."""
        sampling = StageSampling.chosen(self.process, settings, watch)
        return sample_prior(self.network, caption, empty, rngs, sampling)


@dataclass(frozen=True)
class CodingPrior:
    """The autoregressive prior."""

    network: AutoregressivePrior

    def draw(
        self,
        caption: CaptionReading,
        empty: CaptionReading,
        rngs: Sequence[torch.Generator],
        settings: StageSettings,
        watch: StageWatch | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Sample embeddings code by code."""
        assert settings.guidance is not None
        return sample_codes(
            self.network,
            caption,
            rngs,
            empty=empty,
            guidance_scale=settings.guidance,
            temperature=float(settings.options["temperature"]),
            watch=watch,
        )


Prior = DiffusingPrior | CodingPrior
"""From captions to embeddings."""


class UnclipGenerator:
    """The whole cascade; its parts are there for variations and interpolations too."""

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        clip: FrozenClip,
        prior: Prior,
        decoder: Stage[UnclipDecoder],
        upsamplers: Mapping[str, Stage[SuperResText2ImUNet]],
    ) -> None:
        self.spec = spec
        self.clip = clip
        self.prior = prior
        self.decoder = decoder
        self.upsamplers = upsamplers
        self.numerics = Numerics()

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`; those of CLIP stay."""
        self.numerics = numerics
        upsamplers = [stage.network for stage in self.upsamplers.values()]
        numerics.apply(self.prior.network, self.decoder.network, *upsamplers)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        prompts = prompts_of(self.spec, requests)
        seeds = [request.seed for request in requests]
        faults = BatchFaults(len(requests))
        with self.numerics.autocast(self.clip.device):
            with self.numerics.running(self.prior.network, self.clip.device):
                embedding = self.embed(prompts, seeds, settings["prior"], faults)
            decoder = self.decoder
            sampling = StageSampling.chosen(decoder.process, settings["base"], faults.at("base"))
            noise = image_rngs(seeds, "base")
            with self.numerics.running(decoder.network, self.clip.device):
                captions = decoder_captions(
                    decoder.network, self.clip.tokenizer, prompts, embedding
                )
                small = sample_base(decoder.network, captions, noise, sampling)
            large = self.enlarge(small, seeds, settings, faults)
        return captioned_samples(large, captions.truncated, faults)

    def embed(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: StageSettings,
        faults: BatchFaults | None = None,
    ) -> Float[Tensor, "batch embed_dim"] | None:
        """Return the embeddings that condition the decoder; None: captions only."""
        watch = faults.at("prior") if faults else None
        if settings.options["embedding"] == "none":
            return None
        caption = self.clip.read_captions(prompts)
        if settings.options["embedding"] == "text":
            return caption.embedding * self.clip.scale
        empty = self.clip.read_captions([""] * len(prompts))
        return best_of(
            lambda rngs: self.prior.draw(caption, empty, rngs, settings, watch),
            caption.embedding,
            seeds,
            candidates=int(settings.options["candidates"]),
            scale=self.clip.scale,
        )

    def enlarge(
        self,
        images: Float[Tensor, "batch 3 s s"],
        seeds: Sequence[int],
        settings: Settings,
        faults: BatchFaults | None = None,
    ) -> Float[Tensor, "batch 3 size size"]:
        """Run the upsamplers, one after the other."""
        for name, stage in self.upsamplers.items():
            watch = faults.at(name) if faults else None
            with self.numerics.running(stage.network, self.clip.device):
                images = sample_upsampler(
                    stage.network,
                    images,
                    None,
                    image_rngs(seeds, name),
                    StageSampling.chosen(stage.process, settings[name], watch),
                    enlarging=Enlarging(
                        temperature=float(settings[name].options["temperature"]),
                        quantise=False,
                        residual_scale=stage.residual_scale,
                    ),
                )
        return images


def _prior_stage(*, diffusion: bool, steps: int) -> StageSpec:
    options: dict[str, OptionValue] = {"candidates": 2, "embedding": "prior"}
    ranges = {"candidates": (1, 64), "temperature": (0, 10)}
    if not diffusion:
        defaults = StageSettings(guidance=1.0, options={**options, "temperature": 1.0})
        return StageSpec(
            name="prior", defaults=defaults, choices={"embedding": EMBEDDINGS}, ranges=ranges
        )
    return StageSpec(
        name="prior",
        defaults=StageSettings(steps=steps, sampler="dpm++2m", guidance=1.0, options=options),
        samplers=SAMPLER_NAMES,
        max_steps=REFERENCE_STEPS,
        choices={"embedding": EMBEDDINGS},
        ranges=ranges,
    )


def _image_stage(name: str, defaults: StageSettings) -> StageSpec:
    return StageSpec(
        name=name,
        defaults=defaults,
        samplers=SAMPLER_NAMES,
        max_steps=REFERENCE_STEPS,
        ranges={"temperature": (0, 2)},
    )


TINY_IMAGE_STAGES = (
    _image_stage("base", StageSettings(steps=25, sampler="ancestral", guidance=2.0)),
    _image_stage("sr1", StageSettings(steps=2, sampler="ddim", options={"temperature": 1.0})),
    _image_stage("sr2", StageSettings(steps=2, sampler="ddim", options={"temperature": 1.0})),
)
PRIORS = {"diffusion": "unclip-tiny-prior", "autoregressive": "unclip-tiny-prior-ar"}
IMAGE_PARTS = ("unclip-tiny-decoder", "unclip-tiny-sr1", "unclip-tiny-sr2")


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> UnclipGenerator:
    """Load `unclip:tiny` or `unclip:tiny-ar`, or their networks with random weights.

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` that replace the shipped ones.
    """
    kind = "autoregressive" if name.startswith("unclip:tiny-ar") else "diffusion"
    check_overrides(name, weights, (CLIP_NAME, PRIORS[kind], *IMAGE_PARTS))
    clip = FrozenClip.from_zoo(weights.get(CLIP_NAME)).to(device)
    parts, frozen = Parts(name, weights), {clip.name: clip.sha256}
    prior_kind = DiffusionPrior if kind == "diffusion" else AutoregressivePrior
    prior_part: Part[DiffusionPrior | AutoregressivePrior] = parts.load(
        prior_kind, PRIORS[kind], frozen
    )
    decoder, sr1, sr2 = (
        parts.load(UnclipDecoder, IMAGE_PARTS[0], frozen),
        *(parts.load(SuperResText2ImUNet, part) for part in IMAGE_PARTS[1:]),
    )
    prior = prior_part.network.to(device).eval()
    shown = {"diffusion": "", "autoregressive": ", autoregressive prior"}[kind]
    spec = GeneratorSpec(
        name=name,
        display_name=f"unCLIP (tiny{shown}{'' if parts.trained else ', untrained'})",
        conditioning="text",
        stages=(_prior_stage(diffusion=kind == "diffusion", steps=25), *TINY_IMAGE_STAGES),
        size_px=sr2.network.config.image_size,
        training_data=("shapes",) if parts.trained else (),
        weights=parts.provenance(),
        weights_sha256=parts.joint_hash([prior_part, decoder, sr1, sr2], [clip.sha256]),
        main_stage="base",
    )
    return UnclipGenerator(
        spec,
        clip=clip,
        prior=(
            DiffusingPrior(prior, prior_process(prior_part.recipe.objective))
            if isinstance(prior, DiffusionPrior)
            else CodingPrior(prior)
        ),
        decoder=_stage(decoder, device),
        upsamplers={"sr1": _stage(sr1, device), "sr2": _stage(sr2, device)},
    )


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> UnclipGenerator:
    """Refuse `unclip:paper`, an architecture without weights.

    Raises:
        MissingWeightsError: Always.
    """
    raise never_released(name, "unclip:tiny")


def _stage(part: Part[NetworkT], device: str) -> Stage[NetworkT]:
    return Stage.from_objective(part.network, part.recipe.objective, device=device)
