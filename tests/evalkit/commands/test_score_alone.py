"""`evalkit score` without a reference: what needs none, by category, and a mean below 0."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from evalkit.catalog import METRICS
from evalkit.commands.score import score
from evalkit.commands.sets import with_categories
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.pixels import encode_png
from evalkit.core.results import ResultRecord, read_records
from evalkit.features.sources import ImageItem
from evalkit.options import MeasureOptions

COUNTS = {
    "Reddit": 38, "Colors": 25, "Text": 21, "DALL-E": 20, "Descriptions": 20, "Positional": 20,
    "Counting": 19, "Conflicting": 10, "Gary Marcus et al.": 10, "Misspellings": 10,
    "Rare Words": 7,
}  # fmt: skip
"""DrawBench's categories and their prompts (Saharia et al. 2022, appendix C)."""
WORDS = ("red", "green", "blue", "circle", "square", "triangle", "star", "large", "small")


def drawbench_folder(folder: Path) -> Path:
    """200 images with captions and DrawBench's categories in a table."""
    rng = np.random.default_rng(0)
    rows = []
    folder.mkdir(parents=True)
    for category, count in COUNTS.items():
        for _ in range(count):
            number = len(rows)
            words = rng.choice(WORDS, 4)
            name = f"{number:03d}.png"
            (folder / name).write_bytes(encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8)))
            text = f"a {' '.join(words)} {number}"
            rows.append({"image_path": name, "prompt": text, "category": category})
    table = folder / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return table


def scored(samples: Path | str, tmp_path: Path, **options: object) -> list[ResultRecord]:
    chosen = MeasureOptions(clip_model="shapes-clip", store=tmp_path / "store", **options)
    return score(str(samples), None, chosen, coco_root=None, json_file=tmp_path / "r.json")


def test_drawbench_is_scored_by_category(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = drawbench_folder(tmp_path / "images")
    whole, precision, *parts = scored(table, tmp_path, metrics=("clip-score", "r-precision"))
    assert (whole.metric, whole.n, precision.n) == ("clip-score", 200, 200)
    assert whole.fingerprint["reference"] == "none"
    for metric, total in (("clip-score", whole), ("r-precision", precision)):
        own = [record for record in parts if record.metric == metric]
        assert {r.details["category"]: r.n for r in own} == COUNTS
        assert all(record.interval is not None for record in own)
        mean = sum(record.value * record.n for record in own) / 200
        assert mean == pytest.approx(total.value)
    assert read_records(tmp_path / "r.json") == [whole, precision, *parts]
    shown = capsys.readouterr().out
    for category, count in COUNTS.items():
        line = next(line for line in shown.splitlines() if line.strip().startswith(category))
        assert re.search(rf"-?\d+(\.\d+)? \[.*\] +{count}$", line.rstrip())


def test_the_default_without_a_reference_is_what_needs_none(tmp_path: Path) -> None:
    table = drawbench_folder(tmp_path / "images")
    records = scored(table, tmp_path)
    assert {record.metric for record in records} == {"clip-score"}


def test_a_metric_that_needs_a_reference_says_so(tmp_path: Path) -> None:
    table = drawbench_folder(tmp_path / "images")
    with pytest.raises(ConfigError, match="No reference, but fid needs one"):
        scored(table, tmp_path, metrics=("clip-score", "fid"))
    with pytest.raises(ConfigError, match="Without captions, every default metric needs one"):
        scored(f"folder:{tmp_path / 'images'}?layout=plain", tmp_path)


def test_captions_for_half_the_images_are_one_error(tmp_path: Path) -> None:
    table = drawbench_folder(tmp_path / "images")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:100]))
    with pytest.raises(DataError, match="100 of 200 images have no caption"):
        scored(f"folder:{table.parent}?captions=list.jsonl", tmp_path, metrics=("clip-score",))


def test_official_prompts_have_their_categories_without_a_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from drawbench.suites import recognition

    known = (
        (recognition.fingerprint_of("A red car."), "Colors"),
        (recognition.fingerprint_of("Two dogs."), "Counting"),
    )
    monkeypatch.setattr(recognition, "drawbench_rows", lambda: known)
    recognition._categories.cache_clear()
    items = [ImageItem(Path("a.png"), caption=text) for text in ("A red  car.", "Two dogs.")]
    assert [item.category for item in with_categories(items)] == ["Colors", "Counting"]
    other = [*items, ImageItem(Path("b.png"), caption="Another prompt.")]
    assert [item.category for item in with_categories(other)] == [None] * 3
    recognition._categories.cache_clear()


def test_metrics_that_need_no_reference_are_the_ones_that_say_so() -> None:
    free = {name for name in METRICS.own if not METRICS[name].needs_reference}
    assert {"clip-score", "r-precision", "is"} <= free
