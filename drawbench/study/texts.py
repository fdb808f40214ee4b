"""Every word that raters read, one TOML file per language; English is `languages/en.toml`.

A study keeps the texts that it was made with, so a new version changes no study. Another file must
have exactly the keys of the English one, with the same placeholders.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints, ValidationError

from drawbench.errors import StudyError
from drawbench.study.strict import Growing, Strict, Text, added_later, first_fault
from evalkit.core.errors import MissingDataError
from evalkit.core.tables import read_toml

SideName = Annotated[str, StringConstraints(pattern=r"^[\p{L}\p{M} ]{1,20}$")]
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_CAPTION = frozenset({"caption"})
"""What a question may hold, but need not."""


def _english(section: str, key: str) -> Callable[[], str]:
    """Return what an older study shows for a text that it does not have: the English one."""
    return lambda: str(getattr(getattr(english(), section), key))


class StudyTexts(Strict):
    """What a study's own settings replace."""

    title: Text
    sample_title: Text
    content_warning: Text
    consent: Text
    practice_captions: tuple[Text, Text]


class WelcomeTexts(Strict):
    """The first page."""

    instructions_heading: Text
    warning_heading: Text
    consent_heading: Text
    contact_heading: Text
    contact: Text
    agreement: Text
    start: Text


class RatingTexts(Growing):
    """A page with images and questions."""

    progress_label: Text
    progress: Text
    practice: Text
    caption: Text
    first_set: Text
    second_set: Text
    undo: Text
    pause: Text
    instructions: Text
    keys: Text
    translated: Text = added_later(_english("rating", "translated"))


class ImageTexts(Growing):
    """The images on a page, and the view that enlarges one."""

    image: Text
    image_of_set: Text
    enlarge: Text
    enlarged: Text
    close: Text
    close_label: Text
    previous: Text
    next: Text
    report: Text
    failed: Text
    loading: Text = added_later(_english("images", "loading"))
    missing: Text = added_later(_english("images", "missing"))
    try_again: Text = added_later(_english("images", "try_again"))
    report_missing: Text = added_later(_english("images", "report_missing"))
    skip: Text = added_later(_english("images", "skip"))


class ReportTexts(Growing):
    """The dialog that reports an image."""

    title: Text
    reason: Text
    send: Text
    thanks: Text
    failed: Text
    cancel: Text = added_later(_english("report", "cancel"))


class PauseTexts(Strict):
    """The page of a rater who takes a break."""

    heading: Text
    explanation: Text
    resume: Text


class WithdrawalTexts(Strict):
    """Leaving the study for good."""

    heading: Text
    explanation: Text
    confirm: Text
    delete: Text
    done: Text
    failed: Text


class ClosingTexts(Strict):
    """The pages without images other than the first."""

    finished_heading: Text
    finished: Text
    taken_over_heading: Text
    taken_over: Text
    members_only_heading: Text
    members_only: Text
    unknown_link_heading: Text
    unknown_link: Text


class ErrorTexts(Growing):
    """What went wrong, and what was refused."""

    unreachable: Text
    try_again: Text
    cannot_start: Text
    start_failed: Text
    not_stored: Text
    store_failed: Text
    undo_failed: Text
    study_full: Text
    joined_before: Text
    invited_only: Text
    unknown_link: Text
    page_lost: Text
    not_in_study: Text
    not_offered: Text
    bad_platform_id: Text = added_later(_english("errors", "bad_platform_id"))
    too_many_joins: Text = added_later(_english("errors", "too_many_joins"))
    images_not_seen: Text = added_later(_english("errors", "images_not_seen"))


class QuestionTexts(Strict):
    """A question of a preset and the labels of its answers, by value."""

    text: Text
    answers: Mapping[str, Text]


class PresetTexts(Strict):
    """The wording of a preset."""

    side_name: SideName
    instructions: Text
    questions: Mapping[str, QuestionTexts]


class Texts(Strict):
    """The texts of one language."""

    language: Text
    study: StudyTexts
    welcome: WelcomeTexts
    rating: RatingTexts
    images: ImageTexts
    report: ReportTexts
    pause: PauseTexts
    withdrawal: WithdrawalTexts
    closing: ClosingTexts
    errors: ErrorTexts
    presets: Mapping[str, PresetTexts]

    def all(self) -> list[str]:
        """Return every single text, in order."""
        return [text for _, text in _leaves(self.model_dump(mode="json"))]


def english_file() -> str:
    """Return the English file, as a starting point for another language."""
    return (files("drawbench.study") / "languages" / "en.toml").read_text("utf-8")


@cache
def english() -> Texts:
    """Return the English texts."""
    return Texts.model_validate(_with_tuples(tomllib.loads(english_file())))


def read_texts(path: Path) -> Texts:
    """Read a file of texts and check it against the English one.

    Raises:
        MissingDataError: There is no such file.
        StudyError: It is not TOML, a key is unknown or missing, or a text has other placeholders
            than the English one.
    """
    if not Path(path).exists():
        raise MissingDataError(
            f"{path}: no such file. Make one with: evalkit drawbench texts --out {path}"
        )
    raw = read_toml(Path(path), what="texts", fault=StudyError)
    _check_keys(raw, path)
    try:
        return Texts.model_validate(_with_tuples(raw))
    except ValidationError as error:
        raise StudyError(f"{path}: {first_fault(error)}.") from error


def fill(text: str, **values: object) -> str:
    """Put values into the placeholders of a text; braces within the values stay as they are.

    >>> fill("{page} of {pages}", page="{pages}", pages=9)
    '{pages} of 9'
    """
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)


def _check_keys(raw: Mapping[str, Any], path: Path) -> None:
    wanted = dict(_leaves(tomllib.loads(english_file())))
    found = dict(_leaves(raw))
    hint = "See the English file: evalkit drawbench texts."
    for key in found:
        if key not in wanted:
            raise StudyError(f"{path}: {key} is not a key of a file of texts. {hint}")
    for key, text in wanted.items():
        if key not in found:
            raise StudyError(f"{path}: the key {key} is missing. {hint}")
        given, allowed = _placeholders(found[key]), _placeholders(text)
        is_question = key.startswith("presets.") and key.endswith(".text")
        if given != allowed and not (is_question and given <= _CAPTION):
            raise StudyError(
                f"{path}: {key} has the placeholders {_named(given)}, expected {_named(allowed)}."
            )


def _leaves(table: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every leaf; items of a list are counted from 0."""
    if isinstance(table, Mapping | list | tuple):
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        for key, value in items:
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(table)


def _placeholders(text: str) -> frozenset[str]:
    return frozenset(_PLACEHOLDER.findall(text))


def _named(placeholders: frozenset[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(placeholders)) or "none"


def _with_tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists of TOML into the tuples of a frozen model."""
    study = raw.get("study")
    if not isinstance(study, Mapping) or not isinstance(study.get("practice_captions"), list):
        return dict(raw)
    captions = tuple(study["practice_captions"])
    return {**raw, "study": {**study, "practice_captions": captions}}
