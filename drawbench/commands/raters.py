"""`status`, `invite`, `relink`, `release`, `withdraw`, `rehearse`: the raters of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drawbench.commands.opening import open_study
from drawbench.commands.options import DatabaseUrl, StudyPath

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_ADDRESS = "http://127.0.0.1:8501"
PageAddress = Annotated[str, typer.Option(help="Address of the rating page.")]
RaterName = Annotated[str, typer.Argument(help="Name of the rater in exports, or external id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("invite")(invite)
    app.command("relink")(relink)
    app.command("release")(release)
    app.command("withdraw")(withdraw)
    app.command("rehearse")(rehearse)


def status(study: StudyPath, database: DatabaseUrl = "") -> None:
    """Show the progress of a study: ratings by category, raters by state, reported images."""
    store = open_study(study, database)
    from drawbench.exchange.exports import quota_frame, raters_frame, reports_frame

    console = Console()
    console.print(_quota_table(quota_frame(store)))
    states = raters_frame(store)["state"].value_counts()
    text = ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
    console.print(f"raters: {text}", highlight=False)
    console.print(f"reported images: {len(reports_frame(store))}", highlight=False)


def invite(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="CSV to write: rater_id, link (MTurk accepts it).")],
    count: Annotated[int, typer.Option(min=1, help="Number of links.")] = 25,
    address: PageAddress = DEFAULT_ADDRESS,
    block: Annotated[
        str | None, typer.Option(help="Category for these raters; by default the study chooses.")
    ] = None,
    database: DatabaseUrl = "",
) -> None:
    """Make personal links, one per rater; only their hashes are stored.

    A place is kept for each until it is used, or until `release --invitations`.
    """
    store = open_study(study, database)
    from drawbench.errors import StudyError
    from drawbench.exchange.platforms import invitations
    from drawbench.votes import csv_text
    from evalkit.core.results import write_atomically

    if out.exists():
        raise StudyError(f"{out} exists, and lost links can't be recovered. Choose another file.")
    rows = invitations(store, count, address=address, block=block)
    write_atomically(out, csv_text(["rater_id", "link"], rows).encode())
    typer.echo(f"{len(rows)} links written to {out}; anyone who has a link can rate with it")


def relink(
    study: StudyPath,
    rater: RaterName,
    address: PageAddress = DEFAULT_ADDRESS,
    database: DatabaseUrl = "",
) -> None:
    """Make a new personal link for a rater who lost theirs; the old one stops working."""
    store = open_study(study, database)
    from drawbench.exchange.platforms import personal_link

    joined = store.relink(store.rater_named(rater).id)
    typer.echo(f"new link of {joined.rater.name}: {personal_link(address, joined)}")
    typer.echo("The old link no longer works. Anyone who has the new one can rate with it.")


def release(
    study: StudyPath,
    idle: Annotated[
        float,
        typer.Option(min=0, help="Minutes without an answer after which a rater counts as away."),
    ] = 15.0,
    invitations: Annotated[
        bool,
        typer.Option("--invitations", help="Also keep no more places for unused invitations."),
    ] = False,
    database: DatabaseUrl = "",
) -> None:
    """Free the unrated pages of raters who are away; their answers are kept."""
    store = open_study(study, database)
    freed = store.release(idle_s=60 * idle, invitations=invitations)
    typer.echo(
        f"{freed.num_pages} pages are free again; {freed.num_raters} raters were away for "
        f"{idle:g} minutes or more"
    )
    if invitations:
        typer.echo(
            f"places are no longer kept for {freed.num_invitations} unused invitations; their "
            "links work while there are places"
        )


def withdraw(
    study: StudyPath,
    rater: RaterName,
    database: DatabaseUrl = "",
) -> None:
    """Delete a rater with all their data; their items are reassigned."""
    store = open_study(study, database)
    store.withdraw(store.rater_named(rater).id)
    typer.echo(
        "Deleted. Earlier exports and backups may still contain their answers; delete them there "
        "too."
    )


def rehearse(
    study: StudyPath,
    raters: Annotated[
        int | None,
        typer.Option(min=1, help="Number of raters; by default until the study is full."),
    ] = None,
    lead: Annotated[
        float,
        typer.Option(help="True lead of the first model, in standard deviations of one vote."),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the simulated raters.")] = 0,
    database: DatabaseUrl = "",
) -> None:
    """Fill a study with simulated raters, who are marked in every export and report."""
    store = open_study(study, database)
    from drawbench.simulation.raters import SimulatedPanel
    from drawbench.simulation.rehearsal import rehearse as run

    names = [*store.study.config.models, *filter(None, [store.study.config.reference])]
    strengths = {name: lead * (index == 0) for index, name in enumerate(names)}
    done = run(store, SimulatedPanel(strengths=strengths, seed=seed), num_raters=raters)
    typer.echo(f"{done} simulated raters rated. The study is now marked as simulated.")


def _quota_table(quotas: pd.DataFrame) -> Table:
    table = Table("category", "done", "in progress", "open", "required", title="complete ratings")
    sums = quotas.groupby("category", sort=False)[["done", "in_work", "open", "wanted"]].sum()
    for category, row in sums.iterrows():
        table.add_row(escape(str(category)), *(str(int(value)) for value in row))
    table.add_section()
    table.add_row("all", *(str(int(value)) for value in sums.sum()))
    return table
