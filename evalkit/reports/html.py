"""Reports as one HTML file: no script, no request, readable in ten years.

The page embeds its style and its images, so that it opens offline and can be mailed or archived. A
content security policy in the page forbids scripts and all requests, whatever a prompt or a model
name contains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jinja2

from evalkit.core.places import AnyPath
from evalkit.core.results import ResultRecord, write_atomically
from evalkit.protocols.published import Published
from evalkit.reports import curves, fingerprints, formatting, views, wording
from evalkit.reports.methods import methods
from evalkit.reports.thumbnails import Picture, Thumbnail, thumbnail
from evalkit.reports.trilemma import trilemma_chart

_TEMPLATES = Path(__file__).parent / "templates"
_TILE_PX = 140
_PHOTO_TILE_PX = 176


@dataclass(frozen=True, kw_only=True)
class ReportSample:
    """One image of a gallery."""

    image: Picture
    """The generated image; ignored unless the status is `ok`."""
    caption: str
    caption_id: str = ""
    score: float | None = None
    score_name: str = ""
    status: str = "ok"
    """`ok`, or `refused`, `filtered`, `failed`: then the notes replace the image."""
    notes: tuple[str, ...] = ()
    reference: AnyPath | None = None
    """The reference image of the caption, shown beside the generated one."""
    category: str = ""
    subject: str = ""
    """The model that generated it, if a gallery shows several."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images under one heading."""

    title: str
    explanation: str
    samples: Sequence[ReportSample]
    layout: Literal["grid", "by_caption"] = "grid"
    """`by_caption` shows the images of a caption in a row, to compare models."""
    header: Sequence[str] = ()
    """Column headings of a small table above the images; empty for no table."""
    lines: Sequence[Sequence[str]] = ()
    """Rows of that table; the first column has their names."""


@dataclass(frozen=True, kw_only=True)
class _Page:
    """The content that both kinds of page share."""

    title: str
    question: str
    """The question that the page answers, in one sentence."""
    records: Sequence[ResultRecord]
    galleries: Sequence[Gallery] = ()
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprint of the run, or of the comparison itself, such as its command; further entries of
    the records are shown with them."""
    warnings: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """Versions by library."""


@dataclass(frozen=True, kw_only=True)
class RunReport(_Page):
    """The content of a page about one run."""

    headline: Sequence[str] = ()
    """Metrics shown as cards; empty for the first six records."""
    single_values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Single values by metric, whose mean the value is, such as CLIP scores; for a histogram."""


@dataclass(frozen=True, kw_only=True)
class ComparisonReport(_Page):
    """The content of a page about several runs.

    Records whose metric ends in `-difference` are paired differences; their subject names the two
    models as `A - B`.
    """

    subjects: Sequence[str]
    """The models in the order of the rows; each record's `subject` is one of them, or a pair."""
    notes: Sequence[str] = ()
    """Sentences about the differences, below their table."""
    published: Sequence[Published] = ()
    """Values that others published for the same metrics; they get a table of their own."""


@dataclass(frozen=True, kw_only=True)
class _SampleView:
    sample: ReportSample
    image: Thumbnail | None
    reference: Thumbnail | None
    score: str


@dataclass(frozen=True, kw_only=True)
class _GalleryView:
    gallery: Gallery
    groups: tuple[tuple[_SampleView, ...], ...]
    """One group, or one per caption."""
    tile_px: int


def write_html(path: AnyPath, report: RunReport) -> None:
    """Write the page of one run, atomically."""
    _write(path, render(report))


def write_comparison_html(path: Path, report: ComparisonReport) -> None:
    """Write the page that compares several runs, atomically."""
    _write(path, render_comparison(report))


def render(report: RunReport) -> str:
    """Render the page of one run."""
    rows, notes = views.record_views(report.records, report.single_values)
    fingerprint = {
        **views.agreed_entries([record.fingerprint for record in report.records]),
        **report.fingerprint,
    }
    relation = str(fingerprint.get("training_relation") or "unknown")
    return _page(
        "report.html.j2",
        report,
        rows=rows,
        notes=notes,
        cards=views.headline_views(rows, report.headline),
        charts=views.chart_views(rows),
        curves=list(filter(None, map(curves.distance_curve, report.records))),
        badges=wording.subject_badges({**fingerprint, "training_relation": relation}),
        protocol=wording.protocol_sentence(fingerprint),
        created=fingerprint.get("created"),
    )


