"""What a pipeline class of diffusers takes, read from the signature of its call.

A number of steps or a guidance scale with a prefix belongs to a stage of its own
(`prior_guidance_scale`); every other plain argument is an option under its own name.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.registry import require
from generators.adapters.repositories import Fetched, components
from generators.base import Conditioning, StageSettings, StageSpec
from generators.settings import OptionValue

STEPS, GUIDANCE = "num_inference_steps", "guidance_scale"
STAGES = {"prior": "prior", "": "base", "decoder": "base", "super_res": "sr1"}
"""Stages by the prefix of their arguments, in the order in which they run."""
MAX_STEPS = 1000
LOWEST_GUIDANCE = {"UnCLIPPipeline": 1.0, "IFPipeline": 1.0, "IFSuperResolutionPipeline": 1.0}
"""Pipelines that leave guidance out at 1 and know nothing below."""
_MANAGED = {
    "prompt", "class_labels", "image", "batch_size", "generator", "output_type", "return_dict",
    "num_images_per_prompt", "callback_steps",
}  # fmt: skip
"""Arguments that the adapter sets itself."""
_OTHER_MEDIA = {
    "num_frames": "videos", "video_length": "videos", "audio_length_in_s": "audio",
    "audio_end_in_s": "audio",
}  # fmt: skip
_NEEDS_AN_IMAGE = ("image", "images", "mask_image", "control_image", "video", "source_prompt")
_UNSEEDED = ("DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler")
"""Schedulers whose noise doesn't come from the generators of the images."""
_DEFAULT_LATENT_PX = 128
"""Edge of the latents where no configuration states one, as for Flux."""
_PLAIN: tuple[type[OptionValue], ...] = (bool, int, float, str)

LOADING: dict[str, tuple[str, ...]] = {
    "dtype": ("float32", "float16", "bfloat16"),
    "offload": ("none", "model", "sequential"),
}
"""Options of how a pipeline is loaded and run, with their choices, the default first."""
VAE_OPTIONS = ("vae_slicing", "vae_tiling")


@dataclass(frozen=True, kw_only=True)
class PipelineCall:
    """A pipeline class, and how it is called."""

    kind: Any
    """The class."""
    conditioning: Conditioning
    stages: tuple[StageSpec, ...]
    arguments: Mapping[tuple[str, str], str]
    """Name of the argument of `steps` and `guidance` of each stage, by stage and setting."""
    lists: frozenset[str]
    """Options that take one value per prompt."""
    size_px: int
    num_classes: int | None

    @property
    def main(self) -> str:
        """The stage that has the options of the call."""
        return "base" if any(stage.name == "base" for stage in self.stages) else self.stages[0].name

    def filled(self, settings: Mapping[str, StageSettings], count: int) -> dict[str, Any]:
        """Return the arguments of a call for so many images."""
        found: dict[str, Any] = {}
        for stage in self.stages:
            chosen = settings[stage.name]
            for setting in ("steps", "guidance"):
                if (stage.name, setting) in self.arguments:
                    found[self.arguments[stage.name, setting]] = getattr(chosen, setting)
            for name, value in chosen.options.items():
                if name not in LOADING and name not in VAE_OPTIONS:
                    found[name] = [value] * count if name in self.lists else value
        return found


def text_to_image_class(name: str, where: str) -> Any:
    """Return the text-to-image class for a pipeline's class, as diffusers' AutoPipeline does.

    Raises:
        ConfigError: This version of diffusers has no such class.
    """
    diffusers = require("diffusers", extra="diffusers", what=f"{name} through diffusers")
    auto = require("diffusers.pipelines.auto_pipeline", extra="diffusers", what=name)
    table = auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    kind = auto._get_task_class(table, name, throw_error_if_not_exist=False)
    kind = kind or getattr(diffusers, name, None)
    if kind is None:
        raise ConfigError(
            f"{where} is a {name}, which diffusers {diffusers.__version__} does not have. Update "
            "diffusers."
        )
    return kind


def pipeline_call(
    kind: Any, fetched: Fetched, defaults: Mapping[str, OptionValue], *, where: str
) -> PipelineCall:
    """Describe the call of a pipeline that makes images from prompts, classes or nothing.

    Args:
        kind: Its class.
        fetched: Its files.
        defaults: Defaults of options that differ from the pipeline's.
        where: Its place, for errors.

    Raises:
        ConfigError: It makes something else, or needs an image.
    """
    parameters = _parameters(kind)
    conditioning = _conditioning(kind, parameters, where)
    return _call(kind, fetched, parameters, conditioning, defaults, stages=STAGES)


