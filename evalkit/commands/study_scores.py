"""`evalkit drawbench clip-scores`: CLIP scores of the same images that people rated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drawbench.commands.options import DATABASE_VARIABLE, StudyPath
from evalkit.core.errors import MissingDataError
from evalkit.options.measuring import DEFAULT_CLIP

if TYPE_CHECKING:
    import pandas as pd

    from drawbench.study import Study
    from evalkit.core.progress import ProgressFactory
    from evalkit.features.clip import TextImageExtractor


def register(app: typer.Typer) -> None:
    """Add the command to `evalkit drawbench`."""
    app.command("clip-scores")(clip_scores)


def clip_scores(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="CSV to write: prompt_id, model, metric, score.")],
    clip_model: Annotated[
        str, typer.Option(help="CLIP: shapes-clip for shapes, or an open_clip model.")
    ] = DEFAULT_CLIP,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 32,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Compute CLIP scores per prompt and model, for `results STUDY --scores FILE`."""
    from drawbench.errors import command_line
    from drawbench.study import load_study
    from drawbench.votes import csv_text
    from evalkit.core.files import check_output
    from evalkit.core.progress import progress_bar
    from evalkit.core.results import write_atomically
    from evalkit.features.clip import load_clip
    from evalkit.options.devices import torch_device

    check_output(out, "--out")
    opened = load_study(study)
    extractor = load_clip(clip_model, device=torch_device(device))
    table = score_study(opened, extractor, batch_size=batch_size, progress=progress_bar)
    rows = table.itertuples(index=False, name=None)
    write_atomically(out, csv_text(list(table.columns), rows).encode())
    typer.echo(f"{len(table)} scores: {out}")
    following = ("evalkit", "drawbench", "results", study, "--scores", out)
    typer.echo(f"next: {command_line(*following, database=_database_of(opened))}")


def _database_of(study: Study) -> str:
    """Return the database to name in a hint; empty where the votes are in the study's folder."""
    from drawbench.study.folder import DATABASE

    given = os.environ.get(DATABASE_VARIABLE, "")
    return given or ("" if (study.path / DATABASE).is_file() else "URL")


def score_study(
    study: Study, extractor: TextImageExtractor, *, batch_size: int, progress: ProgressFactory
) -> pd.DataFrame:
    """Compute the mean CLIP score (100 x cosine) of each prompt and model over the images shown.

    Args:
        study: The study; its blind copies, which people saw, are scored.
        extractor: CLIP, from `evalkit.features.clip.load_clip`.
        batch_size: Images embedded at once.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Returns:
        Columns `prompt_id`, `model`, `metric`, `score`; higher is better.
    """
    import numpy as np
    import pandas as pd

    from evalkit.features.pipeline import PassOptions, extract_set
    from evalkit.features.sources import ImageItem
    from evalkit.features.store import FeatureStore
    from evalkit.metrics.clip_score import clip_cosines

    texts = {prompt.id: prompt.text for prompt in study.document.prompts}
    entries = [entry for entry in study.images if entry.prompt_id in texts]
    missing = study.missing_images()
    if missing:
        raise MissingDataError(
            f"{len(missing)} of {len(study.images)} images are missing from {study.path} (the "
            f"first: images/{missing[0]}.png), and a score needs all of them. Restore them from a "
            "backup."
        )
    items = [ImageItem(study.image_path(e.key) or Path(), sha256=e.sha256) for e in entries]
    found = extract_set(
        items, [extractor], store=FeatureStore(), how=PassOptions(batch_size), progress=progress
    )
    captions = dict(zip(texts, extractor.encode_text(list(texts.values())), strict=True))
    cosines = clip_cosines(
        found.of(extractor), np.stack([captions[entry.prompt_id] for entry in entries])
    )
    table = pd.DataFrame(
        {
            "prompt_id": [entry.prompt_id for entry in entries],
            "model": [entry.source for entry in entries],
            "metric": f"CLIP score ({extractor.name})",
            "score": 100 * cosines,
        }
    )
    keys = ["prompt_id", "model", "metric"]
    return table.groupby(keys, sort=False)["score"].mean().reset_index()
