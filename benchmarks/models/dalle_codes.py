"""Reconstruction quality of DALL-E's discrete VAE: the upper bound for its transformer.

    python -m benchmarks.models.dalle_codes [--n 200] [--dvae FILE] [--grid FILE.png]

Validation scenes pass through encoder and decoder. Prints the mean absolute error in levels of 255,
the number of codes in use and their perplexity, and the shape detector's composition scores before
and after. `--grid` writes pairs of originals and reconstructions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from evalkit.core.pixels import encode_png
from evalkit.datasets.shapes.dataset import render
from evalkit.metrics.composition import Composition
from generators.dalle.dvae import DVAE
from generators.dalle.training import dvae_from
from generators.pixels import from_uint8, to_uint8
from generators.weights.zoo import weights_named

SHOWN = 16


def main() -> None:
    """Print the figures, and write the pairs on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--dvae", default="dalle-tiny-dvae")
    parser.add_argument("--grid", type=Path)
    options = parser.parse_args()
    drawn = [render(0, "val", index) for index in range(options.n)]
    originals = np.stack([pixels for pixels, _, _ in drawn])
    network = dvae_from(weights_named(options.dvae))
    codes, rebuilt = through(network, originals)
    error = np.abs(originals.astype(float) - rebuilt).mean()
    shares = np.bincount(codes.ravel(), minlength=network.config.vocab_size) / codes.size
    used = shares[shares > 0]
    print(f"{options.n} scenes, {codes[0].size} codes of {network.config.vocab_size} each")
    print(f"mean absolute error {error:.2f} of 255")
    print(f"codes in use {len(used)}, perplexity {np.exp(-(used * np.log(used)).sum()):.0f}")
    scenes = [scene for _, scene, _ in drawn]
    captions = [texts[0] for _, _, texts in drawn]
    for name, images in (("as drawn", originals), ("through the codes", rebuilt)):
        print(f"{name}: {verdict(images, scenes, captions)}")
    if options.grid is not None:
        write_pairs(options.grid, originals[:SHOWN], rebuilt[:SHOWN])


@torch.inference_mode()
def through(network: DVAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and reconstructions (uint8) of images."""
    codes, rebuilt = [], []
    for start in range(0, len(images), 50):
        pixels = (from_uint8(torch.from_numpy(images[start : start + 50])) + 1) / 2
        found = network.encoder.codes(pixels)
        codes.append(found.numpy())
        rebuilt.append(to_uint8(2 * network.decoder.reconstruction(found) - 1).numpy())
    return np.concatenate(codes), np.concatenate(rebuilt)


def verdict(images: np.ndarray, scenes: list, captions: list[str]) -> str:
    """Format the shape detector's shares."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index:05d}.png" for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            path.write_bytes(encode_png(image))
        records = Composition.of(paths, scenes, captions).records()
    shown = {r.metric: r.value for r in records if r.value is not None}
    wanted = ("composition-pairs", "composition-exact", "composition-objects")
    return ", ".join(f"{name} {shown[name]:.3f}" for name in wanted if name in shown)


def write_pairs(path: Path, originals: np.ndarray, rebuilt: np.ndarray) -> None:
    """Write originals in the upper rows, with their reconstructions below."""
    half = len(originals) // 2
    rows = [originals[:half], rebuilt[:half], originals[half:], rebuilt[half:]]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    path.write_bytes(encode_png(sheet))


if __name__ == "__main__":
    main()
