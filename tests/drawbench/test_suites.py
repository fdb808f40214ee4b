"""Suites: verified against the shared copies, recognised when altered, refused when incomplete."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from packages import install_package

from drawbench.errors import SuiteError
from drawbench.suites import homes as suite_homes
from drawbench.suites.catalog import SUITES, Home, SuiteRow
from drawbench.suites.recognition import ALTERED_NAME, drawbench_rows
from drawbench.suites.suite import listed_suites, load_suite, make_suite, suite_row, write_suite
from evalkit.core.errors import ConfigError, MissingDataError, NetworkError, UnknownNameError

DRAWBENCH_SHA256 = "317b04c88e10320a88737b9268fcbb01d3b5ce8bd39c8de566167cf4dc9dc3b4"
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
        (lambda rows: rows.append(rows[3]), "official prompt 3 duplicated"),
        (lambda rows: rows[9].__setitem__(0, "another"), "row 9 not in DrawBench"),
        (lambda rows: rows[1].__setitem__(1, "Text"), "prompt 1 is in category 'Text'"),
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
        ("prompt,category\n", "contains no prompts"),
        ("words,category\na,b\n", "no column of prompts"),
        ("prompt,category\na,x\na,y\n", "rows 1 and 2 have the same prompt 'a'"),
        ("prompt,category\n  ,x\n", "prompt of row 1 is blank"),
        ("prompt,category\na\n", "line 2 has 1 cells, but the header has 2"),
        ("id,prompt\n../up,a\n", r"id '../up' of row 1 is not valid"),
        ("prompt\n" + "x" * 2001 + "\n", "2001 characters, but at most 2000"),
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

    monkeypatch.setattr(suite_homes, "drawbench_from_hub", from_hub)
    assert load_suite("drawbench").name == "drawbench"
    assert load_suite("drawbench").source.endswith("drawbench.csv")
    assert len(calls) == 1


def test_a_fetched_list_that_is_something_else_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (shared / "data" / "drawbench_openai_dalle3.txt").read_text("utf-8").splitlines()
    rows = [(line, "") for line in lines]
    monkeypatch.setattr(suite_homes, "drawbench_from_hub", lambda: rows)
    with pytest.raises(SuiteError, match="no longer has the drawbench suite"):
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


# Rows, ours and those of other packages


@pytest.mark.parametrize("name", ["drawbench", "parti", "shapes-bench"])
def test_each_row_tells_its_suite_before_it_is_loaded(name: str, shared: Path) -> None:
    files = {"drawbench": "drawbench.csv", "parti": "PartiPrompts.tsv"}
    path = shared / "data" / files[name] if name in files else None
    suite, row = load_suite(f"{name}={path}" if path else name), SUITES[name]
    counted = (len(suite.prompts), len(suite.categories), suite.sha256)
    assert counted == (row.num_prompts, row.num_categories, row.sha256)
    assert row.summary
    assert row.licence


def test_an_embedded_suite_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = suite_homes.shapes_bench()
    for changed, told in (
        (rows[:-1], "prompts 59, expected 60"),
        ([(text, "all") for text, _ in rows], "categories 1, expected 6"),
        ([rows[1], rows[0], *rows[2:]], "sha256 .*, expected b3b17026"),
    ):
        monkeypatch.setattr(suite_homes, "shapes_bench", lambda changed=changed: changed)
        with pytest.raises(SuiteError, match=told):
            load_suite("shapes-bench")


def test_a_row_needs_one_origin_and_a_hash_for_what_is_fetched() -> None:
    texts = {"summary": "s", "source": "x", "licence": "y"}
    home = (Home(name="h", target="m:f"),)
    with pytest.raises(ConfigError, match="has neither of target and homes"):
        SuiteRow(**texts)
    with pytest.raises(ConfigError, match="has both of target and homes"):
        SuiteRow(**texts, target="m:f", homes=home, sha256="0")
    with pytest.raises(ConfigError, match="no sha256"):
        SuiteRow(**texts, homes=home)


THEIRS = """
from drawbench.suites.catalog import Home, SuiteRow

