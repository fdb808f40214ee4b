"""`evalkit variance`: what retraining and what resampling change, from measured runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.analyses.variance import NestedVariance, Spread, nested_variance
from evalkit.core.errors import ConfigError, MissingDataError
from evalkit.core.files import check_output
from evalkit.core.intervals import check_level
from evalkit.core.progress import console
from evalkit.core.results import Interval, ResultRecord, read_records, write_records
from evalkit.core.run import RunFolder
from evalkit.reports import formatting, wording
from evalkit.reports.fingerprints import flatten, is_of_measurement, value_text

QUESTIONS = (
    "The interval of this recipe answers what another training would give; that of these weights, "
    "what another sampling would give."
)
_RECIPE_METHOD = "t interval of the means of trainings, nested model"
_WEIGHTS_METHOD = "t interval with the pooled variance of samplings"


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """A run with its records."""

    path: str
    run: RunFolder
    records: Mapping[str, ResultRecord]


def variance(
    runs: Sequence[str],
    groups: Sequence[str],
    *,
    metrics: Sequence[str],
    level: float,
    json_file: Path | None,
) -> dict[str, NestedVariance]:
    """Print both levels of variance and both intervals for each metric.

    Args:
        runs: Run folders, grouped by the hash of their weights.
        groups: `NAME=RUN,RUN` for each training seed, in place of that.
        metrics: Names of records; empty: all that every run has.
        level: Confidence level of the intervals.
        json_file: File for the records.

    Raises:
        OutputError: The file of the records can't be written.
        ConfigError: A level outside (0, 1), or runs that are no replicates of one recipe or were
            measured differently.
        MissingDataError: A run that was not measured.
    """
    check_level(level)
    check_output(json_file, "--json")
    grouped = grouped_runs(runs, groups)
    everyone = [one for several in grouped.values() for one in several]
    names = list(metrics) or _common_metrics(everyone)
    found = {}
    records: list[ResultRecord] = []
    for name in names:
        refuse_different_measurement([_record(one, name) for one in everyone], everyone)
        values = {
            training: [_value(_record(one, name)) for one in several]
            for training, several in grouped.items()
        }
        found[name] = nested_variance(values, level=level)
        records += _records(found[name], _record(everyone[0], name), level)
    model = everyone[0].run.config["display_name"]
    title = f"{model}: {len(everyone)} runs of {len(grouped)} trainings"
    console.print(_table(found, records, title=title, level=level))
    for sentence in dict.fromkeys(text for one in found.values() for text in one.unknown):
        console.print(f"{sentence}.", soft_wrap=True)
    console.print(QUESTIONS, soft_wrap=True)
    if json_file is not None:
        write_records(json_file, records)
        console.print(f"Records: {json_file}", soft_wrap=True)
    return found


def grouped_runs(runs: Sequence[str], groups: Sequence[str]) -> dict[str, list[MeasuredRun]]:
    """Open runs and group them by training seed.

    A run's training seed is the hash of its weights: the same hash is the same training. A run's
    sampling seed is the seed in `run.json`.

    Raises:
        ConfigError: No run; runs of several models; or two with the same weights and seed.
        MissingDataError: A run that was not measured.
    """
    found: dict[str, list[MeasuredRun]] = {}
    for text in groups:
        name, equals, paths = text.partition("=")
        if not (name and equals and paths):
            raise ConfigError(f"--group expects NAME=RUN,RUN, got {text!r}.")
        found.setdefault(name, []).extend(map(_open, paths.split(",")))
    for path in runs:
        one = _open(path)
        found.setdefault(_training(one.run), []).append(one)
    everyone = [one for several in found.values() for one in several]
    if not everyone:
        raise ConfigError("There are no runs. Give run folders, or --group NAME=RUN,RUN.")
    _refuse_other_recipes(everyone)
    return found


def refuse_different_measurement(
    records: Sequence[ResultRecord], runs: Sequence[MeasuredRun]
) -> None:
    """Check that all records were measured in the same way.

    Raises:
        ConfigError: Names the first difference.
    """
    first = _measured_as(records[0])
    for record, one in zip(records[1:], runs[1:], strict=True):
        other = _measured_as(record)
        for key in {**first, **other}:
            if first.get(key) != other.get(key):
                raise ConfigError(
                    f"{one.path}: {record.metric} was measured differently than in "
                    f"{runs[0].path}: {key} is {first.get(key, 'not recorded')} there, "
                    f"{other.get(key, 'not recorded')} here. Measure all runs alike."
                )


def _measured_as(record: ResultRecord) -> dict[str, str]:
    return {
        key: value_text(value)
        for key, value in flatten(record.fingerprint).items()
        if is_of_measurement(key) and not key.startswith(_OF_A_DRAW)
    }


_OF_A_DRAW = ("captions_sha256", "clip_captions_sha256", "matched_ids")
"""Entries that a sampling seed may change, since it can draw other captions."""


def _open(path: str) -> MeasuredRun:
    run, results = RunFolder.read(Path(path)), Path(path) / "results.json"
    if not results.is_file():
        raise MissingDataError(f"{results} not found: {path} was not measured. Run evalkit fid.")
    records = {record.metric: record for record in read_records(results)}
    return MeasuredRun(path=path, run=run, records=records)


def _training(run: RunFolder) -> str:
    named = run.config.get("training_seed")
    return str(run.config["weights_sha256"])[:12] if named is None else f"training seed {named}"


def _refuse_other_recipes(runs: Sequence[MeasuredRun]) -> None:
    models = {str(one.run.config["model"]).partition("@")[0]: one.path for one in runs}
    if len(models) > 1:
        (first, here), (second, there), *_ = models.items()
        raise ConfigError(
            f"The runs are of different models: {first} in {here}, {second} in {there}. A recipe "
            "is one model; use evalkit compare for several."
        )
    seen: dict[tuple[str, object], str] = {}
    for one in runs:
        key = (_training(one.run), one.run.config["seed"])
        if key in seen:
            raise ConfigError(
                f"{seen[key]} and {one.path} have the same weights and seed {key[1]}, so they are "
                "no two samplings. Leave one out, or sample with another --seed."
            )
        seen[key] = one.path


def _common_metrics(runs: Sequence[MeasuredRun]) -> list[str]:
    names = [
        name
        for name, record in runs[0].records.items()
        if record.direction != "none"
        and all(name in one.records and one.records[name].value is not None for one in runs)
    ]
    if not names:
        raise ConfigError("The runs have no measured metric in common. Measure them alike.")
    return names


def _record(one: MeasuredRun, metric: str) -> ResultRecord:
    if metric not in one.records or one.records[metric].value is None:
        raise ConfigError(
            f"{one.path} has no value of {metric!r}; it has {', '.join(one.records)}."
        )
    return one.records[metric]


def _value(record: ResultRecord) -> float:
    assert record.value is not None, "checked when it was looked up"
    return record.value


def _records(found: NestedVariance, like: ResultRecord, level: float) -> list[ResultRecord]:
    fingerprint = {"trainings": found.num_trainings, "runs": found.num_runs}
    deviations = {
        "training_sd": found.training_sd and vars(found.training_sd),
        "sampling_sd": found.sampling_sd and vars(found.sampling_sd),
    }
    spreads = {
        f"this recipe ({found.num_trainings} trainings)": (found.recipe, _RECIPE_METHOD),
        **{
            f"these weights ({name})": (spread, _WEIGHTS_METHOD)
            for name, spread in found.weights.items()
        },
    }
    return [
        ResultRecord(
            metric=like.metric,
            value=spread.value,
            n=like.n,
            direction=like.direction,
            unit=like.unit,
            interval=_interval(spread, level, method),
            reason="" if spread.low is not None else "; ".join(found.unknown),
            subject=subject,
            fingerprint={**like.fingerprint, **fingerprint},
            details=deviations,
        )
        for subject, (spread, method) in spreads.items()
    ]


def _interval(spread: Spread, level: float, method: str) -> Interval | None:
    if spread.low is None or spread.high is None:
        return None
    return Interval(low=spread.low, high=spread.high, level=level, method=method)


def _table(
    found: Mapping[str, NestedVariance],
    records: Sequence[ResultRecord],
    *,
    title: str,
    level: float,
) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("metric", overflow="fold")
    table.add_column("whose", overflow="fold")
    table.add_column(f"value [{100 * level:g} %]", justify="right", overflow="fold")
    table.add_column("s.d. of trainings", justify="right", overflow="fold")
    table.add_column("s.d. of samplings", justify="right", overflow="fold")
    for record in records:
        one = found[record.metric]
        is_recipe = record.subject.startswith("this recipe")
        interval = f" {formatting.interval_text(record)}" if record.interval else ""
        spreads = (one.training_sd, one.sampling_sd) if is_recipe else ()
        table.add_row(
            Text(wording.label(record) if is_recipe else ""),
            Text(record.subject),
            Text(f"{formatting.value_text(record)}{interval}"),
            *(Text(_spread_text(spread)) for spread in spreads),
        )
    return table


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return "unknown"
    ends = "" if spread.low is None else f" [{spread.low:.3g}, {spread.high:.3g}]"
    return f"{spread.value:.3g}{ends}"
