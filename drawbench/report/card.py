"""The reporting card: what a reader must know about a study besides its numbers."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drawbench.errors import StudyError
from evalkit.core.tables import read_toml

NOT_STATED = "not stated"


class ReportingCard(BaseModel):
    """Facts that are not in a table of votes. Missing ones are printed as "not stated"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Which model do people prefer?"
    raters: str = ""
    """Raters: number, countries, languages, expertise."""
    recruitment: str = ""
    """Recruitment."""
    payment: str = ""
    """Payment per hour or task."""
    consent: str = ""
    """Consent and ethics review."""
    instructions: str = ""
    """Instructions."""
    questions: dict[str, str] = {}
    """Wording of each question, by its id."""
    answers: str = ""
    """Wording of the answers."""
    suite: str = ""
    """The prompts: name, version, number."""
    images_per_side: int | None = None
    selection: str = ""
    """How the images shown were selected from those generated."""
    assignment: str = ""
    """Assignment of raters; how sides and orders were drawn."""
    deviations: str = ""
    """Deviations from the protocol."""
    screenshots: tuple[Path, ...] = ()
    """Screenshots of the rating page, PNG or JPEG files."""

    def completed_by(self, other: ReportingCard) -> ReportingCard:
        """Return this card, overridden by what the other one states."""
        stated = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=stated)

    def rows(self) -> list[tuple[str, str]]:
        """Return labels and texts in the order of the page."""
        count = "" if self.images_per_side is None else str(self.images_per_side)
        texts = [
            ("Raters", self.raters),
            ("Recruitment", self.recruitment),
            ("Payment", self.payment),
            ("Consent and ethics", self.consent),
            ("Instructions", self.instructions),
            *((f"Question “{name}”", wording) for name, wording in self.questions.items()),
            ("Answers offered", self.answers),
            ("Prompts", self.suite),
            ("Images on each side", count),
            ("Selection of images", self.selection),
            ("Assignment, sides and order", self.assignment),
            ("Deviations from the protocol", self.deviations),
        ]
        return [(label, text or NOT_STATED) for label, text in texts]


def read_card(path: Path) -> ReportingCard:
    """Read a reporting card from TOML; screenshots are found beside it.

    Raises:
        StudyError: The file is not TOML, a key is unknown, or a screenshot is missing.
    """
    raw = read_toml(Path(path), what="a reporting card", fault=StudyError)
    try:
        card = ReportingCard.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(ReportingCard.model_fields)
        raise StudyError(f"{path}: {key}: {first['msg']}. Known keys: {known}.") from error
    found = tuple(Path(path).parent / name for name in card.screenshots)
    for file in found:
        if not file.is_file():
            raise StudyError(f"{path}: screenshot {file} not found. Correct the name or remove it.")
    return card.model_copy(update={"screenshots": found})
