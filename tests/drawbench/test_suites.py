"""Suites: verified against the shared copies, recognised when altered, refused when incomplete."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from drawbench import suite_homes
from drawbench.errors import SuiteError
from drawbench.suite_homes import HOMES
from drawbench.suites import (
    ALTERED_NAME,
    DRAWBENCH_SHA256,
    drawbench_rows,
    load_suite,
    make_suite,
    write_suite,
)
from evalkit.core.errors import MissingDataError, NetworkError, UnknownNameError

DRAWBENCH_SIZES = {
    "Colors": 25,
    "Conflicting": 10,
    "Counting": 19,
    "DALL-E": 20,
    "Descriptions": 20,
    "Gary Marcus et al.": 10,
    "Misspellings": 10,
    "Positional": 20,
    "Rare Words": 7,
    "Reddit": 38,
    "Text": 21,
}


def _drawbench(shared: Path) -> list[list[str]]:
    with (shared / "data" / "drawbench.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def _write(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows)
    return path


def test_drawbench_has_its_count_categories_and_hash(shared: Path) -> None:
    suite = load_suite(f"drawbench={shared / 'data' / 'drawbench.csv'}")
    assert suite.name == "drawbench"
    assert suite.sha256 == DRAWBENCH_SHA256
    assert dict(sorted(suite.categories.items())) == DRAWBENCH_SIZES
    assert suite.prompts[7].id == "drawbench-007"
    assert max(len(prompt.text) for prompt in suite.prompts) == 303


def test_embedded_fingerprints_name_200_prompts_in_11_categories() -> None:
    rows = drawbench_rows()
    assert len({fingerprint for fingerprint, _ in rows}) == 200
    sizes = {name: sum(c == name for _, c in rows) for name in DRAWBENCH_SIZES}
    assert sizes == DRAWBENCH_SIZES


def test_drawbench_is_recognised_in_any_file_order_and_with_the_sheets_trailing_blank(
    shared: Path, tmp_path: Path
) -> None:
    header, *rows = _drawbench(shared)
    shuffled = [[text, category + " "] for text, category in reversed(rows)]
    suite = load_suite(str(_write(tmp_path / "mine.csv", [header, *shuffled])))
    assert (suite.name, suite.sha256) == ("drawbench", DRAWBENCH_SHA256)


def test_the_altered_public_copy_is_recognised_and_named(shared: Path) -> None:
    path = shared / "data" / "drawbench_openai_dalle3.txt"
    suite = load_suite(str(path))
    assert suite.name == ALTERED_NAME
    assert "prompts 154 and 168" in suite.notes[0]
    assert suite.categories["Reddit"] == 38
    with pytest.raises(SuiteError, match="not the drawbench suite, but this is the altered copy"):
        load_suite(f"drawbench={path}")


def test_199_prompts_are_refused_and_the_missing_one_is_numbered(
    shared: Path, tmp_path: Path
) -> None:
    rows = _drawbench(shared)
    del rows[5]
    path = _write(tmp_path / "short.csv", rows)
    with pytest.raises(SuiteError, match=r"199 prompts, expected 200; official prompt 5 missing"):
        load_suite(str(path))
    own = load_suite(f"my-own={path}")
    assert (own.name, len(own.prompts)) == ("my-own", 199)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(rows[3]), "official prompt 3 there twice"),
        (lambda rows: rows[9].__setitem__(0, "another"), "row 9 not of DrawBench"),
        (lambda rows: rows[1].__setitem__(1, "Text"), "prompt 1 stands in category 'Text'"),
    ],
)
def test_a_changed_drawbench_is_refused(
    shared: Path, tmp_path: Path, change: object, message: str
) -> None:
    rows = _drawbench(shared)
    change(rows)  # type: ignore[operator]
    with pytest.raises(SuiteError, match=message):
        load_suite(str(_write(tmp_path / "changed.csv", rows)))


def test_parti_is_verified_and_keeps_its_bare_quotation_marks(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "PartiPrompts.tsv"
    suite = load_suite(f"parti={path}")
    assert len(suite.prompts) == 1632
    assert any(prompt.text.startswith('"G I G G L E" painted') for prompt in suite.prompts)
    short = tmp_path / "short.tsv"
    short.write_text("\n".join(path.read_text("utf-8").splitlines()[:-1]), "utf-8")
    with pytest.raises(SuiteError, match="1631 prompts that differ from its 1632"):
        load_suite(f"parti={short}")


def test_shapes_bench_is_embedded() -> None:
    suite = load_suite("shapes-bench")
    assert set(suite.categories) == {
        "Colors",
        "Counting",
        "Positional",
        "Conflicting",
        "Misspellings",
        "Descriptions",
    }
    assert len(suite.prompts) == 60


def test_a_suite_survives_being_written_and_read(tmp_path: Path) -> None:
    suite = make_suite("mine", [("a, b", "x"), ('say "hi"', ""), ("=1+1", "y")], source="test")
    write_suite(tmp_path / "mine.csv", suite)
    again = load_suite(str(tmp_path / "mine.csv"))
    assert again.prompts == suite.prompts
    assert again.categories == {"x": 1, "all": 1, "y": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,category\n", "no prompts in it"),
        ("words,category\na,b\n", "no column of prompts"),
        ("prompt,category\na,x\na,y\n", "rows 1 and 2 have the same prompt 'a'"),
        ("prompt,category\n  ,x\n", "prompt of row 1 is blank"),
        ("prompt,category\na\n", "row 2 has 1 cells, the header has 2"),
        ("id,prompt\n../up,a\n", r"id '../up' of row 1 can't be used"),
        ("prompt\n" + "x" * 2001 + "\n", "2001 characters, at most 2000"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(SuiteError, match=message):
        load_suite(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"prompt\ncaf\xe9\n")
    with pytest.raises(SuiteError, match="not UTF-8 at byte 10"):
        load_suite(str(path))


def test_unknown_names_and_missing_files_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'drawbench'"):
        load_suite("drawbnch")
    with pytest.raises(MissingDataError, match="no such file"):
        load_suite(str(tmp_path / "none.csv"))


def test_fetching_verifies_keeps_and_reuses(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(row[0], row[1] + " ") for row in _drawbench(shared)[1:]]
    calls = []

    def from_hub() -> list[tuple[str, str]]:
        calls.append(1)
        return rows

    monkeypatch.setitem(HOMES, "drawbench", [("hub", from_hub)])
    assert load_suite("drawbench").name == "drawbench"
    assert load_suite("drawbench").source.endswith("drawbench.csv")
    assert len(calls) == 1


def test_a_fetched_list_that_is_something_else_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (shared / "data" / "drawbench_openai_dalle3.txt").read_text("utf-8").splitlines()
    rows = [(line, "") for line in lines]
    monkeypatch.setitem(HOMES, "drawbench", [("hub", lambda: rows)])
    with pytest.raises(SuiteError, match="does not hold the drawbench suite any more"):
        load_suite("drawbench")


def test_without_a_network_the_advice_is_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(suite_homes, "require_network", away)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    told = (
        r"sayakpaul/drawbench: no route; the official sheet: no route.*--suite drawbench=FILE.csv"
    )
    with pytest.raises(NetworkError, match=told):
        load_suite("drawbench")
