"""GLIDE as a `Generator`: a base network with classifier-free guidance, then an upsampler."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from generators.base import (
    GeneratorSpec,
    Request,
    Sample,
    Settings,
    StageSettings,
    StageSpec,
)
from generators.diffusion.noise import image_generators
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SAMPLER_NAMES
from generators.errors import UnsupportedRequestError
from generators.glide.model import GlideConfig, SuperResText2ImUNet, Text2ImUNet
from generators.glide.pipeline import encode_captions, sample_base, sample_upsampler
from generators.glide.presets import RELEASED, GlideStage
from generators.glide.tokenizer import BytePairTokenizer
from generators.parts import UNTRAINED_SEED, check_overrides
from generators.pixels import to_uint8
from generators.released import check_state_dict
from generators.weights import locate
from generators.weights_io import file_sha256, load_state_dict
from generators.zoo import tiny_tokenizer, zoo_weights

NetworkT = TypeVar("NetworkT", bound=Text2ImUNet)


class GlideGenerator:
    """Two networks and a tokenizer behind the Generator interface."""

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        base: Text2ImUNet,
        upsampler: SuperResText2ImUNet,
        processes: Mapping[str, DiffusionProcess],
        tokenizer: BytePairTokenizer,
        device: str,
        residual_scale: float | None = None,
    ) -> None:
        self.spec = spec
        self.base = base.to(device).to(memory_format=torch.channels_last).eval()
        self.upsampler = upsampler.to(device).to(memory_format=torch.channels_last).eval()
        self.processes = processes
        self.tokenizer = tokenizer
        self.residual_scale = residual_scale

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """One image per request; all requests are one batch.

        Raises:
            UnsupportedRequestError: A request has no prompt.
        """
        prompts = [request.prompt for request in requests]
        if any(prompt is None for prompt in prompts):
            raise UnsupportedRequestError(f"{self.spec.name} wants a prompt with every request")
        texts = [prompt or "" for prompt in prompts]
        seeds = [request.seed for request in requests]
        captions = encode_captions(self.base, self.tokenizer, texts)
        base, upsampler = settings["base"], settings["upsampler"]
        assert base.guidance is not None
        small = sample_base(
            self.base,
            captions,
            image_generators(seeds, "base"),
            process=self.processes["base"],
            guidance_scale=base.guidance,
            steps=base.steps or 0,
            sampler=base.sampler,  # type: ignore[arg-type]
        )
        large = sample_upsampler(
            self.upsampler,
            small,
            encode_captions(self.upsampler, self.tokenizer, texts) if self.upsampler.text else None,
            image_generators(seeds, "upsampler"),
            process=self.processes["upsampler"],
            steps=_upsampler_steps(upsampler),
            sampler=upsampler.sampler,  # type: ignore[arg-type]
            temperature=float(upsampler.options["temperature"]),
            quantise=bool(upsampler.options["quantise"]),
            residual_scale=self.residual_scale,
        )
        notes = [("caption truncated",) if cut else () for cut in captions.truncated]
        pixels = to_uint8(large).cpu().numpy()
        return [Sample(image=i, notes=n) for i, n in zip(pixels, notes, strict=True)]


def _upsampler_steps(settings: StageSettings) -> int | str:
    """GLIDE's own 27 steps are uneven; any other number is spread evenly."""
    assert settings.steps is not None
    return "fast27" if settings.steps == 27 and settings.sampler == "ddim" else settings.steps


def _stages(
    *, base: StageSettings, upsampler: StageSettings, num_timesteps: int = 1000
) -> tuple[StageSpec, StageSpec]:
    return (
        StageSpec(name="base", defaults=base, samplers=SAMPLER_NAMES, max_steps=num_timesteps),
        StageSpec(
            name="upsampler", defaults=upsampler, samplers=SAMPLER_NAMES, max_steps=num_timesteps
        ),
    )


