"""Votes from elsewhere: whole or not at all, whoever made the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from drawbench.errors import DuplicateVoteError, VotesError
from drawbench.exchange.exports import quota_frame, raters_frame, votes_frame
from drawbench.exchange.into_store import import_votes_csv
from drawbench.exchange.label_studio import (
    import_label_studio,
    label_studio_config,
    label_studio_tasks,
)
from drawbench.exchange.platforms import invitations, match_batch
from drawbench.store import Store
from drawbench.study import Study
from drawbench.votes import read_votes, write_votes

NewStudy = Callable[..., Study]
NewStore = Callable[[Study], Store]
RateAll = Callable[..., None]


@pytest.fixture
def exported(
    new_study: NewStudy, sqlite_store: NewStore, rate_all: RateAll, tmp_path: Path
) -> Path:
    """The votes of two raters of a study, as a CSV."""
    store = sqlite_store(new_study())
    for answer in ("first", "tie"):
        rate_all(store, store.join().rater.id, answer)
    write_votes(tmp_path / "votes.csv", votes_frame(store))
    return tmp_path / "votes.csv"


def test_exported_votes_come_back_the_same(
    exported: Path, new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    report = import_votes_csv(store, exported)
    assert (report.num_raters, report.num_votes) == (2, 2 * report.num_items)
    again = votes_frame(store)
    columns = ["prompt_id", "question", "answer", "left_model", "response_s", "answered_at"]
    write_votes(exported.with_name("again.csv"), again)
    one, other = (
        read_votes(path)[columns].sort_values(columns).reset_index(drop=True)
        for path in (exported, exported.with_name("again.csv"))
    )
    assert one.equals(other)
    assert quota_frame(store)["done"].sum() == report.num_items
    assert set(raters_frame(store)["state"]) == {"finished"}


def test_a_second_import_of_the_same_file_is_refused_whole(
    exported: Path, new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    import_votes_csv(store, exported)
    before = votes_frame(store)
    with pytest.raises(DuplicateVoteError, match=r"imported before.*withdraw STUDY i-"):
        import_votes_csv(store, exported)
    assert votes_frame(store).equals(before)


def test_an_export_of_the_study_itself_is_refused_whole(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, tmp_path: Path
) -> None:
    """Votes that are there already would count twice, under the name of another rater."""
    store = new_store(new_study())
    rate_all(store, store.join().rater.id, "first", pages=2)
    path = tmp_path / "own.csv"
    before = votes_frame(store)
    write_votes(path, before)
    with pytest.raises(DuplicateVoteError, match=rf"{len(before)} votes are in this study already"):
        import_votes_csv(store, path)
    rows = path.read_text("utf-8").splitlines()
    own = rows[1].split(",")[0]
    others = [row.replace(own, "somebody") for row in rows[1:]]
    path.write_text("\n".join([rows[0], *others, rows[-1]]), "utf-8")
    with pytest.raises(DuplicateVoteError, match=r"1 votes are in this study already.*row \d+"):
        import_votes_csv(store, path)
    assert votes_frame(store).equals(before)
    path.write_text("\n".join([rows[0], *others]), "utf-8")
    assert import_votes_csv(store, path).num_votes == len(before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda lines: [*lines, lines[-1]], DuplicateVoteError, "both votes of rater"),
        (lambda lines: [*lines[:-1], lines[-1].replace("tiny-", "other-")], VotesError, "does not"),
        (
            lambda lines: [*lines[:-1], lines[-1].replace("alignment", "colour")],
            VotesError,
            "no question 'colour'",
        ),
        (
            lambda lines: [*lines[:-1], re.sub(r"\d{4}-\d\d-\d\dT[^,]*", "noon", lines[-1])],
            VotesError,
            "'noon' is not a time",
        ),
    ],
)
def test_nothing_of_a_bad_file_is_imported(
    exported: Path,
    new_study: NewStudy,
    sqlite_store: NewStore,
    change: Callable[[list[str]], list[str]],
    error: type[Exception],
    message: str,
) -> None:
    store = sqlite_store(new_study())
    exported.write_text("\n".join(change(exported.read_text("utf-8").splitlines())), "utf-8")
    with pytest.raises(error, match=message):
        import_votes_csv(store, exported)
    assert votes_frame(store).empty
    assert raters_frame(store).empty


def test_votes_beyond_the_quota_are_refused_whole(
    exported: Path, new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study(raters_per_item=1))
    text = exported.read_text("utf-8")
    header, *rows = text.splitlines()
    names = {row.split(",")[0] for row in rows}
    one = sorted(names)[0]
    copies = [row.replace(one, "another") for row in rows if one in row]
    exported.write_text("\n".join([header, *rows, *copies]), "utf-8")
    with pytest.raises(VotesError, match="already has all its ratings"):
        import_votes_csv(store, exported)
    assert votes_frame(store).empty


def test_models_may_stand_the_other_way_round(
    new_study: NewStudy, sqlite_store: NewStore, tmp_path: Path
) -> None:
    store = sqlite_store(new_study())
    path = tmp_path / "v.csv"
    path.write_text(
        "rater_id,prompt_id,category,model_a,model_b,question,answer\n"
        "x,tiny-000,Colors,south-model,north-model,quality,a\n",
        "utf-8",
    )
    import_votes_csv(store, path)
    (vote,) = votes_frame(store).to_dict("records")
    assert (vote["model_a"], vote["answer"]) == ("north-model", "b")
    assert vote["complete"] is False


# Label Studio


def _annotated(tasks: list[dict[str, Any]], choose: Callable[[int], str]) -> list[dict[str, Any]]:
    return [
        {
            **task,
            "annotations": [
                {
                    "completed_by": 7 + number % 3,
                    "lead_time": 5.5,
                    "created_at": "2026-01-02T03:04:05.000000Z",
                    "result": [
                        {
                            "from_name": question,
                            "type": "choices",
                            "value": {"choices": [choose(number)]},
                        }
                        for question in ("quality", "alignment")
                    ],
                }
            ],
        }
        for number, task in enumerate(tasks)
    ]


def test_label_studio_sees_blind_tasks_and_its_answers_count(
    new_study: NewStudy, new_store: NewStore, tmp_path: Path
) -> None:
    store = new_store(new_study(raters_per_item=1))
    tasks = label_studio_tasks(store, url_prefix="/data/")
    assert len(tasks) == 5
    assert all(name not in json.dumps(tasks) for name in store.study.config.models)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(_annotated(tasks, lambda k: ("first", "I am indifferent")[k % 2])))
    report = import_label_studio(store, path)
    assert report.num_votes == 10
    votes = votes_frame(store)
    first = votes[votes["answer"] != "tie"]
    wanted = ["a" if left else "b" for left in first["left_model"] == first["model_a"]]
    assert first["answer"].tolist() == wanted
    assert set(quota_frame(store)["done"]) == {1}
    assert label_studio_tasks(store, url_prefix="") == []


def test_the_labelling_interface_is_xml_with_text_that_stays_text(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    question = {
        "id": "q",
        "text": 'Is <b>A</b> & "B" equal?',
        "kind": "pair",
        "answers": [{"value": "first", "label": "<A>"}, {"value": "second", "label": '"B"'}],
    }
    store = sqlite_store(new_study(questions=[question]))
    root = ElementTree.fromstring(label_studio_config(store))
    assert [choice.get("value") for choice in root.iter("Choice")] == ["<A>", '"B"']
    images = {image.get("value") for image in root.iter("Image")}
    task = label_studio_tasks(store, url_prefix="")[0]["data"]
    assert images == {f"${name}" for name in task if name.startswith(("first_", "second_"))}
    assert task["question_q"] == 'Is <b>A</b> & "B" equal?'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tasks: tasks[0]["data"].update(cell=10**9), "is not a task of this study"),
        (lambda tasks: tasks[0]["annotations"][0]["result"].pop(), "has no answer"),
        (lambda tasks: tasks[1]["annotations"].append(tasks[1]["annotations"][0]), "2 annotations"),
        (lambda tasks: tasks[1]["annotations"][0].pop("result"), "can't be read"),
        (lambda tasks: tasks[1]["annotations"][0].update(result=None), "2 of 2 are blank"),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(choices=[]),
            "1 of 2 are blank",
        ),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"]["choices"].append("tie"),
            "can't be read",
        ),
        (lambda tasks: tasks[0]["annotations"][0].update(lead_time="fast"), "can't be read"),
        (lambda tasks: tasks[0]["data"].update(cell=float("inf")), "is not a task of this study"),
        (lambda tasks: tasks.append(tasks[0]), "has all its ratings|both|unique|already"),
    ],
)
def test_nothing_of_a_bad_export_is_imported(
    new_study: NewStudy,
    sqlite_store: NewStore,
    tmp_path: Path,
    change: Callable[[list[dict[str, Any]]], object],
    message: str,
) -> None:
    store = sqlite_store(new_study(raters_per_item=1))
    tasks = _annotated(label_studio_tasks(store, url_prefix=""), lambda _: "tie")
    change(tasks)
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    with pytest.raises(VotesError, match=message):
        import_label_studio(store, path)
    assert votes_frame(store).empty


# Prolific and MTurk


def test_a_prolific_batch_is_matched_and_its_verdicts_are_kept(
    new_study: NewStudy, sqlite_store: NewStore, rate_all: RateAll, tmp_path: Path
) -> None:
    store = sqlite_store(new_study(completion_code="CODE1"))
    done, halfway = (store.join(external_id=name).rater for name in ("p-1", "p-2"))
    rate_all(store, done.id)
    rate_all(store, halfway.id, pages=1)
    path = tmp_path / "prolific.csv"
    path.write_text(
        "Submission id,Participant id,Status,Completion code\n"
        "s1,p-1,APPROVED,code1\ns2,p-2,RETURNED,\ns3,p-3,AWAITING REVIEW,CODE1\n"
    )
    table = match_batch(store, path).table.set_index("participant")
    assert table["advice"].tolist() == ["approve", "check", "unknown"]
    assert table["code"].tolist() == ["right", "missing", "wrong"]
    statuses = dict(
        zip(*(votes_frame(store)[c] for c in ("rater_id", "rater_status")), strict=True)
    )
    assert statuses == {done.name: "approved", halfway.name: "returned"}


def test_an_mturk_batch_is_matched_by_its_codes(
    new_study: NewStudy, sqlite_store: NewStore, rate_all: RateAll, tmp_path: Path
) -> None:
    store = sqlite_store(new_study())
    ((name, link),) = invitations(store, 1, address="https://rate.example/")
    assert link.startswith("https://rate.example/?rater=")
    rater = store.find_rater(link.partition("=")[2])
    assert rater is not None
    assert rater.name == name
    rate_all(store, store.accept(rater.id).id)
    path = tmp_path / "mturk.csv"
    path.write_text(
        "WorkerId,AssignmentStatus,Answer.surveycode\n"
        f"W1,Submitted,{rater.completion_code.lower()}\nW2,Submitted,GUESSED\n"
    )
    table = match_batch(store, path).table
    assert table["advice"].tolist() == ["approve", "unknown"]


def test_a_batch_without_participants_is_refused(
    new_study: NewStudy, sqlite_store: NewStore, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(VotesError, match="no column of participants"):
        match_batch(sqlite_store(new_study()), path)
