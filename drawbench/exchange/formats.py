"""Convert votes of other tools to the table of `drawbench.votes`.

    label-studio   JSON export; tags Choices or Pairwise, one per question; the task's data hold
                   prompt_id, category, model_a, model_b and left_model
    mturk          results of a batch; the same names under Input., the answers under Answer.
    prolific       a survey's answers with PROLIFIC_PID in place of rater_id
    arena          pairs with model_a, model_b, winner (FastChat), or left, right, winner (evalica)
    pick-a-pic     caption, model_0, model_1, label_0

Every converter reads all rows before it returns any, and counts what it leaves out by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drawbench.errors import NoVotesError, VotesError
from drawbench.votes import read_cells, read_text, read_votes, validate_votes
from evalkit.core.registry import unknown
from evalkit.core.tables import found_columns, parse_json, parse_objects

ANSWER_WORDS: Mapping[str, str] = {
    "a": "a",
    "set a": "a",
    "image a": "a",
    "model a": "a",
    "model_a": "a",
    "i prefer set a": "a",
    "b": "b",
    "set b": "b",
    "image b": "b",
    "model b": "b",
    "model_b": "b",
    "i prefer set b": "b",
    "tie": "tie",
    "tie (bothbad)": "tie",
    "both": "tie",
    "neither": "tie",
    "equal": "tie",
    "same": "tie",
    "draw": "tie",
    "indifferent": "tie",
    "i am indifferent": "tie",
    "not sure": "tie",
    "left": "left",
    "right": "right",
}
"""Meanings of other tools' answers, in lower case; left and right depend on the side shown."""
ITEM_FIELDS = ("prompt_id", "category", "model_a", "model_b", "left_model", "prompt", "item_id")
OWN_FORM = "votes"
UNFINISHED = ("returned", "timed-out", "timed out", "active")
ARENA_NAMES: Mapping[str, Sequence[str]] = {
    "rater_id": ("rater_id", "judge", "user_id", "evaluator", "annotator", "worker", "judge_hash"),
    "prompt_id": ("prompt_id", "question_id", "uid", "prompt"),
    "category": ("category", "language"),
    "question": ("question", "criterion"),
    "item_id": ("item_id", "battle_id", "vote_id"),
    "answered_at": ("answered_at", "tstamp", "created_at"),
    "prompt": ("prompt",),
}
"""Other tools' names of our columns; the first one present is used."""


@dataclass(frozen=True)
class Imported:
    """Converted votes, and what was left out."""

    votes: pd.DataFrame
    skipped: Mapping[str, int]
    """Reasons and counts of what was left out."""


Row = dict[str, Any]
Words = Mapping[str, str]


def import_votes(
    path: Path,
    *,
    form: str = "votes",
    words: Words | None = None,
    submissions: Path | None = None,
) -> Imported:
    """Read votes in the format of a tool.

    Args:
        path: The file.
        form: "votes" for our own CSV, or one of `FORMS`.
        words: Meanings of further answers: `a`, `b`, `tie`, `left` or `right`, by the tool's word.
        submissions: Prolific's list of submissions, with the status of each participant.

    Raises:
        VotesError, NoVotesError: The file has another format, or contains unknown values.
        UnknownNameError: There is no such format.
    """
    if form == OWN_FORM:
        return Imported(read_votes(path), {})
    if form not in FORMS:
        raise unknown(form, (OWN_FORM, *FORMS), kind="forms")
    skipped: Counter[str] = Counter()
    known = {**ANSWER_WORDS, **{word.lower(): meaning for word, meaning in (words or {}).items()}}
    rows = list(FORMS[form](path, known, skipped))
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise NoVotesError(f"{path} contains no votes{f' ({reasons})' if reasons else ''}.")
    frame = pd.DataFrame(rows)
    if submissions is not None:
        frame = _with_submissions(frame, submissions)
    whole = frame.astype(object).where(frame.notna(), "")
    return Imported(validate_votes(whole, source=str(path)), dict(skipped))


