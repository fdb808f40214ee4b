"""How much faster a matrix is than one score for each of its preparations and extractors.

    python -m benchmarks.matrix [NUM_IMAGES]

Crops of the photographs that scikit-image and scikit-learn ship, random weights in Inception's
format, layer 64. Prints seconds of CPU, which other processes on the machine don't change.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evalkit.analyses.columns import Column, protocol_columns, variation_columns
from evalkit.analyses.matrix import measure_matrix
from evalkit.core.pixels import encode_png
from evalkit.features.inception import InceptionNetwork
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import image_items
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions

KINDS = ("crop", "filter", "size", "reference-format", "sample-format", "resize")


def main(num_images: int) -> None:
    """Measure both, and print the ratio and the largest difference of a value."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = _write_weights(folder / "inception.pth")
        samples = image_items(_write_crops(folder / "samples", num_images, 0))
        reference = image_items(_write_crops(folder / "reference", num_images, 1))
        options = MeasureOptions(inception_weights=weights, inception_layer="64")
        columns, _ = protocol_columns(
            ["imagen-30k", "gigagan-30k"], options, num_samples=num_images, matchable=False
        )
        columns += variation_columns(columns[0], KINDS, matchable=False)
        started = time.process_time()
        found = measure_matrix(samples, reference, columns)
        together = time.process_time() - started
        singly, largest = 0.0, 0.0
        for place, column in enumerate(_distinct(columns)):
            alone = replace(column.options, store=folder / f"store-{place}")
            started = time.process_time()
            (first, *_) = score_sets(samples, reference, ["fid"], alone)
            singly += time.process_time() - started
            value = found.records[column.name][0].value
            assert first.value is not None
            assert value is not None
            largest = max(largest, abs(first.value - value))
    print(f"{num_images} images, {len(columns)} columns, {len(_distinct(columns))} distinct")
    print(f"matrix {together:.1f} s, scores {singly:.1f} s, ratio {together / singly:.2f}")
    print(f"largest difference {largest:.1e}")


def _distinct(columns: list[Column]) -> list[Column]:
    """Return one column for each distinct preparation and extractor."""
    found: dict[tuple[str, ...], Column] = {}
    for column in columns:
        options = column.options
        prepared = (reference_preparation(options), sample_preparation(options))
        key = (*(str(one.identity()) for one in prepared), options.resize)
        found.setdefault(key, column)
    return list(found.values())


def _write_weights(path: Path) -> Path:
    torch.random.default_generator.manual_seed(0)
    torch.save(InceptionNetwork().state_dict(), path)
    return path


def _write_crops(folder: Path, n: int, seed: int) -> Path:
    from skimage import data
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    sources = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.retina()]
    sources += load_sample_images().images
    rng = np.random.default_rng(seed)
    for number in range(n):
        photo = np.asarray(sources[number % len(sources)])
        height, width = (int(side) for side in rng.integers(100, 230, 2))
        top = int(rng.integers(0, photo.shape[0] - 230))
        left = int(rng.integers(0, photo.shape[1] - 230))
        crop = np.ascontiguousarray(photo[top : top + height, left : left + width])
        if seed:
            Image.fromarray(crop).save(folder / f"{number:04d}.jpg")
        else:
            (folder / f"{number:04d}.png").write_bytes(encode_png(crop))
    return folder


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
