"""Votes that other tools collected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drawbench.errors import NoVotesError, VotesError
from drawbench.exchange.formats import import_votes, parse_words
from evalkit.core.errors import UnknownNameError

ITEM = {"prompt_id": "p1", "category": "Text", "model_a": "imagen", "model_b": "glide"}


def _write(tmp_path: Path, name: str, content: Any) -> Path:
    file = tmp_path / name
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_text(text, encoding="utf-8")
    return file


def _task(results: list[dict], **data: str) -> dict[str, Any]:
    return {
        "id": 7,
        "data": {**ITEM, **data},
        "annotations": [
            {
                "completed_by": {"id": 3, "email": "x@example.org"},
                "lead_time": 12.5,
                "created_at": "2026-01-02T03:04:05Z",
                "was_cancelled": False,
                "result": results,
            },
            {"completed_by": 4, "was_cancelled": True, "result": results},
        ],
    }


def test_label_studio(tmp_path: Path) -> None:
    """A Pairwise tag and a Choices tag; one annotation was cancelled, one result is a comment."""
    results = [
        {"from_name": "fidelity", "type": "pairwise", "value": {"selected": "left"}},
        {"from_name": "alignment", "type": "choices", "value": {"choices": ["I am indifferent"]}},
        {"from_name": "comment", "type": "textarea", "value": {"text": ["nice"]}},
    ]
    file = _write(tmp_path, "export.json", [_task(results, left_model="glide")])
    found = import_votes(file, form="label-studio")
    assert found.skipped == {"cancelled annotations": 1, "results without a choice": 1}
    rows = found.votes.set_index("question")
    assert rows["answer"].to_dict() == {"fidelity": "b", "alignment": "tie"}
    assert set(rows["rater_id"]) == {"3"}
    assert set(rows["response_s"]) == {12.5}


def test_label_studio_without_a_side_is_not_guessed(tmp_path: Path) -> None:
    results = [{"from_name": "fidelity", "type": "pairwise", "value": {"selected": "right"}}]
    file = _write(tmp_path, "export.json", [_task(results)])
    with pytest.raises(VotesError, match="task 7: the answer is 'right', but left_model"):
        import_votes(file, form="label-studio")
    minimal = _write(tmp_path, "min.json", [{"fidelity": "left"}])
    with pytest.raises(VotesError, match="Export from Label Studio as JSON"):
        import_votes(minimal, form="label-studio")


MTURK = """WorkerId,AssignmentStatus,WorkTimeInSeconds,Input.prompt_id,Input.category,\
Input.model_a,Input.model_b,Input.left_model,Answer.fidelity,Answer.alignment.left,Answer.alignment.right
W1,Approved,33,p1,Text,imagen,glide,imagen,A,true,false
W2,Rejected,4,p1,Text,imagen,glide,imagen,indifferent,false,true
"""


def test_mturk(tmp_path: Path) -> None:
    votes = import_votes(_write(tmp_path, "batch.csv", MTURK), form="mturk").votes
    answers = {(row.rater_id, row.question): row.answer for row in votes.itertuples()}
    assert answers == {
        ("W1", "fidelity"): "a",
        ("W1", "alignment"): "a",
        ("W2", "fidelity"): "tie",
        ("W2", "alignment"): "b",
    }
    assert set(votes.loc[votes["rater_id"] == "W2", "rater_status"]) == {"rejected"}
    assert set(votes["response_s"]) == {33.0, 4.0}


def test_prolific_with_submissions(tmp_path: Path) -> None:
    answers = "PROLIFIC_PID,prompt_id,category,model_a,model_b,question,answer\n" + "".join(
        f"{pid},p1,Text,imagen,glide,fidelity,{answer}\n"
        for pid, answer in (("P1", "set a"), ("P2", "better"), ("", "a"))
    )
    submissions = "Submission id,Participant id,Status\ns1,P1,APPROVED\ns2,P2,RETURNED\n"
    found = import_votes(
        _write(tmp_path, "answers.csv", answers),
        form="prolific",
        words={"Better": "b"},
        submissions=_write(tmp_path, "submissions.csv", submissions),
    )
    assert found.skipped == {"rows without PROLIFIC_PID": 1}
    rows = found.votes.set_index("rater_id")
    assert rows["answer"].to_dict() == {"P1": "a", "P2": "b"}
    assert rows["rater_status"].to_dict() == {"P1": "approved", "P2": "returned"}
    assert rows["partial"].to_dict() == {"P1": False, "P2": True}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_arena(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"question_id": "q1", "model_a": "x", "model_b": "y", "winner": "model_a", "judge": "j1"},
        {
            "question_id": "q1",
            "model_a": "y",
            "model_b": "x",
            "winner": "tie (bothbad)",
            "judge": "j2",
        },
        {"question_id": "q2", "model_a": "x", "model_b": "x", "winner": "model_b", "judge": "j1"},
    ]
    text = {
        "csv": "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]),
        "jsonl": "\n".join(json.dumps(row) for row in rows),
        "json": json.dumps(rows),
    }[suffix]
    found = import_votes(_write(tmp_path, f"battles.{suffix}", text), form="arena")
    assert found.skipped == {"pairs of a model with itself": 1}
    assert list(found.votes["answer"]) == ["a", "tie"]
    assert list(found.votes["question"]) == ["overall", "overall"]
    assert list(found.votes["prompt_id"]) == ["q1", "q1"]


def test_evalica_pairs_know_their_side(tmp_path: Path) -> None:
    text = "left,right,winner,worker,prompt\nx,y,right,w,a cat\n"
    votes = import_votes(_write(tmp_path, "pairs.csv", text), form="arena").votes
    row = votes.iloc[0]
    assert (row["model_a"], row["model_b"], row["answer"], row["left_model"]) == (
        "x",
        "y",
        "b",
        "x",
    )
    assert row["prompt"] == "a cat"


def test_pick_a_pic(tmp_path: Path) -> None:
    rows = [
        {
            "caption": "a cat",
            "model_0": "x",
            "model_1": "y",
            "label_0": label,
            "user_id": 5,
            "ranking_id": i,
        }
        for i, label in enumerate((1, 0.5, 0))
    ]
    votes = import_votes(_write(tmp_path, "pick.json", rows), form="pick-a-pic").votes
    assert list(votes["answer"]) == ["a", "tie", "b"]
    rows[1]["label_0"] = 0.7
    with pytest.raises(VotesError, match=r"row 2: label_0 is 0.7, expected 0, 0.5 or 1"):
        import_votes(_write(tmp_path, "pick.json", rows), form="pick-a-pic")


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("mturk", "b.csv", "WorkerId\nw\n", "'AssignmentStatus' is missing"),
        ("mturk", "b.csv", "WorkerId,AssignmentStatus\nw,Approved\n", "no column Answer"),
        (
            "mturk",
            "b.csv",
            MTURK.replace("Input.model_b", "Input.x"),
            "row 1: 'model_b' is missing",
        ),
        ("mturk", "b.csv", MTURK.replace(",A,", ",Yes,"), "row 1: unknown answer 'Yes'"),
        ("arena", "b.json", "{", "not valid JSON"),
        ("arena", "b.json", {"a": 1}, "is not a JSON list of objects"),
        ("arena", "b.json", [{"model_a": "x", "winner": "a"}], "row 1: 'model_b' is missing"),
        ("arena", "b.json", [{**ITEM, "winner": "a"}], "column 'rater_id' is missing"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, form: str, name: str, content: Any, message: str
) -> None:
    with pytest.raises(VotesError, match=message):
        import_votes(_write(tmp_path, name, content), form=form)


def test_nothing_left_and_unknown_form(tmp_path: Path) -> None:
    file = _write(tmp_path, "b.json", [{**ITEM, "model_b": "imagen", "winner": "a"}])
    with pytest.raises(NoVotesError, match="1 pairs of a model with itself"):
        import_votes(file, form="arena")
    with pytest.raises(UnknownNameError, match="did you mean 'arena'"):
        import_votes(file, form="arenas")


def test_words() -> None:
    assert parse_words(["I = prefer A=a", "no=tie"]) == {"I = prefer A": "a", "no": "tie"}
    for bad in ("x", "x=c", "=a"):
        with pytest.raises(VotesError, match="expected WORD=a"):
            parse_words([bad])


def _answers(*results: Any) -> list[dict[str, Any]]:
    """Label Studio's export of one rater's annotations of several tasks."""
    return [
        {
            "id": number,
            "data": {**ITEM, "prompt_id": f"p{number}", "left_model": "imagen"},
            "annotations": [{"completed_by": 1, "result": result}],
        }
        for number, result in enumerate(results)
    ]


def _choices(*chosen: str | None) -> list[dict[str, Any]]:
    return [{"from_name": "q", "type": "choices", "value": {"choices": list(chosen)}}]


def _pairwise(selected: str | None) -> list[dict[str, Any]]:
    return [{"from_name": "q", "type": "pairwise", "value": {"selected": selected}}]


def test_answers_without_a_choice_are_counted(tmp_path: Path) -> None:
    blanks = ([], None, _choices(), _pairwise(None), _pairwise(" "), _choices(None))
    tasks = _answers(_choices("left"), *blanks)
    tasks.append({**tasks[0], "id": 9, "annotations": None})
    found = import_votes(_write(tmp_path, "e.json", tasks), form="label-studio")
    assert len(found.votes) == 1
    assert found.skipped == {"annotations without a choice": 2, "results without a choice": 4}


@pytest.mark.parametrize("chosen", [("left", "right"), ("left", "left"), ("left", "x", "y")])
def test_answers_with_several_choices_are_counted_and_refused(
    tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    tasks = _answers(_choices("left"), _choices(*chosen), _choices(*chosen))
    with pytest.raises(VotesError, match=r"2 answers have several choices.*task 1: left, "):
        import_votes(_write(tmp_path, "e.json", tasks), form="label-studio")


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": "x"},
        {"annotations": [3]},
        {"data": []},
        {"annotations": [{"result": {"value": 1}}]},
        {"annotations": [{"result": ["left"]}]},
        {"annotations": [{"result": [{"type": "choices", "value": {"choices": "left"}}]}]},
    ],
)
def test_an_export_of_another_shape_names_the_task(tmp_path: Path, change: Any) -> None:
    tasks = [{**_answers(_choices("left"))[0], **change}]
    with pytest.raises(VotesError, match=r"task 0: .* expected (a list|an object)"):
        import_votes(_write(tmp_path, "e.json", tasks), form="label-studio")


def test_blank_answers_of_mturk_are_counted_by_question(tmp_path: Path) -> None:
    blank = MTURK.replace("imagen,A,true,false", "imagen, ,false,false")
    found = import_votes(_write(tmp_path, "b.csv", blank), form="mturk")
    assert len(found.votes) == 2
    assert found.skipped == {"blank answers to 'fidelity'": 1, "blank answers to 'alignment'": 1}
    both = MTURK.replace("true,false", "true,true")
    with pytest.raises(VotesError, match=r"1 answers have several choices.*row 1: left, right"):
        import_votes(_write(tmp_path, "b.csv", both), form="mturk")


@pytest.mark.parametrize("winner", [None, "", "  "])
def test_rows_without_an_answer_are_counted(tmp_path: Path, winner: str | None) -> None:
    arena = {"prompt_id": "p", "model_a": "x", "model_b": "y", "judge": "j"}
    rows = [{**arena, "winner": "tie"}, {**arena, "judge": "k", "winner": winner}]
    found = import_votes(_write(tmp_path, "a.json", rows), form="arena")
    assert (len(found.votes), found.skipped) == (1, {"rows without a winner": 1})
    pick = {"caption": "c", "model_0": "x", "model_1": "y", "user_id": 1}
    picks = [{**pick, "label_0": 1}, {**pick, "caption": "d", "label_0": winner}]
    found = import_votes(_write(tmp_path, "p.json", picks), form="pick-a-pic")
    assert (len(found.votes), found.skipped) == (1, {"rows without a label": 1})
    text = "PROLIFIC_PID,prompt_id,model_a,model_b,question,answer\nP,p,x,y,q,a\nR,p,x,y,q,{}\n"
    found = import_votes(_write(tmp_path, "q.csv", text.format(winner or "")), form="prolific")
    assert (len(found.votes), found.skipped) == (1, {"rows without an answer": 1})


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    rows = [{"caption": "c", "model_0": "x", "model_1": "y", "label_0": 1}]
    with pytest.raises(VotesError, match="'user_id' is missing, found caption, model_0, model_1, "):
        import_votes(_write(tmp_path, "p.json", rows), form="pick-a-pic")


def test_lines_of_json_may_hold_any_character(tmp_path: Path) -> None:
    row = {"prompt": "a\u2028b\x0cc\x85d", "model_a": "x", "model_b": "y", "winner": "a"}
    rows = [{**row, "judge": judge} for judge in "ijk"]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    found = import_votes(_write(tmp_path, "a.jsonl", text), form="arena")
    assert list(found.votes["prompt"].unique()) == ["a\u2028b\x0cc\x85d"]
