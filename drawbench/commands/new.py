"""`new`, `texts` and `upgrade`: make a study from a suite and the images of its models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from drawbench.commands.opening import require_store
from drawbench.commands.options import DatabaseUrl, StudyPath
from drawbench.errors import StudyError, command_line
from evalkit.core.results import write_atomically

if TYPE_CHECKING:
    from drawbench.study import Study
    from drawbench.study.design import StudyConfig
    from drawbench.study.sources import ImageSource
    from drawbench.study.texts import Texts
    from drawbench.suites import Suite


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("new")(new)
    app.command("texts")(show_texts)
    app.command("upgrade")(upgrade)


def new(
    study: StudyPath,
    suite: Annotated[
        str, typer.Option(help="Prompt suite: drawbench, parti, shapes-bench, FILE or NAME=FILE.")
    ],
    models: Annotated[
        str,
        typer.Option(
            help="Models to compare, NAME=FOLDER,NAME=FOLDER: run folders, or folders of "
            "PROMPT_ID_0.png, ...",
            metavar="LIST",
        ),
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="Design to start from: imagen-drawbench, imagen-coco, glide-pairwise or "
            "unclip-diversity."
        ),
    ] = "imagen-drawbench",
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, instead of --preset.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of the texts that raters read, for other wording or another "
            "language. Copy the English one with: evalkit drawbench texts --out FILE."
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="Real images to compare with, NAME=FOLDER; for imagen-coco.")
    ] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="Use only prompts of this category; repeatable.")
    ] = None,
    images_per_side: Annotated[int | None, typer.Option(help="Number of images per side.")] = None,
    raters: Annotated[int | None, typer.Option(help="Number of raters per item.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="category: each rater rates one category; mixed: each rates prompts of all "
            "categories."
        ),
    ] = None,
    items_per_rater: Annotated[
        int | None, typer.Option(help="Maximum number of items per rater.")
    ] = None,
    practice: Annotated[
        int | None, typer.Option(help="Number of practice items per rater.")
    ] = None,
    checks: Annotated[
        int | None, typer.Option(help="Number of attention checks per rater.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for sides and orders.")] = None,
    title: Annotated[str | None, typer.Option(help="Title that raters see.")] = None,
    contact: Annotated[str | None, typer.Option(help="Contact address for raters.")] = None,
    completion_code: Annotated[
        str | None,
        typer.Option(
            help="One completion code for all raters, as Prolific requires; by default each gets "
            "their own."
        ),
    ] = None,
    invited_only: Annotated[
        bool | None, typer.Option("--invited-only", help="Admit only raters with a personal link.")
    ] = None,
    return_by_platform_id: Annotated[
        bool | None,
        typer.Option(
            "--return-by-platform-id/--no-return-by-platform-id",
            help="Let a rater who opens the crowd platform's link again go on where they were "
            "(the default).",
        ),
    ] = None,
    allow_reranked: Annotated[
        bool | None,
        typer.Option(
            "--allow-reranked", help="Allow images that are the best of several candidates."
        ),
    ] = None,
    database: DatabaseUrl = "",
) -> None:
    """Make a study: copy the images under blind names, and randomly assign raters to items."""
    from drawbench.study.design import load_preset, make_config, read_config_file
    from drawbench.study.texts import read_texts

    sources = _named_folders(models, "--models")
    given = {
        "models": list(sources),
        "reference": next(iter(_named_folders(reference, "--reference")), None) or None,
        "images_per_side": images_per_side,
        "raters_per_item": raters,
        "layout": layout,
        "items_per_rater": items_per_rater,
        "num_practice": practice,
        "num_checks": checks,
        "seed": seed,
        "title": title,
        "contact": contact,
        "completion_code": completion_code,
        "invited_only": invited_only,
        "return_by_platform_id": return_by_platform_id,
        "allow_reranked": allow_reranked,
    }
    wording = None if texts is None else read_texts(texts)
    base = load_preset(preset, wording) if config is None else read_config_file(config, wording)
    settings = {**base, **{key: value for key, value in given.items() if value is not None}}
    resolved = make_config(settings, source=str(config or "options"))
    folders = {**sources, **_named_folders(reference, "--reference")}
    prompts = _chosen(suite, category or [])
    _try_database(database)
    made = _make(study, resolved, prompts, folders, wording)
    try:
        _register(made, database)
    except BaseException:
        shutil.rmtree(made.path)  # a study without its votes can't be used
        raise
    _describe(made, database)


def show_texts(
    out: Annotated[
        Path | None, typer.Option(help="Write to this file instead of the terminal.")
    ] = None,
) -> None:
    """Print the English texts that raters read, as a starting point for `new --texts FILE`."""
    from drawbench.study.texts import english_file

    if out is None:
        typer.echo(english_file(), nl=False)
    elif out.exists():
        raise StudyError(f"{out} exists. Choose another file; nothing was overwritten.")
    else:
        write_atomically(out, english_file().encode())
        typer.echo(f"English texts: {out}")


def upgrade(study: StudyPath, database: DatabaseUrl = "") -> None:
    """Upgrade the tables of a study's database, or create them in another database."""
    require_store()
    from drawbench.study import load_study

    _register(load_study(study), database)
    typer.echo("The tables are up to date.")


