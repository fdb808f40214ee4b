"""`evalkit watch`: measure the samples of each checkpoint as training writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.analyses.watch import MARKER, Checkpoint, folders, read_checkpoint, tree_times
from evalkit.analyses.watch_table import TABLE, WatchTable, settings_of
from evalkit.catalog import METRICS
from evalkit.commands.score import metrics_of, reference_of
from evalkit.commands.sets import (
    Against,
    Samples,
    open_against,
    open_samples,
    reference_name,
    say_features,
)
from evalkit.core.errors import (
    ConfigError,
    DataError,
    IncompleteError,
    MissingDataError,
    OutputError,
    RunFolderError,
    as_clause,
)
from evalkit.core.files import check_folder, unwritable, writing
from evalkit.core.locks import locked
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord
from evalkit.measurement import check_metrics, kept_samples, refuse_biased_scores
from evalkit.metrics.score import Scorer
from evalkit.options import MeasureOptions, TrackingOptions
from evalkit.reports import formatting, wording
from evalkit.reports.trackers import TrackerLog, scalars, tracker_log

_FAULTS_OF_SAMPLES = (DataError, RunFolderError, MissingDataError)
"""What is wrong with one checkpoint's samples; others are measured all the same."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What is watched, and for how long."""

    once: bool = False
    """Measure what is finished now, and stop."""
    until: int | None = None
    """Stop when as many checkpoints are measured; None: never."""
    every_s: float = 10.0
    """Seconds between two looks at the folder."""
    settle_s: float = 60.0
    """Seconds without a change after which a folder without a marker is finished."""
    marker: str = MARKER
    """Name of a file that marks a finished folder."""


def watch(
    folder: Path,
    against: str | None,
    options: MeasureOptions,
    how: WatchOptions,
    *,
    out: Path | None,
    coco_root: Path | None,
    tracking: TrackingOptions | None = None,
    command: str = "",
    progress: ProgressFactory = progress_bar,
    sleep: Callable[[float], None] = time.sleep,
) -> list[ResultRecord]:
    """Measure each finished checkpoint once, in the order of their steps; the same command resumes.

    Args:
        folder: Folder with a subfolder for each checkpoint.
        against: The reference, as of `evalkit score`.
        options: The measuring options.
        how: What is watched, and for how long.
        out: Folder of `watch.csv` and `watch.json`; None: the watched one.
        coco_root: COCO's folder.
        tracking: The trackers that get each checkpoint's numbers, at its step.
        command: What was typed, for the trackers.
        progress: Such as `evalkit.core.progress.progress_bar`.
        sleep: Waits some seconds.

    Returns:
        The records of all checkpoints.

    Raises:
        ConfigError: Options that a metric does not support, or others than those of the records in
            `out`.
        IncompleteError: A checkpoint could not be measured; the others are written.
        OutputError: `out` can't be written.
    """
    target = out or folder
    folders(folder)
    check_folder(target, "--out")
    measuring = _Measuring.of(reference_name(against, options), options, coco_root, progress)
    chosen = tracking or TrackingOptions()
    logged = {"command": command, "folder": str(folder)}
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    with (
        _only_watcher(target),
        tracker_log(chosen, name=folder.resolve().name, out=target, configuration=logged) as log,
    ):
        table = WatchTable.open(target, settings_of(against, options))
        others = frozenset(Path(one).resolve() for one in (against or folder, target))
        watcher = _Watcher(folder, how, table, measuring, log, others)
        while not watcher.look():
            sleep(how.every_s)
    return _finished(table, folder, options)


