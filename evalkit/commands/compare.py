"""`evalkit compare`: models by metrics, and the paired difference of each pair of models."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from evalkit.catalog import metric_of
from evalkit.commands.exporting import print_exports
from evalkit.commands.galleries import comparison_galleries
from evalkit.commands.sets import (
    Against,
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
from evalkit.core.progress import ProgressFactory, console, progress_bar, silent
from evalkit.core.results import ResultRecord, write_records
from evalkit.measurement import default_metrics, kept_samples, refuse_biased_scores
from evalkit.metrics.comparison import (
    holm_corrected,
    paired_differences,
    said_against_table,
)
from evalkit.metrics.score import PreparedSet, Scorer, without
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions
from evalkit.protocols.published import published_values
from evalkit.reports.difference_table import difference_table
from evalkit.reports.fingerprints import SUBJECT_KEYS
from evalkit.reports.html import ComparisonReport, write_comparison_html
from evalkit.reports.tables import models_table
from evalkit.reports.wording import label
from evalkit.workers.opening import library_versions

WHICH_QUESTION = (
    "The intervals answer for these weights, sampled again. They don't say what another training "
    "would give; evalkit variance does, from runs of several trainings."
)
_UNTESTED = ("prdc", "images-per-second")
"""Metrics that a comparison adds for its chart of quality, diversity and speed. They are measured
but not tested: tests that nobody asked for would weaken the others' correction."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured of several sets, and the page about it."""

    records: Sequence[ResultRecord]
    """Of each set, in the order of the sets."""
    differences: Sequence[ResultRecord]
    """Of each pair of sets."""
    page: ComparisonReport

    @property
    def all_records(self) -> list[ResultRecord]:
        """The records of the sets, then the differences."""
        return [*self.records, *self.differences]


def compare(
    runs: Sequence[str],
    against: str | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    html: Path,
    json_file: Path | None,
    exports: Sequence[Path] = (),
    command: str,
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Measure all sets, then print and write both tables.

    Raises:
        ConfigError: Fewer than two sets, two of one name, or no reference.
        EvalkitError: As for `score_sets`, for any set.
    """
    check_output(html, "--html")
    check_output(json_file, "--json")
    with progress("Listing the sets"):
        sets = named_sets(runs)
    found = compare_sets(
        sets, against, options, coco_root=coco_root, command=command, progress=progress
    )
    write_comparison_html(html, found.page)
    console.print(models_table(found.records, title=found.page.title, width=console.width))
    console.print(difference_table(found.differences, found.page.notes))
    console.print(WHICH_QUESTION, soft_wrap=True)
    print_skipped(found.records)
    if json_file is not None:
        write_records(json_file, found.all_records)
    print_exports(exports, found.page)
    console.print(f"Report: {html}", soft_wrap=True)
    refuse_incomplete(found.records, options)
    return found.all_records


def compare_sets(
    sets: Mapping[str, Samples],
    against: str | Against | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None = None,
    command: str = "",
    progress: ProgressFactory = silent,
) -> Comparison:
    """Measure sets and the paired difference of each pair of them.

    Args:
        sets: Two or more, by name.
        against: The reference; None: the data set that all runs took their captions from.
        options: How to measure.
        coco_root: COCO's folder, if the reference is COCO.
        command: The command line, for the fingerprint.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: No reference, or options that contradict each other.
        EvalkitError: As for `score_sets`, for any set.
    """
    started = time.perf_counter()
    opened = list(sets.values())
    compared = own_reference(reference_name(against, options), opened, coco_root, progress)
    given, options = options, compared.options(options, opened)
    compared = compared.for_samples(options, opened)
    sets = {
        name: replace(one, items=kept_samples(one.items, options)) for name, one in sets.items()
    }
    say_features(options, given)
    metrics = options.metrics or _default_metrics(sets.values(), options)
    untested = () if options.metrics else _untested(sets.values(), compared, metrics)
    for one in sets.values():
        refuse_biased_scores(one.fingerprint.get("reranked"), options)
    scorer = Scorer.of(compared.reference, [*metrics, *untested], options, progress)
    prepared = {name: scorer.prepare(one.items, name, run=one.source) for name, one in sets.items()}
    marks = {"reference": compared.name, **options.protocol_marks()}
    by_set = {
        name: [
            record.with_context(subject=name, fingerprint={**_own_marks(name, sets), **marks})
            for record in scorer.records(one)
            if _is_shown(record, untested, options)
        ]
        for name, one in prepared.items()
    }
    records = [record for of_set in by_set.values() for record in of_set]
    tested = {name: without(one, untested) for name, one in prepared.items()}
    differences = _differences(tested, by_set, marks)
    page = ComparisonReport(
        title=f"{' and '.join(sets) if len(sets) == 2 else f'{len(sets)} models'} "
        f"against {compared.name}",
        question=f"Which model is closer to {compared.name}, beyond chance? {WHICH_QUESTION}",
        subjects=list(sets),
        records=[*records, *differences],
        galleries=comparison_galleries(sets, prepared),
        fingerprint={"command": command} if command else {},
        notes=_notes(differences, records, untested),
        published=published_values(compared.dataset, metrics, protocol=options.protocol),
        timings={"measuring": time.perf_counter() - started},
        made_with=library_versions(),
    )
    return Comparison(records=records, differences=differences, page=page)


def _untested(
    sets: Collection[Samples], compared: Against, metrics: Sequence[str]
) -> tuple[str, ...]:
    """Return what the chart needs besides the metrics, as far as the sets and reference allow."""
    has = {
        "prdc": compared.reference is not None
        and not isinstance(compared.reference, ReferenceStatistics),
        "images-per-second": all(one.source and one.source.timings() for one in sets),
    }
    return tuple(name for name in _UNTESTED if has[name] and name not in metrics)


def _is_shown(record: ResultRecord, untested: Sequence[str], options: MeasureOptions) -> bool:
    """Whether a record is of a metric that was asked for, or one that the chart shows."""
    if metric_of(record.metric) not in untested:
        return True
    return record.metric in (f"recall-k{options.neighbours[0]}", "images-per-second")


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


def _notes(
    differences: Sequence[ResultRecord], records: Sequence[ResultRecord], untested: Sequence[str]
) -> list[str]:
    labels = dict.fromkeys(label(r) for r in records if metric_of(r.metric) in untested)
    shown = f"{' and '.join(labels)}: measured for the chart, not tested." if labels else ""
    num_tests = max((record.details.get("num_tests", 0) for record in differences), default=0)
    if num_tests < 2:
        return [shown] if shown else []
    levels = {record.interval.level for record in differences if record.interval is not None}
    expected = num_tests * (1 - max(levels, default=0.95))
    corrected = (
        f"p-values are corrected over the {num_tests} tests shown (Holm). Intervals are not: "
        f"without any true difference, {expected:.2g} of {num_tests} are expected to exclude 0."
    )
    return [corrected, *([shown] if shown else [])]
