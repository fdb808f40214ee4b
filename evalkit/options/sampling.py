"""The options of sampling, for every command that samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.options.devices import torch_device
from evalkit.options.offering import Offer, option
from evalkit.options.parsing import AUTO_BATCH, batch_size, named_paths
from generators.adapters.access import Access


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a model samples; every field that can change an image is in the run's configuration."""

    guidance: str | None = option(
        None, "--guidance", "Guidance scale, such as 3 or base=1.35,sr1=8. [default: the model's]"
    )
    steps: str | None = option(
        None,
        "--steps",
        "Sampling steps, such as 50 or base=50,upsampler=10. [default: the model's]",
    )
    sampler: str | None = option(
        None, "--sampler", "Sampler, such as ddim or base=ancestral. [default: the model's]"
    )
    set_options: tuple[str, ...] = option(
        (),
        "--set",
        "Further setting of a stage, such as base.threshold=static; repeatable.",
        typed=list[str],
        parse=tuple,
    )
    """Further settings of the model's stages, each `STAGE.NAME=VALUE` or several by commas."""
    candidates: int = option(
        1, "--candidates", "Candidates per sample, of which --rerank keeps the best.", minimum=1
    )
    rerank: str | None = option(
        None, "--rerank", "CLIP for re-ranking: clip (the model's default) or a name."
    )
    seed: int = option(
        0,
        "--seed",
        "Seed of the noise, and of the draw where captions are drawn. [default: the protocol's, 0]",
        minimum=0,
        optional=True,
    )
    batch_size: int = option(
        32,
        "--batch-size",
        "Images per batch; auto: the most that fit into memory, found by trial.",
        typed=str,
        parse=batch_size,
    )
    fits_batch: bool = False
    """Whether the batch size is still to be found; then `batch_size` has no meaning."""
    device: str = option(
        "cpu", "--device", "Device: auto, cpu, cuda or cuda:N.", typed=str, shown="auto"
    )
    bf16: bool = option(False, "--bf16", "Sample in bfloat16 where it is safe.")
    fp16: bool = option(False, "--fp16", "Sample in float16 where it is safe; for GPUs.")
    compiled: bool = option(False, "--compile-model", "Compile the networks before sampling.")
    offload: bool = option(
        False, "--offload", "Keep only the running network on the device, to save its memory."
    )
    weights: Mapping[str, Path] = option(
        {},
        "--weights",
        "Local weights, as NAME=PATH; repeatable.",
        typed=list[str],
        parse=named_paths,
    )
    access: Access | None = field(default=None, compare=False)
    """Address and caps of the server, for a model behind one."""
    typed: frozenset[str] = field(default=frozenset(), compare=False)
    """Fields that a protocol may decide and that were typed, also where they repeat a default."""


def _build(fields: dict[str, Any], typed: frozenset[str]) -> SamplingOptions:
    fields["fits_batch"] = fields.get("batch_size") == AUTO_BATCH
    fields["device"] = torch_device(fields["device"], bf16=fields["bf16"])
    if fields.get("offload") and fields["device"] == "cpu":
        raise ConfigError(
            "--offload moves networks between a GPU and the CPU, but the device is the CPU. "
            "Leave it out."
        )
    return SamplingOptions(**fields, typed=typed)


sampling = Offer(record=SamplingOptions, parameter="sampling", build=_build)
"""Replace a command's parameter `sampling` by the options of sampling."""
