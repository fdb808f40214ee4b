"""Quality of glide:tiny, between the limits of real images and random weights.

    python -m benchmarks.models.glide_tiny [--n 1000] [--out runs/glide-tiny]

For guidance 1, 1.5 and 3: share of images in which every prompted shape and colour is found, with
its chance level (shuffled captions); the judge's CLIP score; FD on the judge's features. The floor
of FD is other real images against the reference, its ceiling the same networks with random weights.
The shape detector also scores the real images. Resumable; prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evalkit.core.pixels import encode_png
from evalkit.core.progress import progress_bar
from evalkit.core.results import ResultRecord
from evalkit.datasets.base import select_captions
from evalkit.datasets.shapes.dataset import load_shapes, render
from evalkit.features.sources import ImageItem
from evalkit.generation import GenerationOptions, prepare_run
from evalkit.measurement import MeasurementPlan, reference_items
from evalkit.metrics.composition import Composition
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions, SamplingOptions
from evalkit.protocols.applying import options_for
from evalkit.requests import DatasetSource

MEASURE = MeasureOptions(features="shapes-clip")
GUIDANCE = ("1", "1.5", "3")
FIRST_UNUSED = 5_000
"""Index of the first validation image outside all references."""
COLUMNS = ("fd", "fd-infinity", "clip-score", "composition-pairs", "composition-pairs-shuffled")


def model_records(model: str, guidance: str, n: int, out: Path) -> list[ResultRecord]:
    """Generate (or resume) and measure one setting."""
    folder = out / f"{model.replace(':', '-')}-g{guidance}"
    options = GenerationOptions(
        model=model,
        source=DatasetSource("shapes", n),
        sampling=SamplingOptions(guidance=guidance),
        out=folder,
    )
    prepared = prepare_run(options, progress_bar)
    prepared.generate(progress_bar)
    return MeasurementPlan.of(prepared, MEASURE, progress_bar).measure().records


def real_records(n: int, out: Path) -> list[ResultRecord]:
    """Measure real images that are not in the reference, with their own captions."""
    folder = out / "real"
    folder.mkdir(parents=True, exist_ok=True)
    items, scenes, captions = [], [], []
    for index in range(FIRST_UNUSED, FIRST_UNUSED + n):
        pixels, scene, texts = render(0, "val", index)
        path = folder / f"{index:08d}.png"
        if not path.exists():
            path.write_bytes(encode_png(pixels))
        items.append(ImageItem(path=path, caption=texts[0]))
        scenes.append(scene)
        captions.append(texts[0])
    reference = reference_items(load_shapes())
    options = options_for("shapes", MEASURE)
    records = score_sets(items, reference, ["fd", "clip-score"], options, progress_bar)
    return records + Composition.of([i.path for i in items], scenes, captions).records()


def row(name: str, records: list[ResultRecord]) -> str:
    """Format one row of the table: values with their intervals."""
    by_metric = {record.metric: record for record in records}
    cells = []
    for metric in COLUMNS:
        record = by_metric.get(metric)
        if record is None or record.value is None:
            cells.append("-")
            continue
        interval = record.interval
        span = f" [{interval.low:.4g}, {interval.high:.4g}]" if interval else ""
        cells.append(f"{record.value:.4g}{span}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table and the normalised FD."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/glide-tiny"))
    options = parser.parse_args()
    assert len(select_captions(load_shapes(), options.n, 0)) == options.n
    rows = {"real images": real_records(options.n, options.out)}
    for guidance in GUIDANCE:
        rows[f"glide:tiny, guidance {guidance}"] = model_records(
            "glide:tiny", guidance, options.n, options.out
        )
    rows["untrained"] = model_records("glide:tiny-untrained", "1.5", options.n, options.out)
    print(f"n = {options.n}\n\n| | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, records in rows.items():
        print(row(name, records))
    fd = {
        name: next(r.value for r in records if r.metric == "fd") for name, records in rows.items()
    }
    floor, ceiling = fd["real images"], fd["untrained"]
    assert floor is not None
    assert ceiling is not None
    print("\n(FD - floor) / (ceiling - floor):")
    for guidance in GUIDANCE:
        value = fd[f"glide:tiny, guidance {guidance}"]
        assert value is not None
        print(f"  guidance {guidance}: {(value - floor) / (ceiling - floor):.3f}")


if __name__ == "__main__":
    main()
