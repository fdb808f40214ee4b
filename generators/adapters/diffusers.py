"""Every pipeline of diffusers behind one interface: text-to-image, by class, or unconditional.

Settings come from the signature of the pipeline's call (`generators.adapters.pipelines`). Each
image has its own noise generator, as everywhere here. A cascade is a pipeline and its upsamplers,
joined by `+`. Weights are loaded at the first batch, in the precision that the settings name.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from evalkit.core.errors import ConfigError, OutOfMemoryError, WeightsError
from evalkit.core.registry import require
from generators.adapters.pipelines import (
    LOADING,
    VAE_OPTIONS,
    PipelineCall,
    pipeline_call,
    text_to_image_class,
    upsampler_call,
)
from generators.adapters.presets import PRESETS, Preset
from generators.adapters.repositories import (
    Fetched,
    Repository,
    components,
    fetch_repository,
    parse_repositories,
    require_repository,
    with_overrides,
)
from generators.base import GeneratorSpec, Request, Sample, Settings
from generators.cascade import prompts_of
from generators.diffusion.noise import image_rngs
from generators.errors import UnsupportedRequestError
from generators.numerics import Numerics, compile_network
from generators.pixels import unit_to_uint8

NOT_FINITE = "the pipeline returned values that are not finite (NaN); try --set dtype=float32"
FLAGGED = "flagged by its safety checker"
_INSTEAD = "glide:tiny"
_UNLOADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,  # tensors of other shapes
    SafetensorError,
)
"""What diffusers and transformers raise for files that they can't load."""
_TEXT_LENGTH = {"IFPipeline": 77, "IFSuperResolutionPipeline": 77}
"""Tokens that a pipeline reads of a caption, where it is none of its arguments."""


@dataclass
class Member:
    """One pipeline of a cascade: its files, its call, and itself once it is loaded."""

    fetched: Fetched
    call: PipelineCall
    where: str
    loaded: Any = None
    loaded_as: dict[str, Any] = field(default_factory=dict)
    """The options that it was loaded with."""


