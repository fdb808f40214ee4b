"""The options of spreading work over devices, jobs and clusters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.core.errors import ConfigError
from evalkit.core.progress import log_as_json
from evalkit.core.run import WHOLE, Shard
from evalkit.options.offering import Offer, option

_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")
WORKER_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class SpreadOptions:
    """Where work runs; nothing here changes a result."""

    devices: tuple[str, ...] = option(
        (),
        "--devices",
        "A process for each: 0-7 or 0,2 (GPUs), cuda or auto (all), cpu,cpu.",
        typed=str,
        parse=lambda text: worker_devices(text),
    )
    shard: Shard = option(  # noqa: RUF009 (makes a field)
        WHOLE,
        "--shard",
        "Share i/N of the batches, i from 1; merge them with `evalkit runs merge`.",
        typed=str,
        parse=lambda text: parse_shard(text),
        shown="1/1",
    )
    engine: Literal["local", "ray"] = option(
        "local", "--engine", "Engine: local, or ray for a cluster.", typed=str
    )
    address: str = option(
        "", "--address", "Address of the Ray cluster. [default: the running one]", optional=True
    )
    workers: int | None = option(
        None, "--workers", "Ray workers. [default: as many as the cluster has room for]", minimum=1
    )
    gpus_per_worker: float | None = option(
        None,
        "--gpus-per-worker",
        "GPUs of a Ray worker, such as 1 or 0.5. [default: 1 where the cluster has GPUs]",
        minimum=0,
    )
    worker_timeout: float = option(
        WORKER_TIMEOUT_S,
        "--worker-timeout",
        "Seconds without a sign of life after which a worker is replaced.",
        minimum=1,
    )
    batch_timeout: float = option(
        0.0,
        "--batch-timeout",
        "Seconds for one batch, after which its worker is replaced; 0: any.",
        minimum=0,
    )
    log_format: Literal["text", "json"] = option(
        "text", "--log-format", "Progress and events as text, or as json.", typed=str
    )

    @property
    def is_spread(self) -> bool:
        """Whether other processes than this one do the work."""
        return bool(self.devices) or self.engine == "ray"


HERE = SpreadOptions()
"""All work in this process."""


def parse_shard(text: str) -> Shard:
    """Parse `i/N`.

    Raises:
        ConfigError: Another form, or i is not from 1 to N.

    >>> parse_shard("2/4")
    Shard(number=2, num=4)
    """
    number, slash, num = text.partition("/")
    fits = slash and number.isdecimal() and num.isdecimal() and len(num) < 7
    if not fits or not 1 <= int(number) <= int(num):
        raise ConfigError(f"--shard expects i/N with i from 1 to N, such as 2/4, got {text!r}.")
    return Shard(int(number), int(num))


def worker_devices(text: str) -> tuple[str, ...]:
    """Return the device of each worker process.

    Raises:
        ConfigError: No such device here, one GPU twice, or devices of two kinds.

    >>> worker_devices("cpu,cpu")
    ('cpu', 'cpu')
    """
    from evalkit.options.devices import torch_device

    words = [word.strip() for word in text.split(",")]
    if words in (["auto"], ["cuda"]):
        found = torch_device(words[0])
        if found == "cpu":
            return ("cpu",)
        import torch

        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    devices: list[str] = []
    for word in words:
        match = _RANGE.fullmatch(word)
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise ConfigError(f"--devices {text!r}: {word} counts down. Write {last}-{first}.")
            devices += [f"cuda:{index}" for index in range(first, last + 1)]
        elif word == "cpu" or re.fullmatch(r"cuda:\d{1,3}", word):
            devices.append(word)
        else:
            raise ConfigError(
                f"--devices {text!r}: {word!r} is no device. Use 0-7 or 0,2 (GPUs), cuda, auto, or "
                "cpu,cpu."
            )
    gpus = [device for device in devices if device != "cpu"]
    if gpus and len(gpus) < len(devices):
        raise ConfigError(
            f"--devices {text!r} mixes CPUs and GPUs, whose images differ. Use one kind."
        )
    if len(set(gpus)) < len(gpus):
        raise ConfigError(f"--devices {text!r} names a GPU twice. Name each once.")
    for device in dict.fromkeys(devices):
        torch_device(device)
    return tuple(devices)


def _build(fields: dict[str, Any], typed: frozenset[str]) -> SpreadOptions:
    del typed
    for flag, chosen, known in (
        ("--engine", fields["engine"], ("local", "ray")),
        ("--log-format", fields["log_format"], ("text", "json")),
    ):
        if chosen not in known:
            raise ConfigError(f"Unknown {flag} {chosen!r}; use {' or '.join(known)}.")
    found = SpreadOptions(**fields)
    log_as_json(found.log_format == "json")
    if found.engine == "ray":
        if found.devices:
            raise ConfigError("--devices is for one machine. With --engine ray, use --workers N.")
        if found.shard != WHOLE:
            raise ConfigError("--shard is for jobs without a cluster. Drop it with --engine ray.")
    else:
        given = {
            "--address": found.address,
            "--workers": found.workers,
            "--gpus-per-worker": found.gpus_per_worker is not None,
        }
        for flag, value in given.items():
            if value:
                raise ConfigError(f"{flag} needs --engine ray.")
    return found


spreading = Offer(record=SpreadOptions, parameter="spread", build=_build)
"""Replace a command's parameter `spread` by the options of spreading work."""
