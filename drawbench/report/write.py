"""The folder of a report: `report.html`, `results.json` and the tables as CSV."""

from __future__ import annotations

from pathlib import Path

from drawbench.errors import StudyError
from drawbench.report.page import Context, render_page
from drawbench.report.tables import prompts_csv, raters_csv, results_csv
from drawbench.stats.analysis import Analysis, records
from drawbench.stats.clustered import LEVEL
from drawbench.stats.ratings import difference_records, rating_records
from evalkit.core.results import ResultRecord, write_atomically, write_records


def all_records(analysis: Analysis, context: Context | None = None) -> list[ResultRecord]:
    """Return the records of an analysis, and of ratings of single sets where there are any."""
    context = context or Context()
    of_ratings = _rating_records(context, level=analysis.options.level)
    return _with_study([*records(analysis), *of_ratings], context)


def ratings_only(context: Context, *, level: float = LEVEL) -> list[ResultRecord]:
    """Return the records of a study that compares no pair.

    Args:
        context: With the ratings.
        level: Of their intervals.
    """
    return _with_study(_rating_records(context, level=level), context)


def _rating_records(context: Context, *, level: float) -> list[ResultRecord]:
    fingerprint = {"level": level, "simulated": context.simulated_ratings}
    return [
        *rating_records(tuple(context.ratings), fingerprint),
        *difference_records(context.rating_differences, fingerprint),
    ]


def _with_study(found: list[ResultRecord], context: Context) -> list[ResultRecord]:
    """Add study, prompts and images to the fingerprint of every record."""
    return [
        record.with_context(subject=record.subject, fingerprint=context.fingerprint)
        for record in found
    ]


def write_report(folder: Path, analysis: Analysis, context: Context | None = None) -> list[Path]:
    """Write the report into a folder, which is created if missing.

    Returns:
        The files, the page first.

    Raises:
        StudyError: The folder can't be written.
    """
    folder, found = Path(folder), all_records(analysis, context)
    texts = {
        "report.html": render_page(analysis, context),
        "results.csv": results_csv(analysis),
        "prompts.csv": prompts_csv(analysis),
        "raters.csv": raters_csv(analysis),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
        write_records(folder / "results.json", found)
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise StudyError(
            f"{folder}: the report can't be written ({cause.strerror}). Choose another folder "
            "with --out."
        ) from error
    return [folder / name for name in (*texts, "results.json")]