def upsampler_call(kind: Any, fetched: Fetched, *, where: str) -> PipelineCall:
    """Describe the call of a pipeline that enlarges the images of the one before it.

    Raises:
        ConfigError: It is no super-resolution pipeline of DeepFloyd IF.
    """
    if kind.__name__ != "IFSuperResolutionPipeline":
        raise ConfigError(
            f"{where} is a {kind.__name__}, which can't follow another pipeline; only an "
            "IFSuperResolutionPipeline can."
        )
    return _call(kind, fetched, _parameters(kind), "text", {}, stages={"": "sr1"})


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(kind.__call__, eval_str=True)
    except NameError:  # an annotation of a package that isn't installed
        signature = inspect.signature(kind.__call__)
    found = dict(signature.parameters)
    found.pop("self", None)
    return {name: p for name, p in found.items() if p.kind is not p.VAR_KEYWORD}


def _conditioning(
    kind: Any, parameters: Mapping[str, inspect.Parameter], where: str
) -> Conditioning:
    other = next((_OTHER_MEDIA[name] for name in _OTHER_MEDIA if name in parameters), None)
    needed = [n for n, p in parameters.items() if p.default is p.empty]
    if other is None and _only_text(kind, parameters) and set(needed) <= {"prompt"}:
        return "text"
    if other is None and needed == ["class_labels"]:
        return "class"
    if other is None and "batch_size" in parameters and not needed and "prompt" not in parameters:
        return "none"
    why = f"makes {other}" if other else "needs more than a prompt or a class"
    raise ConfigError(
        f"{where} is a {kind.__name__}, which {why}. Give a pipeline that makes images from "
        "prompts, from classes or from nothing."
    )


