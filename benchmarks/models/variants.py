"""Compare several settings of a model on the same captions and seeds, as a Markdown table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.glide_tiny import MEASURE
from evalkit.core.pixels import read_rgb
from evalkit.core.progress import progress_bar
from evalkit.core.results import ResultRecord
from evalkit.generation import GenerationOptions, prepare_run
from evalkit.measurement import MeasurementPlan
from evalkit.options import SamplingOptions
from evalkit.requests import DatasetSource

COLUMNS = ("composition-exact", "composition-pairs", "clip-score", "fd-infinity")
Variants = Mapping[str, Mapping[str, Any]]
"""The model and the changed `SamplingOptions` (guidance, steps, ...) by name of the row."""


def parse_options(summary: str, *, model: str, n: int, out: str) -> argparse.Namespace:
    """Parse the options that all of these benchmarks take."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--model", default=model)
    parser.add_argument("--n", type=int, default=n, help="images per row")
    parser.add_argument("--steps", help="sampling steps; fewer than the model's for a quick look")
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser.parse_args()


def print_table(title: str, variants: Variants, options: argparse.Namespace) -> None:
    """Generate what is missing, measure everything, print one row per variant."""
    print(f"\n## {title}\n\nn = {options.n}, {options.model}\n")
    print("| | " + " | ".join([*COLUMNS, "pixels at 0 or 255"]) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, changes in variants.items():
        records, saturated = measured(name, changes, options)
        cells = [shown(records, metric) for metric in COLUMNS]
        print(f"| {name} | " + " | ".join([*cells, f"{100 * saturated:.1f} %"]) + " |", flush=True)


def measured(
    name: str, changes: Mapping[str, Any], options: argparse.Namespace
) -> tuple[Sequence[ResultRecord], float]:
    """Return the records of one variant, and its share of saturated pixel values."""
    folder = options.out / "".join(c if c.isalnum() else "-" for c in name)
    settings = {"model": options.model, "steps": options.steps, **changes}
    prepared = prepare_run(
        GenerationOptions(
            model=settings.pop("model"),
            source=DatasetSource("shapes", options.n),
            sampling=SamplingOptions(**settings),
            out=folder,
        ),
        progress_bar,
    )
    prepared.generate(progress_bar)
    records = MeasurementPlan.of(prepared, MEASURE, progress_bar).measure().records
    shares = []
    for row in prepared.run.rows():
        pixels = read_rgb(prepared.run.image_path(row))
        shares.append(float(((pixels == 0) | (pixels == 255)).mean()))
    return records, float(np.mean(shares))


def shown(records: Sequence[ResultRecord], metric: str) -> str:
    """Format a value with its interval."""
    record = next((r for r in records if r.metric == metric), None)
    if record is None or record.value is None:
        return "-"
    if record.interval is None:
        return f"{record.value:.3g}"
    return f"{record.value:.3g} [{record.interval.low:.3g}, {record.interval.high:.3g}]"
