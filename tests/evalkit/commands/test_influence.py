"""The gallery of what pushes a distance up, from the record alone."""

from __future__ import annotations

from pathlib import Path

from evalkit.commands.influence import influence_galleries
from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow
from evalkit.reports.html import ReportSample


def row(index: int, status: str = "ok") -> ManifestRow:
    return ManifestRow(
        index=index, caption_id=f"c{index}", sample_index=0, seed=0, prompt=f"scene {index}",
        label=None, image_id=None, file=f"{index}.png" if status == "ok" else None, sha256=None,
        status=status, reason="", notes=(),
    )  # fmt: skip


def sample(shown: ManifestRow) -> ReportSample:
    return ReportSample(
        image=Path(shown.file or ""), caption=shown.prompt or "", caption_id=shown.caption_id
    )


def record(**details: object) -> ResultRecord:
    return ResultRecord(
        metric="fid", value=1.0, n=3, direction="lower", reason="none", details=details
    )


def entry(index: int, influence: float, category: str | None) -> dict[str, object]:
    return {"index": index, "influence": influence, "category": category}


def test_places_count_only_images_that_came_out() -> None:
    rows = [row(0), row(1, "refused"), row(2), row(3)]
    listed = [entry(1, 0.2, "many"), entry(2, 0.1, "one")]
    by_category = {
        "many": {"n": 1, "mean_influence": 0.2},
        "one": {"n": 2, "mean_influence": -0.1},
    }
    (gallery,) = influence_galleries(
        [record(most_influential=listed, influence_by_category=by_category), record()],
        rows,
        sample,
    )
    assert gallery.title == "Images that raise FID most"
    # The second image that came out is that of row 2.
    assert [s.caption for s in gallery.samples] == ["scene 2", "scene 3"]
    assert [s.score for s in gallery.samples] == [0.2, 0.1]
    assert [s.category for s in gallery.samples] == ["many", "one"]
    assert gallery.lines[0] == ("many", "1", "1", "+0.2")
    assert gallery.lines[1][1:3] == ("2", "1")


def test_no_table_without_categories() -> None:
    (gallery,) = influence_galleries(
        [record(most_influential=[entry(0, 0.2, None)])], [row(0)], sample
    )
    assert gallery.lines == []
    assert not gallery.header
    assert gallery.samples[0].category == ""
