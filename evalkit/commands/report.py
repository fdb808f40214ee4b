"""`evalkit report`: the page of a measured run, from the files in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.commands.influence import influence_galleries
from evalkit.core.errors import RunFolderError
from evalkit.core.places import AnyPath, has_file
from evalkit.core.progress import console
from evalkit.core.results import ResultRecord, read_records, write_atomically
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.core.tables import parse_json, read_text
from evalkit.generation import run_fingerprint
from evalkit.measurement import failures
from evalkit.reports.html import Gallery, ReportSample, RunReport, write_html

GRID = 24
"""Images of the sample grid: the first ones, not selected."""
EXTREMES = 12
"""Number of images shown as best and as worst."""


def report(path: AnyPath) -> None:
    """Write `report.html` from `results.json`, `scores.json` and the images."""
    run = RunFolder.read(path)
    if not has_file(path / "results.json"):
        raise RunFolderError(
            f"{path} has not been measured: no results.json. Measure it with: "
            f"evalkit score {path} --against DATASET."
        )
    records = read_records(path / "results.json")
    console.print(f"Report: {write_report(run, records)}", soft_wrap=True)


def keep_measurement(
    run: RunFolder, scores: Mapping[int, float], score_name: str, timings: Mapping[str, float]
) -> None:
    """Store what the page needs besides the records: scores of single images, and timings."""
    document = {
        "score_name": score_name,
        "scores": {str(index): score for index, score in scores.items()},
        "timings": dict(timings),
    }
    write_atomically(run.path / "scores.json", json.dumps(document).encode())


def write_report(run: RunFolder, records: Sequence[ResultRecord]) -> AnyPath:
    """Render the page of a run into its folder."""
    target = run.path / "report.html"
    write_html(target, run_page(run, records))
    return target


def run_page(run: RunFolder, records: Sequence[ResultRecord]) -> RunReport:
    """Return the content of the page of a run."""
    rows = run.rows()
    kept = _kept(run)
    command = next((r.fingerprint["command"] for r in records if "command" in r.fingerprint), None)
    config = run.config
    return RunReport(
        title=f"{config['display_name']} on {config['dataset']['name']}",
        question=_question(config),
        records=records,
        galleries=_galleries(
            run, rows, records, kept.get("scores", {}), kept.get("score_name", "")
        ),
        fingerprint={**run_fingerprint(run), **({"command": command} if command else {})},
        warnings=_warnings(rows),
        timings=kept.get("timings", {}),
        made_with=run.made_with,
    )


def _question(config: Mapping[str, Any]) -> str:
    name, data = config["display_name"], config["dataset"]
    if config["conditioning"] == "text":
        return (
            f"How good are the images that {name} generates for {data['n']:,} captions of "
            f"{data['name']}?"
        )
    relation = "for the classes of" if config["conditioning"] == "class" else "compared with"
    return f"How good are {data['n']:,} images by {name}, {relation} {data['name']}?"


def _kept(run: RunFolder) -> dict[str, Any]:
    path = run.path / "scores.json"
    if not has_file(path):
        return {}
    kept: Any = parse_json(read_text(path), source=str(path))
    fits = isinstance(kept, dict) and isinstance(kept.get("score_name", ""), str)
    for key in ("scores", "timings"):
        if not fits or not _is_figures(kept.get(key, {})):
            raise RunFolderError(f"{path} is damaged: no {key} by name. Run `evalkit fid` again.")
    return dict(kept)


def _is_figures(value: object) -> bool:
    """Return whether a value is finite numbers by name."""
    return isinstance(value, dict) and all(
        isinstance(number, int | float) and math.isfinite(number) for number in value.values()
    )


def _galleries(
    run: RunFolder,
    rows: Sequence[ManifestRow],
    records: Sequence[ResultRecord],
    scores: Mapping[str, float],
    name: str,
) -> list[Gallery]:
    def sample(row: ManifestRow) -> ReportSample:
        return ReportSample(
            image=run.image_path(row) if row.file else run.path,
            caption=row.prompt or (f"class {row.label}" if row.label is not None else ""),
            caption_id=row.caption_id,
            score=scores.get(str(row.index)),
            score_name=name,
            status=row.status,
            notes=(*row.notes, *([row.reason] if row.reason else [])),
        )

    galleries = [
        Gallery(
            title="Samples",
            explanation=f"The first {min(GRID, len(rows))} of {len(rows):,} images, not selected.",
            samples=[sample(row) for row in rows[:GRID]],
        )
    ]
    ranked = sorted((r for r in rows if str(r.index) in scores), key=lambda r: scores[str(r.index)])
    if len(ranked) > 2 * EXTREMES:
        galleries += [
            Gallery(
                title="Best by CLIP score",
                explanation="The images with the highest CLIP score for their caption.",
                samples=[sample(row) for row in reversed(ranked[-EXTREMES:])],
            ),
            Gallery(
                title="Worst by CLIP score",
                explanation="The lowest scores: check these images before trusting the mean.",
                samples=[sample(row) for row in ranked[:EXTREMES]],
            ),
        ]
    return galleries + influence_galleries(records, rows, sample)


def _warnings(rows: Sequence[ManifestRow]) -> list[str]:
    said = [
        f"{count:,} of {len(rows):,} samples were {status} and have no image; "
        "they are excluded from the scores."
        for status, count in failures(rows).items()
    ]
    cut = sum("caption truncated" in row.notes for row in rows)
    if cut:
        said.append(f"{cut:,} captions were longer than the model's context and were truncated.")
    return said