class DiffusersGenerator:
    """A pipeline of diffusers, or a cascade of them."""

    def __init__(self, spec: GeneratorSpec, members: Sequence[Member], device: str) -> None:
        self.spec = spec
        self.members = members
        self.device = device
        self.numerics = Numerics()

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`, which load the pipelines."""
        self.numerics = numerics
        for member in self.members:
            member.loaded = None

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request; all requests are one batch.

        An image that the pipeline's safety checker flags, or with values that are not finite, is a
        sample without an image.

        Raises:
            UnsupportedRequestError: A request has no prompt or no class.
            ConfigError: Settings that the pipeline does not support.
            WeightsError: The pipeline can't be loaded.
        """
        conditions = self._conditions(requests)
        self._load(settings)
        seeds = [request.seed for request in requests]
        small: Any = None
        # For pipelines that draw from torch's global generator as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_joint_seed(seeds))
            for place, member in enumerate(self.members):
                last = place == len(self.members) - 1
                made = self._call(member, conditions, settings, seeds, small=small, last=last)
                small = made.images
        notes = self._notes(requests, settings)
        self._check_size(np.asarray(made.images), settings)
        return [
            _sample(image, hidden=hidden, notes=note)
            for image, hidden, note in zip(
                np.asarray(made.images), _flags(made, len(requests)), notes, strict=True
            )
        ]

    def _check_size(self, images: np.ndarray, settings: Settings) -> None:
        """Check that a size that was set is the one that was made; some pipelines round it.

        Raises:
            ConfigError: The images have another size.
        """
        options = settings[self.members[-1].call.main].options
        for place, name in enumerate(("height", "width"), start=1):
            if name in options and options[name] != images.shape[place]:
                raise ConfigError(
                    f"{self.spec.name}: --set {name}={options[name]} gave images of "
                    f"{images.shape[place]} px. Use a size that the pipeline can make."
                )

    def _conditions(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Return the arguments that say what to draw."""
        if self.spec.conditioning == "text":
            return {"prompt": prompts_of(self.spec, requests)}
        if self.spec.conditioning == "none":
            return {"batch_size": len(requests)}
        labels = [request.label for request in requests if request.label is not None]
        if len(labels) < len(requests):
            raise UnsupportedRequestError(f"{self.spec.name} needs a label in every request.")
        return {"class_labels": labels}

    def _call(
        self,
        member: Member,
        conditions: Mapping[str, Any],
        settings: Settings,
        seeds: Sequence[int],
        *,
        small: Any,
        last: bool,
    ) -> Any:
        stage = member.call.main if len(self.members) > 1 else ""
        further = {} if small is None else {"image": small}
        try:
            return member.loaded(
                **conditions,
                **further,
                **member.call.filled(settings, len(seeds)),
                generator=image_rngs(seeds, stage),
                output_type="np" if last else "pt",
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{self.spec.name}: {member.call.kind.__name__} refused the call "
                f"({_one_line(error)}). Change the settings with --set."
            ) from error
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{self.spec.name}: out of memory at {len(seeds)} images per batch. Use a smaller "
                "--batch-size, --set dtype=float16, --set vae_slicing=true or --set offload=model."
            ) from error

    def _load(self, settings: Settings) -> None:
        """Load the pipelines in the precision of the settings, and set their schedulers."""
        chosen = settings[self.members[0].call.main]
        wanted = {n: v for n, v in chosen.options.items() if n in LOADING or n in VAE_OPTIONS}
        if self.numerics.reduced is not None:
            wanted["dtype"] = _reduced(wanted["dtype"], self.numerics)
        if self.numerics.offload and wanted["offload"] == "none":
            wanted["offload"] = "model"
        shared: dict[str, Any] = {}
        for member in self.members:
            own = settings[member.call.main]
            options = {**wanted, "sampler": own.sampler}
            if member.loaded is None or member.loaded_as != options:
                member.loaded = None  # frees its memory first
                member.loaded = _loaded(member, self.device, options, shared)
                if self.numerics.compiled:
                    compile_network(_denoiser(member.loaded), self.device)
                member.loaded_as = options
            # An upsampler reads captions with the base's text encoder: one copy in memory.
            if len(self.members) > 1:
                shared = {n: getattr(member.loaded, n) for n in ("text_encoder", "tokenizer")}

    def _notes(self, requests: Sequence[Request], settings: Settings) -> list[tuple[str, ...]]:
        """Return the notes of each caption: which tokenizers truncated it."""
        if self.spec.conditioning != "text":
            return [() for _ in requests]
        member = self.members[0]
        options = settings[member.call.main].options
        tokenizers = {
            name: part
            for name, part in member.loaded.components.items()
            if "tokenizer" in name and part is not None
        }
        limits = {n: _limit(member.call, t, options) for n, t in tokenizers.items()}
        return [_truncation(str(r.prompt), tokenizers, limits) for r in requests]


def load(name: str, device: str, weights: Mapping[str, Path]) -> DiffusersGenerator:
    """Load `diffusers:PATH` or `diffusers:OWNER/NAME[@REVISION]`; `+` joins a cascade's parts.

    Raises:
        ConfigError: Neither, or a pipeline that can't do it.
        MissingWeightsError: Neither cached nor downloadable.
        WeightsError: Not a pipeline in diffusers' format.
    """
    places = with_overrides(name, parse_repositories(name.partition(":")[2]), weights)
    return _generator(name, device, places, None)


def load_preset(name: str, device: str, weights: Mapping[str, Path]) -> DiffusersGenerator:
    """Load a pipeline that has a row in the catalog.

    Args:
        name: The catalog name.
        device: A torch device.
        weights: Folders to use instead of downloads, by the names in the row.

    Raises:
        MissingWeightsError: Neither given, cached nor downloadable.
        WeightsError: A given folder is not such a pipeline.
    """
    preset = PRESETS[name]
    places = with_overrides(name, preset_repositories(preset), weights)
    return _generator(name, device, places, preset)


def preset_repositories(preset: Preset) -> tuple[Repository, ...]:
    """Return the repositories of a preset, with their names in `--weights`."""
    return tuple(
        Repository(place=place, revision=revision or None, name=part)
        for part, (place, _, revision) in (
            (part, text.partition("@")) for part, text in preset.repositories.items()
        )
    )


def _generator(
    name: str, device: str, places: Sequence[Repository], preset: Preset | None
) -> DiffusersGenerator:
    instead = preset.instead if preset else _INSTEAD
    for place in places:
        require_repository(place, instead=instead)
    _quiet()
    fetched = [fetch_repository(place, instead=instead) for place in places]
    members = [
        _member(place, found, preset.options if preset else {}, first=number == 0)
        for number, (place, found) in enumerate(zip(places, fetched, strict=True))
    ]
    stages = [stage for member in members for stage in member.call.stages]
    spec = GeneratorSpec(
        name=name,
        display_name=preset.display_name if preset else places[0].title,
        conditioning=members[0].call.conditioning,
        stages=tuple(stages),
        size_px=members[-1].call.size_px,
        fixed_size=False,  # height and width are settings
        training_data=preset.training_data if preset else (),
        weights=", ".join(found.source for found in fetched),
        weights_sha256="+".join(found.sha256() for found in fetched),
        num_classes=members[0].call.num_classes,
        main_stage=members[0].call.main,
    )
    return DiffusersGenerator(spec, members, device)


def _member(
    place: Repository, fetched: Fetched, options: Mapping[str, Any], *, first: bool
) -> Member:
    where = f"--weights {place.name}={place.place}" if place.name else place.place
    named = fetched.index()["_class_name"]
    if first:
        kind = text_to_image_class(named, where)
        return Member(fetched, pipeline_call(kind, fetched, options, where=where), where)
    kind = getattr(require("diffusers", extra="diffusers", what=named), named, None)
    return Member(fetched, upsampler_call(kind, fetched, where=where), where)


def _loaded(
    member: Member, device: str, options: Mapping[str, Any], shared: Mapping[str, Any]
) -> Any:
    """Load a pipeline with its weights."""
    precision = {_dtype_argument(): getattr(torch, str(options["dtype"]))}
    try:
        if _has_moved_parts(member.fetched):
            pipeline = _assembled(member, precision)
        else:
            pipeline = member.call.kind.from_pretrained(
                str(member.fetched.folder), local_files_only=True, **precision, **shared
            )
    except _UNLOADABLE as error:
        raise WeightsError(
            f"{member.where} can't be loaded as a {member.call.kind.__name__} ({_one_line(error)})."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    _set_scheduler(pipeline, options["sampler"])
    _set_vae(pipeline, options)
    return _placed(pipeline, device, str(options["offload"]))


def _reduced(dtype: Any, numerics: Numerics) -> str:
    """Return the precision that `--bf16` or `--fp16` means.

    Raises:
        ConfigError: Another one was set.
    """
    flag, wanted = ("--bf16", "bfloat16") if numerics.bf16 else ("--fp16", "float16")
    if dtype not in ("float32", wanted):
        raise ConfigError(
            f"{flag}: the pipeline's dtype is {dtype}, by --set or by its preset. Use --set "
            f"dtype={wanted} in place of {flag}, or leave out both."
        )
    return wanted


def _denoiser(pipeline: Any) -> torch.nn.Module:
    """Return the network that a pipeline evaluates at each step."""
    for name in ("unet", "transformer", "decoder", "prior"):
        found = getattr(pipeline, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise ConfigError(
        f"--compile-model: {type(pipeline).__name__} has none of the networks unet, transformer, "
        "decoder and prior. Leave it out."
    )


def _set_scheduler(pipeline: Any, name: str | None) -> None:
    """Replace the scheduler by another class with the same configuration."""
    if name is not None and type(pipeline.scheduler).__name__ != name:
        kind = getattr(importlib.import_module("diffusers"), name)
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)


def _set_vae(pipeline: Any, options: Mapping[str, Any]) -> None:
    for option in VAE_OPTIONS:
        if not options.get(option):
            continue
        switch = getattr(pipeline.vae, f"enable_{option.removeprefix('vae_')}", None)
        if switch is None:
            raise ConfigError(
                f"--set {option}=true: {type(pipeline.vae).__name__} has no such mode. Leave it "
                "out."
            )
        switch()


def _placed(pipeline: Any, device: str, offload: str) -> Any:
    """Move a pipeline to its device, or let it move its parts there when they run."""
    if offload == "none":
        return pipeline.to(device)
    if torch.device(device).type == "cpu":
        raise ConfigError(
            f"--set offload={offload} moves networks between CPU and GPU, but the device is the "
            "CPU. Use --device cuda, or leave it out."
        )
    require("accelerate", extra="diffusers", what=f"--set offload={offload}")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def _has_moved_parts(fetched: Fetched) -> bool:
    """Return whether the index names a module that diffusers has moved since, as Karlo's does."""
    return any(_is_moved(library) for _, (library, _) in components(fetched.index()))


def _is_moved(library: str) -> bool:
    pipelines = importlib.import_module("diffusers.pipelines")
    return library not in ("diffusers", "transformers") and not hasattr(pipelines, library)


def _assembled(member: Member, precision: Mapping[str, Any]) -> Any:
    """Build a pipeline part by part, since diffusers itself refuses an index with moved modules."""
    parts = {}
    for name, (library, kind) in components(member.fetched.index()):
        found = getattr(_module(library), kind, None)
        if found is None:
            raise WeightsError(
                f"{member.where}: {name} is a {library}.{kind}, which diffusers does not have. "
                "Pipelines with code of their own are not run."
            )
        options = precision if issubclass(found, torch.nn.Module) else {}
        folder = str(member.fetched.folder / name)
        parts[name] = found.from_pretrained(folder, local_files_only=True, **options)
    return member.call.kind(**parts)


def _module(library: str) -> Any:
    """Return the module of a component's class, also where diffusers has moved it; else None."""
    if library in ("diffusers", "transformers"):
        return importlib.import_module(library)
    place = f"deprecated.{library}" if _is_moved(library) else library
    for module in (f"{place}.text_proj", place):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"diffusers.pipelines.{module}")
    return None


def _dtype_argument() -> str:
    """Return the argument of `from_pretrained` for the precision, which was renamed."""
    utils = importlib.import_module("diffusers.utils")
    return "dtype" if hasattr(utils, "_resolve_dtype") else "torch_dtype"


def _quiet() -> None:
    """Turn off the libraries' own progress bars of loading."""
    for library in ("diffusers", "transformers"):
        logging = importlib.import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _flags(made: Any, count: int) -> list[bool]:
    """Return which images the safety checker flagged."""
    for name in ("nsfw_content_detected", "nsfw_detected"):
        flags = getattr(made, name, None)
        if flags is not None:
            return [bool(flag) for flag in flags]
    return [False] * count


def _sample(image: np.ndarray, *, hidden: bool, notes: tuple[str, ...]) -> Sample:
    if hidden:
        return Sample(image=None, status="filtered", reason=FLAGGED, notes=notes)
    if not np.isfinite(image).all():
        return Sample(image=None, status="failed", reason=NOT_FINITE, notes=notes)
    return Sample(image=unit_to_uint8(image), notes=notes)


def _limit(call: PipelineCall, tokenizer: Any, options: Mapping[str, Any]) -> int:
    """Return how many tokens of a caption a tokenizer's encoder reads."""
    own = _TEXT_LENGTH.get(call.kind.__name__)
    if own is not None:
        return own
    if "CLIP" in type(tokenizer).__name__ or "max_sequence_length" not in options:
        return int(tokenizer.model_max_length)
    return int(options["max_sequence_length"])


def _truncation(
    prompt: str, tokenizers: Mapping[str, Any], limits: Mapping[str, int]
) -> tuple[str, ...]:
    cut = [n for n, t in tokenizers.items() if len(t(prompt).input_ids) > limits[n]]
    if not cut:
        return ()
    if len(cut) == len(tokenizers):
        return ("caption truncated",)
    return (f"caption truncated for {', '.join(cut)} only",)


def _joint_seed(seeds: Sequence[int]) -> int:
    digest = hashlib.sha256(",".join(map(str, seeds)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