@dataclass
class _Watcher:
    """One watched folder."""

    root: Path
    how: WatchOptions
    table: WatchTable
    measuring: _Measuring
    log: TrackerLog
    others: frozenset[Path] = frozenset()
    """Subfolders that are no checkpoints: the reference, the output."""
    measured_as: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """What the folders of measured checkpoints looked like, so that most need no second look."""

    def look(self) -> bool:
        """Measure what is finished and new, and say whether to stop."""
        for path in folders(self.root):
            if self._is_enough():
                break
            if path.resolve() in self.others:
                continue
            times = tree_times(path)
            if self.measured_as.get(path.name) == times:
                continue
            checkpoint = read_checkpoint(path)
            if not self.table.has(checkpoint):
                if self._waits(checkpoint):
                    continue
                self._measure(checkpoint)
            self.measured_as[path.name] = times
        return self.how.once or self._is_enough()

    def _measure(self, checkpoint: Checkpoint) -> None:
        changed = self.table.knows(checkpoint.name)
        records = self.measuring.records(checkpoint)
        self.table.add(checkpoint, records)
        self.log.log(scalars(records), step=self.table.place(checkpoint))
        _say(_line(checkpoint, records, again=changed))

    def _waits(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is not finished; with `--once`, say why it is left out."""
        try:
            why = checkpoint.why_unfinished(
                marker=self.how.marker, settle_s=self.how.settle_s, now=time.time()
            )
        except RunFolderError:
            return False  # measuring it says what is wrong
        if why and self.how.once and (checkpoint.num_images or checkpoint.is_run):
            _say(f"{checkpoint.name}: not finished ({why}), left out")
        return bool(why)

    def _is_enough(self) -> bool:
        return self.how.until is not None and self.table.num_measured >= self.how.until


@dataclass
class _Measuring:
    """Measure checkpoint after checkpoint against one reference."""

    options: MeasureOptions
    coco_root: Path | None
    progress: ProgressFactory
    reference: Against | None
    """None: none is named, and the first checkpoint tells whether a metric needs one."""
    scorer: Scorer | None = None
    scored: tuple[MeasureOptions, tuple[str, ...], Any] | None = None
    """What the scorer was made for."""

    @classmethod
    def of(
        cls,
        against: str | Against | None,
        options: MeasureOptions,
        coco_root: Path | None,
        progress: ProgressFactory,
    ) -> _Measuring:
        """Open the reference and check the options, before any checkpoint is there.

        Raises:
            EvalkitError: The reference or the weights are unavailable, or the options don't fit.
        """
        if against is None:
            if options.metrics:
                nothing_yet = Samples(items=(), subject="", fingerprint={})
                reference_of(None, nothing_yet, options, coco_root, progress)
                check_metrics(options)
            return cls(options, coco_root, progress, None)
        reference = open_against(against, coco_root, progress)
        completed = reference.options(options)
        check_metrics(completed)
        say_features(completed, options)
        return cls(options, coco_root, progress, reference)

    def records(self, checkpoint: Checkpoint) -> list[ResultRecord]:
        """Measure a checkpoint; what is wrong with its samples makes failed records.

        Raises:
            ConfigError: The options or the reference don't fit the first checkpoint.
            MissingWeightsError: The weights of all metrics are unavailable.
        """
        # What doesn't fit a later checkpoint, after others were measured, is a fault of that one.
        faults = _FAULTS_OF_SAMPLES if self.scorer is None else (*_FAULTS_OF_SAMPLES, ConfigError)
        try:
            found = self._measured(open_samples(str(checkpoint.path)))
        except faults as error:
            found = self._failed(checkpoint, as_clause(error))
        marks = {"checkpoint": checkpoint.name, "step": checkpoint.step, **checkpoint.state}
        return [one.with_context(subject=checkpoint.name, fingerprint=marks) for one in found]

    def _measured(self, samples: Samples) -> list[ResultRecord]:
        with _faults_of_the_reference():
            if self.reference is None:
                self.reference = reference_of(
                    None, samples, self.options, self.coco_root, self.progress
                )
            options = self.reference.options(self.options, [samples])
            compared = self.reference.for_samples(options, [samples])
        refuse_biased_scores(samples.fingerprint.get("reranked"), options)
        items = kept_samples(samples.items, options)
        scorer = self._scorer(compared, options, samples)
        context = {**samples.fingerprint, "reference": compared.name, **options.protocol_marks()}
        records = scorer.records(scorer.prepare(items, run=samples.source))
        return [record.with_context(subject="", fingerprint=context) for record in records]

    def _scorer(self, compared: Against, options: MeasureOptions, samples: Samples) -> Scorer:
        """Return the scorer of earlier checkpoints, if it measures the same against the same."""
        metrics = options.metrics or metrics_of(compared, samples, options)
        scored = self.scored
        if self.scorer is None or scored is None or (options, metrics) != scored[:2]:
            fits = False
        else:
            fits = compared.reference is scored[2]
        if not fits:
            with _faults_of_the_reference():
                self.scorer = Scorer.of(compared.reference, metrics, options, self.progress)
            self.scored = options, metrics, compared.reference
        assert self.scorer is not None
        return self.scorer

    def _failed(self, checkpoint: Checkpoint, reason: str) -> list[ResultRecord]:
        names = self.scored[1] if self.scored else self.options.metrics or ("samples",)
        failed = partial(
            ResultRecord, value=None, n=checkpoint.num_images, state="failed", reason=reason
        )
        return [
            failed(metric=name, direction=METRICS[name].direction if name in METRICS else "none")
            for name in names
        ]


@contextmanager
def _faults_of_the_reference() -> Iterator[None]:
    """Make what is wrong with the reference an error of the whole command, unlike samples."""
    try:
        yield
    except _FAULTS_OF_SAMPLES as error:
        raise ConfigError(str(error)) from error


def _finished(table: WatchTable, folder: Path, options: MeasureOptions) -> list[ResultRecord]:
    """Say where the table is, and return all records.

    Raises:
        IncompleteError: A checkpoint failed, or a metric of it that was asked for by name.
    """
    if not table.measured:
        _say(f"{folder}: no finished checkpoint")
        return []
    _say(f"{len(table.measured):,} checkpoints: {table.out / TABLE}")
    failed = table.failed(in_part=options.metrics is not None)
    if failed:
        name, reason = next(iter(failed.items()))
        raise IncompleteError(
            f"{len(failed):,} of {len(table.measured):,} checkpoints could not be measured, first "
            f"{name}: {reason.rstrip('.')}."
        )
    return table.everything()


@contextmanager
def _only_watcher(out: Path) -> Iterator[None]:
    """Lock the output folder, so that two commands don't write one table.

    Raises:
        OutputError: Another process holds it, or it can't be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked(out / ".watch.lock", wait=False))
        except BlockingIOError:
            raise OutputError(
                f"{out} is written by another evalkit watch. Stop it, or choose another --out."
            ) from None
        except OSError as error:
            raise unwritable(out, error, "Choose another --out") from error
        yield


def _line(checkpoint: Checkpoint, records: Sequence[ResultRecord], *, again: bool) -> str:
    """Say in one line what was measured."""
    parts = []
    for record in records:
        if record.value is None:
            if record.state == "failed":
                parts.append(f"{wording.label(record)} failed: {record.reason.rstrip('.')}")
            continue
        interval = formatting.interval_text(record)
        shown = f"{wording.label(record)} {formatting.value_text(record)}"
        parts.append(f"{shown} {interval}" if interval else shown)
    n = max(record.n for record in records)
    once_more = ", measured again" if again else ""
    return f"{checkpoint.name} (n = {n:,}{once_more}): {'; '.join(parts) or 'no value'}"


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)
