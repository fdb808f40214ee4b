"""Re-ranking: keep the best of several candidates by CLIP (DALL-E, section 2.6).

The run, its records and its report record it, and the CLIP that selected images never scores them
(`refuse_own_judge`). The embedded judge never re-ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from evalkit.core.errors import ConfigError, MissingWeightsError, UnknownNameError
from evalkit.core.seeding import CANDIDATE_RULE, candidate_seed
from evalkit.engine import check_samples
from evalkit.features.hub_weights import OPENAI_NAMES, SHAPES_CLIP
from evalkit.features.shapes_clip import JUDGE, ShapesClipExtractor
from evalkit.metrics.clip_score import clip_cosines
from generators.base import Generator, Request, Sample, Settings

PREFIX = "clip:"
TINY = "clip:tiny"
RELEASED = "clip:ViT-B/16"
"""OpenAI's model that no metric uses by default: CLIP score has ViT-L/14, CLIP-FD ViT-B/32."""


@runtime_checkable
class Picker(Protocol):
    """The part of a CLIP extractor that compares images with prompts."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Contains `weights_sha256`."""

    def prepare(self, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
        """Return the network's input for one image."""

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Embed a batch of images; only the first layer is used."""

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Embed prompts into the same space."""


class RerankedGenerator:
    """A generator that makes several candidates for each request and returns the best.

    Candidates come in rounds, one candidate per request and round, so that batches keep their size
    and only the best candidate so far is kept in memory.

    Args:
        generator: Any text-conditional generator.
        clip: Compares images with prompts.
        name: Name of the CLIP in notes and fingerprints.
        candidates: Images per request, at least 2.
    """

    def __init__(self, generator: Generator, clip: Picker, *, name: str, candidates: int) -> None:
        self.spec = generator.spec
        self.generator = generator
        self.clip = clip
        self.name = name
        self.candidates = candidates

    @property
    def description(self) -> dict[str, Any]:
        """The entry for the run's configuration and its records' fingerprint."""
        return {
            "by": self.name,
            "candidates": self.candidates,
            "weights_sha256": self.clip.identity["weights_sha256"],
            "candidate_seeds": CANDIDATE_RULE,
        }

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Return one sample per request: the candidate with the highest cosine with the prompt.

        A candidate without an image is chosen only if all have none; ties go to the first.
        """
        texts = self.clip.encode_text([str(request.prompt) for request in requests])
        best: list[tuple[float, int, Sample]] = []
        for candidate in range(self.candidates):
            round_ = [replace(r, seed=candidate_seed(r.seed, candidate)) for r in requests]
            samples = self.generator.generate(round_, settings)
            check_samples(samples, self.spec, len(requests))
            cosines = self._cosines(samples, texts)
            found = [
                (float("-inf"), candidate, self._unranked(sample))
                if math.isnan(cosine)
                else (cosine, candidate, sample)
                for sample, cosine in zip(samples, cosines, strict=True)
            ]
            pairs = zip(best or found, found, strict=True)
            best = [max(pair, key=_cosine) for pair in pairs]  # the first of equals
        return [self._noted(*winner) for winner in best]

    def _cosines(self, samples: Sequence[Sample], texts: Float32[np.ndarray, "n d"]) -> list[float]:
        """Compute the cosine of each image with its prompt; minus infinity without an image.

        It is NaN where the CLIP returned NaN or infinity.
        """
        images = {i: sample.image for i, sample in enumerate(samples) if sample.image is not None}
        cosines = [float("-inf")] * len(samples)
        if images:
            prepared = np.stack([self.clip.prepare(image) for image in images.values()])
            embedded = next(iter(self.clip.encode(prepared).values()))
            captions = texts[list(images)]
            finite = np.isfinite(embedded).all(axis=1) & np.isfinite(captions).all(axis=1)
            found = np.full(len(images), np.nan)
            if finite.any():
                found[finite] = clip_cosines(embedded[finite], captions[finite])
            for index, cosine in zip(images, found, strict=True):
                cosines[index] = float(cosine)
        return cosines

    def _unranked(self, sample: Sample) -> Sample:
        """Return the failed sample of an image that the CLIP could not compare."""
        return replace(
            sample,
            image=None,
            status="failed",
            reason=f"{self.name}, which re-ranks, returned NaN or infinity",
        )

    def _noted(self, cosine: float, candidate: int, sample: Sample) -> Sample:
        if sample.image is None:
            note = f"re-ranked: none of {self.candidates} candidates has an image"
        else:
            note = (
                f"re-ranked by {self.name}: candidate {candidate} of {self.candidates} (counted "
                f"from 0), cosine {cosine:.3f}"
            )
        return Sample(
            image=sample.image,
            status=sample.status,
            reason=sample.reason,
            notes=(*sample.notes, note),
        )


def reranked(
    generator: Generator, *, rerank: str | None, candidates: int, device: str
) -> Generator:
    """Wrap the generator in re-ranking if it is requested.

    Args:
        generator: The generator.
        rerank: `clip` for the model's default (`clip:tiny` if trained on shapes, else OpenAI's
            ViT-B/16), or a name: `clip:tiny`, `ViT-B/32`, `MODEL:TAG`, `MODEL:PATH`.
        candidates: Images per sample; 1 disables re-ranking.
        device: Device of CLIP.

    Raises:
        ConfigError: Contradictory options, a model without prompts, or the judge.
        UnknownNameError: No such CLIP.
        MissingWeightsError: Its weights are neither cached nor reachable.
    """
    if candidates < 1:
        raise ConfigError(f"--candidates must be at least 1, got {candidates}.")
    if rerank is None:
        if candidates > 1:
            raise ConfigError(f"--candidates {candidates} needs --rerank, such as --rerank clip.")
        return generator
    spec = generator.spec
    if spec.conditioning != "text":
        raise ConfigError(
            f"--rerank compares images with prompts, but {spec.name} takes none "
            f"(conditioning: {spec.conditioning})."
        )
    name = _full_name(rerank, spec.training_data)
    if candidates == 1:
        return generator
    clip = _load(name, device)
    return RerankedGenerator(generator, clip, name=name, candidates=candidates)


def reranking(generator: Generator) -> dict[str, Any]:
    """Return a run configuration's entry on re-ranking; empty if there is none."""
    if not isinstance(generator, RerankedGenerator):
        return {}
    return {"reranked": generator.description}


