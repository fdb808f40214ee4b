"""Reading, checking, hashing and writing tables of votes."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawbench.errors import DuplicateVoteError, NoVotesError, VotesError
from drawbench.votes import (
    REQUIRED_COLUMNS,
    neutralise,
    orient_pairs,
    read_votes,
    validate_votes,
    votes_sha256,
    write_votes,
)
from evalkit.core.tables import MAX_CELL
from tests.support.vote_tables import grid_votes

HEADER = ",".join(REQUIRED_COLUMNS)
ROW = "r1,p1,Colors,imagen,glide,fidelity,a"


def _file(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    file = tmp_path / "votes.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def test_reads_what_the_columns_say(tmp_path: Path) -> None:
    header = f"{HEADER},left_model,response_s,partial,checks_failed,colour"
    votes = read_votes(_file(tmp_path, f"{ROW},glide,3.5,TRUE,2,red", header=header))
    assert votes.iloc[0].to_dict() == {
        "rater_id": "r1",
        "prompt_id": "p1",
        "category": "Colors",
        "model_a": "imagen",
        "model_b": "glide",
        "question": "fidelity",
        "answer": "a",
        "left_model": "glide",
        "response_s": 3.5,
        "checks_failed": 2,
        "partial": True,
    }


def test_text_stays_text(tmp_path: Path) -> None:
    """Models called NA, None or 007 are names, and so are ids with leading zeros."""
    votes = read_votes(_file(tmp_path, "007,01,,NA,None,fidelity,Tie"))
    row = votes.iloc[0]
    assert (row["rater_id"], row["prompt_id"], row["model_a"], row["model_b"]) == (
        "007",
        "01",
        "NA",
        "None",
    )
    assert (row["category"], row["answer"]) == ("", "tie")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, "r1,p2,Colors,imagen,glide,fidelity,c"], r"row 2: unknown answer, got 'c'.*a, tie"),
        ([ROW, ROW], "rows 1 and 2 are both votes of rater 'r1' on prompt 'p1'"),
        ([ROW, "r1,p1,Colors,glide,imagen,fidelity,b"], "rows 1 and 2 are both"),
        (["r1,p1,Colors,imagen,imagen,fidelity,a"], "model_a and model_b are the same"),
        (["r1,p1,Colors,imagen,,fidelity,a"], "row 1: model_b is blank"),
        ([ROW, "r2,p1,Text,imagen,glide,fidelity,a"], r"is in 2 categories \(Colors, Text\)"),
        (["r1,p1,Colors,imagen,glide,a"], "line 2 has 6 cells, but the header has 7"),
        (['r1,p1,Colors,imagen,glide,fidelity,"a'], "line 2: a quote is opened and never closed"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(VotesError, match=message):
        read_votes(_file(tmp_path, *rows))


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("response_s", "fast", "response_s is not a time, got 'fast'"),
        ("response_s", "-1", "response_s is not a time"),
        ("response_s", "inf", "response_s is not a time"),
        ("checks_failed", "-1", "checks_failed is not a count"),
        ("checks_failed", "1.5", "checks_failed is not a count"),
        ("partial", "maybe", "partial is neither true nor false"),
        ("left_model", "dalle", "left_model is neither model_a nor model_b, got 'dalle'"),
        ("left_model", "", "left_model is blank"),
    ],
)
def test_bad_optional_cells_are_named(tmp_path: Path, column: str, cell: str, message: str) -> None:
    with pytest.raises(VotesError, match=message):
        read_votes(_file(tmp_path, f"{ROW},{cell}", header=f"{HEADER},{column}"))


def test_missing_and_doubled_columns(tmp_path: Path) -> None:
    with pytest.raises(VotesError, match=r"column 'rater_id' is missing.*found a, b"):
        read_votes(_file(tmp_path, "1,2", header="a,b"))
    with pytest.raises(VotesError, match="'answer' appears twice in the header"):
        read_votes(_file(tmp_path, f"{ROW},b", header=f"{HEADER},answer"))


@pytest.mark.parametrize("content", [b"", (HEADER + "\n").encode(), (HEADER + "\n\n\n").encode()])
def test_empty_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "votes.csv"
    file.write_bytes(content)
    with pytest.raises(NoVotesError, match="contains no votes"):
        read_votes(file)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "votes.csv"
    with pytest.raises(VotesError, match="can't be read"):
        read_votes(file)
    file.write_bytes(HEADER.encode() + b"\nr\xff")
    with pytest.raises(VotesError, match="not UTF-8 at byte"):
        read_votes(file)
    file.write_text(f'{HEADER}\n"{"x" * (MAX_CELL + 1)}",p,c,a,b,q,a\n', encoding="utf-8")
    with pytest.raises(VotesError, match="line 2: a cell of 100,001 characters"):
        read_votes(file)


def test_byte_order_mark_of_excel(tmp_path: Path) -> None:
    file = tmp_path / "votes.csv"
    file.write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8-sig")
    assert len(read_votes(file)) == 1


def test_repeated_comparisons_need_an_item_id(tmp_path: Path) -> None:
    rows = [f"{ROW},one", f"{ROW},two"]
    assert len(read_votes(_file(tmp_path, *rows, header=f"{HEADER},item_id"))) == 2
    with pytest.raises(DuplicateVoteError, match=r"2 duplicates in all"):
        read_votes(_file(tmp_path, ROW, ROW, ROW))


def test_hash_is_of_the_votes_and_of_nothing_else() -> None:
    votes = grid_votes(["atb", "bba"])
    flipped = votes.copy()
    flipped[["model_a", "model_b"]] = votes[["model_b", "model_a"]]
    flipped["answer"] = votes["answer"].map({"a": "b", "tie": "tie", "b": "a"})
    same = votes_sha256(votes)
    assert votes_sha256(votes.sample(frac=1, random_state=0)) == same
    assert votes_sha256(votes.assign(response_s=1.0)) == same
    changed = votes.copy()
    changed.loc[0, "answer"] = "b"
    assert votes_sha256(changed) != same
    both = pd.concat([votes, flipped.assign(rater_id="other")], ignore_index=True)
    assert votes_sha256(both) == votes_sha256(both.sample(frac=1, random_state=0))


def test_a_pair_keeps_its_order_unless_it_has_both() -> None:
    votes = grid_votes(["ab"])
    assert orient_pairs(votes) is votes
    mixed = votes.copy()
    mixed.loc[1, ["model_a", "model_b", "answer"]] = ["glide", "imagen", "a"]
    oriented = orient_pairs(mixed)
    assert set(oriented["model_a"]) == {"glide"}
    assert list(oriented["answer"]) == ["b", "a"]


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "'=1",
    "''@",
    "plain",
    'quo"te, and comma',
    "ünï\nx",
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=2, unique=True))
def test_hostile_names_survive_and_are_no_formulas(tmp_path_factory, names: list[str]) -> None:  # type: ignore[no-untyped-def]
    first, second = (name.strip() for name in names)
    frame = grid_votes(["at", "bb"]).assign(model_a=first, model_b=second, category=first)
    votes = validate_votes(frame)
    file = tmp_path_factory.mktemp("votes") / "votes.csv"
    write_votes(file, votes)
    with file.open(encoding="utf-8", newline="") as handle:
        for row in csv.reader(handle):
            assert not any(cell[:1] in "=+-@\t\r" for cell in row if cell)
    pd.testing.assert_frame_equal(read_votes(file), votes)


@given(st.text(st.sampled_from("='+-@a\t"), max_size=6))
def test_neutralising_can_be_undone(text: str) -> None:
    from drawbench.votes import _restore

    written = neutralise(text)
    assert written[:1] not in tuple("=+-@\t")
    assert _restore(written) == text


def test_optional_columns_survive(tmp_path: Path) -> None:
    votes = validate_votes(
        grid_votes(["at", "bb"]).assign(
            left_model="imagen", response_s=[1.5, None, 0.25, 3], simulated=True, checks_shown=4
        )
    )
    write_votes(tmp_path / "votes.csv", votes)
    pd.testing.assert_frame_equal(read_votes(tmp_path / "votes.csv"), votes)
