"""16 or 32 px for the base of glide:tiny: loss of information, and cost of a training step.

    python -m benchmarks.models.base_resolution [--scenes 300]

Real scenes are downscaled to the base's size by the area mean and upscaled again (bicubic). The
share of them in which the shape detector finds every shape, colour and count is the upper bound for
an upsampler that adds nothing. A step is forward, backward and update on a batch of 48 in bf16
autocast, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from PIL import Image

from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.detector import detect
from generators.glide.model import GlideConfig, Text2ImUNet
from generators.recipes.recipe import load_recipe

SIZES = (64, 32, 16)
NETWORKS = {
    16: {"image_size": 16, "channel_mult": [2, 4, 4], "attention_downsamples": [2, 4]},
    32: {"image_size": 32, "channel_mult": [1, 2, 4, 4], "attention_downsamples": [4, 8]},
}
BATCH = 48
STEPS = 5


def share_read_right(size_px: int, scenes: int) -> float:
    """Compute the share of validation scenes that are detected correctly at a size."""
    right = 0
    for index in range(scenes):
        pixels, scene, _ = render(0, "val", index)
        image = Image.fromarray(pixels)
        small = image.resize((size_px, size_px), Image.Resampling.BOX)
        seen = detect(np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)))
        wanted = sorted((o.shape, o.colour) for o in scene.objects)
        right += wanted == sorted((d.shape, d.colour) for d in seen)
    return right / scenes


def seconds_a_step(size_px: int) -> float:
    """Measure the median time of a training step."""
    settings = {**load_recipe("glide-tiny-base").model, **NETWORKS[size_px]}
    network = Text2ImUNet(GlideConfig.from_flat(settings)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    x, t = torch.randn(BATCH, 3, size_px, size_px), torch.randint(0, 1000, (BATCH,))
    tokens = torch.randint(0, 400, (BATCH, settings["text_ctx"]))
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(x, t, tokens, torch.ones_like(tokens, dtype=torch.bool)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size_px in SIZES:
        print(f"{size_px} px: {share_read_right(size_px, options.scenes):.1%} of scenes read right")
    for size_px in NETWORKS:
        print(f"{size_px} px base: {seconds_a_step(size_px):.2f} s per step of {BATCH} images")


if __name__ == "__main__":
    main()