def _named_folders(text: str, option: str) -> dict[str, Path]:
    """Parse NAME=FOLDER pairs; a folder without a name gives its own."""
    folders: dict[str, Path] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, separator, folder = part.partition("=")
        path = Path(folder if separator else name).expanduser()
        name = name.strip() if separator else path.name
        if name in folders:
            raise StudyError(f"{option} has the name {name!r} twice. Give each model its own name.")
        folders[name] = path
    return folders


def _chosen(name: str, categories: Sequence[str]) -> Suite:
    from drawbench.suites import load_suite, make_suite

    suite = load_suite(name)
    unknown = [category for category in categories if category not in suite.categories]
    if unknown:
        raise StudyError(
            f"{suite.name} has no category {unknown[0]!r}. Known: {', '.join(suite.categories)}."
        )
    if not categories:
        return suite
    kept = [prompt for prompt in suite.prompts if prompt.category in categories]
    note = f"only {', '.join(categories)}: {len(kept)} of the {len(suite.prompts)} prompts"
    return make_suite(
        suite.name,
        [(prompt.text, prompt.category) for prompt in kept],
        source=suite.source,
        ids=[prompt.id for prompt in kept],
        notes=(*suite.notes, note),
    )


def _make(
    path: Path,
    config: StudyConfig,
    suite: Suite,
    folders: Mapping[str, Path],
    texts: Texts | None,
) -> Study:
    from rich.progress import Progress

    from drawbench.study.making import make_study

    sources = [_source(name, folder, suite, config) for name, folder in folders.items()]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying images", total=None)
        return make_study(
            path,
            config,
            suite,
            sources,
            texts=texts,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _source(name: str, folder: Path, suite: Suite, config: StudyConfig) -> ImageSource:
    from drawbench.study.sources import open_source

    return open_source(
        name,
        folder,
        suite.prompts,
        per_prompt=config.images_per_side,
        allow_reranked=config.allow_reranked,
    )


def _try_database(url: str) -> None:
    """Check that the database responds before thousands of images are copied."""
    require_store()
    if url and not url.startswith("sqlite:"):
        from drawbench.store.database import open_database

        open_database(url, create=True).close()


def _register(study: Study, database: str) -> None:
    from drawbench.store import open_store

    open_store(study, database, create=True).database.close()


def _describe(study: Study, database: str) -> None:
    console, config = Console(), study.config
    num_items = sum(len(items) for items in study.blocks.values())
    facts: dict[str, Any] = {
        "suite": f"{study.document.suite.name}, {len(study.document.prompts)} prompts",
        "compared": ", ".join([*config.models, *([config.reference] if config.reference else [])]),
        "images per side": config.images_per_side,
        "raters needed": len(study.blocks) * config.raters_per_item,
        "ratings needed": f"{num_items * config.raters_per_item} ({num_items} items x "
        f"{config.raters_per_item})",
    }
    for name, value in facts.items():
        console.print(f"{name}: {escape(str(value))}", highlight=False)
    for card in study.document.models:
        console.print(f"samples of {escape(card.name)}: {card.how_chosen}", highlight=False)
        for note in card.notes:
            console.print(f"  note: {escape(note)}", highlight=False)
    for note in study.document.suite.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    following = command_line("evalkit", "drawbench", "rate", study.path, database=database)
    console.print(f"next: {following}", highlight=False, soft_wrap=True, markup=False)
