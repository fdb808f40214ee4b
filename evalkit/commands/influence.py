"""The images that raise a Fréchet distance most, as a gallery of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow
from evalkit.reports.formatting import number, typographic
from evalkit.reports.html import Gallery, ReportSample
from evalkit.reports.wording import label

SHOWN = 12


def influence_galleries(
    records: Sequence[ResultRecord],
    rows: Sequence[ManifestRow],
    sample: Callable[[ManifestRow], ReportSample],
) -> list[Gallery]:
    """Build a gallery for each distance whose record lists its most influential images.

    Args:
        records: The run's records.
        rows: Its manifest, sorted by index.
        sample: Builds a gallery's sample from a row.
    """
    shown = [row for row in rows if row.file is not None]
    return [
        _gallery(record, shown, sample)
        for record in records
        if record.details.get("most_influential")
    ]


def _gallery(
    record: ResultRecord,
    shown: Sequence[ManifestRow],
    sample: Callable[[ManifestRow], ReportSample],
) -> Gallery:
    listed: Sequence[Mapping[str, Any]] = record.details["most_influential"]
    by_category: Mapping[str, Mapping[str, float]] = record.details.get("influence_by_category", {})
    name = label(record)
    samples = [_with_influence(sample(shown[entry["index"]]), entry) for entry in listed[:SHOWN]]
    return Gallery(
        title=f"Images that raise {name} most",
        explanation=(
            "The influence of an image approximates how much the distance would fall without it; "
            "over all images it sums to 0. Images unlike any reference image come first."
        ),
        samples=samples,
        header=("Category", "Images", f"Among the {len(listed)} shown", "Mean influence")
        if by_category
        else (),
        lines=[_line(category, found, listed) for category, found in by_category.items()],
    )


def _with_influence(shown: ReportSample, entry: Mapping[str, Any]) -> ReportSample:
    return ReportSample(
        image=shown.image,
        caption=shown.caption,
        caption_id=shown.caption_id,
        score=entry["influence"],
        score_name="influence",
        notes=shown.notes,
        category=entry.get("category") or "",
    )


def _line(
    category: str, found: Mapping[str, float], listed: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    among = sum(entry.get("category") == category for entry in listed)
    mean = typographic(f"{found['mean_influence']:+.2g}")
    return category, number(found["n"]), number(among), mean
