"""Make the folder of a study: blind copies, practice items, attention checks, `study.json`.

Everything is written to a temporary folder that is renamed at the end, so a study is either
complete or absent.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from drawbench.errors import StudyError
from drawbench.study.assignment import dice
from drawbench.study.design import Kind, Question, StudyConfig, names_in
from drawbench.study.folder import (
    DOCUMENT,
    IMAGE_LIST,
    RESERVED,
    ExtraItem,
    ImageEntry,
    ModelCard,
    Study,
    StudyDocument,
    StudyPrompt,
    SuiteCard,
    load_study,
)
from drawbench.study.images import blind_copy, break_picture, least_alike, store_blind
from drawbench.study.painters import PRACTICE, draw_even, draw_odd
from drawbench.study.sources import ImageSource
from drawbench.study.texts import Texts, english
from drawbench.suites import Suite
from evalkit.core.files import writing
from evalkit.core.pixels import image_bytes

CLEAR, BROKEN = f"{RESERVED}clear", f"{RESERVED}broken"
ProgressCallback = Callable[[int, int], None]


def make_study(
    path: Path,
    config: StudyConfig,
    suite: Suite,
    sources: Sequence[ImageSource],
    *,
    label: str = "",
    texts: Texts | None = None,
    on_progress: ProgressCallback | None = None,
) -> Study:
    """Make a study from the images of its models (and of its reference, if it has one).

    Args:
        path: Folder to make; it must not exist, or be empty.
        config: All decisions.
        suite: The prompts.
        sources: The images of each model named in `config`, from `open_source`.
        label: A label that every report shows, such as "sample".
        texts: What raters read besides the configuration; None takes the English texts.
        on_progress: Called with (images copied, total images).

    Returns:
        The study, read back from the folder.

    Raises:
        StudyError: The folder is in use, or models and sources don't match.
        DataError: An image can't be read.
    """
    path = Path(path)
    _refuse_used_folder(path)
    _refuse_other_models(config, sources)
    if texts is not None:
        _refuse_names_in_texts(config, texts)
    texts = texts or english()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path), _removed_at_end(temporary):
        temporary.mkdir(parents=True)
        images = _copy_images(temporary, sources, on_progress)
        extras = _make_extras(temporary, config, suite, sources, images, texts)
        document = StudyDocument(
            uid=secrets.token_hex(16),
            label=label,
            config=config,
            suite=SuiteCard(
                name=suite.name,
                sha256=suite.sha256,
                source=suite.source,
                notes=_notes(config, suite),
            ),
            prompts=tuple(
                StudyPrompt(id=prompt.id, text=prompt.text, category=prompt.category)
                for prompt in suite.prompts
            ),
            extras=extras,
            models=tuple(_card(source) for source in sources),
            texts=texts,
        )
        lines = "".join(entry.model_dump_json() + "\n" for entry in images)
        (temporary / IMAGE_LIST).write_text(lines, "utf-8")
        (temporary / DOCUMENT).write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    return load_study(path)


@contextmanager
def _removed_at_end(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_used_folder(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StudyError(f"{path} is in use. Choose a folder that does not exist or is empty.")


def _refuse_other_models(config: StudyConfig, sources: Sequence[ImageSource]) -> None:
    wanted = [*config.models, *([config.reference] if config.reference else [])]
    given = [source.name for source in sources]
    if sorted(wanted) != sorted(given):
        raise StudyError(
            f"The study compares {', '.join(wanted)}, but images were given for "
            f"{', '.join(given)}. "
            "Give each model once as --models NAME=FOLDER,NAME=FOLDER."
        )


def _refuse_names_in_texts(config: StudyConfig, texts: Texts) -> None:
    for name in filter(None, (*config.models, config.reference)):
        found = names_in(name, texts.all())
        if found:
            raise StudyError(
                f"The texts that raters read contain the name of model {name!r} ({found[:60]!r}), "
                "so the study would not be blind. Change the text or the name."
            )


def _notes(config: StudyConfig, suite: Suite) -> tuple[str, ...]:
    notes = list(suite.notes)
    for name in config.models:
        text = names_in(name, [prompt.text for prompt in suite.prompts])
        if text:
            notes.append(f"the prompt {text!r} contains the name of model {name!r}")
    return tuple(notes)


def _card(source: ImageSource) -> ModelCard:
    return ModelCard(
        name=source.name,
        selection=source.selection,
        origin=source.origin,
        fingerprint=dict(source.fingerprint),
        notes=source.notes,
    )


def _copy_images(
    folder: Path, sources: Sequence[ImageSource], on_progress: ProgressCallback | None
) -> list[ImageEntry]:
    total = sum(len(files) for source in sources for files in source.files.values())
    entries: list[ImageEntry] = []
    for source in sources:
        for prompt_id, files in source.files.items():
            for index, file in enumerate(files):
                content = image_bytes(file)
                entries.append(
                    store_blind(
                        folder,
                        blind_copy(content, name=str(file)),
                        source=source.name,
                        prompt_id=prompt_id,
                        sample_index=index,
                        origin=content,
                    )
                )
                if on_progress:
                    on_progress(len(entries), total)
    return entries


def _make_extras(
    folder: Path,
    config: StudyConfig,
    suite: Suite,
    sources: Sequence[ImageSource],
    images: list[ImageEntry],
    texts: Texts,
) -> tuple[ExtraItem, ...]:
    """Draw the practice items and compose the checks; their images are appended to `images`."""
    kinds: list[Kind] = sorted({question.kind for question in config.questions})
    extras: list[ExtraItem] = []
    for number in range(config.num_practice):
        kind = kinds[number % len(kinds)]
        extra = ExtraItem(
            id=f"{RESERVED}practice-{number + 1}",
            text=texts.study.practice_captions[number % len(PRACTICE)],
            role="practice",
            kind=kind,
        )
        images += _practice_images(folder, config, extra, PRACTICE[number % len(PRACTICE)])
        extras.append(extra)
    if config.num_checks and len(suite.prompts) < 2:
        raise StudyError("Attention checks need at least 2 prompts, got 1. Set num_checks to 0.")
    for number in range(config.num_checks):
        check, pictures = _check(folder, config, suite, sources, number, kinds[number % len(kinds)])
        extras.append(check)
        images += pictures
    return tuple(extras)


def _practice_images(
    folder: Path, config: StudyConfig, extra: ExtraItem, scene: str
) -> list[ImageEntry]:
    painters = {CLEAR: draw_even, BROKEN: draw_odd}
    if extra.kind == "single":
        del painters[BROKEN]
    return [
        store_blind(
            folder,
            paint(scene, dice(config.seed, extra.id, source, index)),
            source=source,
            prompt_id=extra.id,
            sample_index=index,
            origin=b"",
        )
        for source, paint in painters.items()
        for index in range(config.images_per_side)
    ]


def _check(
    folder: Path,
    config: StudyConfig,
    suite: Suite,
    sources: Sequence[ImageSource],
    number: int,
    kind: Kind,
) -> tuple[ExtraItem, list[ImageEntry]]:
    """Make an item with one right answer.

    For a pair, one side shows a model's images and the other side ruined images of the same model
    for another prompt; for a single set, the caption is that of another prompt.
    """
    draw = dice(config.seed, "check", number)
    source = draw.choice(list(sources))
    prompt = draw.choice(suite.prompts)
    others = [other for other in suite.prompts if other.id != prompt.id]
    stranger = others[least_alike(prompt.text, [other.text for other in others])]
    questions = [question for question in config.questions if question.kind == kind]
    extra = ExtraItem(
        id=f"{RESERVED}check-{number + 1}",
        text=prompt.text if kind == "pair" else stranger.text,
        role="check",
        kind=kind,
        expected={question.id: _right_answer(question) for question in questions},
    )
    pictures = [_picture(file) for file in source.files[prompt.id]]
    sides = {CLEAR: pictures}
    if kind == "pair":
        ruin = _picture(source.files[stranger.id][0])
        sides[BROKEN] = [break_picture(ruin, draw) for _ in pictures]
    entries = [
        store_blind(
            folder, picture, source=side, prompt_id=extra.id, sample_index=index, origin=b""
        )
        for side, members in sides.items()
        for index, picture in enumerate(members)
    ]
    return extra, entries


def _picture(file: Path) -> Image.Image:
    return blind_copy(image_bytes(file), name=str(file))


def _right_answer(question: Question) -> str:
    if question.kind == "pair":
        return "first"
    scored = [answer for answer in question.answers if answer.score is not None]
    worst = min(scored, key=lambda answer: answer.score or 0.0) if scored else question.answers[-1]
    return worst.value