def parse_words(texts: Sequence[str]) -> dict[str, str]:
    """Parse meanings of answers from the command line, `WORD=MEANING`.

    >>> parse_words(["better=a"])
    {'better': 'a'}

    Raises:
        VotesError: The form is wrong, or there is no such meaning.
    """
    meanings = {}
    for text in texts:
        word, _, meaning = text.rpartition("=")
        if not word or meaning not in ("a", "tie", "b", "left", "right"):
            raise VotesError(f"--answer {text!r}: expected WORD=a, tie, b, left or right.")
        meanings[word] = meaning
    return meanings


def _label_studio(path: Path, words: Words, skipped: Counter[str]) -> Iterator[Row]:
    doubled = _Doubled(path)
    for task in _json_list(path):
        if "annotations" not in task or "data" not in task:
            raise VotesError(
                f"{path}: a task has no annotations. Export from Label Studio as JSON."
            )
        where = f"{path}: task {task.get('id', '?')}"
        item = _item(_mapping(task["data"], where, "data"), where)
        for raw in _list(task["annotations"], where, "annotations"):
            annotation = _mapping(raw, where, "an annotation")
            if annotation.get("was_cancelled"):
                skipped["cancelled annotations"] += 1
                continue
            results = _list(annotation.get("result"), where, "result")
            if not results:
                skipped["annotations without a choice"] += 1
            for result in results:
                chosen = _label_studio_choices(_mapping(result, where, "a result"), where)
                if not chosen:
                    skipped["results without a choice"] += 1
                elif doubled.add(where, chosen):
                    yield {
                        **item,
                        "rater_id": _who(annotation.get("completed_by")),
                        "question": str(result.get("from_name") or ""),
                        "answer": _meaning(chosen[0], item, words, where),
                        "response_s": annotation.get("lead_time") or "",
                        "answered_at": str(annotation.get("created_at") or ""),
                    }
    doubled.refuse()


def _label_studio_choices(result: Mapping[str, Any], where: str) -> list[str]:
    value = _mapping(result.get("value") or {}, where, "value")
    if result.get("type") == "pairwise":
        return [str(value["selected"])] if _given(value.get("selected")) else []
    choices = value.get("choices") if result.get("type") == "choices" else None
    return [str(choice) for choice in _list(choices, where, "choices") if _given(choice)]


@dataclass
class _Doubled:
    """Answers with two choices, where one is allowed; all are counted before they are refused."""

    path: Path
    count: int = 0
    first: str = ""

    def add(self, where: str, chosen: Sequence[str]) -> bool:
        """Return whether an answer has one choice; count it otherwise."""
        if len(chosen) == 1:
            return True
        self.count += 1
        self.first = self.first or f"{where}: {', '.join(chosen)}"
        return False

    def refuse(self) -> None:
        """Raise an error if an answer had several choices.

        Raises:
            VotesError: Names their number and the first one.
        """
        if self.count:
            raise VotesError(
                f"{self.path}: {self.count} answers have several choices, the first is {self.first}"
                ". A rating has one. Remove them, and let raters choose only one."
            )


