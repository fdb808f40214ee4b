"""Variations and interpolations of images by unclip:tiny, as one picture.

    python -m benchmarks.models.unclip_variations [--out runs/unclip-variations.png]

Each row has a scene of the validation split, its reconstruction (eta 0), four variations (eta 1),
and three steps of the interpolation to the scene of the next row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from evalkit.core.pixels import encode_png
from evalkit.datasets.shapes.dataset import render
from generators.base import resolve_settings
from generators.catalog import load_generator
from generators.unclip.generator import UnclipGenerator
from generators.unclip.variations import (
    EncodedImages,
    decode_images,
    encode_images,
    interpolate,
)

VARIATIONS = 4
SHARES = (0.25, 0.5, 0.75)
MARGIN_PX = 4


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="unclip:tiny")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--steps", type=int, default=50, help="decoder steps")
    parser.add_argument("--out", type=Path, default=Path("runs/unclip-variations.png"))
    options = parser.parse_args()
    model = load_generator(options.model)
    assert isinstance(model, UnclipGenerator)
    settings = resolve_settings(model.spec, steps=f"base={options.steps}", guidance="1")
    scenes = np.stack([render(0, "val", index)[0] for index in range(options.rows)])
    encoded = encode_images(model, scenes, steps=options.steps)
    following = EncodedImages(encoded.embedding.roll(-1, 0), encoded.noise.roll(-1, 0))
    columns = [scenes, decode_images(model, encoded, range(options.rows), settings)]
    for column in range(VARIATIONS):
        seeds = [1000 * (column + 1) + row for row in range(options.rows)]
        columns.append(decode_images(model, encoded, seeds, settings, eta=1.0))
    for share in SHARES:
        between = interpolate(encoded, following, share)
        columns.append(decode_images(model, between, range(options.rows), settings))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(encode_png(grid(np.stack(columns, axis=1))))
    print(options.out)


def grid(images: np.ndarray) -> np.ndarray:
    """Join rows x columns x height x width x 3 into one picture with white margins."""
    pad = [(0, 0), (0, 0), (MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0)]
    padded = np.pad(images, pad, constant_values=255)
    return np.concatenate([np.concatenate(list(row), axis=1) for row in padded], axis=0)


if __name__ == "__main__":
    main()
