"""Classifier guidance on ddpm:tiny-class: accuracy of the class versus coverage.

    python -m benchmarks.sampling.classifier_guidance [--n 210] [--out runs/classifier-guidance]

Accuracy is the share of images in which the shape detector (not the guiding classifier) finds
exactly the requested shape; coverage is the share of reference images with a sample among their
nearest neighbours (Naeem et al. 2020), in the judge's features. Resumable; prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evalkit.core.pixels import read_rgb
from evalkit.core.progress import progress_bar
from evalkit.datasets.shapes.detector import detect
from evalkit.datasets.shapes.scene import SHAPES
from evalkit.generation import GenerationOptions, PreparedRun, prepare_run
from evalkit.measurement import MeasurementPlan
from evalkit.metrics.composition import wilson_interval
from evalkit.options import MeasureOptions, SamplingOptions
from evalkit.requests import DatasetSource

SCALES = ("0", "1", "2", "5", "10", "20")
MEASURE = MeasureOptions(features="shapes-clip", metrics=("fd", "prdc"))


def hits(prepared: PreparedRun) -> int:
    """Count the images that show exactly one object, of the requested shape."""
    found = 0
    for row in prepared.run.rows():
        shapes = [d.shape for d in detect(read_rgb(prepared.run.image_path(row)))]
        found += row.label is not None and shapes == [SHAPES[row.label]]
    return found


def row(scale: str, options: argparse.Namespace) -> str:
    """Format one row of the table."""
    weights = dict(pair.split("=", 1) for pair in options.weights)
    prepared = prepare_run(
        GenerationOptions(
            model="ddpm:tiny-class",
            source=DatasetSource("shapes", options.n),
            sampling=SamplingOptions(
                guidance=scale, weights={name: Path(path) for name, path in weights.items()}
            ),
            out=options.out / f"scale-{scale}",
        ),
        progress_bar,
    )
    prepared.generate(progress_bar)
    results = MeasurementPlan.of(prepared, MEASURE, progress_bar).measure()
    records = {r.metric: r for r in results.records}
    right = hits(prepared)
    interval = wilson_interval(right, options.n)
    cells = [f"{right / options.n:.3f} [{interval.low:.3f}, {interval.high:.3f}]"]
    for metric in ("coverage-k5", "precision-k5", "fd"):
        record = records[metric]
        span = record.interval
        cells.append(
            f"{record.value:.3f}" + (f" [{span.low:.3f}, {span.high:.3f}]" if span else "")
        )
    return f"| {scale} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=210)
    parser.add_argument("--out", type=Path, default=Path("runs/classifier-guidance"))
    parser.add_argument("--weights", action="append", default=[], help="NAME=PATH")
    options = parser.parse_args()
    rows = [row(scale, options) for scale in SCALES]
    print(f"n = {options.n}\n\n| scale | class right | coverage | precision | FD (shapes-clip) |")
    print("|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
