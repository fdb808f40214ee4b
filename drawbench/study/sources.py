"""Find a model's images in a run folder of evalkit, or in any folder of images.

Samples are never picked: a prompt gets its first images by sample index. How they were selected
before is recorded: a run that kept the best of several candidates is "re-ranked" and refused
unless allowed; for a folder of images the selection is "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drawbench.errors import StudyError
from drawbench.suites import Prompt
from evalkit.core.errors import MissingDataError, NotEnoughImagesError
from evalkit.core.image_files import scan_folder
from evalkit.core.run import RunFolder

Selection = Literal["first by sample index", "re-ranked", "unknown", "drawn by evalkit"]

_NUMBERED_STEM = re.compile(r"(?P<prompt>.+?)[_-](?P<sample>\d+)")


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """The images of one model for all prompts of a study."""

    name: str
    """Name of the model in the study."""
    origin: str
    """Name of the folder."""
    selection: Selection
    """How the samples were chosen."""
    files: Mapping[str, tuple[Path, ...]]
    """The images of each prompt, the first ones by sample index."""
    fingerprint: Mapping[str, Any]
    """How they were generated, as far as the folder records it."""
    notes: tuple[str, ...] = ()


def open_source(
    name: str,
    path: Path,
    prompts: Sequence[Prompt],
    *,
    per_prompt: int,
    allow_reranked: bool = False,
) -> ImageSource:
    """Find a model's images for all prompts.

    Args:
        name: Name of the model in the study.
        path: A run folder, or a folder of images: `PROMPT_ID/0.png` or `PROMPT_ID_0.png`, where the
            id is the suite's (`drawbench-007`) or the prompt's number from 0 (`7` or `007`).
        prompts: The prompts of the suite.
        per_prompt: How many images each prompt needs.
        allow_reranked: Take a run whose images are the best of several candidates.

    Raises:
        MissingDataError: The folder is missing or contains no images.
        NotEnoughImagesError: A prompt has fewer images than needed, or none.
        StudyError: The run was re-ranked and that is not allowed.
        RunFolderError: The run folder is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise MissingDataError(f"{path}: no such folder. Give the images of {name} as NAME=FOLDER.")
    if (path / "run.json").is_file():
        source = _from_run(name, path, prompts, per_prompt)
    else:
        source = _from_folder(name, path, prompts, per_prompt)
    if source.selection == "re-ranked" and not allow_reranked:
        raise StudyError(
            f"{path}: the images of {name} are the best of several candidates (re-ranked), so "
            "they are not a fair sample. Generate without re-ranking, or allow it with "
            "--allow-reranked."
        )
    _refuse_shortage(source, path, prompts, per_prompt)
    return source


def _from_run(name: str, path: Path, prompts: Sequence[Prompt], per_prompt: int) -> ImageSource:
    run = RunFolder.read(path)
    found: dict[str, list[tuple[int, Path]]] = {}
    by_text: dict[str, str] = {}
    skipped = 0
    for row in run.rows():
        if row.file is None:
            skipped += 1
            continue
        found.setdefault(row.caption_id, []).append((row.sample_index, run.image_path(row)))
        if row.prompt is not None:
            by_text[row.prompt] = row.caption_id
    files = {
        prompt.id: _first(
            found.get(prompt.id) or found.get(by_text.get(prompt.text, ""), []), per_prompt
        )
        for prompt in prompts
    }
    note = (
        f"{skipped} samples have no image (refused, filtered or failed); the next samples "
        "replace them"
    )
    return ImageSource(
        name=name,
        origin=path.name,
        selection="re-ranked" if _is_reranked(run.config) else "first by sample index",
        files=files,
        fingerprint={"run": run.fingerprint, "config": dict(run.config)},
        notes=(note,) if skipped else (),
    )


def _from_folder(name: str, path: Path, prompts: Sequence[Prompt], per_prompt: int) -> ImageSource:
    found = _images_by_key(path)
    if not found:
        raise MissingDataError(
            f"{path} contains no images. Expected PROMPT_ID/0.png or PROMPT_ID_0.png (or .jpg, "
            ".webp)."
        )
    numbers = {int(key): key for key in found if key.isdecimal()}
    if len(prompts) in numbers and 0 not in numbers:
        raise StudyError(
            f"{path}: prompts are numbered from 1 to {max(numbers)}. Number them from 0, or name "
            f"them by id ({prompts[0].id}_0.png)."
        )
    files = {
        prompt.id: _first(found.get(prompt.id) or found.get(numbers.get(index, ""), []), per_prompt)
        for index, prompt in enumerate(prompts)
    }
    return ImageSource(
        name=name,
        origin=path.name,
        selection="unknown",
        files=files,
        fingerprint={"folder": path.name},
    )


def _images_by_key(path: Path) -> dict[str, list[tuple[int, Path]]]:
    """Group (sample index, file) by the part of the name that identifies the prompt."""
    found: dict[str, list[tuple[int, Path]]] = {}
    in_folders: dict[str, list[Path]] = {}
    for name in scan_folder(path).images:
        file = path / name
        folder, _, below = name.partition("/")
        if below:
            in_folders.setdefault(folder, []).extend([file] if "/" not in below else [])
        elif match := _NUMBERED_STEM.fullmatch(file.stem):
            found.setdefault(match["prompt"], []).append((int(match["sample"]), file))
        else:
            found.setdefault(file.stem, []).append((0, file))
    for folder, members in in_folders.items():
        found.setdefault(folder, []).extend(enumerate(sorted(members, key=_natural)))
    return found


def _natural(file: Path) -> list[tuple[int, str]]:
    """Return a sort key by which 10.png follows 9.png."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", file.stem)
    ]


def _first(samples: Sequence[tuple[int, Path]], count: int) -> tuple[Path, ...]:
    return tuple(file for _, file in sorted(samples)[:count])


def _is_reranked(config: object) -> bool:
    """Return whether a run's configuration says, at any depth, that candidates were re-ranked."""
    if isinstance(config, Mapping):
        return bool(config.get("reranked")) or any(_is_reranked(value) for value in config.values())
    if isinstance(config, list):
        return any(_is_reranked(value) for value in config)
    return False


def _refuse_shortage(
    source: ImageSource, path: Path, prompts: Sequence[Prompt], per_prompt: int
) -> None:
    missing = [prompt.id for prompt in prompts if not source.files[prompt.id]]
    if missing:
        raise NotEnoughImagesError(
            f"{path}: {source.name} has no images for {len(missing)} of {len(prompts)} prompts, "
            f"the first is {missing[0]}. Generate them, or remove these prompts for all models."
        )
    short = [prompt.id for prompt in prompts if len(source.files[prompt.id]) < per_prompt]
    if short:
        raise NotEnoughImagesError(
            f"{path}: {source.name} has {len(source.files[short[0]])} images for {short[0]}, but "
            f"a side needs {per_prompt} ({len(short)} prompts are short). Generate more with "
            f"--per-prompt {per_prompt}, or show fewer with --images-per-side."
        )