def render_comparison(report: ComparisonReport) -> str:
    """Render the page that compares several runs."""
    rows, notes = views.record_views(report.records)
    difference_rows = [row for row in rows if wording.is_difference(row.record)]
    differences = [views.difference_view(row) for row in difference_rows]
    measured = [record for record in report.records if not wording.is_difference(record)]
    made_with = [
        views.agreed_entries(
            [record.fingerprint for record in measured if record.subject == subject],
            disputed="varies",
        )
        for subject in report.subjects
    ]
    values = views.matrix_view(measured, report.subjects)
    return _page(
        "comparison.html.j2",
        report,
        rows=rows,
        notes=[note for note in notes if note not in values.notes],
        matrix=values,
        charts=views.chart_views([row for row in rows if not wording.is_difference(row.record)]),
        differences=differences,
        difference_notes=[*report.notes, *views.difference_notes(differences)],
        trilemma=trilemma_chart(measured, report.subjects),
        published=[(wording.metric_label(one.stated.metric), one) for one in report.published],
        difference_charts=views.chart_views(difference_rows),
        settings=fingerprints.subject_differences(made_with),
        badges=wording.common_badges(measured),
        created=report.fingerprint.get("created"),
        protocol=wording.protocol_sentence(
            views.agreed_entries([record.fingerprint for record in measured])
        ),
    )


def _page(template: str, report: RunReport | ComparisonReport, **context: Any) -> str:
    """Render what both kinds of page have: galleries, provenance, the full fingerprint."""
    environment = _environment()
    load = lru_cache(maxsize=None)(thumbnail)
    sources = [report.fingerprint, *(record.fingerprint for record in report.records)]
    return environment.get_template(template).render(
        report=report,
        galleries=[_gallery_view(gallery, load) for gallery in report.galleries],
        entries=_entries(report),
        methods=methods(report.records),
        sentences=views.note_sentences(context["rows"]),
        marks=list(dict.fromkeys(badge for row in context["rows"] for badge in row.badges)),
        commands=list(dict.fromkeys(filter(None, map(views.command_text, sources)))),
        timings=[
            (name, elapsed_s, formatting.seconds_text(elapsed_s))
            for name, elapsed_s in report.timings.items()
        ],
        longest_s=max(report.timings.values(), default=0.0),
        **context,
    )


def _entries(report: RunReport | ComparisonReport) -> list[fingerprints.Entry]:
    """Return the run's fingerprint, then the entries in which its records differ from it."""
    run = fingerprints.flatten(report.fingerprint)
    several = len({record.subject for record in report.records}) > 1
    named: dict[str, dict[str, fingerprints.Scalar]] = {}
    for record in report.records:
        name = f"{record.subject} · " * several + wording.label(record)
        flat = fingerprints.flatten(record.fingerprint)
        named[_unused(name, named)] = {
            key: value for key, value in flat.items() if key not in run or run[key] != value
        }
    whole_run = [
        fingerprints.Entry(key=key, value=fingerprints.value_text(value), holders=())
        for key, value in run.items()
    ]
    return whole_run + fingerprints.entries(named)


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name, with a number if another record has it."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def _gallery_view(gallery: Gallery, load: Callable[..., Thumbnail]) -> _GalleryView:
    scores = [abs(sample.score) for sample in gallery.samples if sample.score is not None]
    places = formatting.decimals(max(scores, default=0.0), None)
    samples = [_sample_view(sample, load, places) for sample in gallery.samples]
    groups: dict[str, list[_SampleView]] = {}
    for view in samples:
        key = view.sample.caption_id or view.sample.caption
        groups.setdefault(key if gallery.layout == "by_caption" else "", []).append(view)
    return _GalleryView(
        gallery=gallery,
        groups=tuple(tuple(group) for group in groups.values()),
        tile_px=_tile_px(samples),
    )


def _sample_view(sample: ReportSample, load: Callable[..., Thumbnail], places: int) -> _SampleView:
    score = "" if sample.score is None else formatting.number(sample.score, places)
    return _SampleView(
        sample=sample,
        image=load(sample.image) if sample.status == "ok" else None,
        reference=load(sample.reference) if sample.reference is not None else None,
        score=formatting.typographic(score),
    )


def _tile_px(samples: Sequence[_SampleView]) -> int:
    """Return the width of a tile: an integer multiple of small images keeps pixels square."""
    abreast = 2 if any(view.reference for view in samples) else 1
    edge = max((view.image.width for view in samples if view.image and view.image.uri), default=0)
    if not edge or edge > _TILE_PX:
        return _PHOTO_TILE_PX * abreast
    return edge * max(1, round(_TILE_PX / edge)) * abreast


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _write(path: AnyPath, page: str) -> None:
    write_atomically(path, page.encode("utf-8", "replace"))
