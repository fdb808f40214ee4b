"""GLIDE as a `Generator`: a base network with guidance, then an upsampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings
from generators.clip.model import Clip
from generators.diffusion.guidance import Gradient, clip_gradient
from generators.diffusion.noise import image_generators
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.thresholding import threshold_for
from generators.errors import UnsupportedRequestError
from generators.glide.inpainting import GivenPixels, given_pixels
from generators.glide.model import Text2ImUNet
from generators.glide.pipeline import Captions, encode_captions, sample_base, sample_upsampler
from generators.numerics import Numerics, ready
from generators.pixels import to_uint8
from generators.tokenizer import BytePairTokenizer


@dataclass(frozen=True, eq=False)
class NoisedClip:
    """A CLIP that reads noisy images, and its tokenizer: what CLIP guidance needs."""

    network: Clip
    tokenizer: BytePairTokenizer

    def gradient(self, captions: Sequence[str], scale: float, device: str) -> Gradient:
        """Scale * gradient of the similarity of noisy images and their captions."""
        clip = self.network.to(device).requires_grad_(False)
        tokens = self.tokenizer.pad(captions, clip.config.context_length)
        with torch.no_grad():
            texts = clip.encode_text(tokens.ids.to(device), tokens.mask.to(device))
        return clip_gradient(clip.encode_image, texts, float(clip.logit_scale.exp()), scale)


class GlideGenerator:
    """Two networks and a tokenizer behind the Generator interface.

    Args:
        spec: What it is.
        base: The network that decides the content.
        upsampler: The network that enlarges.
        processes: Of both stages, by name.
        tokenizer: Of both networks.
        device: Where all of it runs.
        residual_scale: Of an upsampler that makes only what the enlarged image lacks.
        inpaints: Whether the networks see pixels to keep.
        load_clip: Loads the noised CLIP at its first use; None: there is none.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        base: Text2ImUNet,
        upsampler: Text2ImUNet,
        processes: Mapping[str, DiffusionProcess],
        tokenizer: BytePairTokenizer,
        device: str,
        residual_scale: float | None = None,
        inpaints: bool = False,
        load_clip: Callable[[], NoisedClip] | None = None,
    ) -> None:
        self.spec = spec
        self.base = ready(base, device)
        self.upsampler = ready(upsampler, device)
        self.processes = processes
        self.tokenizer = tokenizer
        self.device = device
        self.residual_scale = residual_scale
        self.inpaints = inpaints
        self.numerics = Numerics()
        self._load_clip = load_clip
        self._clip: NoisedClip | None = None

    def accelerate(self, numerics: Numerics) -> None:
        """Run the networks otherwise than in plain float32."""
        self.numerics = numerics
        numerics.apply(self.base)
        numerics.apply(self.upsampler)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """One image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt, or an image and the networks don't
                inpaint.
        """
        prompts = [request.prompt for request in requests]
        if any(prompt is None for prompt in prompts):
            raise UnsupportedRequestError(f"{self.spec.name} wants a prompt with every request")
        texts = [prompt or "" for prompt in prompts]
        seeds = [request.seed for request in requests]
        given = self._given(requests)
        with self.numerics.autocast(self.device):
            captions = encode_captions(self.base, self.tokenizer, texts)
            small = self._small(texts, captions, seeds, given, settings["base"])
            large = self._large(texts, small, seeds, given, settings["upsampler"])
        notes = [("caption truncated",) if cut else () for cut in captions.truncated]
        pixels = to_uint8(large).cpu().numpy()
        return [Sample(image=i, notes=n) for i, n in zip(pixels, notes, strict=True)]

    def _small(
        self,
        texts: Sequence[str],
        captions: Captions,
        seeds: Sequence[int],
        given: GivenPixels | None,
        settings: StageSettings,
    ) -> torch.Tensor:
        assert settings.guidance is not None
        scale = float(settings.options.get("clip_guidance", 0.0))
        return sample_base(
            self.base,
            captions,
            image_generators(seeds, "base"),
            process=self.processes["base"],
            guidance_scale=settings.guidance,
            steps=settings.steps or 0,
            sampler=settings.sampler,  # type: ignore[arg-type]
            threshold=threshold_for(str(settings.options["threshold"])),
            gradient=self.clip.gradient(texts, scale, self.device) if scale else None,
            given=given and given.shrunk(self.base.config.image_size),
        )

    def _large(
        self,
        texts: Sequence[str],
        small: torch.Tensor,
        seeds: Sequence[int],
        given: GivenPixels | None,
        settings: StageSettings,
    ) -> torch.Tensor:
        upsampler = self.upsampler
        return sample_upsampler(
            upsampler,
            small,
            encode_captions(upsampler, self.tokenizer, texts) if upsampler.text else None,
            image_generators(seeds, "upsampler"),
            process=self.processes["upsampler"],
            steps=_upsampler_steps(settings),
            sampler=settings.sampler,  # type: ignore[arg-type]
            temperature=float(settings.options["temperature"]),
            quantise=bool(settings.options["quantise"]),
            residual_scale=self.residual_scale,
            given=given,
        )

    @property
    def clip(self) -> NoisedClip:
        """The noised CLIP, loaded at its first use.

        Raises:
            UnsupportedRequestError: There is none.
        """
        if self._load_clip is None:
            raise UnsupportedRequestError(f"{self.spec.name} has no noised CLIP to be guided by")
        if self._clip is None:
            self._clip = self._load_clip()
        return self._clip

    def _given(self, requests: Sequence[Request]) -> GivenPixels | None:
        if self.inpaints:
            return given_pixels(requests, self.spec.size_px, self.device)
        if any(request.image is not None or request.mask is not None for request in requests):
            raise UnsupportedRequestError(
                f"{self.spec.name} does not inpaint; glide:released-inpaint does"
            )
        return None


def _upsampler_steps(settings: StageSettings) -> int | str:
    """GLIDE's own 27 steps are uneven; any other number is spread evenly."""
    assert settings.steps is not None
    return "fast27" if settings.steps == 27 and settings.sampler == "ddim" else settings.steps
