"""`evalkit gate`: does a candidate stay within its margins of a baseline."""

from __future__ import annotations

import errno
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.catalog import DATASETS, DIFFERENCE_SUFFIX, METRICS
from evalkit.commands.exporting import print_exports
from evalkit.commands.sets import (
    NO_REFERENCE,
    Against,
    Samples,
    open_samples,
    own_reference,
    reference_name,
    say_features,
)
from evalkit.core.errors import ConfigError, EvalkitError, MissingWeightsError, as_clause
from evalkit.core.files import check_output
from evalkit.core.memory import is_out_of_memory
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import Interval, ResultRecord
from evalkit.features.sources import ImageItem
from evalkit.gate.definition import GateDefinition, metric_row
from evalkit.gate.outputs import GateFiles, GateResult, found_text, p_text
from evalkit.gate.requirements import CRASHED, Judged, Requirement, judge, judge_any
from evalkit.measurement import kept_samples, refuse_biased_scores
from evalkit.metrics.comparison import paired_differences
from evalkit.metrics.score import PreparedSet, Scorer
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions
from evalkit.reports.formatting import number
from evalkit.reports.html import ComparisonReport
from evalkit.workers.opening import library_versions

_COLOURS = {"passed": "green", "failed": "red", "undecided": "yellow", "not measured": "magenta"}


@contextmanager
def crash_code() -> Iterator[None]:
    """Exit with 70 after a bug, whose traceback is printed.

    Python's own exit code of a traceback is 1, which means "failed" here.
    """
    try:
        yield
    except EvalkitError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or is_out_of_memory(error):
            raise  # the command line reports these in one line
        traceback.print_exc()
        raise SystemExit(CRASHED) from error


def gate(
    candidate: str,
    definition: GateDefinition,
    options: MeasureOptions,
    *,
    files: GateFiles,
    coco_root: Path | None,
    exports: Sequence[Path] = (),
    command: str = "",
    progress: ProgressFactory = progress_bar,
) -> GateResult:
    """Measure both runs, judge every requirement, print the verdict and write it.

    Args:
        candidate: The run that must stay within the margins.
        definition: The gate, with a baseline.
        options: How to measure; the definition decides the level and what `[measure]` has.
        files: Where the result is written.
        coco_root: Folder of COCO.
        exports: Further files of the records, by suffix.
        command: The command line, for the fingerprint.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: No baseline, other requests in the two runs, or no reference where one is
            needed.
        EvalkitError: As for `compare`.
    """
    pairs = (("--json", files.json), ("--markdown", files.markdown), ("--junit", files.junit))
    for flag, path in pairs:
        check_output(path, flag)
    if definition.baseline is None:
        raise ConfigError("No baseline. Give a run with --baseline, or baseline in the file.")
    if Path(candidate).resolve() == Path(definition.baseline).resolve():
        raise ConfigError(f"{candidate} is the baseline itself. Name the run of the candidate.")
    files.begin(candidate, definition.baseline)
    measured = measure(candidate, definition, options, coco_root=coco_root, progress=progress)
    judged = _judged(definition, measured)
    result = GateResult(
        candidate=measured.names[0],
        baseline=measured.names[1],
        reference=measured.reference,
        rule=definition.rule,
        judged=judged,
        records=[one for one in measured.found.values() if isinstance(one, ResultRecord)],
        num_images=measured.num_images,
    )
    _print(result)
    for flag, path in pairs:
        if path is not None:
            console.print(f"{flag.removeprefix('--')}: {path}", soft_wrap=True, highlight=False)
    if exports:
        print_exports(exports, _page(result, command))
    files.finish(result)  # last, so that no crash leaves a verdict behind
    return result


