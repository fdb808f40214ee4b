"""`evalkit compare`: models by metrics, and the paired difference of each pair of models."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from evalkit.commands.sets import (
    Samples,
    is_place,
    open_samples,
    own_reference,
    print_skipped,
    reference_name,
    refuse_incomplete,
    say_features,
)
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.features.sources import ImageItem
from evalkit.measurement import default_metrics, kept_samples, refuse_biased_scores
from evalkit.metrics.comparison import (
    holm_corrected,
    paired_differences,
    said_against_table,
)
from evalkit.metrics.score import PreparedSet, Scorer
from evalkit.options import MeasureOptions
from evalkit.reports.difference_table import difference_table
from evalkit.reports.fingerprints import SUBJECT_KEYS
from evalkit.reports.html import ComparisonReport, Gallery, ReportSample, write_comparison_html
from evalkit.reports.tables import models_table
from evalkit.workers.opening import library_versions

SHOWN_CAPTIONS = 6
WHICH_QUESTION = (
    "The intervals answer for these weights, sampled again. They don't say what another training "
    "would give; evalkit variance does, from runs of several trainings."
)


def compare(
    runs: Sequence[str],
    against: str | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    html: Path,
    json_file: Path | None,
    command: str,
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Measure all sets, then print and write both tables.

    Raises:
        ConfigError: Fewer than two sets, two of one name, or no reference.
        EvalkitError: As for `score_sets`, for any set.
    """
    started = time.perf_counter()
    check_output(html, "--html")
    check_output(json_file, "--json")
    with progress("Listing the sets"):
        sets = named_sets(runs)
    compared = own_reference(
        reference_name(against, options), list(sets.values()), coco_root, progress
    )
    given, options = options, compared.options(options, list(sets.values()))
    compared = compared.for_samples(options, list(sets.values()))
    sets = {
        name: replace(one, items=kept_samples(one.items, options)) for name, one in sets.items()
    }
    say_features(options, given)
    metrics = options.metrics or _default_metrics(sets.values(), options)
    for one in sets.values():
        refuse_biased_scores(one.fingerprint.get("reranked"), options)
    scorer = Scorer.of(compared.reference, metrics, options, progress)
    prepared = {name: scorer.prepare(one.items, name, run=one.source) for name, one in sets.items()}
    marks = {"reference": compared.name, **options.protocol_marks()}
    by_set = {
        name: [
            record.with_context(subject=name, fingerprint={**_own_marks(name, sets), **marks})
            for record in scorer.records(one)
        ]
        for name, one in prepared.items()
    }
    records = [record for of_set in by_set.values() for record in of_set]
    differences = _differences(prepared, by_set, marks)
    notes = _notes(differences)
    page = ComparisonReport(
        title=" and ".join(sets) if len(sets) == 2 else f"{len(sets)} models",
        question=f"Which model is closer to {compared.name}, beyond chance? {WHICH_QUESTION}",
        subjects=list(sets),
        records=[*records, *differences],
        galleries=_galleries(sets),
        fingerprint={"command": command},
        warnings=notes,
        timings={"measuring": time.perf_counter() - started},
        made_with=library_versions(),
    )
    write_comparison_html(html, page)
    title = f"{len(sets)} models against {compared.name}"
    console.print(models_table(records, title=title, width=console.width))
    console.print(difference_table(differences, notes))
    console.print(WHICH_QUESTION, soft_wrap=True)
    print_skipped(records)
    if json_file is not None:
        write_records(json_file, [*records, *differences])
    console.print(f"Report: {html}", soft_wrap=True)
    refuse_incomplete(records, given)
    return [*records, *differences]


def named_sets(runs: Sequence[str]) -> dict[str, Samples]:
    """Open the sets by name: the given name, else the model's, else the path.

    Raises:
        ConfigError: Fewer than two, or two of one name.
    """
    if len(runs) < 2:
        raise ConfigError(f"A comparison needs at least 2 sets, got {len(runs)}.")
    found: dict[str, Samples] = {}
    opened = [_open(text) for text in runs]
    subjects = [samples.subject for _, _, samples in opened]
    for given, path, samples in opened:
        own = samples.subject if subjects.count(samples.subject) == 1 else path
        name = given or own
        if name in found:
            raise ConfigError(f"Two sets are called {name!r}. Name them: NAME={path}.")
        found[name] = samples
    return found


def _open(text: str) -> tuple[str, str, Samples]:
    """Open `[NAME=]PATH`; return name, path and images. An existing path may contain `=`."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists() or is_place(text):
        name, path = "", text
    return name, path, open_samples(path)


def _default_metrics(sets: Collection[Samples], options: MeasureOptions) -> tuple[str, ...]:
    """Choose the default metrics that apply to at least one of the sets."""
    captions = any(one.conditioning == "text" for one in sets)
    scenes = any(one.has_scenes for one in sets)
    return default_metrics(options, "text" if captions else "none", scenes=scenes)


def _own_marks(name: str, sets: Mapping[str, Samples]) -> dict[str, object]:
    """Return the fingerprint's entries on the model, and on the captions where all sets have them.

    The captions' hash is left to the metrics, which hash exactly the captions that they used.
    """
    everywhere = set.intersection(*(set(one.fingerprint) for one in sets.values()))
    kept = (everywhere | SUBJECT_KEYS) - {"captions_sha256"}
    return {key: value for key, value in sets[name].fingerprint.items() if key in kept}


def _differences(
    prepared: Mapping[str, PreparedSet],
    by_set: Mapping[str, Sequence[ResultRecord]],
    marks: Mapping[str, object],
) -> list[ResultRecord]:
    found: list[ResultRecord] = []
    for first, second in combinations(prepared, 2):
        records = paired_differences(prepared[first], prepared[second])
        said = said_against_table(records, by_set[first], by_set[second])
        found += [r.with_context(subject=f"{first} - {second}", fingerprint=marks) for r in said]
    return holm_corrected(found)


def _notes(differences: Sequence[ResultRecord]) -> list[str]:
    num_tests = max((record.details.get("num_tests", 0) for record in differences), default=0)
    if num_tests < 2:
        return []
    levels = {record.interval.level for record in differences if record.interval is not None}
    expected = num_tests * (1 - max(levels, default=0.95))
    return [
        f"p-values are corrected over the {num_tests} tests shown (Holm). Intervals are not: "
        f"without any true difference, {expected:.2g} of {num_tests} are expected to exclude 0."
    ]


def _galleries(sets: Mapping[str, Samples]) -> list[Gallery]:
    """Show the first captions that all sets share, with the models' images side by side."""
    by_caption = {name: _first_images(samples.items) for name, samples in sets.items()}
    first, *others = by_caption.values()
    shared = [key for key in first if all(key in other for other in others)][:SHOWN_CAPTIONS]
    if not shared:
        return []
    samples = [
        ReportSample(
            image=Path(str(images[key].path)),
            caption=images[key].caption or "",
            caption_id=key,
            subject=name,
        )
        for key in shared
        for name, images in by_caption.items()
    ]
    return [
        Gallery(
            title="Side by side",
            explanation=f"The first {len(shared)} captions that all models share, not selected.",
            samples=samples,
            layout="by_caption",
        )
    ]


def _first_images(items: Sequence[ImageItem]) -> dict[str, ImageItem]:
    found: dict[str, ImageItem] = {}
    for item in items:
        if item.caption_id is not None and isinstance(item.path, Path):
            found.setdefault(item.caption_id, item)
    return found