ROWS = [("a cat", "Animals"), ("a dog", "Animals"), ("a bus", "")]
SHA256 = "SHA"
TEXTS = {"summary": "animals", "source": "acme's page", "licence": "CC0-1.0"}
CHECKS = {"num_prompts": 3, "num_categories": 2, "sha256": SHA256, "advice": "Ask acme."}
TRUE = SuiteRow(**TEXTS, **CHECKS, target="acme_suites:bare")
FALSE = SuiteRow(**TEXTS, **{**CHECKS, "num_prompts": 4}, target="acme_suites:bare")
FETCHED = SuiteRow(**TEXTS, **CHECKS, homes=(Home(name="acme", target="acme_suites:bare"),))
HALF = SuiteRow(**TEXTS, **CHECKS, homes=(Home(name="acme", target="acme_suites:half"),))
NUMBER = 7

def bare():
    return ROWS

def half():
    return ROWS[:2]
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A package of somebody else with good and bad entry points; the rows of its suite."""
    rows = [("a cat", "Animals"), ("a dog", "Animals"), ("a bus", "")]
    digest = make_suite("animals", rows, source="test").sha256
    targets = ("bare", "TRUE", "FALSE", "FETCHED", "HALF", "NUMBER", "MISSING")
    (tmp_path / "acme").mkdir()
    install_package(
        tmp_path / "acme",
        monkeypatch,
        modules={
            "acme_suites": THEIRS.replace('"SHA"', repr(digest)),
            "acme_broken": "raise RuntimeError('their bug\\nin two lines')",
        },
        entry_points={
            "evalkit.suites": {
                **{f"acme/{name.lower()}": f"acme_suites:{name}" for name in targets},
                "acme/broken": "acme_broken:ROW",
                "acme/gone": "no_such_module:ROW",
            }
        },
    )
    return rows


@pytest.mark.usefixtures("acme")
def test_broken_packages_spoil_only_their_own_line() -> None:
    listed = {suite.name: suite for suite in listed_suites()}
    assert list(listed) == sorted(listed)
    faults = {name: suite.fault for name, suite in listed.items() if suite.row is None}
    assert set(faults) == {f"acme/{name}" for name in ("broken", "gone", "missing", "number")}
    assert "can't be loaded (their bug" in faults["acme/broken"]
    assert "\n" not in faults["acme/broken"]
    assert "expected a SuiteRow" in faults["acme/number"]
    true = listed["acme/true"].row
    assert true is not None
    assert (true.size, true.licence) == ("3 prompts in 2 categories", "CC0-1.0")
    assert listed["drawbench"].row is SUITES["drawbench"]


def test_a_row_and_a_bare_function_give_the_same_suite(acme: list[tuple[str, str]]) -> None:
    bare, true = load_suite("acme/bare"), load_suite("acme/true")
    assert bare.rows() == true.rows() == [(text, kind or "all") for text, kind in acme]
    assert (bare.name, bare.source) == ("bare", "acme/bare")
    assert (true.name, true.source) == ("true", "acme's page")


@pytest.mark.usefixtures("acme")
def test_a_row_of_another_package_is_checked_as_ours_are() -> None:
    with pytest.raises(
        SuiteError,
        match=r"acme's page is not the false suite \(prompts 3, expected 4\)\. Ask acme\.",
    ):
        load_suite("acme/false")
    with pytest.raises(SuiteError, match=r"acme no longer has the acme/half suite\. Ask"):
        load_suite("acme/half")
    with pytest.raises(ConfigError, match="expected a SuiteRow"):
        load_suite("acme/number")


def test_homes_of_another_package_are_fetched_kept_and_checked_in_files(
    acme: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = load_suite("acme/fetched")
    monkeypatch.setattr("acme_suites.bare", None)  # so that only the kept copy can answer
    again = load_suite("acme/fetched")
    assert again.source.endswith("acme--fetched.csv")
    assert again.prompts == fetched.prompts
    path = _write(tmp_path / "x.csv", [["prompt", "category"], *map(list, acme)])
    assert load_suite(f"acme/fetched={path}").prompts == fetched.prompts
    _write(path, [["prompt", "category"], *map(list, acme[:2])])
    with pytest.raises(SuiteError, match="not the acme/fetched suite, but 2 prompts that differ"):
        load_suite(f"acme/fetched={path}")


def test_names_of_ones_own_have_no_row(tmp_path: Path) -> None:
    assert suite_row("mine=list.csv") is None
    assert suite_row(f"drawbench={tmp_path}") is SUITES["drawbench"]