def _page(result: GateResult, command: str) -> ComparisonReport:
    """Return what `--export` writes: the records, each with what was required and the verdict."""
    title = f"Gate: {result.candidate} against {result.baseline}"
    records = [
        replace(
            one.record,
            details={
                **one.record.details,
                "required": one.requirement.words,
                "verdict": one.verdict,
            },
        )
        for one in result.judged
        if one.record is not None
    ]
    return ComparisonReport(
        title=title,
        question=f"{title}: {result.verdict}. Is the candidate within its margins?",
        subjects=[result.candidate, result.baseline],
        records=records,
        notes=[
            *result.sentences,
            *(f"{one.requirement.metric} {one.requirement.words}: {one.verdict}."
              for one in result.judged),
        ],
        galleries=[],
        fingerprint={"command": command},
        made_with=library_versions(),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a gate measured of two runs."""

    names: tuple[str, str]
    """Of the candidate and of the baseline."""
    reference: str
    num_images: int
    """Images of each run."""
    found: Mapping[Requirement, ResultRecord | str]
    """The record of each requirement, or why there is none."""


def measure(
    candidate: str,
    definition: GateDefinition,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    progress: ProgressFactory = progress_bar,
) -> Measured:
    """Measure what a gate requires of two runs; raises what `gate` raises."""
    assert definition.baseline is not None
    names = (candidate, definition.baseline)
    with progress("Listing the runs"):
        sets = tuple(open_samples(name) for name in names)
    wanted = definition.requirements

    def measured(found: Mapping[Requirement, ResultRecord | str], reference: str) -> Measured:
        fewest = min(len(one.items) for one in sets)
        return Measured(names=names, reference=reference, num_images=fewest, found=found)

    missing = _missing_images(sets, names)
    if missing:
        return measured(dict.fromkeys(wanted, missing), "none")
    _refuse_other_requests(sets, names)
    options = replace(_with_definition(options, definition), level=definition.rule.level)
    compared = _reference(definition, options, sets, coco_root, progress)
    given, options = options, compared.options(options, list(sets))
    compared = compared.for_samples(options, list(sets))
    say_features(options, given)
    for one in sets:
        refuse_biased_scores(one.fingerprint.get("reranked"), options)
    left_out = sum(len(one.items) - len(kept_samples(one.items, options)) for one in sets)
    if left_out:
        said = f"{left_out:,} images are {options.sample_exclude}, and the protocol leaves them out"
        return measured(dict.fromkeys(wanted, said), compared.name)
    marks = {"reference": compared.name, **options.protocol_marks()}
    metrics = _measured(definition, sets, compared, options, progress)
    found: dict[Requirement, ResultRecord | str] = {}
    for requirement in wanted:
        metric, own = metrics[metric_row(requirement)[0]], requirement.kind == "bound"
        if isinstance(metric, str):
            found[requirement] = metric
            continue
        record = _of(requirement, metric.values if own else metric.differences)
        if isinstance(record, ResultRecord):
            subject = names[0] if own else f"{names[0]} - {names[1]}"
            record = record.with_context(subject=subject, fingerprint=marks)
        found[requirement] = record
    return measured(found, compared.name)


@dataclass(frozen=True)
class _MeasuredMetric:
    """One metric of the candidate and, unless it compares the two runs itself, the baseline."""

    name: str
    scorer: Scorer
    prepared: Sequence[PreparedSet]

    @cached_property
    def values(self) -> list[ResultRecord]:
        """The candidate's own records."""
        only = replace(self.scorer, metrics={self.name: self.scorer.metrics[self.name]})
        return only.records(self.prepared[0])

    @cached_property
    def differences(self) -> list[ResultRecord]:
        """The paired differences, candidate minus baseline."""
        pair = [replace(one, tasks={self.name: one.tasks[self.name]}) for one in self.prepared]
        hashes = [Counter(one.tasks[self.name].samples.sha256s) for one in pair]
        level = self.scorer.networks.options.level
        found = paired_differences(*pair)
        return [_certain(one, level) if hashes[0] == hashes[1] else one for one in found]


def _measured(
    definition: GateDefinition,
    sets: Sequence[Samples],
    compared: Against,
    options: MeasureOptions,
    progress: ProgressFactory,
) -> dict[str, _MeasuredMetric | str]:
    """Prepare every metric of a gate; return the missing weights of those that lack them."""
    names = list(dict.fromkeys(metric_row(one)[0] for one in definition.requirements))
    pairs = [name for name in names if METRICS[name].full_reference]
    alone = [name for name in names if name not in pairs]
    as_they_are = replace(
        options, crop="none", size_px=None, reencode="none", sample_crop="none",
        sample_size_px=None, sample_saved="none", sample_reencode="none", blur_px=0.0, protocol="",
    )  # fmt: skip
    return {
        **_prepared(alone, compared.reference, sets, options, progress),
        **_prepared(pairs, sets[1].items, sets[:1], as_they_are, progress),
    }


def _prepared(
    names: Sequence[str],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    sets: Sequence[Samples],
    options: MeasureOptions,
    progress: ProgressFactory,
) -> dict[str, _MeasuredMetric | str]:
    if not names:
        return {}
    try:
        scorer = Scorer.of(reference, names, options, progress)
    except MissingWeightsError as error:
        if len(names) == 1:
            return {names[0]: as_clause(error)}
        # Metrics without networks are measured all the same.
        each = (_prepared([name], reference, sets, options, progress) for name in names)
        return {name: one for found in each for name, one in found.items()}
    titles = ("the candidate", "the baseline")
    prepared = [
        scorer.prepare(one.items, title, run=one.source)
        for one, title in zip(sets, titles, strict=False)
    ]
    missing = {name: scorer.why_missing(name) for name in names}
    return {
        name: _MeasuredMetric(name, scorer, prepared) if error is None else as_clause(error)
        for name, error in missing.items()
    }


def _certain(record: ResultRecord, level: float) -> ResultRecord:
    """Give the difference of two sets of the same files, which is 0, an interval without width."""
    if record.value != 0 or record.interval is not None:
        return record
    method = "certain: both runs have the same images"
    interval = Interval(low=0.0, high=0.0, level=level, method=method)
    return replace(record, interval=interval, standard_error=0.0)


def _of(requirement: Requirement, records: Sequence[ResultRecord]) -> ResultRecord | str:
    """Return the record of a requirement, or why there is none.

    The difference of a distance is that of its corrected values, so `fid-infinity` finds
    `fid-difference`; a metric with one difference has it under its own name too.
    """
    wanted = requirement.metric
    if requirement.kind == "bound":
        by_name = {record.metric: record for record in records}
    else:
        by_name = {record.metric.removesuffix(DIFFERENCE_SUFFIX): record for record in records}
        names = (wanted, wanted.removesuffix("-infinity"))
        wanted = next((name for name in names if name in by_name), wanted)
        if wanted not in by_name and len(by_name) == 1:
            (wanted,) = by_name
    if wanted in by_name:
        return by_name[wanted]
    there = f"; there is {', '.join(by_name)}" if by_name else ""
    return f"these runs yield no {requirement.metric}{there}"


def _judged(definition: GateDefinition, measured: Measured) -> list[Judged]:
    """Judge all requirements, in their order."""
    rule, found, n = definition.rule, measured.found, measured.num_images
    judged: dict[Requirement, Judged] = {}
    of_any: dict[Requirement, ResultRecord] = {}
    for requirement in definition.requirements:
        record = found[requirement]
        if isinstance(record, str):
            judged[requirement] = Judged(
                requirement=requirement, verdict="not measured", reason=record
            )
        elif requirement.kind == "superior in any":
            of_any[requirement] = record
        else:
            judged[requirement] = judge(requirement, record, rule, num_images=n)
    in_any = judge_any(list(of_any), list(of_any.values()), rule, num_images=n)
    judged |= {one.requirement: one for one in in_any}
    return [judged[requirement] for requirement in definition.requirements]


def _missing_images(sets: Sequence[Samples], names: Sequence[str]) -> str:
    """Say which run has requests without an image; empty if none has."""
    for one, name in zip(sets, names, strict=True):
        if one.run is None:
            continue
        rows = one.run.rows()
        lacking = [row for row in rows if row.file is None]
        if lacking:
            return (
                f"{len(lacking):,} of {len(rows):,} requests of {name} have no image (the first: "
                f"{lacking[0].status}, {lacking[0].reason or 'no reason given'})"
            )
    return ""


def _refuse_other_requests(sets: Sequence[Samples], names: Sequence[str]) -> None:
    """Refuse runs that were not made from the same captions, each as often.

    Raises:
        ConfigError: They differ; the message has an example.
    """
    counted = [Counter(_caption(item) for item in one.items) for one in sets]
    if counted[0] == counted[1]:
        return
    sizes = " and ".join(
        f"{len(one.items):,} images of {name}" for one, name in zip(sets, names, strict=True)
    )
    differing = sorted(
        (key for key in counted[0] | counted[1] if counted[0][key] != counted[1][key]), key=str
    )
    example = (
        ""
        if differing[0] is None
        else (
            f", such as caption {differing[0][0]}: {counted[0][differing[0]]} and "
            f"{counted[1][differing[0]]} images"
        )
    )
    raise ConfigError(
        f"A gate compares images of the same captions, but the {sizes} differ in theirs{example}. "
        "Generate both from the same captions."
    )


def _caption(item: ImageItem) -> tuple[str, str | None] | None:
    return None if item.caption_id is None else (item.caption_id, item.caption)


def _with_definition(options: MeasureOptions, definition: GateDefinition) -> MeasureOptions:
    """Take the options that the file decides.

    Raises:
        ConfigError: One was typed as well, with another value.
    """
    chosen = definition.measure.model_dump(exclude_none=True)
    for name, value in chosen.items():
        if options.is_given(name) and getattr(options, name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"The gate's file says {name.replace('_', '-')} = {value!r}, and {flag} says "
                f"{getattr(options, name)!r}. Drop the option, or change the file."
            )
    metrics = tuple(dict.fromkeys(metric_row(one)[0] for one in definition.requirements))
    return replace(options, metrics=metrics, typed=options.typed | set(chosen), **chosen)


def _reference(
    definition: GateDefinition,
    options: MeasureOptions,
    sets: Sequence[Samples],
    coco_root: Path | None,
    progress: ProgressFactory,
) -> Against:
    """Open the reference, if a requirement needs one; else only the protocol counts."""
    rows = [metric_row(requirement)[1] for requirement in definition.requirements]
    against = reference_name(definition.against, options)
    if any(row.needs_reference and not row.full_reference for row in rows):
        return own_reference(against, sets, coco_root, progress)
    datasets = {one.dataset for one in sets}
    name = datasets.pop() if len(datasets) == 1 else None
    return replace(NO_REFERENCE, dataset=name if name in DATASETS else None)


def _print(result: GateResult) -> None:
    level = number(round(100 * result.rule.level, 6))
    title = f"{result.candidate} minus {result.baseline}"
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD
    )  # fmt: skip
    table.add_column("metric", overflow="fold")
    table.add_column(f"difference\n[{level} % interval]", overflow="fold")
    table.add_column("required", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for one in result.judged:
        own = " (candidate)" if one.requirement.kind == "bound" else ""
        table.add_row(
            Text(f"{one.requirement.metric} {_ARROWS[one.direction]}".strip() + own),
            Text(f"{found_text(one)} {p_text(one)}".strip()),
            Text(one.requirement.words),
            Text(one.verdict, style=_COLOURS[one.verdict]),
        )
    console.print(table)
    for one in result.judged:
        if one.record is not None and one.record.value is not None and one.record.reason:
            console.print(
                f"{one.requirement.metric}: {one.record.reason}.",
                soft_wrap=True, highlight=False, markup=False,
            )  # fmt: skip
    for sentence in result.sentences:
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)


_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
