"""What a reader must know of a study besides its numbers: who rated, and what they were asked."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drawbench.errors import StudyError

NOT_STATED = "not stated"


class ReportingCard(BaseModel):
    """Facts that no table of votes holds. What is not given is printed as "not stated"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Which model do people prefer?"
    raters: str = ""
    """Who rated: number, where they live, languages, expertise."""
    recruitment: str = ""
    """How they were found."""
    payment: str = ""
    """What they were paid, per hour or task."""
    consent: str = ""
    """What they agreed to, and what ethics review there was."""
    instructions: str = ""
    """What they were told."""
    questions: dict[str, str] = {}
    """Wording of each question, by its id."""
    answers: str = ""
    """Wording of the answers."""
    suite: str = ""
    """The prompts: name, version, number."""
    images_per_side: int | None = None
    selection: str = ""
    """How the images shown were chosen from those generated."""
    assignment: str = ""
    """Who rated what; how sides and order were drawn."""
    deviations: str = ""
    """What differs from the protocol that is followed."""
    screenshots: tuple[Path, ...] = ()
    """What raters saw; PNG or JPEG files."""

    def completed_by(self, other: ReportingCard) -> ReportingCard:
        """This card with what the other one states in place of its own."""
        stated = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=stated)

    def rows(self) -> list[tuple[str, str]]:
        """Labels and texts in the order of the page."""
        count = "" if self.images_per_side is None else str(self.images_per_side)
        texts = [
            ("Who rated", self.raters),
            ("How they were found", self.recruitment),
            ("What they were paid", self.payment),
            ("Consent and ethics", self.consent),
            ("What they were told", self.instructions),
            *((f"Question “{name}”", wording) for name, wording in self.questions.items()),
            ("Answers offered", self.answers),
            ("Prompts", self.suite),
            ("Images on each side", count),
            ("How images were chosen", self.selection),
            ("Assignment, sides and order", self.assignment),
            ("Deviations from the protocol", self.deviations),
        ]
        return [(label, text or NOT_STATED) for label, text in texts]


def read_card(path: Path) -> ReportingCard:
    """Read a reporting card from TOML; screenshots are found beside it.

    Raises:
        StudyError: Not TOML, an unknown key, or a screenshot that is not there.
    """
    try:
        raw = tomllib.loads(Path(path).read_text("utf-8"))
        card = ReportingCard.model_validate(raw)
    except OSError as error:
        raise StudyError(f"{path}: can't read the reporting card ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(ReportingCard.model_fields)
        raise StudyError(f"{path}: {key}: {first['msg']}. Known keys: {known}.") from error
    found = tuple(Path(path).parent / name for name in card.screenshots)
    for file in found:
        if not file.is_file():
            raise StudyError(f"{path}: no screenshot {file}. Correct the name or leave it out.")
    return card.model_copy(update={"screenshots": found})