def _only_text(kind: Any, parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Return whether a pipeline makes images from prompts alone."""
    auto = require("diffusers.pipelines.auto_pipeline", extra="diffusers", what=kind.__name__)
    if kind in auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values():
        return "control_image" not in parameters
    return "prompt" in parameters and not any(name in parameters for name in _NEEDS_AN_IMAGE)


def _call(
    kind: Any,
    fetched: Fetched,
    parameters: Mapping[str, inspect.Parameter],
    conditioning: Conditioning,
    defaults: Mapping[str, OptionValue],
    *,
    stages: Mapping[str, str],
) -> PipelineCall:
    arguments = _staged(parameters, stages)
    names = list(dict.fromkeys(stages[prefix] for prefix in stages))
    having = [name for name in names if any(stage == name for stage, _ in arguments)]
    main = next((name for name in ("base", "sr1") if name in having), "base")
    specs = [
        _stage_spec(kind, name, parameters, arguments) for name in names if name in {*having, main}
    ]
    options, undecided, lists = _options(parameters, set(arguments.values()))
    if "base" in stages.values():  # an upsampler is loaded as the pipeline before it
        options = {**_loading(fetched), **options}
    specs = [
        _with_options(spec, fetched, {**options, **defaults}, undecided)
        if spec.name == main
        else spec
        for spec in specs
    ]
    return PipelineCall(
        kind=kind,
        conditioning=conditioning,
        stages=tuple(specs),
        arguments=arguments,
        lists=lists,
        size_px=_size(fetched, parameters),
        num_classes=_num_classes(fetched) if conditioning == "class" else None,
    )


def _staged(
    parameters: Mapping[str, inspect.Parameter], stages: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Return the arguments that are steps or guidance of a stage; None as default is neither."""
    found = {}
    for prefix, stage in stages.items():
        for setting, name in (("steps", STEPS), ("guidance", GUIDANCE)):
            full = f"{prefix}_{name}" if prefix else name
            if full in parameters and isinstance(parameters[full].default, int | float):
                found[stage, setting] = full
    return found


def _stage_spec(
    kind: Any,
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    arguments: Mapping[tuple[str, str], str],
) -> StageSpec:
    def default(setting: str) -> Any:
        argument = arguments.get((name, setting))
        return None if argument is None else parameters[argument].default

    guidance = default("guidance")
    return StageSpec(
        name=name,
        defaults=StageSettings(
            steps=default("steps"), guidance=None if guidance is None else float(guidance)
        ),
        max_steps=MAX_STEPS,
        ranges={"guidance": (LOWEST_GUIDANCE.get(kind.__name__, 0.0), 100.0)},
    )


def _options(
    parameters: Mapping[str, inspect.Parameter], staged: set[str]
) -> tuple[dict[str, OptionValue], dict[str, type[OptionValue]], frozenset[str]]:
    """Return options with their defaults, options without one, and those given per prompt."""
    options: dict[str, OptionValue] = {}
    undecided: dict[str, type[OptionValue]] = {}
    lists = set()
    for name, parameter in parameters.items():
        kind = None if name in _MANAGED | staged else _plain_type(parameter)
        if kind is None:
            continue
        if isinstance(parameter.default, _PLAIN):
            options[name] = kind(parameter.default)
        else:
            undecided[name] = kind
        if kind is str and list[str] in _members(parameter.annotation):
            lists.add(name)
    if "clean_caption" in options:
        # Diffusers cleans only where two more packages are installed, so the default would differ.
        options["clean_caption"] = False
    return options, undecided, frozenset(lists)


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _plain_type(parameter: inspect.Parameter) -> type[OptionValue] | None:
    """Return the type of a plain argument, the one of its default first; None for others."""
    members = _members(parameter.annotation)
    default = parameter.default
    if isinstance(default, _PLAIN):
        # An annotated float may have a default such as 0.
        return float if type(default) is int and float in members else type(default)
    if default is not None:
        return None
    return next((kind for kind in (str, float, int, bool) if kind in members), None)


def _loading(fetched: Fetched) -> dict[str, OptionValue]:
    """Return the options of loading, with their defaults."""
    found: dict[str, OptionValue] = {name: words[0] for name, words in LOADING.items()}
    has_vae = "vae" in dict(components(fetched.index()))
    return found | (dict.fromkeys(VAE_OPTIONS, False) if has_vae else {})


def _with_options(
    spec: StageSpec,
    fetched: Fetched,
    options: Mapping[str, OptionValue],
    undecided: Mapping[str, type[OptionValue]],
) -> StageSpec:
    own, samplers = _schedulers(dict(components(fetched.index())))
    return replace(
        spec,
        defaults=replace(spec.defaults, sampler=own, options=options),
        samplers=samplers,
        undecided=undecided,
        choices={name: words for name, words in LOADING.items() if name in options},
    )


def _schedulers(index: Mapping[str, tuple[str, str]]) -> tuple[str | None, tuple[str, ...]]:
    """Return the scheduler's class and those that can replace it; none if there is no choice."""
    if "scheduler" not in index:
        return None, ()
    diffusers = require("diffusers", extra="diffusers", what="schedulers")
    own = index["scheduler"][1]
    kind = getattr(diffusers, own, None)
    if kind is None or not hasattr(kind, "_get_compatibles"):
        return None, ()
    names = {one.__name__ for one in kind._get_compatibles()} - set(_UNSEEDED) | {own}
    return (own, tuple(sorted(names))) if len(names) > 1 else (None, ())


def _size(fetched: Fetched, parameters: Mapping[str, inspect.Parameter]) -> int:
    """Return the edge of a pipeline's images, as its configurations state it."""
    height = parameters.get("height")
    if height is not None and isinstance(height.default, int):
        return height.default
    for name in ("super_res_last", "unet", "transformer"):
        stated = fetched.component(name).get("sample_size")
        if stated is not None:
            return int(stated if isinstance(stated, int) else max(_numbers(stated))) * _scale(
                fetched
            )
    return _DEFAULT_LATENT_PX * _scale(fetched)


def _numbers(value: Any) -> Sequence[int]:
    return list(value.values()) if isinstance(value, Mapping) else list(value)


def _scale(fetched: Fetched) -> int:
    """Return by how much a pipeline's autoencoder enlarges; 1 without one."""
    for name in ("vae", "vqvae", "movq"):
        config = fetched.component(name)
        blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        if blocks:
            return int(2 ** (len(blocks) - 1))
    return 1


def _num_classes(fetched: Fetched) -> int:
    for name, key in (("transformer", "num_embeds_ada_norm"), ("unet", "num_class_embeds")):
        number = fetched.component(name).get(key)
        if isinstance(number, int):
            return number
    raise ConfigError(f"{fetched.folder} does not state how many classes its network knows.")
