"""`evalkit drawbench results`: analyse the votes of a study or of a file."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drawbench.commands.opening import open_study
from drawbench.commands.options import AnswerWords, DatabaseUrl, Submissions
from drawbench.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from drawbench.report.page import Context
    from drawbench.stats.analysis import Analysis
    from drawbench.stats.clustered import Estimate
    from drawbench.stats.preference import Preference
    from drawbench.stats.raters import QualityRules


REPORT_FOLDER = "report"


class Ties(StrEnum):
    """How a tie is counted."""

    half = "half"
    drop = "drop"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("results")(results)


def results(
    study: Annotated[Path | None, typer.Argument(help="Folder of a study.")] = None,
    votes: Annotated[Path | None, typer.Option(help="File of votes, instead of a study.")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--from",
            help="Format of --votes: votes, label-studio, mturk, prolific, arena or pick-a-pic.",
        ),
    ] = "votes",
    answer: AnswerWords = None,
    submissions: Submissions = None,
    ties: Annotated[
        Ties,
        typer.Option(help="half: a tie is half a win for each model; drop: ties are left out."),
    ] = Ties.half,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="CSV of automatic scores (prompt_id, model, score[, metric]) to correlate with "
            "votes."
        ),
    ] = None,
    card: Annotated[Path | None, typer.Option(help="TOML file with the reporting card.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html and CSV tables; by default STUDY/report."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write result records to this file.")
    ] = None,
    level: Annotated[float, typer.Option(help="Level of the intervals, between 0 and 1.")] = 0.95,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples of the bootstrap; 0 skips it.")
    ] = 2000,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the bootstrap and of the order of votes for Elo.")
    ] = 0,
    database: DatabaseUrl = "",
) -> None:
    """Analyse votes: win rates with intervals, rankings and agreement between raters."""
    from dataclasses import replace

    from drawbench.report.card import read_card
    from drawbench.report.write import all_records, write_report
    from drawbench.stats.agreement import read_scores
    from drawbench.stats.analysis import Options, analyse
    from evalkit.core.intervals import check_level
    from evalkit.core.results import write_records

    check_level(level)
    if (study is None) == (votes is None):
        raise StudyError("Give either STUDY or --votes FILE, got both or neither.")
    if votes is not None:
        table, context, rules = _of_file(votes, form, answer or [], submissions)
    else:
        table, context, rules = _of_study(Path(str(study)), database, level)
    if table.empty:
        _single_sets_only(context, json_file, out, level)
        return
    if card is not None:
        context = replace(context, card=context.card.completed_by(read_card(card)))
    options = Options(ties=ties.value, level=level, resamples=resamples, seed=seed, rules=rules)
    analysis = analyse(table, options=options, scores=read_scores(scores) if scores else None)
    _print(analysis, context)
    if json_file is not None:
        write_records(json_file, all_records(analysis, context))
        typer.echo(f"records: {json_file}")
    folder = out if out is not None or study is None else Path(study) / REPORT_FOLDER
    if folder is not None:
        typer.echo(f"report: {write_report(folder, analysis, context)[0]}")


def _of_file(
    path: Path, form: str, answers: list[str], submissions: Path | None
) -> tuple[pd.DataFrame, Context, QualityRules]:
    from drawbench.exchange.formats import import_votes, parse_words
    from drawbench.report.page import Context
    from drawbench.stats.raters import QualityRules

    imported = import_votes(path, form=form, words=parse_words(answers), submissions=submissions)
    for reason, number in imported.skipped.items():
        typer.echo(f"left out: {number} {reason}", err=True)
    return imported.votes, Context(source=path.name), QualityRules()


def _of_study(
    path: Path, database: str, level: float
) -> tuple[pd.DataFrame, Context, QualityRules]:
    store = open_study(path, database)
    from drawbench.exchange.exports import votes_frame
    from drawbench.report.study import context_of, rules_of
    from drawbench.votes import validate_votes

    votes, context = votes_frame(store), context_of(store, level=level)
    if len(votes) or not context.ratings:
        votes = validate_votes(votes, source=str(path))
    return votes, context, rules_of(store.study)


def _single_sets_only(
    context: Context, json_file: Path | None, out: Path | None, level: float
) -> None:
    """Print the mean ratings of a study that compares no pair."""
    from drawbench.report.write import ratings_only
    from evalkit.core.results import write_records

    if out is not None:
        raise StudyError(
            "The study compares no pair, so there is no report. Write the mean ratings with --json."
        )
    for line in _marks_and_notes(context):
        typer.echo(line)
    for line in _mean_lines(context):
        typer.echo(line)
    if json_file is not None:
        write_records(json_file, ratings_only(context, level=level))
        typer.echo(f"records: {json_file}")


def _print(analysis: Analysis, context: Context) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if analysis.simulated:
        share = f"{analysis.num_simulated} of {analysis.num_votes} votes"
        console.print(f"SIMULATED: {share} come from simulated raters.")
    for line in _marks_and_notes(context):
        console.print(line, markup=False, soft_wrap=True)
    for table in _tables(analysis):
        console.print(table)
    for line in (*_lines(analysis), *_mean_lines(context)):
        console.print(line, markup=False, soft_wrap=True)


def _triple_lines(analysis: Analysis) -> Iterator[str]:
    for item in analysis.transitivity:
        if item.intransitive:
            cycles = "; ".join(
                " > ".join((*triple.models, triple.models[0])) for triple in item.intransitive
            )
            yield (
                f"intransitive, {item.question}: {len(item.intransitive)} of {item.num_triples} "
                f"triples, {item.num_beyond_chance} beyond chance ({cycles})"
            )


def _metric_lines(analysis: Analysis) -> Iterator[str]:
    for item in analysis.metrics:
        if item.category is None:
            found = f"none ({item.reason})"
            if item.correlation is not None:
                found = f"{item.correlation:+.2f} (Spearman)"
            pair = f"{item.model_a} against {item.model_b}, {item.question}"
            yield f"{item.metric} vs votes over {item.over}, {pair}: {found}"


def _marks_and_notes(context: Context) -> Iterator[str]:
    yield from filter(None, (context.label.upper(), *context.marks))
    for note in context.notes:
        yield f"note: {note}"


def _mean_lines(context: Context) -> Iterator[str]:
    for item in context.ratings:
        ends = item.interval
        interval = f"[{ends.low:.1f}, {ends.high:.1f}]" if ends else f"({item.reason})"
        mean = f"mean {item.value:.1f} {interval}"
        yield f"{item.question}, {item.model}: {mean}, {item.num_votes} votes"
    for gap in context.rating_differences:
        ends = gap.interval
        interval = f"[{ends.low:+.1f}, {ends.high:+.1f}]" if ends else f"({gap.reason})"
        p_value = "" if gap.adjusted_p_value is None else f", p {gap.adjusted_p_value:.3f}"
        yield (
            f"{gap.question}, {gap.model_a} less {gap.model_b}: {gap.value:+.1f} {interval}"
            f"{p_value} (Holm, {len(context.rating_differences)} tests), {gap.num_prompts} prompts"
        )


def _tables(analysis: Analysis) -> Iterator[Table]:
    """Yield one table for each question on each pair."""
    from rich.markup import escape
    from rich.table import Table

    from drawbench.report.page import only_sample

    for pair in analysis.pairs:
        for question in pair.questions:
            title = f"A = {pair.model_a}, B = {pair.model_b}: {question.overall.question}"
            table = Table(title=escape(title), title_justify="left")
            for name in ("", "A %", "tie %", "B %", "win rate of A", "interval", "verdict"):
                table.add_column(name, justify="left" if name in ("", "verdict") else "right")
            table.add_row(*_row("all votes", question.overall))
            if question.category_mean:
                table.add_row(*_row("mean of categories", question.category_mean))
            table.add_section()
            for item in question.categories:
                name = escape(item.category or "no category")
                if item.win_rate.generalises_to != question.overall.win_rate.generalises_to:
                    name += f" ({only_sample(item.win_rate)})"
                table.add_row(*_row(name, item))
            yield table


def _row(name: str, item: Preference) -> Iterator[str]:
    yield name
    for share in (item.share_a, item.share_tie, item.share_b):
        yield f"{100 * share.value:.1f}"
    interval = item.win_rate.interval
    yield f"{100 * item.win_rate.value:.1f} %"
    yield f"{100 * interval.low:.1f} - {100 * interval.high:.1f}" if interval else "none"
    yield {"a": "A", "b": "B", "undecided": "undecided"}[item.verdict]


def _with_interval(estimate: Estimate) -> str:
    text = f"{100 * estimate.value:.1f} %"
    if estimate.interval is None:
        return text
    return f"{text} [{100 * estimate.interval.low:.1f}, {100 * estimate.interval.high:.1f}]"


def _lines(analysis: Analysis) -> Iterator[str]:
    for pair in analysis.pairs:
        yield f"{pair.model_a} against {pair.model_b}: {pair.conclusion.sentence}"
    raters, prompts = analysis.num_raters, analysis.num_prompts
    yield f"{analysis.num_votes} votes, {raters} raters, {prompts} prompts"
    for ranking in analysis.rankings if len(analysis.pairs) > 1 else ():
        if not ranking.models:
            yield f"{ranking.kind}, {ranking.question}: {ranking.reason}"
            continue
        places = ", ".join(
            f"{place.model} {place.points:+.0f} (rank {place.rank_range})"
            for place in ranking.models
        )
        left_out = "; ".join(f"{item.model} ({item.reason})" for item in ranking.unranked)
        ending = f"; not ranked: {left_out}" if left_out else ""
        yield f"{ranking.kind}, {ranking.question}: {places}{ending}"
    yield from _triple_lines(analysis)
    for item in analysis.agreements:
        if item.category is None:
            alpha = f"{item.alpha:.2f}" if item.alpha is not None else f"none ({item.reason})"
            yield f"agreement, {item.question}: Krippendorff's alpha {alpha}"
    yield from _metric_lines(analysis)
    if analysis.side_bias.left_rate is not None:
        rate = _with_interval(analysis.side_bias.left_rate)
        yield f"the left side won {rate}{', a side bias' if analysis.side_bias.biased else ''}"
    if analysis.filtered:
        yield (
            f"{analysis.num_flagged} raters flagged; without them (the results above include them):"
        )
        for pair in analysis.filtered.pairs:
            for question in pair.questions:
                rate = _with_interval(question.overall.win_rate)
                yield f"  {pair.model_a} : {pair.model_b}, {question.overall.question}: {rate}"
