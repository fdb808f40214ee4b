"""GLIDE as a `Generator`: a base network with guidance, then an upsampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings
from generators.cascade import Stage, captioned_samples, prompts_of
from generators.clip.noised import NoisedClip
from generators.diffusion.noise import image_rngs
from generators.diffusion.stage_sampling import StageSampling
from generators.errors import UnsupportedRequestError
from generators.finite import BatchFaults, StageWatch
from generators.glide.inpainting import GivenPixels, given_pixels
from generators.glide.model import Text2ImUNet
from generators.glide.pipeline import (
    Captions,
    Enlarging,
    encode_captions,
    sample_base,
    sample_upsampler,
)
from generators.numerics import Numerics
from generators.tokenizer import BytePairTokenizer


class GlideGenerator:
    """Two networks and a tokenizer behind the Generator interface.

    Args:
        spec: What it is.
        base: The network that decides the content.
        upsampler: The network that enlarges.
        tokenizer: Of both networks.
        device: Where all of it runs.
        inpaints: Whether the networks see pixels to keep.
        load_clip: Loads the noised CLIP at its first use; None: there is none.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        base: Stage[Text2ImUNet],
        upsampler: Stage[Text2ImUNet],
        tokenizer: BytePairTokenizer,
        device: str,
        inpaints: bool = False,
        load_clip: Callable[[], NoisedClip] | None = None,
    ) -> None:
        self.spec = spec
        self.base = base.on(device)
        self.upsampler = upsampler.on(device)
        self.tokenizer = tokenizer
        self.device = device
        self.inpaints = inpaints
        self.numerics = Numerics()
        self._load_clip = load_clip
        self._clip: NoisedClip | None = None

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`."""
        self.numerics = numerics
        numerics.apply(self.base.network, self.upsampler.network)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt, or an image and the networks don't
                inpaint.
        """
        texts = prompts_of(self.spec, requests)
        seeds = [request.seed for request in requests]
        given = self._given(requests)
        faults = BatchFaults(len(requests))
        base, upsampler = self.base.network, self.upsampler.network
        with self.numerics.autocast(self.device):
            with self.numerics.running(base, self.device):
                captions = encode_captions(base, self.tokenizer, texts)
                watch = faults.at("base")
                small = self._small(texts, captions, seeds, given, settings["base"], watch)
            with self.numerics.running(upsampler, self.device):
                watch = faults.at("upsampler")
                large = self._large(texts, small, seeds, given, settings["upsampler"], watch)
        return captioned_samples(large, captions.truncated, faults)

    def _small(
        self,
        texts: Sequence[str],
        captions: Captions,
        seeds: Sequence[int],
        given: GivenPixels | None,
        settings: StageSettings,
        watch: StageWatch,
    ) -> torch.Tensor:
        network = self.base.network
        sampling = StageSampling.chosen(self.base.process, settings, watch)
        scale = float(settings.options.get("clip_guidance", 0.0))
        noise = image_rngs(seeds, "base")
        pixels = given and given.shrunk(network.config.image_size)
        if not scale:
            return sample_base(network, captions, noise, sampling, given=pixels)
        with self.numerics.running(self.clip.network, self.device):
            gradient = self.clip.gradient(texts, scale, self.device)
            guided = replace(sampling, options=replace(sampling.options, gradient=gradient))
            return sample_base(network, captions, noise, guided, given=pixels)

    def _large(
        self,
        texts: Sequence[str],
        small: torch.Tensor,
        seeds: Sequence[int],
        given: GivenPixels | None,
        settings: StageSettings,
        watch: StageWatch,
    ) -> torch.Tensor:
        network = self.upsampler.network
        sampling = StageSampling.chosen(self.upsampler.process, settings, watch)
        return sample_upsampler(
            network,
            small,
            encode_captions(network, self.tokenizer, texts) if network.text else None,
            image_rngs(seeds, "upsampler"),
            replace(sampling, steps=_upsampler_steps(settings)),
            enlarging=Enlarging(
                temperature=float(settings.options["temperature"]),
                quantise=bool(settings.options["quantise"]),
                residual_scale=self.upsampler.residual_scale,
            ),
            given=given,
        )

    @property
    def clip(self) -> NoisedClip:
        """The noised CLIP, loaded at its first use.

        Raises:
            UnsupportedRequestError: There is none.
        """
        if self._load_clip is None:
            raise UnsupportedRequestError(f"{self.spec.name} has no noised CLIP for CLIP guidance.")
        if self._clip is None:
            self._clip = self._load_clip()
            if not self.numerics.offload:
                self._clip.network.to(self.device)
        return self._clip

    def _given(self, requests: Sequence[Request]) -> GivenPixels | None:
        if self.inpaints:
            return given_pixels(requests, self.spec.edge_px, self.device)
        if any(request.image is not None or request.mask is not None for request in requests):
            raise UnsupportedRequestError(
                f"{self.spec.name} does not inpaint; glide:released-inpaint does."
            )
        return None


def _upsampler_steps(settings: StageSettings) -> int | str:
    """Use GLIDE's uneven 27 steps; spread any other number evenly."""
    assert settings.steps is not None
    return "fast27" if settings.steps == 27 and settings.sampler == "ddim" else settings.steps