TINY_STAGES = _stages(
    base=StageSettings(steps=20, sampler="dpm++2m", guidance=3.0),
    upsampler=StageSettings(
        steps=6, sampler="ddim", options={"temperature": 1.0, "quantise": False}
    ),
)
RELEASED_STAGES = _stages(
    base=StageSettings(steps=100, sampler="ancestral", guidance=3.0),
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
    names = ("glide-tiny-base", "glide-tiny-upsampler")
    check_overrides(name, weights, names)
    parts = {part: zoo_weights(part, weights.get(part)) for part in names}
    trained = name == "glide:tiny"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(UNTRAINED_SEED)
        base = Text2ImUNet(GlideConfig.from_flat(parts["glide-tiny-base"].recipe.model))
        upsampler = SuperResText2ImUNet(
            GlideConfig.from_flat(parts["glide-tiny-upsampler"].recipe.model)
        )
    processes = {}
    for stage, part, network in zip(("base", "upsampler"), names, (base, upsampler), strict=True):
        if trained:
            check_state_dict(network.state_dict(), parts[part].state_dict, part)
            network.load_state_dict(parts[part].state_dict)
        objective = parts[part].recipe.objective
        processes[stage] = DiffusionProcess.from_schedule(
            objective["schedule"], 1000, prediction=objective.get("prediction", "eps")
        )
    own = {part: weights[part] for part in names if part in weights}
    spec = GeneratorSpec(
        name=name,
        display_name="GLIDE (tiny)" if trained else "GLIDE (tiny, untrained)",
        conditioning="text",
        stages=TINY_STAGES,
        size_px=upsampler.config.image_size,
        training_data=("shapes",) if trained else (),
        weights=_provenance(trained, own),
        weights_sha256=_joint_hash([parts[p].sha256 for p in names]) if trained else "random",
    )
    return GlideGenerator(
        spec,
        base=base,
        upsampler=upsampler,
        processes=processes,
        tokenizer=tiny_tokenizer(),
        device=device,
        residual_scale=parts["glide-tiny-upsampler"].recipe.objective.get("residual_scale"),
    )


def load_released(name: str, device: str, weights: Mapping[str, Path]) -> GlideGenerator:
    """`glide:released`: OpenAI's filtered networks of December 2021.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
    """
    names = ("glide-base", "glide-upsampler", "gpt2-encoder", "gpt2-merges")
    check_overrides(name, weights, names)
    files = {part: locate(part, weights.get(part), instead="glide:tiny") for part in names}
    base = _released_network(Text2ImUNet, RELEASED.base, files["glide-base"])
    upsampler = _released_network(SuperResText2ImUNet, RELEASED.upsampler, files["glide-upsampler"])
    spec = GeneratorSpec(
        name=name,
        display_name="GLIDE (released, filtered)",
        conditioning="text",
        stages=RELEASED_STAGES,
        size_px=256,
        training_data=("openai-filtered",),
        weights="base.pt and upsample.pt of December 2021",
        weights_sha256=_joint_hash([file_sha256(files[part]) for part in names[:2]]),
    )
    return GlideGenerator(
        spec,
        base=base,
        upsampler=upsampler,
        processes={"base": RELEASED.base.process(), "upsampler": RELEASED.upsampler.process()},
        tokenizer=BytePairTokenizer.from_files(files["gpt2-encoder"], files["gpt2-merges"]),
        device=device,
    )


def _released_network(kind: type[NetworkT], stage: GlideStage, file: Path) -> NetworkT:
    with torch.device("meta"):
        network = kind(stage.network)
    state = load_state_dict(file)
    check_state_dict(network.state_dict(), state, file.name)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    return network


def _provenance(trained: bool, own: Mapping[str, Path]) -> str:
    if not trained:
        return f"random, seed {UNTRAINED_SEED}"
    return "given: " + ", ".join(own) if own else "generators/zoo"


def _joint_hash(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
