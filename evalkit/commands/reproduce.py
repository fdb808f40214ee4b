"""`evalkit reproduce`: published values that check the tool itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evalkit.analyses.known_answers import KNOWN_ANSWERS, KnownAnswer, Outcome, outcomes
from evalkit.catalog import DATASETS
from evalkit.commands.asking import generation_options
from evalkit.commands.fid import fid, generate
from evalkit.commands.score import score
from evalkit.core.downloads import cache_root
from evalkit.core.errors import ConfigError, MissingDataError, MissingWeightsError
from evalkit.core.progress import ProgressFactory, console, print_list, progress_bar
from evalkit.core.registry import unknown
from evalkit.core.results import ResultRecord
from evalkit.datasets.open import open_dataset
from evalkit.features.sources import ImageItem, image_items
from evalkit.measurement import reference_items
from evalkit.metrics.named_references import is_named, open_reference
from evalkit.metrics.score import score_sets
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions, RequestOptions, SamplingOptions
from evalkit.protocols.applying import under
from evalkit.protocols.catalog import open_protocol
from evalkit.reports import formatting


def show() -> None:
    """List the checks with their published values, cost, needs and licence."""
    table = Table(
        "name", "check", "published", "cost", "needs", "licence",
        title="Known answers", title_justify="left", box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for name, row in KNOWN_ANSWERS.items():
        values = "; ".join(f"{t.metric} {t.value:g} ± {t.tolerance:g}" for t in row.targets)
        table.add_row(*map(escape, (name, row.summary, values, row.cost, row.needs, row.licence)))
    print_list(table)


def reproduce(
    name: str,
    options: MeasureOptions,
    *,
    out: Path | None = None,
    progress: ProgressFactory = progress_bar,
) -> list[Outcome]:
    """Run a check, and print whether it reproduced the published values, and by how much.

    Args:
        name: A name of `KNOWN_ANSWERS`.
        options: Weights, device and speed; the check decides the rest.
        out: Run folder of a check that generates.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        UnknownNameError: No check has this name.
        MissingDataError: Files are missing; the message says what to get and where.
        ConfigError: evalkit can't run this check yet.
    """
    if name not in KNOWN_ANSWERS:
        raise unknown(name, KNOWN_ANSWERS, kind="known answers")
    answer = KNOWN_ANSWERS[name]
    if answer.kind == "listed":
        raise ConfigError(
            f"{name} is not run by evalkit yet. It needs {answer.needs} ({answer.cost}; licence: "
            f"{answer.licence})."
        )
    run = _generated if answer.kind == "generate" else _scored
    try:
        found = outcomes(answer, run(answer, options, out, progress))
    except (MissingDataError, MissingWeightsError) as error:
        raise type(error)(f"{error} {name} needs {answer.needs}.") from error
    console.print(_table(found, title=f"{name}: {answer.summary}"))
    console.print(f"Published: {answer.source}", soft_wrap=True, highlight=False)
    for departure in answer.departures:
        console.print(f"Otherwise than the source: {departure}", soft_wrap=True, highlight=False)
    return found


def verdict(one: Outcome) -> str:
    """Say whether a value was reproduced, and by how much it differs."""
    if one.difference is None:
        return "not measured"
    word = "reproduced" if one.reproduced else "not reproduced"
    return f"{word}, {one.difference:+.4g}"


def _scored(
    answer: KnownAnswer, options: MeasureOptions, out: Path | None, progress: ProgressFactory
) -> Sequence[ResultRecord]:
    del out
    samples = _images(answer.samples)
    against: Sequence[ImageItem] | ReferenceStatistics
    if is_named(answer.against):
        against = open_reference(answer.against)
    else:
        against = _images(answer.against)
    chosen: dict[str, Any] = dict(answer.options)
    options = replace(options, **chosen)
    if answer.protocol:
        options = under(open_protocol(answer.protocol), options)
    return score_sets(samples, against, chosen["metrics"], options, progress)


def _generated(
    answer: KnownAnswer, options: MeasureOptions, out: Path | None, progress: ProgressFactory
) -> Sequence[ResultRecord]:
    asked = RequestOptions(**{"protocol": answer.protocol, **answer.request})
    sampling = SamplingOptions(device=options.device, **answer.sampling)
    generation = generation_options(answer.model, asked, sampling, out)
    measure = replace(options, protocol=answer.protocol, **answer.options)
    if not answer.against:
        return fid(generation, measure, json_file=None, command="", progress=progress)
    if is_named(answer.against):
        open_reference(answer.against)  # whether it is there, before hours of sampling
    folder = generate(generation, progress)
    return score(str(folder), answer.against, measure, coco_root=None, json_file=None)


def _images(named: str) -> list[ImageItem]:
    """Open `DATASET`, `DATASET:SPLIT`, or a file or folder of the cache folder `known`.

    Raises:
        MissingDataError: It is missing.
    """
    dataset, _, split = named.partition(":")
    if dataset in DATASETS:
        return reference_items(open_dataset(dataset, split=split or None))
    path = cache_root() / "known" / named
    if not path.exists():
        raise MissingDataError(f"{path} not found.")
    return image_items(path)


def _table(found: Sequence[Outcome], *, title: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("metric", "published", "here", "verdict"):
        table.add_column(heading, overflow="fold")
    for one in found:
        published = f"{one.target.value:g} ± {one.target.tolerance:g}"
        table.add_row(one.target.metric, published, _here(one.record), verdict(one))
    return table


def _here(record: ResultRecord | None) -> str:
    if record is None or record.value is None:
        return "-" if record is None else record.reason
    interval = formatting.interval_text(record) if record.interval else ""
    error = formatting.standard_error_text(record)
    more = interval or (f"(s.e. {error})" if error else "no interval")
    return f"{formatting.value_text(record)} {more}"
