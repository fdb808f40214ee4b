"""DALL-E behind the Generator interface: codes after a caption, pixels of the codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from evalkit.core.progress import advance
from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec
from generators.cascade import captioned_samples, prompts_of
from generators.dalle.dvae import DVAE, DVAEDecoder
from generators.dalle.model import DalleTransformer
from generators.dalle.pipeline import check_codes, paint, sample_codes, text_ids
from generators.diffusion.noise import image_rngs
from generators.finite import BatchFaults, watching
from generators.numerics import Numerics
from generators.tokenizer import BytePairTokenizer, tiny_tokenizer
from generators.weights.parts import Parts, check_overrides, never_released

STAGE = "transformer"
GUIDANCE = 1.5
"""Where captions were dropped in training; chosen on training scenes. The paper has none: 1."""
TINY_PARTS = ("dalle-tiny-dvae", "dalle-tiny-transformer")


class DalleGenerator:
    """A transformer that writes codes and the decoder that paints them."""

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        transformer: DalleTransformer,
        decoder: DVAEDecoder,
        tokenizer: BytePairTokenizer,
        device: str,
    ) -> None:
        self.spec = spec
        self.transformer = transformer.to(device).eval()
        self.decoder = decoder.to(device).eval()
        self.tokenizer = tokenizer
        self.device = device
        self.numerics = Numerics()

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`; the decoder's stay."""
        self.numerics = numerics
        numerics.apply(self.transformer)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        prompts = prompts_of(self.spec, requests)
        ids, cut = text_ids(self.tokenizer, prompts, self.transformer.config.text_length)
        options, guidance = settings[STAGE].options, settings[STAGE].guidance
        assert guidance is not None
        faults = BatchFaults(len(requests))
        running = self.numerics.running(self.transformer, self.device)
        with running, self.numerics.autocast(self.device):
            codes = sample_codes(
                self.transformer,
                ids.to(self.device),
                image_rngs([request.seed for request in requests], STAGE),
                guidance_scale=guidance,
                temperature=float(options["temperature"]),
                top_k=int(options["top_k"]),
                progress=advance,
                watch=faults.at(STAGE),
            )
        with watching(self.decoder, faults.at("decoder")):
            painted = paint(self.decoder, codes)
        return captioned_samples(painted, cut, faults)


def load_tiny(name: str, device: str, weights: Mapping[str, Path]) -> DalleGenerator:
    """Load `dalle:tiny`, or the same networks with random weights (`dalle:tiny-untrained`).

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Files of `evalkit train` that replace the shipped ones.
    """
    check_overrides(name, weights, TINY_PARTS)
    parts, tokenizer = Parts(name, weights), tiny_tokenizer()
    dvae = parts.load(DVAE, TINY_PARTS[0])
    transformer = parts.load(DalleTransformer, TINY_PARTS[1], {TINY_PARTS[0]: dvae.sha256})
    config = transformer.network.config
    guidance = GUIDANCE if transformer.recipe.objective.get("caption_dropout") else 1.0
    check_codes(config, dvae.network.config, tokenizer.num_tokens)
    spec = GeneratorSpec(
        name=name,
        display_name="DALL-E (tiny)" if parts.trained else "DALL-E (tiny, untrained)",
        conditioning="text",
        stages=(transformer_stage(config.image_vocab, guidance),),
        size_px=config.grid_size * dvae.network.config.factor,
        training_data=("shapes",) if parts.trained else (),
        weights=parts.provenance(),
        weights_sha256=parts.joint_hash([dvae, transformer]),
    )
    return DalleGenerator(
        spec,
        transformer=transformer.network,
        decoder=dvae.network.decoder,
        tokenizer=tokenizer,
        device=device,
    )


def load_paper(name: str, device: str, weights: Mapping[str, Path]) -> DalleGenerator:
    """Refuse `dalle:paper`, an architecture without weights.

    Raises:
        MissingWeightsError: Always.
    """
    raise never_released(name, "dalle:tiny")


def transformer_stage(image_vocab: int, guidance: float) -> StageSpec:
    """Build the one stage, with guidance, `temperature` (0: the likeliest code) and `top_k`."""
    return StageSpec(
        name=STAGE,
        defaults=StageSettings(guidance=guidance, options={"temperature": 1.0, "top_k": 0}),
        ranges={"temperature": (0, 10), "top_k": (0, image_vocab)},
    )