def refuse_own_judge(reranking: object, extractors: Iterable[str]) -> None:
    """Refuse to score images with the CLIP that selected them.

    Args:
        reranking: The entry `reranked` of a run's configuration: a mapping, or falsy.
        extractors: Names of the extractors, CLIP's with the prefix `clip:`.

    Raises:
        ConfigError: One of them has the weights of the CLIP that selected the images.
    """
    if not isinstance(reranking, Mapping):
        return
    from evalkit.features.clip import load_clip  # imports torch

    for name in sorted({n.removeprefix(PREFIX) for n in extractors if n.startswith(PREFIX)}):
        try:
            measuring = load_clip(name).identity["weights_sha256"]
        except MissingWeightsError:
            continue  # the metric itself reports it
        if measuring == reranking["weights_sha256"]:
            raise ConfigError(
                f"{name} can't score these images: it selected them ({reranking['by']}, best of "
                f"{reranking['candidates']}), so its score would be biased. Measure with another "
                "CLIP (--clip-model, --features)."
            )


def _full_name(rerank: str, training_data: Sequence[str]) -> str:
    if rerank in (JUDGE, SHAPES_CLIP):
        raise ConfigError(
            f"--rerank {rerank}: the judge only scores; it must not score images it selected. "
            f"Use --rerank {TINY}."
        )
    if rerank == "clip":
        return TINY if "shapes" in training_data else RELEASED
    return rerank if rerank.startswith(PREFIX) else f"{PREFIX}{rerank}"


def _load(name: str, device: str) -> Picker:
    if name == TINY:
        return ShapesClipExtractor(device=device, clip=TINY)
    from evalkit.features.clip import is_known, load_clip  # imports torch

    model = name.removeprefix(PREFIX)
    if not is_known(model):
        raise UnknownNameError(
            f"--rerank {name}: unknown CLIP. Use clip, {TINY}, {', '.join(OPENAI_NAMES)}, or "
            "MODEL:TAG or MODEL:PATH of open_clip."
        )
    picker: Picker = load_clip(model, device=device)
    return picker


def _cosine(found: tuple[float, int, Sample]) -> float:
    return found[0]