def _mapping(value: Any, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise VotesError(f"{where}: {what} is {value!r:.40}, expected an object. Export it again.")
    return value


def _list(value: Any, where: str, what: str) -> list[Any]:
    """Return a list; null, which some versions write for nothing, is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise VotesError(f"{where}: {what} is {value!r:.40}, expected a list. Export it again.")
    return value


def _who(completed_by: Any) -> str:
    if isinstance(completed_by, Mapping):
        return str(completed_by.get("id") or completed_by.get("email") or "")
    return "" if completed_by is None else str(completed_by)


def _mturk(path: Path, words: Words, skipped: Counter[str]) -> Iterator[Row]:
    cells = read_cells(path)
    _require(cells, ("WorkerId", "AssignmentStatus"), path)
    answers = [name for name in cells.columns if name.startswith("Answer.")]
    if not answers:
        raise VotesError(
            f"{path} has no column Answer.<question>. Download the batch's results as CSV."
        )
    doubled, prefix = _Doubled(path), "Input."
    for number, line in enumerate(_records(cells), start=1):
        where = f"{path}: row {number}"
        inputs = {name.removeprefix(prefix): line[name] for name in line if name.startswith(prefix)}
        item = _item(inputs, where)
        for question, chosen in _mturk_answers(line, answers).items():
            if not chosen:
                skipped[f"blank answers to {question!r}"] += 1
            elif doubled.add(where, chosen):
                yield {
                    **item,
                    "rater_id": line["WorkerId"],
                    "question": question,
                    "answer": _meaning(chosen[0], item, words, where),
                    "response_s": line.get("WorkTimeInSeconds", ""),
                    "answered_at": line.get("SubmitTime", ""),
                    "rater_status": line["AssignmentStatus"].lower(),
                }
    doubled.refuse()


def _mturk_answers(line: Mapping[str, str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Read the choices from `Answer.question`; Crowd HTML radio groups have a column per choice."""
    found: dict[str, list[str]] = {}
    for column in columns:
        question, _, choice = column.removeprefix("Answer.").partition(".")
        cell = line[column].strip()
        chosen = found.setdefault(question, [])
        if choice and cell.lower() == "true":
            chosen.append(choice)
        elif not choice and cell:
            chosen.append(cell)
    return found


def _prolific(path: Path, words: Words, skipped: Counter[str]) -> Iterator[Row]:
    cells = read_cells(path)
    _require(cells, ("PROLIFIC_PID", "question", "answer"), path)
    for number, line in enumerate(_records(cells), start=1):
        where = f"{path}: row {number}"
        if not line["PROLIFIC_PID"]:
            skipped["rows without PROLIFIC_PID"] += 1
            continue
        if not line["answer"].strip():
            skipped["rows without an answer"] += 1
            continue
        item = _item(line, where)
        yield {
            **line,
            **item,
            "rater_id": line["PROLIFIC_PID"],
            "answer": _meaning(line["answer"], item, words, where),
        }


def _arena(path: Path, words: Words, skipped: Counter[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}: row {number}"
        sided = "left" in line and "right" in line
        models = ("left", "right") if sided else ("model_a", "model_b")
        missing = [name for name in models if not _given(line.get(name))]
        missing += [] if "winner" in line else ["winner"]
        if missing:
            raise VotesError(
                f"{where}: {missing[0]!r} is missing. Expected model_a, model_b, winner."
            )
        found = {
            ours: str(next((line[name] for name in theirs if _given(line.get(name))), ""))
            for ours, theirs in ARENA_NAMES.items()
        }
        row: Row = {**found, "model_a": str(line[models[0]]), "model_b": str(line[models[1]])}
        row["question"] = row["question"] or "overall"
        if sided:
            row["left_model"] = row["model_a"]
        if row["model_a"] == row["model_b"]:
            skipped["pairs of a model with itself"] += 1
            continue
        if not _given(line["winner"]):
            skipped["rows without a winner"] += 1
            continue
        row["answer"] = _meaning(str(line["winner"]), row, words, where)
        yield {name: value for name, value in row.items() if value or name == "category"}


def _pick_a_pic(path: Path, words: Words, skipped: Counter[str]) -> Iterator[Row]:
    answers = {1.0: "a", 0.5: "tie", 0.0: "b"}
    needed = ("caption", "model_0", "model_1", "label_0", "user_id")
    for number, line in enumerate(_lines(path), start=1):
        missing = [name for name in needed if not _given(line.get(name))]
        if missing == ["label_0"] and "label_0" in line:
            skipped["rows without a label"] += 1
            continue
        if missing:
            raise VotesError(
                f"{path}: row {number}: {missing[0]!r} is missing, found "
                f"{found_columns(list(line))}."
            )
        if line["model_0"] == line["model_1"]:
            skipped["pairs of a model with itself"] += 1
            continue
        try:
            answer = answers[float(line["label_0"])]
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            seen = line["label_0"]
            raise VotesError(
                f"{path}: row {number}: label_0 is {seen!r}, expected 0, 0.5 or 1."
            ) from error
        yield {
            "rater_id": str(line["user_id"]),
            "prompt_id": str(line["caption"]),
            "prompt": str(line["caption"]),
            "category": "",
            "model_a": str(line["model_0"]),
            "model_b": str(line["model_1"]),
            "question": "overall",
            "answer": answer,
            "item_id": str(line["ranking_id"] if _given(line.get("ranking_id")) else number),
            "answered_at": str(line.get("created_at") or ""),
        }


FORMS: Mapping[str, Callable[[Path, Words, Counter[str]], Iterator[Row]]] = {
    "label-studio": _label_studio,
    "mturk": _mturk,
    "prolific": _prolific,
    "arena": _arena,
    "pick-a-pic": _pick_a_pic,
}
"""Formats of other tools and their converters."""


def _with_submissions(votes: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add Prolific's status of each participant."""
    cells = read_cells(path)
    _require(cells, ("Participant id", "Status"), path)
    status = dict(zip(cells["Participant id"], cells["Status"].str.lower(), strict=True))
    known = [status.get(rater_id, "") for rater_id in votes["rater_id"]]
    return votes.assign(rater_status=known, partial=[word in UNFINISHED for word in known])


def _item(data: Mapping[Any, Any], where: str) -> Row:
    missing = [name for name in ("prompt_id", "model_a", "model_b") if not _given(data.get(name))]
    if missing:
        raise VotesError(f"{where}: {missing[0]!r} is missing in the item's data.")
    item = {name: str(data[name]) for name in ITEM_FIELDS if _given(data.get(name))}
    return {"category": "", **item}


def _given(value: Any) -> bool:
    """Return whether there is a value; 0 is a valid id, blanks are none."""
    return value is not None and str(value).strip() != ""


def _meaning(word: str, item: Mapping[str, Any], words: Words, where: str) -> str:
    """Return a, tie or b; a side is looked up in the item, never guessed."""
    meaning = words.get(word.strip().lower())
    if meaning is None:
        raise VotesError(
            f"{where}: unknown answer {word!r}. Give its meaning with --answer {word!r}=MEANING, "
            "which is a, tie, b, left or right."
        )
    if meaning not in ("left", "right"):
        return meaning
    left = item.get("left_model")
    if left not in (item["model_a"], item["model_b"]):
        raise VotesError(
            f"{where}: the answer is {word!r}, but left_model is missing. Add the model on the "
            "left."
        )
    return "a" if (meaning == "left") == (left == item["model_a"]) else "b"


def _require(cells: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    missing = [name for name in names if name not in cells.columns]
    if missing:
        seen = found_columns(list(cells.columns))
        raise VotesError(f"{path}: column {missing[0]!r} is missing. Found: {seen}.")


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """Read the rows of a CSV, JSON or JSON Lines file."""
    if Path(path).suffix.lower() == ".csv":
        return [*_records(read_cells(path))]
    return _json_list(path)


def _records(cells: pd.DataFrame) -> Iterator[dict[str, str]]:
    names = [str(name) for name in cells.columns]
    for row in cells.itertuples(index=False, name=None):
        yield dict(zip(names, row, strict=True))


def _json_list(path: Path) -> list[Mapping[str, Any]]:
    text = read_text(path)
    if Path(path).suffix.lower() == ".jsonl":
        return [row for _, row in parse_objects(text, source=str(path), fault=VotesError)]
    found = parse_json(text, source=str(path), fault=VotesError)
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise VotesError(f"{path} is not a JSON list of objects.")
    return found
