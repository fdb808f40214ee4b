r"""Speed of networks on the GPU of this machine, or on its CPU.

    python -m benchmarks.gpu [--device cuda|cpu] [--small] [--minutes 7] [--json FILE]

It measures, with random weights: one evaluation of a guided pair by GLIDE's released base, by its
upsampler and by ADM's 64 px network, in float32 (TF32 off), bfloat16, bfloat16 channels last and
bfloat16 compiled, with the seconds that compiling took; Inception's features; and what happens
beside the networks at each batch: noise and PNG files. `--small` takes tiny networks and takes a
few seconds. What does not fit into the time is left out and said.

It imports torch, numpy, Pillow, safetensors, jaxtyping, rich and pydantic. For a machine without
the last three:

    pip install --target bench-deps --no-deps jaxtyping wadler-lindig rich pygments \
        markdown-it-py mdurl pydantic pydantic-core annotated-types typing-inspection
    PYTHONPATH=bench-deps python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evalkit.core.pixels import encode_png
from generators.diffusion.guidance import classifier_free
from generators.diffusion.noise import draw_noise, image_rngs
from generators.glide.model import GlideConfig, SuperResText2ImUNet, Text2ImUNet, TextStates
from generators.glide.presets import RELEASED_BASE, RELEASED_UPSAMPLER
from generators.nn.unet import UNet, UNetConfig
from generators.numerics import Numerics, full_float32, ready

REPEATS = 5
GUIDANCE = 3.0


@dataclass(frozen=True)
class Mode:
    """How a network runs."""

    name: str
    numerics: Numerics
    channels_last: bool = False


MODES = (
    Mode("float32", Numerics()),
    Mode("bfloat16", Numerics(bf16=True)),
    Mode("bfloat16, channels last", Numerics(bf16=True), channels_last=True),
    Mode("bfloat16, compiled", Numerics(bf16=True, compiled=True)),
)


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    what: str
    mode: str
    batch: int
    seconds: float
    """Of one evaluation, or of one batch; the median."""
    first_s: float
    """Of the first one, compilation included."""
    peak_mib: float | None
    """Peak memory of the GPU; None on a CPU."""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks")
    parser.add_argument("--minutes", type=float, default=7.0, help="when to begin nothing new")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    print(f"{_device_name(options.device)}; torch {torch.__version__}, Python {sys.version[:6]}\n")
    print("| what | mode | batch | ms | images/s | first, s | peak MiB |", flush=True)
    print("|---|---|---|---|---|---|---|")
    rows = []
    for measure in _measurements(options.device, small=options.small):
        if time.monotonic() > deadline:
            print("\nLeft out for lack of time: the rest. Raise --minutes.")
            break
        row = measure()
        rows.append(row)
        peak = "" if row.peak_mib is None else f"{row.peak_mib:,.0f}"
        print(
            f"| {row.what} | {row.mode} | {row.batch} | {1000 * row.seconds:.2f} | "
            f"{row.batch / row.seconds:.1f} | {row.first_s:.2f} | {peak} |",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))
    return rows


def _measurements(device: str, *, small: bool) -> Iterator[Callable[[], Row]]:
    on_gpu = torch.device(device).type == "cuda"
    batches = (2,) if small else (1, 16, 64) if on_gpu else (1,)
    for batch in batches:
        for mode in MODES:
            if small and mode.numerics.compiled:
                continue  # compiling takes longer than all the rest
            yield lambda mode=mode, batch=batch: _glide_base(mode, batch, device, small)
    modes = MODES[:2] if small else MODES
    for mode in modes:
        yield lambda mode=mode: _glide_upsampler(mode, batches[-1] // 2, device, small)
        yield lambda mode=mode: _adm(mode, batches[-1], device, small)
    for precision in ("float32", "bf16"):
        yield lambda precision=precision: _inception(precision, 2 if small else 64, device)
    size = 64 if small else 256
    yield lambda: _noise(batches[-1], size, device)
    yield lambda: _png(batches[-1], size)


@torch.no_grad()
def _glide_base(mode: Mode, batch: int, device: str, small: bool) -> Row:
    """One evaluation of a batch of guided pairs."""
    config = _small(RELEASED_BASE) if small else RELEASED_BASE
    network = _prepared(Text2ImUNet(config), mode, device)
    size = config.unet.image_size
    text = _text(network, batch, device, mode)
    empty = text.select(torch.zeros(batch, dtype=torch.long, device=device))
    both = TextStates.cat([text, empty])
    guided = classifier_free(lambda x, t: network(x, t, text=both), GUIDANCE)
    x, t = _noisy(batch, size, device, mode), _steps(batch, device)
    return _timed("GLIDE base, guided pair", mode.name, batch, device, mode, lambda: guided(x, t))


@torch.no_grad()
def _glide_upsampler(mode: Mode, batch: int, device: str, small: bool) -> Row:
    config = _small(RELEASED_UPSAMPLER) if small else RELEASED_UPSAMPLER
    network = _prepared(SuperResText2ImUNet(config), mode, device)
    size = config.unet.image_size
    text = _text(network, batch, device, mode)
    x, t = _noisy(batch, size, device, mode), _steps(batch, device)
    low = _noisy(batch, size // 4, device, mode)
    return _timed(
        "GLIDE upsampler", mode.name, batch, device, mode, lambda: network(x, t, low, text=text)
    )


@torch.no_grad()
def _adm(mode: Mode, batch: int, device: str, small: bool) -> Row:
    config = UNetConfig(
        image_size=64, model_channels=192, out_channels=6, num_res_blocks=3,
        channel_mult=(1, 2, 3, 4), attention_downsamples=(2, 4, 8), num_classes=1000,
        num_head_channels=64, use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    if small:
        config = _small_unet(config)
    network = _prepared(UNet(config), mode, device)
    x, t = _noisy(batch, config.image_size, device, mode), _steps(batch, device)
    y = torch.zeros(batch, dtype=torch.long, device=device)
    return _timed("ADM 64", mode.name, batch, device, mode, lambda: network(x, t, y))


def _inception(precision: str, batch: int, device: str) -> Row:
    from evalkit.features.inception import InceptionExtractor, InceptionNetwork

    images = np.random.default_rng(0).integers(0, 256, (batch, 256, 256, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(InceptionNetwork().state_dict(), weights)
        extractor = InceptionExtractor(weights=weights, device=device, precision=precision)
    prepared = np.stack([extractor.prepare(image) for image in images])
    return _timed(
        "Inception features", precision, batch, device, None, lambda: extractor.encode(prepared)
    )


def _noise(batch: int, size: int, device: str) -> Row:
    rngs = image_rngs(range(batch))
    return _timed(
        "noise of one step",
        "",
        batch,
        device,
        None,
        lambda: draw_noise(rngs, (3, size, size), device),
    )


def _png(batch: int, size: int) -> Row:
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    return _timed(
        f"PNG files of {size} px", "", batch, "cpu", None, lambda: [encode_png(i) for i in images]
    )


def _timed(
    what: str, mode: str, batch: int, device: str, how: Mode | None, call: Callable[[], Any]
) -> Row:
    """Take the median of several calls after a first one."""
    on_gpu = torch.device(device).type == "cuda"

    def once() -> float:
        started = time.perf_counter()
        with full_float32():
            if how is None:
                call()
            else:
                with how.numerics.autocast(device):
                    call()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    first = once()
    if on_gpu:
        once()  # the second call records the graph
    seconds = statistics.median(once() for _ in range(REPEATS))
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
    return Row(what, mode, batch, seconds, first, peak)


def _prepared(network: nn.Module, mode: Mode, device: str) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.normal_(generator=generator).div_(fan_in**0.5)
    network = ready(network, device)
    if mode.channels_last:
        network = network.to(memory_format=torch.channels_last)
    mode.numerics.apply(network)
    return network


def _text(network: Any, batch: int, device: str, mode: Mode) -> TextStates:
    ids = torch.zeros(batch, network.text.text_ctx, dtype=torch.long, device=device)
    with mode.numerics.autocast(device):
        states: TextStates = network.encode_text(ids, torch.ones_like(ids, dtype=torch.bool))
    return states


def _noisy(batch: int, size: int, device: str, mode: Mode) -> torch.Tensor:
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    return x.to(memory_format=torch.channels_last) if mode.channels_last else x


def _steps(batch: int, device: str) -> torch.Tensor:
    return torch.full((batch,), 500, device=device)


def _small(config: GlideConfig) -> GlideConfig:
    assert config.text is not None
    text = replace(config.text, n_vocab=64, text_ctx=8, xf_width=64, xf_layers=1, xf_heads=2)
    return replace(config, unet=_small_unet(config.unet), text=text)


def _small_unet(unet: UNetConfig) -> UNetConfig:
    return replace(
        unet, image_size=32, model_channels=32, num_res_blocks=1, channel_mult=(1, 2),
        attention_downsamples=(2,), num_head_channels=32, dropout=0.0,
    )  # fmt: skip


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


if __name__ == "__main__":
    main()
